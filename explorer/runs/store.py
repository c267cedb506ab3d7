"""Runs on disk, for reading. `explorer.runs.recorder` creates, trains and writes them.

<root>/<run>/
  run.json                            what is trained, how, and how far training got
  metrics.safetensors                 row i is measured with the weights of step i
  snapshots/step-000640.safetensors   the weights at step 640, with task, model and training in the file's header
  resume.safetensors                  everything that determines what training does next, also after its last step
  train.log                           the output of the process that trains it, if it is a job
  tokenizer.json                      how text becomes tokens, for a model of somebody else's vocabulary
  about.md                            what there is to see in the run, if somebody wrote it down
"""

import dataclasses
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from torch import Tensor

from explorer.errors import UserError, listed, printable, quoted
from explorer.model.architectures import check_weights, model_from_weights
from explorer.model.ensemble import Ensemble
from explorer.model.hooks import HookedModel
from explorer.runs.files import leads_outside, read_tensors, read_text
from explorer.runs.info import RunInfo, is_of_run, parsed_info, unreadable, with_tokenizer
from explorer.runs.lock import is_locked
from explorer.runs.metrics import read_metrics
from explorer.runs.sentences import MOST_NAMED, of_alike

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAMES = "up to 64 letters, digits, dots, dashes and underscores, beginning with a letter or a digit"
SNAPSHOT = re.compile(r"step-(\d{6,})\.safetensors")
LONGEST = 1000  # bytes of what is read of about.md
Stamp = tuple[int, ...]  # changes whenever a file is written, replaced or made readable


def check_name(name: str) -> None:
    """Raises UserError if a run cannot have this name; the sentence says which it can."""
    if not NAME.fullmatch(name):
        raise UserError(f"{quoted(name)} cannot be the name of a run; use {NAMES}.")


def default_folder(beside: Path = Path()) -> Path:
    """The default folder of runs: the value of the environment variable ``EXPLORER_CHECKPOINTS``, or ``checkpoints``.

    Args:
        beside: the folder that contains ``checkpoints``.

    Raises:
        UserError: the variable names the home folder of somebody unknown.
    """
    return folder_named(os.environ.get("EXPLORER_CHECKPOINTS") or str(beside / "checkpoints"))


