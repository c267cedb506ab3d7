"""Trains a sweep in a separate process, which outlives the app that started it.

As with runs, everything that is known of it is on disk, so any app that reads the same folder can watch it and stop it.
The process is started as::

    python -m explorer.sweeps.jobs FOLDER SWEEP
"""

import os
import sys

from explorer.errors import UserError
from explorer.runs import Runs
from explorer.runs.files import last_line
from explorer.runs.jobs import launched, wait_for, work
from explorer.runs.sweeps import LOG, Sweep, open_sweep
from explorer.sweeps.engine import train_sweep
from explorer.training.workers import processes

WORKERS = os.cpu_count() or 1


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
        process = launched(["explorer.sweeps.jobs", str(sweep.among.root.resolve()), sweep.name], log)
    except OSError as error:
        raise UserError(
            f"{sweep.name} could not be started: {error.strerror}; see that {log} can be written."
        ) from error
    silent = f"its process ended without a word; start it again, or read {log}."
    wait_for(process, sweep.is_training, f"{sweep.name} could not be trained", lambda: last_line(log) or silent)


def main(folder: str, name: str) -> int:
    """Train until the sweep is done, a signal is received, or a stop is requested.

    Args:
        folder: of all runs.
        name: of the sweep.

    Returns:
        The exit status, as `work`.
    """
    return work(
        lambda should_stop: train_sweep(
            open_sweep(Runs(folder), name), processes(WORKERS), WORKERS, should_stop=should_stop
        )
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
