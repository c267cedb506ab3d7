"""Renaming, deleting and restoring runs.

A run that is deleted is moved into the hidden folder ``.deleted`` of the folder of runs, from where it can be restored.
Its files are removed when the next run is deleted, and at no other time.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from explorer.errors import UserError, quoted
from explorer.runs.lock import locked
from explorer.runs.place import check_name
from explorer.runs.store import Run, Runs
from explorer.runs.sweeps import Sweep, sweep_names

DELETED, LOCK = ".deleted", ".lock"
WAIT = 10  # seconds for another process that deletes or restores a run


def rename(run: Run, name: str) -> Run:
    """Give a run another name.

    Args:
        run: which nobody is training.
        name: the new one.

    Returns:
        The run under its new name.

    Raises:
        UserError: the name is taken or cannot be that of a run, the run is being trained, it or one of its files is a
            link to elsewhere, or it cannot be moved.
    """
    check_name(name)
    renamed = Run(run.folder.parent / name)
    if os.path.lexists(renamed.folder):
        raise UserError(Runs(run.folder.parent).taken(name))
    with _at_rest(run):
        _move(run.folder, renamed.folder, "renamed")
    return renamed


def delete(run: Run | Sweep) -> None:
    """Delete a run, or a sweep with all of its runs. It can be restored until another one is deleted; the one deleted
    before it is removed for good.

    Args:
        run: which nobody is training.

    Raises:
        UserError: the run is being trained, it or one of its files is a link to elsewhere, or it cannot be moved.
    """
    with _at_rest(run), _shelf(run.folder.parent) as shelf:
        place = shelf / run.name
        shutil.rmtree(place, ignore_errors=True)  # one of the same name, deleted before
        _move(run.folder, place, "deleted")
        for before in shelf.iterdir():
            if before.name not in (run.name, LOCK):
                shutil.rmtree(before, ignore_errors=True)


def deleted(runs: Runs) -> list[str]:
    """The names of the runs and sweeps that can be restored: that of the one deleted last, if any was.

    Args:
        runs: the folder of runs.

    Raises:
        UserError: they cannot be looked up.
    """
    shelf = Runs(runs.root / DELETED)
    return [*shelf.names(), *sweep_names(shelf)]


def restore(runs: Runs, name: str) -> Run:
    """Undo the deletion of a run.

    Args:
        runs: the folder of runs.
        name: of the run that was deleted.

    Returns:
        The run.

    Raises:
        UserError: it was removed for good or restored meanwhile, its name is taken, or it cannot be moved.
    """
    if name not in deleted(runs):
        raise UserError(f"{quoted(name)} is not among the deleted runs any more, so it cannot be restored.")
    with _shelf(runs.root) as shelf:
        run = Run(runs.root / name)
        if os.path.lexists(run.folder):
            raise UserError(
                f"There is a file or folder {name} in {runs.root} again; rename it, and then restore the deleted run."
            )
        _move(shelf / name, run.folder, "restored")
    return run


@contextlib.contextmanager
def _at_rest(run: Run | Sweep) -> Iterator[None]:
    """Holds the lock of a run whose folder can be moved."""
    if run.folder.is_symlink():
        raise UserError(f"{run.name} is a link to another folder; rename or remove the link itself.")
    run.info()  # refuses links among its files, the lock among them
    with locked(run.lock_file) as held:
        held.check()
        yield


@contextlib.contextmanager
def _shelf(root: Path) -> Iterator[Path]:
    """The folder of deleted runs, which is made if there is none, locked against other processes."""
    shelf = root / DELETED
    try:
        if shelf.is_symlink():
            raise UserError(f"{shelf} is a link to elsewhere; remove it.")
        shelf.mkdir(exist_ok=True)
        with FileLock(shelf / LOCK, timeout=WAIT):
            yield shelf
    except Timeout:
        raise UserError(f"Another process is deleting or restoring runs in {root}; try again.") from None
    except OSError as error:
        raise UserError(f"{shelf} cannot be used: {error.strerror}; see that it is a folder to write to.") from error


def _move(source: Path, target: Path, done: str) -> None:
    try:
        source.rename(target)
    except OSError as error:
        raise UserError(f"{source.name} cannot be {done}: {error.strerror}; it is left as it was.") from error
