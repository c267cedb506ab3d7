"""Runs, for reading. `explorer.runs.recorder` creates, trains and writes them.

<root>/<run>/
  run.json                            what is trained, how, and how far training got
  metrics.safetensors                 row i is measured with the weights of step i
  snapshots/step-000640.safetensors   the weights at step 640, with task, model and training in the file's header
  resume.safetensors                  everything that determines what training does next, also after its last step
  train.log                           the output of the process that trains it, if it is a job
  tokenizer.json                      how text becomes tokens, for a model of somebody else's vocabulary
  measures/complexity.safetensors     a measure that takes minutes (`explorer.runs.measures`)
  about.md                            what there is to see in the run, if somebody wrote it down
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from explorer.errors import UserError, listed, printable, quoted
from explorer.model.architectures import check_weights, model_from_weights
from explorer.model.ensemble import Ensemble
from explorer.model.hooks import HookedModel
from explorer.runs.files import last_line, read_tensors, read_text
from explorer.runs.info import RunInfo, is_of_run, parsed_info, unreadable, with_tokenizer
from explorer.runs.metrics import read_metrics
from explorer.runs.place import (
    ABOUT,
    INFO,
    MEASURES,
    METRICS,
    NAME,
    SNAPSHOTS,
    SWEEP,
    TOKENIZER,
    Stamp,
    UnreachableError,
    place_of,
)
from explorer.runs.sentences import no_runs, of_alike

RESUME, LOG, LOCK, STOP = "resume.safetensors", "train.log", ".lock", ".stop"
FILES = (INFO, METRICS, SNAPSHOTS, MEASURES, RESUME, LOG, ABOUT, TOKENIZER, LOCK, STOP)
LONGEST = 1000  # bytes of what is read of about.md


class Runs:
    """All runs in one place.

    Args:
        root: the path of their folder, or the address or zip file where they can be read.

    Raises:
        UserError: a package is missing that reads such an address.
    """

    def __init__(self, root: str | Path):
        self.place = place_of(root)

    def __str__(self) -> str:
        return str(self.place)

    @property
    def root(self) -> Path:
        """The folder of the runs.

        Raises:
            UserError: they can only be read.
        """
        return self.place.root

    @property
    def read_only(self) -> bool:
        """Whether runs can only be read there."""
        return self.place.read_only

    def names(self) -> list[str]:
        """The names of all runs in alphabetical order, whether they can be read or not.

        Raises:
            UserError: there is a file in place of the folder, or the place cannot be read.
        """
        return [name for name in self.place.entries() if NAME.fullmatch(name) and self.place.holds_run(name)]

    def others(self) -> list[str]:
        """The names of everything else in the folder, in alphabetical order, but for sweeps and what is hidden.

        Raises:
            UserError: as `names`.
        """
        runs = set(self.names())
        others = [name for name in self.place.entries() if name not in runs and not name.startswith(".")]
        return [name for name in others if self.place.stamp(name, SWEEP) is None]

    def emptiness(self) -> str:
        """A sentence without a full stop, which says that the folder holds no runs, or does not exist."""
        return self.place.emptiness()

    def remedy(self, train: str) -> str:
        """What to do where there are no runs.

        Args:
            train: the words for a place in which runs can be trained.
        """
        return "name the place of others with EXPLORER_CHECKPOINTS" if self.read_only else train

    def unknown(self) -> str:
        """A sentence about everything in the folder that is no run; "" if there is nothing.

        Raises:
            UserError: as `names`.
        """
        return no_runs(self.others(), str(self))

    def taken(self, name: str) -> str:
        """A sentence that says that something of this name is there already."""
        return f"There is already a file or folder {name} in {self}; choose another name."

    def open(self, name: str) -> "Run":
        """The run of that name.

        Args:
            name: of the run's folder; for a run of a sweep, that of the sweep's, a slash and that of the run's.

        Raises:
            UserError: there is no such run, or its run.json cannot be understood.
        """
        names, (sweep, slash, cell) = self.names(), name.partition("/")
        is_swept = bool(slash and NAME.fullmatch(sweep) and NAME.fullmatch(cell)) and self.place.holds_run(name)
        if name not in names and not is_swept:
            there = f"there are {listed(names)}" if names else f"{self} holds none yet"
            raise UserError(f"There is no run {quoted(name)}; {there}.")
        run = Run.of(self, name)
        run.info()
        return run


class Run:
    """One run, in a folder of this machine. Nothing here changes it."""

    def __init__(self, folder: Path):
        self.runs, self.name = Runs(folder.parent), folder.name

    @classmethod
    def of(cls, runs: Runs, name: str) -> "Run":
        """A run in any place.

        Args:
            runs: all that are there.
            name: of the run, which may not exist.
        """
        run = cls(Path(name))
        run.runs, run.name = runs, name
        return run

    @property
    def address(self) -> str:
        """What tells the run from all others."""
        return f"{self.runs}/{self.name}"

    # --- Its files, where they can be written ---

    @property
    def folder(self) -> Path:
        """Where the run's files are.

        Raises:
            UserError: they can only be read. So do all paths of files.
        """
        return self.runs.root / self.name

    @property
    def info_file(self) -> Path:
        return self.folder / INFO

    @property
    def metrics_file(self) -> Path:
        return self.folder / METRICS

    @property
    def snapshots_folder(self) -> Path:
        return self.folder / SNAPSHOTS

    def snapshot_file(self, step: int) -> Path:
        """Where the weights at ``step`` are, or would be."""
        return self.folder / _snapshot_name(step)

    @property
    def resume_file(self) -> Path:
        return self.folder / RESUME

    @property
    def log(self) -> Path:
        """The output of a job."""
        return self.folder / LOG

    @property
    def about_file(self) -> Path:
        return self.folder / ABOUT

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer of a model whose vocabulary is somebody else's."""
        return self.folder / TOKENIZER

    @property
    def lock_file(self) -> Path:
        """Locked by the process that trains the run; the operating system unlocks it when that process ends."""
        return self.folder / LOCK

    @property
    def stop_file(self) -> Path:
        """Its presence asks the process that trains the run to save everything and stop."""
        return self.folder / STOP

    # --- Its state ---

    def info(self) -> RunInfo:
        """What run.json holds now.

        If its status is "running" and no process trains the run, that process was killed or crashed: the status is then
        returned as "failed".

        Raises:
            UserError: the file cannot be read or understood, or one of the run's files is a link to elsewhere.
        """
        info = self._read_info()
        if info.status == "running" and not self.is_training():
            info = self._read_info()  # the process may just have ended
            if info.status == "running":
                info = dataclasses.replace(info, status="failed", message=self.last_words())
        return info

    def _read_info(self) -> RunInfo:
        shown = f"{self.name}/{INFO}"
        self.runs.place.check_inside(self.name, FILES)
        try:
            text = read_text(self._opening(INFO))
        except UserError:
            raise
        except (OSError, ValueError) as error:
            raise UserError(unreadable(shown)) from error
        return with_tokenizer(parsed_info(text, shown), self._opening(TOKENIZER))

    def _opening(self, file: str) -> Callable[[], BinaryIO]:
        """What opens one of the files."""
        return functools.partial(self.runs.place.open, self.name, file)

    def is_training(self) -> bool:
        """Whether a process is training the run now."""
        return self.runs.place.is_training(self.name, LOCK)

    def last_words(self) -> str:
        """The last line of the log: why the latest training process failed. A general sentence if the log is empty."""
        silent = "The process that trained it was killed and printed no error; resume it from its last snapshot."
        return last_line(self.log) or silent

    def about(self) -> str:
        """What about.md says, as one line without its comments; "" if there is none. It is untrusted text.

        Raises:
            UserError: it is a link to elsewhere, or cannot be fetched.
        """
        try:
            with self.runs.place.open(self.name, ABOUT) as file:
                text = file.read(LONGEST).decode(errors="replace")
        except UserError:
            raise
        except (OSError, ValueError):
            return ""
        return printable(" ".join(re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL).split()))

    def version(self) -> tuple[object, ...]:
        """A key for caches: it changes when a file is written, replaced or removed, and when the process that trains
        the run ends.

        Returns:
            The status, the stamps of run.json, the metrics, about.md and the folder of measures, None for those that
            do not exist, and those of all snapshots.

        Raises:
            UserError: run.json cannot be read or understood.
        """
        stamps = (self.runs.place.stamp(self.name, file) for file in (INFO, METRICS, ABOUT, MEASURES))
        return (self.info().status, *stamps, *self.stamps().items())

    # --- Its snapshots ---

    def steps(self) -> tuple[int, ...]:
        """The steps of all snapshots, ascending: those that are there, and those that run.json lists."""
        return tuple(sorted(self.steps_on_disk() | set(self.info().snapshots)))

    def steps_on_disk(self) -> set[int]:
        """The steps of the snapshot files."""
        return set(self.runs.place.snapshots(self.name))

    def stamps(self) -> dict[int, Stamp | None]:
        """A stamp of each snapshot file, by step, ascending."""
        return dict(sorted(self.runs.place.snapshots(self.name).items()))

    def snapshot(self, step: int) -> dict[str, Tensor]:
        """The weights of one snapshot.

        Args:
            step: of the snapshot.

        Returns:
            Name -> weight, float32, as in `state_dict`.

        Raises:
            UserError: the file is missing, damaged, or belongs to another model; the sentence names it.
        """
        weights = self._snapshot(step, self.info(), self.steps())
        return {name: weight.float() for name, weight in weights.items()}

    def _snapshot(
        self, step: int, info: RunInfo, known: tuple[int, ...], only_header: bool = False
    ) -> dict[str, Tensor]:
        """As `snapshot`, but in the precision of the file, and without reading run.json again.

        Args:
            step: of the snapshot.
            info, known: what `info` and `steps` return.
            only_header: check the file's header only; the weights are then on the meta device.
        """
        file = _snapshot_name(step)
        shown = f"{self.name}/{file}"
        if step not in known:
            nearest = min(known, key=lambda there: abs(there - step), default="none")
            raise UserError(f"{self.name} has no snapshot at step {step}; the nearest is at {nearest}.")

        def check(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
            if metadata.get("step", str(step)) != str(step):
                raise UserError(f"{shown} holds step {quoted(metadata['step'])}; restore the right file.")
            if not is_of_run(metadata, info):
                raise UserError(f"{shown} was written by another run, with other settings; restore the right file.")
            try:
                check_weights(info.model, weights)
            except UserError as error:
                raise UserError(f"{shown} does not belong to this run: {error}") from error

        weights, _ = read_tensors(self._opening(file), shown, check, only_header)
        return weights

    def readable(self, problems: list[str], unchanged: Collection[int] = ()) -> tuple[int, ...]:
        """The steps of the snapshots that can be read, according to the headers of their files. Where runs can only be
        read, those that are there: a damaged one is reported when its weights are read.

        Args:
            problems: a sentence about the others is appended to it, one for all that have the same problem.
            unchanged: steps of snapshots that are known to be readable; their files are not opened.

        Raises:
            UserError: none can be read.
        """
        info, known, readable = self.info(), self.steps(), []
        if self.runs.read_only:  # a file would be fetched for its header
            unchanged = self.steps_on_disk()
        refused: dict[int, str] = {}
        for step in known:
            try:
                if step not in unchanged:
                    self._snapshot(step, info, known, only_header=True)
                readable.append(step)
            except UserError as error:
                refused[step] = str(error)
        sentences = of_alike(refused, known)
        if not readable:
            raise UserError(" ".join(sentences)) if sentences else self._no_snapshot()
        problems += sentences
        return tuple(readable)

    def model(self, step: int) -> HookedModel:
        """A new model with the weights of one snapshot.

        Args:
            step: of the snapshot.

        Raises:
            UserError: as `snapshot`.
        """
        return model_from_weights(self.info().model, self.snapshot(step))

    def ensemble(self, steps: Iterable[int] | None = None, problems: list[str] | None = None) -> Ensemble:
        """Snapshots as one stack, read one after another: beside the stack, one file at a time is in memory.

        Args:
            steps: of the snapshots wanted, ascending; None for all.
            problems: if given, snapshots that cannot be read are left out, and sentences about them appended to it, as
                in `readable`.

        Raises:
            UserError: there is no snapshot, or none can be read, or, without ``problems``, one cannot.
        """
        info, known = self.info(), self.steps()
        wanted = known if steps is None else tuple(steps)
        refused: dict[int, str] = {}

        def read() -> Iterator[tuple[int, dict[str, Tensor]]]:
            for step in wanted:
                try:
                    yield step, self._snapshot(step, info, known)
                except UnreachableError:
                    raise  # no problem of the snapshot, which can be read once the place answers
                except UserError as error:
                    if problems is None:
                        raise
                    refused[step] = str(error)

        with self.runs.place.ahead(self.name, map(_snapshot_name, wanted)):
            ensemble = Ensemble.gathered(info.model, read(), len(wanted))
        sentences = of_alike(refused, known)
        if not ensemble:
            raise UserError(" ".join(sentences)) if sentences else self._no_snapshot()
        if problems is not None:
            problems += sentences
        return ensemble

    def _no_snapshot(self) -> UserError:
        return UserError(f"No snapshot of {self.name} can be read; train it, or restore its snapshots folder.")

    # --- Its metrics ---

    def metrics(self) -> dict[str, Tensor]:
        """Everything recorded so far.

        Returns:
            Name -> (step ...), for tests (test ...); losses in nats. Measures that the task does not have are left out:
            an older version of it may have recorded them.

        Raises:
            UserError: the file is missing or damaged, or is not that of this run.
        """
        return read_metrics(self._opening(METRICS), f"{self.name}/{METRICS}", self.info())


def _snapshot_name(step: int) -> str:
    return f"{SNAPSHOTS}/step-{step:06d}.safetensors"
