"""Renaming and deleting runs. A run that was deleted last can be restored."""

import os
import shutil
from pathlib import Path

from explorer.errors import UserError, printable
from explorer.runs.lock import locked
from explorer.runs.store import Run, Runs, check_name

DELETED = ".deleted"  # folder within that of the runs, which holds the run that was deleted last


def rename(runs: Runs, name: str, new: str) -> Run:
    """Give a run another name.

    Args:
        runs: the folder of runs.
        name: of the run.
        new: its new name.

    Returns:
        The run under its new name.

    Raises:
        UserError: there is no such run, it is being trained, the new name cannot be the name of a run or is taken, or
            the folder cannot be changed.
    """
    check_name(new)
    run = _existing(runs, name)
    if new != name:
        with locked(run.lock_file):
            _move(runs, run.folder, runs.root / new)
    return Run(runs.root / new)


def delete(runs: Runs, name: str) -> None:
    """Take a run off the shelf. `restore` brings it back until the next run is deleted; then it is gone for good.

    Args:
        runs: the folder of runs.
        name: of the run.

    Raises:
        UserError: there is no such run, it is being trained, or the folder cannot be changed.
    """
    run, kept = _existing(runs, name), runs.root / DELETED
    with locked(run.lock_file):
        try:
            if os.path.lexists(kept):
                _remove(kept)
            kept.mkdir()
        except OSError as error:
            raise UserError(
                f"{printable(kept)} cannot be emptied: {error.strerror}; remove it, then try again."
            ) from error
        _move(runs, run.folder, kept / name)


def deleted(runs: Runs) -> str | None:
    """The name of the run that `restore` would bring back; None if there is none.

    Args:
        runs: the folder of runs.
    """
    try:
        names = [path.name for path in (runs.root / DELETED).iterdir()]
    except OSError:
        return None
    return names[0] if names else None


def restore(runs: Runs) -> Run:
    """Bring back the run that was deleted last.

    Args:
        runs: the folder of runs.

    Returns:
        The run.

    Raises:
        UserError: there is none, its name is taken meanwhile, or the folder cannot be changed.
    """
    name = deleted(runs)
    if name is None:
        raise UserError(f"No run that was deleted is kept in {printable(runs.root)}.")
    check_name(name)
    _move(runs, runs.root / DELETED / name, runs.root / name)
    return Run(runs.root / name)


def _existing(runs: Runs, name: str) -> Run:
    """A run of the folder, whether it can be read or not."""
    return Run(runs.root / name) if name in runs.names() else runs.open(name)


def _move(runs: Runs, here: Path, there: Path) -> None:
    if os.path.lexists(there):
        raise UserError(runs.taken(there.name))
    try:
        here.rename(there)
    except OSError as error:
        what = f"{printable(here)} cannot be moved to {printable(there)}"
        raise UserError(f"{what}: {error.strerror}; see that the folder of runs can be written to.") from error


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder; what a link leads to stays."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)
