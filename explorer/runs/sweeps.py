"""Sweeps: folders of runs that differ in a few settings.

<root>/<sweep>/
  sweep.json              which settings vary, and which values they have
  outcomes.safetensors    the losses of all runs at some of their steps, and when they fall
  leads.safetensors       what led the falls, if it was dated
  <run>/                  an ordinary run, if it was not removed since

In a folder, one process trains a sweep at a time, holds its lock, ends when the stop file appears, and goes on with
runs that were begun. At an address there are neither locks nor such states:

- A run is there when it is done, from when its run.json is, which is put there last. What was begun and not done is
  trained anew.
- Two processes that train one sweep at once lose time, not results: of a run that both train, the last one put there
  stays, and both are the same, up to rounding if their machines differ. The outcomes are those of the process that
  wrote last, until the command is given again, which takes in all runs that are there.
- A file is replaced as a whole where the service does that, as stores of objects do.
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from explorer.errors import UserError, listed, printable, quoted
from explorer.runs.files import WriteError, parsed_json, read_tensors, read_text, write_tensors, write_text, writing
from explorer.runs.lock import locked
from explorer.runs.place import ABOUT, LEADS, NAME, OUTCOMES, SWEEP, NothingThereError, Stamp, check_name
from explorer.runs.store import Run, Runs
from explorer.training.sweep import Cell, SweepPlan, from_json, to_json

FORMAT = 1  # of sweep.json
LOG, LOCK, STOP = "sweep.log", ".sweeping", ".stop"
FILES = (SWEEP, OUTCOMES, LEADS, ABOUT, LOG, LOCK, STOP)
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
    """One sweep, in a place of runs."""

    def __init__(self, runs: Runs, name: str):
        self.among, self.name = runs, name

    @property
    def folder(self) -> Path:
        """Where its files are.

        Raises:
            UserError: they are in no folder.
        """
        return self.among.root / self.name

    @property
    def is_in_folder(self) -> bool:
        """Whether it is in a folder, so that it has a lock and a stop file, and goes on with runs that were begun."""
        return not self.among.read_only

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

    def asks_to_stop(self) -> bool:
        """Whether the stop file is there."""
        return self.is_in_folder and self.stop_file.exists()

    def run(self, name: str) -> Run:
        """One of its runs, which may not exist.

        Args:
            name: of the run.
        """
        return Run.of(self.among, f"{self.name}/{name}")

    def is_done(self, name: str) -> bool:
        """Whether one of its runs is there and done.

        Args:
            name: of the run.

        Raises:
            UserError: it cannot be read.
        """
        run = self.run(name)
        return self.among.place.holds_run(run.name) and run.info().status == "done"

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

    def read(self, file: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The tensors and the metadata of a file, unchecked but for their format; nothing if there is no such file yet.

        Args:
            file: `OUTCOMES` or `LEADS`.

        Raises:
            UserError: it cannot be read.
        """
        if self.among.place.stamp(self.name, file) is None:
            return {}, {}
        return read_tensors(functools.partial(self.among.place.open, self.name, file), f"{self.name}/{file}")

    def write(
        self, file: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], check: Callable[[], object]
    ) -> None:
        """Write a file of tensors.

        Args:
            file: `OUTCOMES` or `LEADS`.
            tensors, metadata: what it is to hold.
            check: what `alone` yields.

        Raises:
            WriteError: it cannot be written.
        """
        place = self.among.place
        with place.desk(self.name) as desk:
            write_tensors(desk / file, tensors, metadata, check)
            place.hand_in(desk, self.name, [file])

    @contextlib.contextmanager
    def alone(self) -> Iterator[Callable[[], object]]:
        """While this lasts, no other process trains or changes the sweep if it is in a folder, and a request to stop is
        one that came since.

        Yields:
            What raises UserError once the folder is gone or another one is in its place.

        Raises:
            UserError: another process does, or the sweep cannot be written.
        """
        self.among.place.check_written()
        if not self.is_in_folder:
            yield lambda: None
            return
        with locked(self.lock_file) as held:
            held.check()
            with writing(self.stop_file):
                self.stop_file.unlink(missing_ok=True)
            yield held.check

    @contextlib.contextmanager
    def desk(self) -> Iterator[Runs]:
        """A folder of this machine in which runs of the sweep are trained: its own, or at first an empty one."""
        with self.among.place.desk(self.name) as folder:
            yield Runs(folder)

    def hand_in(self, desk: Runs, name: str) -> None:
        """Put a run that is done in its place, run.json last.

        Args:
            desk: where it was trained.
            name: of the run.

        Raises:
            UserError: it cannot be written there.
        """
        run = Run.of(desk, name)
        files = [run.metrics_file, *map(run.snapshot_file, sorted(run.steps_on_disk())), run.info_file]
        self.among.place.hand_in(desk.root, self.name, [path.relative_to(desk.root).as_posix() for path in files])

    def is_training(self) -> bool:
        """Whether a process is training the sweep now, as far as one can tell: at an address one cannot."""
        return self.is_in_folder and self.among.place.is_training(self.name, LOCK)

    def about(self) -> str:
        """What about.md says, as `Run.about` does."""
        return Run.of(self.among, self.name).about()

    def version(self) -> tuple[Stamp | bool | None, ...]:
        """A key for caches: it changes when a file of the sweep itself does, and when its training begins or ends."""
        stamps = (self.among.place.stamp(self.name, file) for file in (SWEEP, OUTCOMES, LEADS, ABOUT))
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
    """The names of all sweeps in a place of runs, in alphabetical order, whether they can be read or not.

    Args:
        runs: the place.

    Raises:
        UserError: it cannot be read.
    """
    stamp = runs.place.stamp
    return [name for name in _entries(runs) if NAME.fullmatch(name) and stamp(name, SWEEP) is not None]


