"""A job trains a run in a separate process, which outlives the app that started it.

This module keeps no state. Whether a run is being trained, its progress and why it failed are all on disk, so any app
that reads the same folder can watch the run and stop it (`lock.request_stop`). The process is started as::

    python -m explorer.runs.jobs FOLDER RUN
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from explorer.errors import UserError
from explorer.runs import Run, Runs, recorder

CORES = os.cpu_count() or 1
LIMIT = max(2, CORES // 2)  # jobs at once, which share the cores
ENDS_WITHIN = 5  # seconds from the end of training to that of its process
START_WITHIN = 120  # seconds until a process counts as not starting; ample for a busy machine


def in_training(runs: Runs) -> list[str]:
    """The names of the runs that are being trained now, by any process.

    Args:
        runs: the folder of runs.
    """
    return [name for name in runs.names() if Run(runs.root / name).is_training()]


def check_room(runs: Runs) -> None:
    """Check that one more run may be trained at the same time.

    Args:
        runs: the folder of runs.

    Raises:
        UserError: `LIMIT` runs are being trained already.
    """
    busy = in_training(runs)
    if len(busy) >= LIMIT:
        raise UserError(
            f"{' and '.join(busy)} are being trained, and this machine takes {LIMIT} runs at once; stop one of them, "
            f"or wait."
        )


def start(run: Run) -> None:
    """Continue training a run, in a separate process. Returns when the run has a snapshot on disk.

    Args:
        run: neither done nor being trained.

    Raises:
        UserError: the run or too many others are being trained, or the process failed at its start.
    """
    runs = Runs(run.folder.parent)
    try:
        with FileLock(runs.root / ".starting", timeout=START_WITHIN):
            _check_free(run)
            check_room(runs)
            before = run.version()[1:]
            process = launched(["explorer.runs.jobs", str(runs.root.resolve()), run.name], run.log)
            wait_for(process, lambda: _has_begun(run, before), f"{run.name} could not be trained", run.last_words)
    except Timeout:
        raise UserError(f"Other runs are being started; try {run.name} again in a minute.") from None
    except OSError as error:
        raise UserError(
            f"{run.name} could not be started: {error.strerror}; check that {runs.root} can be written to."
        ) from error


def _check_free(run: Run) -> None:
    """Raises UserError if the run is being trained. A process that has written that it stopped is about to end."""
    began = time.monotonic()
    while run.is_training():
        if run.info().status == "running" or time.monotonic() - began > ENDS_WITHIN:
            raise UserError(f"{run.name} is being trained already.")
        time.sleep(0.02)


def launched(words: Sequence[str], log: Path) -> subprocess.Popen:
    """Start a module in a process of its own, which outlives this one.

    Args:
        words: its dotted name, and its arguments.
        log: the file to which its output is added.

    Raises:
        OSError: it cannot be started.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that Ctrl-C in the app's terminal does not end it
        )
    threading.Thread(target=process.wait, daemon=True).start()  # reaps the process when it ends
    return process


def wait_for(
    process: subprocess.Popen, has_begun: Callable[[], bool], failure: str, last_words: Callable[[], str]
) -> None:
    """Wait until a process works, or has ended without an error.

    Args:
        process: as `launched` returned it.
        has_begun: whether it works.
        failure: the begin of a sentence that says that it did not.
        last_words: why it failed, if it did.

    Raises:
        UserError: it fails, or does not begin within `START_WITHIN` seconds; it is then ended.
    """
    began = time.monotonic()
    while process.poll() is None:
        if has_begun():
            return
        if time.monotonic() - began > START_WITHIN:
            process.terminate()
            raise UserError(f"{failure}: its process did not begin within {START_WITHIN} s; try it again.")
        time.sleep(0.05)
    if process.returncode:
        raise UserError(f"{failure}: {last_words()}")


def _has_begun(run: Run, before: tuple[object, ...]) -> bool:
    """Whether a process trains the run, whose version, without the status, was ``before`` at first."""
    with contextlib.suppress(UserError):  # the process is about to end, since it has no run.json
        if run.version()[1:] != before and run.info().status == "running":
            return bool(run.steps()) or run.info().training.keep == "losses"
    return False


def work(train: Callable[[Callable[[], bool]], object]) -> int:
    """What the process of a job does.

    Args:
        train: is given a function that tells whether SIGTERM or SIGHUP was received, at which it saves and returns.

    Returns:
        The exit status: 0, or 1 after a UserError, whose sentence is printed.
    """
    received: list[int] = []
    for number in recorder.ENDINGS:
        signal.signal(number, lambda number, frame: received.append(number))
    try:
        train(lambda: bool(received))
    except UserError as error:
        with contextlib.suppress(OSError):  # the log is on a full disk
            print(error, flush=True)
        return 1
    return 0


def main(folder: str, name: str) -> int:
    """Train until the run is done, a signal is received, or a stop is requested.

    Args:
        folder: of all runs.
        name: of the run.

    Returns:
        The exit status, as `work`.
    """
    return work(lambda should_stop: recorder.train(Runs(folder).open(name), should_stop=should_stop))


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        os.nice(5)  # the app that shows the run has priority
    sys.exit(main(*sys.argv[1:]))
