"""A job trains a run in a process of its own, which outlives the app that started it.

Nothing is remembered here. That a run is being trained, how far it got and why it failed is written in the run on
disk, so any app that reads the same folder can watch it and stop it (`recorder.request_stop`).

    python -m explorer.runs.jobs FOLDER RUN      is that process
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from filelock import FileLock, Timeout

from explorer.errors import UserError
from explorer.runs import Run, Runs, recorder

CORES = os.cpu_count() or 1
LIMIT = max(2, CORES // 2)  # jobs at once; they share the cores, since waiting threads sleep
START_WITHIN = 120  # seconds for a process to start, on a busy machine


def in_training(runs: Runs) -> list[str]:
    """The names of the runs that are being trained now, by any process."""
    return [name for name in runs.names() if Run(runs.root / name).is_training()]


def check_room(runs: Runs) -> None:
    """See that one more run may be trained at once.

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
    """Train a run from where it stands, in a process of its own. Returns when its first snapshot is on disk.

    Args:
        run: is not done and not being trained.

    Raises:
        UserError: too many runs are being trained, or the process ended at once; the sentence says why.
    """
    runs = Runs(run.folder.parent)
    try:
        with FileLock(runs.root / ".starting", timeout=START_WITHIN):
            if run.is_training():
                raise UserError(f"{run.name} is being trained already.")
            check_room(runs)
            before = run.version()[1:]
            _wait_for(run, _launched(run), before)
    except Timeout:
        raise UserError(f"Other runs are being started; try {run.name} again in a minute.") from None
    except OSError as error:
        raise UserError(f"{run.name} could not be started: {error.strerror}; see to {runs.root}.") from error


def _launched(run: Run) -> subprocess.Popen:
    with run.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "explorer.runs.jobs", str(run.folder.parent.resolve()), run.name],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the app's terminal does not reach it
        )
    threading.Thread(target=process.wait, daemon=True).start()  # so that it leaves no zombie
    return process


def _wait_for(run: Run, process: subprocess.Popen, before: tuple[object, ...]) -> None:
    """Wait until the process trains, which changes the run's version from ``before``."""
    began = time.monotonic()
    while run.version()[1:] == before or run.info().status != "running" or not run.steps():
        if process.poll() == 0:  # the training was short
            return
        if process.returncode is not None:
            raise UserError(f"{run.name} could not be trained: {run.last_words()}")
        if time.monotonic() - began > START_WITHIN:
            process.terminate()
            raise UserError(f"{run.name} has not begun after {START_WITHIN} s; see {run.name}/{run.log.name}.")
        time.sleep(0.05)


def main(folder: str, name: str) -> int:
    """Train until the run is done, SIGTERM is received, or somebody requests a stop."""
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        recorder.train(Runs(folder).open(name), should_stop=lambda: bool(received))
    except UserError as error:
        print(error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        os.nice(5)  # the app that shows the run has priority
    sys.exit(main(*sys.argv[1:]))
