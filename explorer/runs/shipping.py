"""The runs that ship with the project: which they are, what they may take on disk, and how a new one replaces one."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from explorer.errors import UserError
from explorer.runs.store import Run, Runs

SHIPPED: Mapping[str, tuple[str, str]] = {  # name of the run -> task and preset
    "addition": ("addition", "quick"),
    "addition-finite": ("addition", "quick-finite"),
    "skip-trigram": ("skip-trigram", "quick"),
    "skip-trigram-finite": ("skip-trigram", "quick-finite"),
    "induction": ("induction", "notebook"),
    "induction-finite": ("induction", "quick-finite"),
    "modular-addition": ("modular-addition", "quick"),
}
MAX_FILE = 2**20  # bytes of one file
MAX_ALL = 60 * 10**6  # bytes of all runs that ship


def new_runs(runs: Runs) -> Runs:
    """The folder in which new runs are trained until each replaces the one that shipped.

    Args:
        runs: the folder of runs. The new one is inside it, hidden, so that a run moves between them in one step.
    """
    return Runs(runs.root / ".new")


def replace(runs: Runs, new: Run) -> None:
    """Put a new run in the place of the one that shipped under its name, without what does not ship: the state of its
    optimiser, its log, its lock. It keeps the old one's about.md.

    Args:
        runs: the folder of runs that ship.
        new: a run that is done, in `new_runs`.

    Raises:
        UserError: it is not done or takes too much on disk, or the old one is being trained or cannot be moved. The old
            one is then left as it is.
    """
    old, aside = Run(runs.root / new.name), runs.root / f".old-{new.name}"
    if new.info().status != "done":
        raise UserError(f"{new.folder} is not done, so it does not replace {old.folder}; train it to its end.")
    check_not_training(old)
    _check_size(runs, new)
    for path in (new.resume_file, new.log, new.stop_file, new.lock_file):
        path.unlink(missing_ok=True)
    try:
        if old.about_file.exists():
            shutil.copyfile(old.about_file, new.about_file)
        if old.folder.exists():
            shutil.rmtree(aside, ignore_errors=True)
            old.folder.rename(aside)
        try:
            new.folder.rename(old.folder)
        except OSError:
            aside.rename(old.folder)
            raise
    except OSError as error:
        raise UserError(f"{new.folder} cannot be moved to {old.folder}: {error.strerror}; move it by hand.") from error
    shutil.rmtree(aside, ignore_errors=True)


def check_not_training(run: Run) -> None:
    """Check that no process trains a run that is to be replaced.

    Args:
        run: which may not exist.

    Raises:
        UserError: one does.
    """
    if run.folder.exists() and run.is_training():
        raise UserError(f"{run.folder} is being trained, so it cannot be replaced; stop it first.")


def _check_size(runs: Runs, new: Run) -> None:
    sizes = {path: path.stat().st_size for path in _shipped_files(new)}
    for path, size in sizes.items():
        if size > MAX_FILE:
            raise UserError(
                f"{path} has {size:,} bytes; a file that ships has at most {MAX_FILE:,}: change the preset."
            )
    others = (Run(runs.root / name) for name in SHIPPED if name != new.name)
    total = sum(sizes.values()) + sum(path.stat().st_size for run in others for path in _shipped_files(run))
    if total > MAX_ALL:
        raise UserError(
            f"With {new.name} the runs that ship would have {total:,} bytes; they may have {MAX_ALL:,}: keep fewer "
            f"snapshots."
        )


def _shipped_files(run: Run) -> list[Path]:
    files = [run.info_file, run.metrics_file, run.about_file, *map(run.snapshot_file, sorted(run.steps_on_disk()))]
    return [path for path in files if path.is_file()]