def folder_named(text: str) -> Path:
    """The folder that somebody has named; ``~`` is the home folder.

    Args:
        text: as typed.

    Raises:
        UserError: it begins with ``~`` and the name of somebody unknown.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{quoted(text)} begins with a home folder that is not known; write it in full.") from error


class Runs:
    """All runs in one folder."""

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def names(self) -> list[str]:
        """The names of all runs in alphabetical order, whether they can be read or not.

        Raises:
            UserError: there is a file in place of the folder, or it cannot be read.
        """
        return [path.name for path in self._entries() if NAME.fullmatch(path.name) and _holds_run(path)]

    def others(self) -> list[str]:
        """The names of everything else in the folder, in alphabetical order, but for what is hidden.

        Raises:
            UserError: as `names`.
        """
        runs = set(self.names())
        return [path.name for path in self._entries() if path.name not in runs and not path.name.startswith(".")]

    def _entries(self) -> list[Path]:
        try:
            return sorted(self.root.iterdir())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise UserError(f"{printable(self.root)} cannot be read as a folder of runs: {why}.") from error

    def emptiness(self) -> str:
        """A sentence without a full stop, which says that the folder holds no runs, or does not exist."""
        state = "holds no runs yet" if self.root.exists() else "does not exist"
        return f"The folder {printable(self.root.absolute())} {state}"

    def unknown(self) -> str:
        """A sentence about everything in the folder that is no run; "" if there is nothing.

        Raises:
            UserError: as `names`.
        """
        others = [quoted(name) for name in self.others()]
        if not others:
            return ""
        are = "is no run" if len(others) == 1 else "are no runs"
        return (
            f"In {printable(self.root)}, {listed(others, MOST_NAMED)} {are}: a run is a folder with a run.json, whose "
            f"name has {NAMES}."
        )

    def taken(self, name: str) -> str:
        """A sentence that says that something of this name is there already."""
        return f"There is already a file or folder {name} in {printable(self.root)}; choose another name."

    def open(self, name: str) -> "Run":
        """The run of that name.

        Args:
            name: of the run's folder.

        Raises:
            UserError: there is no such run, or its run.json cannot be understood.
        """
        names = self.names()
        if name not in names:
            there = f"there are {listed(names)}" if names else f"{printable(self.root)} holds none yet"
            raise UserError(f"There is no run {quoted(name)}; {there}.")
        run = Run(self.root / name)
        run.info()
        return run


class Run:
    """One run on disk. Nothing here changes it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.name = folder.name

    # --- Its files ---

    @property
    def info_file(self) -> Path:
        return self.folder / "run.json"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.safetensors"

    @property
    def snapshots_folder(self) -> Path:
        return self.folder / "snapshots"

    def snapshot_file(self, step: int) -> Path:
        """Where the weights at ``step`` are, or would be."""
        return self.snapshots_folder / f"step-{step:06d}.safetensors"

    @property
    def resume_file(self) -> Path:
        return self.folder / "resume.safetensors"

    @property
    def log(self) -> Path:
        """The output of a job."""
        return self.folder / "train.log"

    @property
    def about_file(self) -> Path:
        return self.folder / "about.md"

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer of a model whose vocabulary is somebody else's."""
        return self.folder / "tokenizer.json"

    @property
    def lock_file(self) -> Path:
        """Locked by the process that trains the run; the operating system unlocks it when that process ends."""
        return self.folder / ".lock"

    @property
    def stop_file(self) -> Path:
        """Its presence asks the process that trains the run to save everything and stop."""
        return self.folder / ".stop"

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
        shown = f"{self.name}/{self.info_file.name}"
        for path in (
            *(self.info_file, self.metrics_file, self.snapshots_folder, self.resume_file),
            *(self.log, self.about_file, self.lock_file, self.stop_file, self.tokenizer_file),
        ):
            self._check_inside(path)
        try:
            text = read_text(self.info_file)
        except (OSError, ValueError) as error:
            raise UserError(unreadable(shown)) from error
        return with_tokenizer(parsed_info(text, shown), self.tokenizer_file)

    def _check_inside(self, path: Path) -> None:
        """Refuse a file that is a link to elsewhere: what it leads to would be shown, or written."""
        if leads_outside(path, self.folder):
            raise UserError(
                f"{self.name}/{path.relative_to(self.folder)} is a link out of the folder of the run; put what it "
                "leads to in its place."
            )

    def is_training(self) -> bool:
        """Whether a process is training the run now."""
        try:
            return is_locked(self.lock_file)
        except OSError:
            return False  # no process trains a run that has no lock, or a folder that cannot be read

    def last_words(self) -> str:
        """The last line of the log: why the latest training process failed. A general sentence if the log is empty."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 2000))
                lines = file.read().decode(errors="replace").split("\n")
        except OSError:
            lines = []
        lines = [line for line in map(printable, lines) if line.strip()]
        return (
            lines[-1]
            if lines
            else "The process that trained it was killed and printed no error; resume it from its last snapshot."
        )

    def about(self) -> str:
        """What about.md says, as one line without its comments; "" if there is none. It is untrusted text."""
        if not self.about_file.is_file():
            return ""
        try:
            with self.about_file.open("rb") as file:
                text = file.read(LONGEST).decode(errors="replace")
        except OSError:
            return ""
        return printable(" ".join(re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL).split()))

    def version(self) -> tuple[object, ...]:
        """A key for caches: it changes when a file is written, replaced or removed, and when the process that trains
        the run ends.

        Returns:
            The status, the stamps of run.json, the metrics and about.md, None for those that do not exist, and those of
            all snapshots.

        Raises:
            UserError: run.json cannot be read or understood.
        """
        paths = (self.info_file, self.metrics_file, self.about_file)
        return (self.info().status, *map(_stamp, paths), *self.stamps().items())

    # --- Its snapshots ---

    def steps(self) -> tuple[int, ...]:
        """The steps of all snapshots, ascending: those on disk, and those that run.json lists."""
        return tuple(sorted(self.steps_on_disk() | set(self.info().snapshots)))

    def steps_on_disk(self) -> set[int]:
        """The steps of the snapshot files."""
        return {step for step, _ in self._snapshot_files()}

    def stamps(self) -> dict[int, Stamp | None]:
        """A stamp of each snapshot file, by step, ascending."""
        return {step: _stamp(entry) for step, entry in sorted(self._snapshot_files(), key=lambda file: file[0])}

    def _snapshot_files(self) -> list[tuple[int, os.DirEntry[str]]]:
        try:
            with os.scandir(self.snapshots_folder) as entries:
                return [(int(match[1]), entry) for entry in entries if (match := SNAPSHOT.fullmatch(entry.name))]
        except OSError:
            return []  # reading a snapshot reports which file is missing

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
        path = self.snapshot_file(step)
        shown = f"{self.name}/snapshots/{path.name}"
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

        self._check_inside(path)
        weights, _ = read_tensors(path, shown, check, only_header)
        return weights

    def readable(self, problems: list[str], unchanged: Collection[int] = ()) -> tuple[int, ...]:
        """The steps of the snapshots that can be read, according to the headers of their files.

        Args:
            problems: a sentence about the others is appended to it, one for all that have the same problem.
            unchanged: steps of snapshots that are known to be readable; their files are not opened.

        Raises:
            UserError: none can be read.
        """
        info, known, readable = self.info(), self.steps(), []
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
                except UserError as error:
                    if problems is None:
                        raise
                    refused[step] = str(error)

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
        return read_metrics(self.metrics_file, f"{self.name}/{self.metrics_file.name}", self.info())


def _stamp(path: Path | os.DirEntry[str]) -> Stamp | None:
    """What changes whenever a file is written, replaced, or made readable, also where the clock has gone backwards or a
    copy keeps the time of its original; None if the file does not exist or cannot be reached."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _holds_run(folder: Path) -> bool:
    try:
        return (folder / "run.json").is_file()
    except OSError:
        return True  # opening the run reports why it cannot be read
