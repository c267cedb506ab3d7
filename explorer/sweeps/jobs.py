"""Trains a sweep in a separate process, which outlives the app that started it.

As with runs, everything that is known of it is on disk, so any app that reads the same folder can watch it and stop it.
The process is started as::

    python -m explorer.sweeps.jobs FOLDER SWEEP
"""

import contextlib
import os
import sys
import time
from pathlib import Path

from explorer.errors import UserError, printable
from explorer.runs import Runs
from explorer.runs.jobs import endings, launched
from explorer.runs.sweeps import LOG, Sweep, open_sweep
from explorer.sweeps.engine import processes, train_sweep

WORKERS = os.cpu_count() or 1
START_WITHIN = 120  # seconds until a process counts as not starting


def start(sweep: Sweep) -> None:
    """Train a sweep, or go on with it, in a separate process. Returns when that has begun.

    Args:
        sweep: which nobody trains.

    Raises:
        UserError: it is being trained, or the process failed at its start.
    """
    if sweep.is_training():
        raise UserError(f"{sweep.name} is being trained already.")
    log = sweep.folder / LOG
    try:
        process = launched("explorer.sweeps.jobs", sweep.among.root, sweep.name, log)
    except OSError as error:
        raise UserError(
            f"{sweep.name} could not be started: {error.strerror}; see that {log} can be written."
        ) from error
    began = time.monotonic()
    while process.poll() is None and not sweep.is_training():
        if time.monotonic() - began > START_WITHIN:
            process.terminate()
            raise UserError(f"{sweep.name} did not start training within {START_WITHIN} s; read {log}.")
        time.sleep(0.05)
    if process.poll():
        raise UserError(f"{sweep.name} could not be trained: {_last_words(log)}")


def request_stop(sweep: Sweep) -> None:
    """Ask the process that trains a sweep to save everything and stop.

    Args:
        sweep: which any process may be training.

    Raises:
        UserError: the request cannot be written.
    """
    try:
        sweep.stop_file.touch()
    except OSError as error:
        raise UserError(f"{sweep.name} cannot be stopped: {error.strerror}; stop its process.") from error


def _last_words(log: Path) -> str:
    lines = [printable(line) for line in log.read_text(errors="replace").split("\n") if line.strip()]
    return lines[-1] if lines else f"its process ended without a word; start it again, or read {log}."


def main(folder: str, name: str) -> int:
    """Train until the sweep is done, a signal is received, or a stop is requested.

    Args:
        folder: of all runs.
        name: of the sweep.

    Returns:
        The exit status: 0, or 1 after an error, whose sentence is printed.
    """
    received = endings()
    try:
        sweep = open_sweep(Runs(folder), name)
        train_sweep(sweep, processes(WORKERS), WORKERS, should_stop=lambda: bool(received))
    except UserError as error:
        with contextlib.suppress(OSError):  # the log is on a full disk
            print(error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
