"""Sweeps: folders of runs that differ in a few settings.

<root>/<sweep>/
  sweep.json              which settings vary, and which values they have
  outcomes.safetensors    the losses of all runs at some of their steps, and when they fall
  <run>/                  an ordinary run, if it was not removed since
"""

import dataclasses
import functools
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from explorer.errors import UserError, listed, printable, quoted
from explorer.runs.files import parsed_json, read_tensors, read_text, write_tensors, write_text
from explorer.runs.lock import locked
from explorer.runs.place import ABOUT, NAME, SWEEP, Stamp, check_name
from explorer.runs.store import Run, Runs
from explorer.training.sweep import Cell, SweepPlan, from_json, to_json

FORMAT = 1  # of sweep.json
OUTCOMES, LOG, LOCK, STOP = "outcomes.safetensors", "sweep.log", ".sweeping", ".stop"
FILES = (SWEEP, OUTCOMES, ABOUT, LOG, LOCK, STOP)
MOST_STACKED = 1024


@dataclasses.dataclass(frozen=True)
class SweepInfo:
    """What sweep.json holds."""

    plan: SweepPlan
    stacked: int = 1  # runs that are trained as one stack; it stays the same, since rounding may depend on it

    @functools.cached_property
    def cells(self) -> tuple[Cell, ...]:
        return self.plan.cells()


class Sweep:
    """One sweep, in a folder of runs."""

    def __init__(self, runs: Runs, name: str):
        self.among, self.name = runs, name

    @property
    def folder(self) -> Path:
        """Where its files are.

        Raises:
            UserError: they can only be read.
        """
        return self.among.root / self.name

    @property
    def address(self) -> str:
        """What tells the sweep from all others."""
        return f"{self.among}/{self.name}"

    @property
    def lock_file(self) -> Path:
        """Locked by the process that trains the sweep."""
        return self.folder / LOCK

    @property
    def stop_file(self) -> Path:
        """Its presence asks the process that trains the sweep, and its workers, to save everything and stop."""
        return self.folder / STOP

    @property
    def runs(self) -> Runs:
        """Its runs."""
        return Runs(self.folder)

    def run(self, name: str) -> Run:
        """One of its runs, which may not exist.

        Args:
            name: of the run.
        """
        return Run(self.folder / name)

    def info(self) -> SweepInfo:
        """What sweep.json holds.

        Raises:
            UserError: it cannot be read or understood, or one of the sweep's files is a link to elsewhere.
        """
        shown = f"{self.name}/{SWEEP}"
        self.among.place.check_inside(self.name, FILES)
        try:
            return _parsed(read_text(functools.partial(self.among.place.open, self.name, SWEEP)), shown)
        except UserError:
            raise
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{shown} cannot be read; restore the file or remove the folder.") from error

    def outcomes(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What outcomes.safetensors holds, unchecked but for its format; nothing if there is none yet.

        Raises:
            UserError: it cannot be read.
        """
        if self.among.place.stamp(self.name, OUTCOMES) is None:
            return {}, {}
        opening = functools.partial(self.among.place.open, self.name, OUTCOMES)
        return read_tensors(opening, f"{self.name}/{OUTCOMES}")

    def write_outcomes(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Write outcomes.safetensors.

        Args:
            tensors, metadata: what it is to hold.

        Raises:
            WriteError: it cannot be written.
        """
        write_tensors(self.folder / OUTCOMES, tensors, metadata)

    def is_training(self) -> bool:
        """Whether a process is training the sweep now."""
        return self.among.place.is_training(self.name, LOCK)

    def about(self) -> str:
        """What about.md says, as `Run.about` does."""
        return Run.of(self.among, self.name).about()

    def version(self) -> tuple[Stamp | bool | None, ...]:
        """A key for caches: it changes when a file of the sweep itself does, and when its training begins or ends."""
        stamps = (self.among.place.stamp(self.name, file) for file in (SWEEP, OUTCOMES, ABOUT))
        return (self.is_training(), *stamps)


@functools.lru_cache(maxsize=64)
def _parsed(text: str, shown: str) -> SweepInfo:
    values = parsed_json(text, shown)
    if isinstance(values, Mapping) and values.get("format") != FORMAT:
        raise UserError(f"{shown} has format {quoted(values.get('format'))}; this explorer reads format {FORMAT}.")
    plan = from_json(values, shown)
    stacked = values.get("stacked", 1)
    if type(stacked) is not int or not 1 <= stacked <= MOST_STACKED:
        raise UserError(f"{shown} has no valid number of runs in a stack; restore the file.")
    return SweepInfo(plan, stacked)


def sweep_names(runs: Runs) -> list[str]:
    """The names of all sweeps in a folder of runs, in alphabetical order, whether they can be read or not.

    Args:
        runs: the folder.

    Raises:
        UserError: it cannot be read.
    """
    place = runs.place
    return [name for name in place.entries() if NAME.fullmatch(name) and place.stamp(name, SWEEP) is not None]


def open_sweep(runs: Runs, name: str) -> Sweep:
    """The sweep of that name.

    Args:
        runs: the folder of runs.
        name: of the sweep's folder.

    Raises:
        UserError: there is no such sweep, or its sweep.json cannot be understood.
    """
    if name not in (names := sweep_names(runs)):
        there = f"there are {listed(names)}" if names else f"{printable(runs)} holds none yet"
        raise UserError(f"There is no sweep {quoted(name)}; {there}.")
    sweep = Sweep(runs, name)
    sweep.info()
    return sweep


def forget_runs(sweep: Sweep) -> None:
    """Remove the folders of all runs of a sweep, whose outcomes stay.

    Args:
        sweep: which nobody is training.

    Raises:
        UserError: it is being trained, or cannot be changed.
    """
    with locked(sweep.lock_file) as held:
        held.check()
        for cell in sweep.info().cells:
            shutil.rmtree(sweep.folder / cell.name, ignore_errors=True)


def check_free(runs: Runs, name: str) -> None:
    """Refuse a name that a new sweep cannot have.

    Args:
        runs: the folder of runs.
        name: of the sweep.

    Raises:
        UserError: the name is taken or cannot be the name of a folder.
    """
    check_name(name)
    if Sweep(runs, name).folder.exists():
        raise UserError(runs.taken(name))


def create_sweep(runs: Runs, name: str, info: SweepInfo) -> Sweep:
    """Create a sweep on disk, without runs.

    Args:
        runs: the folder of runs.
        name: of the sweep, and of its folder.
        info: its settings.

    Returns:
        The sweep.

    Raises:
        UserError: the name is taken or cannot be the name of a folder, or nothing can be written.
    """
    check_name(name)
    sweep = Sweep(runs, name)
    try:
        runs.root.mkdir(parents=True, exist_ok=True)
        sweep.folder.mkdir()
    except FileExistsError:
        raise UserError(runs.taken(name)) from None
    except OSError as error:
        raise UserError(f"{sweep.folder} cannot be made: {error.strerror}; choose another folder.") from error
    values: dict[str, Any] = {"format": FORMAT, **to_json(info.plan), "stacked": info.stacked}
    try:
        write_text(sweep.folder / SWEEP, json.dumps(values, indent=2) + "\n")
    except OSError as error:
        sweep.folder.rmdir()
        raise UserError(f"{sweep.folder / SWEEP} cannot be written: {error.strerror}; free some space.") from error
    return sweep
