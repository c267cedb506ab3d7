"""The lock of a run: only the process that holds it writes into the run's folder, until it is asked to stop."""

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from explorer.errors import UserError

BUSY = {"training": "trained", "measuring": "measured"}
fcntl = importlib.import_module("fcntl") if os.name == "posix" else None  # other systems have no locks that are shared


class Held:
    """The lock of a run, held by this process for as long as `locked` lasts.

    The lock is that of a file, whatever its path: once the file, or a folder above it, is removed or replaced, another
    process may lock and write what is at the path now. So `check` comes before everything that is written.

    Args:
        path: of the lock, in the folder of the run.
        work: what this process does, one of `BUSY`.
    """

    def __init__(self, path: Path, work: str = "training"):
        self._path, self._work = path, work
        self._file: tuple[int, int] | None = None  # device and inode

    def note(self, descriptor: int) -> None:
        """Note which file is locked.

        Args:
            descriptor: of the locked file, which stays open, so that no other file is given its inode.
        """
        self._file = _identity(os.fstat(descriptor))

    def check(self) -> None:
        """Check that the run's folder is still the one that is locked. Any thread may call it.

        Raises:
            UserError: the folder or the lock in it was removed, or another one is in its place.
        """
        try:
            there = _identity(os.stat(self._path, follow_symlinks=False))  # noqa: PTH116 - at every update
        except OSError:
            there = None
        if there != self._file:
            folder = self._path.parent
            raise UserError(
                f"{folder}, or {self._path.name} in it, was removed or replaced, so its {self._work} stopped and left "
                f"what is there as it is; go on with {folder.name} if its folder is there, or begin again."
            )


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file. It is neither made nor changed, and any number may ask at once.

    Args:
        path: the file.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    if fcntl is None:
        path.stat()
        try:
            with FileLock(path, timeout=0.02, poll_interval=0.002):
                return False
        except Timeout:
            return True
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


@contextlib.contextmanager
def locked(path: Path, work: str = "training") -> Iterator[Held]:
    """Lock a run, or something in it, against other processes.

    Args:
        path: of the lock, in the folder of the run, which exists.
        work: what this process does, one of `BUSY`.

    Yields:
        The lock.

    Raises:
        UserError: another process holds it, or the folder cannot be written to.
    """
    held = Held(path, work)
    lock = FileLock(path, timeout=1, on_acquired=held.note)  # waits longer than `is_locked` holds it
    try:
        lock.acquire()
    except Timeout:
        sentence = f"{path.parent.name} is being {BUSY[work]} by another process; wait for it or stop it."
        raise UserError(sentence) from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be locked: {error.strerror}; see that {path.parent} is a folder that can be written to."
        ) from error
    try:
        yield held
    finally:
        lock.release()


class Stoppable(Protocol):
    """What a process works on until it is done or a file appears: a run, a sweep, a measure."""

    @property
    def name(self) -> str: ...

    @property
    def stop_file(self) -> Path: ...


def request_stop(work: Stoppable) -> None:
    """Ask the process that trains or measures to save everything and stop.

    Args:
        work: which any process may be doing. If its folder is gone, nothing is.

    Raises:
        UserError: the request cannot be written.
    """
    try:
        work.stop_file.touch()
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{work.name} cannot be stopped: {error.strerror}; stop its process.") from error