def _entries(runs: Runs) -> list[str]:
    """The names of all that is in a place, which may not exist yet."""
    try:
        return runs.place.entries()
    except NothingThereError:
        return []


def open_sweep(runs: Runs, name: str) -> Sweep:
    """The sweep of that name.

    Args:
        runs: the place of runs.
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
    try:
        with sweep.alone():
            sweep.among.place.remove(f"{sweep.name}/{cell.name}" for cell in sweep.info().cells)
    except WriteError as error:
        raise UserError(error.sentence("remove the runs again")) from error


def check_free(runs: Runs, name: str) -> None:
    """Refuse a name that a new sweep cannot have.

    Args:
        runs: the place of runs.
        name: of the sweep.

    Raises:
        UserError: the name is taken or cannot be the name of a folder, or no sweep can be written there.
    """
    check_name(name)
    runs.place.check_written()
    if name in _entries(runs):
        raise UserError(runs.taken(name))


def create_sweep(runs: Runs, name: str, info: SweepInfo) -> Sweep:
    """Create a sweep without runs.

    Args:
        runs: the place of runs.
        name: of the sweep, and of its folder.
        info: its settings.

    Returns:
        The sweep.

    Raises:
        UserError: the name is taken or cannot be the name of a folder, or nothing can be written.
    """
    check_free(runs, name)
    sweep = Sweep(runs, name)
    if sweep.is_in_folder:
        try:
            runs.root.mkdir(parents=True, exist_ok=True)
            sweep.folder.mkdir()
        except FileExistsError:
            raise UserError(runs.taken(name)) from None
        except OSError as error:
            raise UserError(f"{sweep.folder} cannot be made: {error.strerror}; choose another folder.") from error
    values: dict[str, Any] = {"format": FORMAT, **to_json(info.plan), "stacked": info.stacked}
    with runs.place.desk(name) as desk:
        try:
            write_text(desk / SWEEP, json.dumps(values, indent=2) + "\n")
        except OSError as error:
            desk.rmdir()
            raise UserError(f"{desk / SWEEP} cannot be written: {error.strerror}; free some space.") from error
        runs.place.hand_in(desk, name, [SWEEP])
    return sweep
