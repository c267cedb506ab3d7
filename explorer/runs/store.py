"""Runs on disk, for reading. `explorer.runs.recorder` creates, trains and writes them.

<root>/<run>/
  run.json                            what is trained, how, and how far training got
  metrics.safetensors                 row i is measured with the weights of step i
  snapshots/step-000640.safetensors   the weights at step 640, with task, model and training in the file's header
  resume.safetensors                  everything that determines the remaining training, until the run is done
  train.log                           the output of the process that trains it, if it is a job
"""

import contextlib
import dataclasses
import functools
import json
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from explorer.errors import UserError, quoted
from explorer.model.architectures import check_weights, model_from_weights
from explorer.model.ensemble import Ensemble
from explorer.model.hooks import HookedModel
from explorer.runs.files import read_tensors
from explorer.runs.info import RunInfo, is_of_run, printable

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SNAPSHOT = re.compile(r"step-(\d{6,})\.safetensors")


def default_folder(beside: Path = Path()) -> Path:
    """The default folder of runs: the value of the environment variable ``EXPLORER_CHECKPOINTS``, or ``checkpoints``.

    Args:
        beside: the folder that contains ``checkpoints``.
    """
    return Path(os.environ.get("EXPLORER_CHECKPOINTS") or beside / "checkpoints")


class Runs:
    """All runs in one folder."""

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def names(self) -> list[str]:
        """The names of all runs in alphabetical order, whether they can be read or not.

        Raises:
            UserError: there is a file in place of the folder, or it cannot be read.
        """
        if not self.root.exists():
            return []
        try:
            return sorted(p.name for p in self.root.iterdir() if NAME.fullmatch(p.name) and _holds_run(p))
        except OSError as error:
            raise UserError(f"{self.root} cannot be read as a folder of runs: {error.strerror}.") from error

    def open(self, name: str) -> "Run":
        """The run of that name.

        Args:
            name: of the run's folder.

        Raises:
            UserError: there is no such run, or its run.json cannot be understood.
        """
        names = self.names()
        if name not in names:
            there = f"there are {', '.join(names)}" if names else f"{self.root} holds none yet"
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
            UserError: the file cannot be read or understood.
        """
        info = self._read_info()
        if info.status == "running" and not self.is_training():
            info = self._read_info()  # the process may just have ended
            if info.status == "running":
                info = dataclasses.replace(info, status="failed", message=self.last_words())
        return info

    def _read_info(self) -> RunInfo:
        shown = f"{self.name}/{self.info_file.name}"
        try:
            return _parsed(self.info_file.read_text(encoding="utf-8"), shown)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(_unreadable(shown)) from error

    def is_training(self) -> bool:
        """Whether a process is training the run now."""
        try:  # waits longer than another call of this method holds the lock
            with FileLock(self.lock_file, timeout=0.02, poll_interval=0.002):
                return False
        except Timeout:
            return True
        except OSError:
            return False  # no process trains a run in a folder that cannot be written to

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

    def version(self) -> tuple[object, ...]:
        """A key for caches: it changes whenever something is written or the process that trains the run ends.

        Returns:
            The status, and the times at which run.json, the metrics and the folder of snapshots were last modified, in
            nanoseconds; None for those that do not exist.

        Raises:
            UserError: run.json cannot be read or understood.
        """
        paths = (self.info_file, self.metrics_file, self.snapshots_folder)
        return (self.info().status, *map(_modified, paths))

    # --- Its snapshots ---

    def steps(self) -> tuple[int, ...]:
        """The steps of all snapshots, ascending: those on disk, and those that run.json lists."""
        return tuple(sorted(self.steps_on_disk() | set(self.info().snapshots)))

    def steps_on_disk(self) -> set[int]:
        """The steps of the snapshot files."""
        try:
            names = [path.name for path in self.snapshots_folder.iterdir()]
        except OSError:
            return set()  # reading a snapshot reports which file is missing
        return {int(match[1]) for name in names if (match := SNAPSHOT.fullmatch(name))}

    def snapshot_times(self) -> dict[int, int]:
        """When the file of each snapshot on disk was written, in nanoseconds, by step."""
        times = {}
        for step in sorted(self.steps_on_disk()):
            with contextlib.suppress(OSError):  # it may just have been removed
                times[step] = self.snapshot_file(step).stat().st_mtime_ns
        return times

    def snapshot(self, step: int) -> dict[str, Tensor]:
        """The weights of one snapshot.

        Args:
            step: of the snapshot.

        Returns:
            Name -> weight, float32, as in `state_dict`.

        Raises:
            UserError: the file is missing, damaged, or belongs to another model; the sentence names it.
        """
        return self._snapshot(step, self.info(), self.steps())

    def _snapshot(
        self, step: int, info: RunInfo, known: tuple[int, ...], only_header: bool = False
    ) -> dict[str, Tensor]:
        """As `snapshot`, but without reading run.json again.

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
        weights, metadata = read_tensors(path, shown, only_header)
        if metadata.get("step", str(step)) != str(step):
            raise UserError(f"{shown} holds step {quoted(metadata['step'])}; restore the right file.")
        if not is_of_run(metadata, info):
            raise UserError(f"{shown} was written by another run, with other settings; restore the right file.")
        try:
            check_weights(info.model, weights)
        except UserError as error:
            raise UserError(f"{shown} does not belong to this run: {error}") from error
        return {name: weight.float() for name, weight in weights.items()}

    def readable(self, problems: list[str], unchanged: Collection[int] = ()) -> tuple[int, ...]:
        """The steps of the snapshots that can be read, according to the headers of their files.

        Args:
            problems: a sentence about each of the others is appended to it.
            unchanged: steps of snapshots that are known to be readable; their files are not opened.

        Raises:
            UserError: none can be read.
        """
        info, known, readable = self.info(), self.steps(), []
        for step in known:
            try:
                if step not in unchanged:
                    self._snapshot(step, info, known, only_header=True)
                readable.append(step)
            except UserError as error:
                problems.append(str(error))
        if not readable:
            raise self._no_snapshot()
        return tuple(readable)

    def model(self, step: int) -> HookedModel:
        """A new model with the weights of one snapshot.

        Args:
            step: of the snapshot.

        Raises:
            UserError: as `snapshot`.
        """
        return model_from_weights(self.info().model, self.snapshot(step))

    def ensemble(self, steps: Iterable[int] | None = None) -> Ensemble:
        """Snapshots as one stack.

        Args:
            steps: of the snapshots wanted; None for all.

        Raises:
            UserError: a snapshot cannot be read, or there is none.
        """
        info, known = self.info(), self.steps()
        read = {step: self._snapshot(step, info, known) for step in (known if steps is None else steps)}
        if not read:
            raise self._no_snapshot()
        names = next(iter(read.values()))
        return Ensemble(
            info.model, tuple(read), {name: torch.stack([w[name] for w in read.values()]) for name in names}
        )

    def _no_snapshot(self) -> UserError:
        return UserError(f"No snapshot of {self.name} can be read; train it, or restore its snapshots folder.")

    # --- Its metrics ---

    def metrics(self) -> dict[str, Tensor]:
        """Everything recorded so far.

        Returns:
            Name -> (step ...), for tests (test ...); losses in nats.

        Raises:
            UserError: the file is missing or damaged.
        """
        shown = f"{self.name}/{self.metrics_file.name}"
        metrics, _ = read_tensors(self.metrics_file, shown)
        task = self.info().task
        steps, tests = (metrics.get(name, torch.empty(0)).shape[:1] for name in ("train_loss", "test_loss"))
        f32, f64, tokens = torch.float32, torch.float64, len(task.loss_names)
        required = {"train_loss": (f64, steps), "train_loss_per_token": (f32, (*steps, tokens))}
        if metrics.keys() - required.keys() - task.measures.keys():
            required |= {
                "test_step": (torch.int64, tests),
                "test_loss": (f64, tests),
                "test_loss_per_token": (f32, (*tests, tokens)),
            }
        allowed = dict(required)
        for name, measure in task.measures.items():
            allowed |= {name: (f32, (*steps, len(measure.lines))), f"test_{name}": (f32, (*tests, len(measure.lines)))}
        found = {name: (values.dtype, tuple(values.shape)) for name, values in metrics.items()}
        if required.keys() - found.keys() or found != {name: allowed.get(name) for name in found}:
            raise UserError(f"{shown} does not hold the losses of this run; restore the file.")
        return metrics


def _modified(path: Path) -> int | None:
    """When ``path`` was last modified, in nanoseconds; None if it does not exist or cannot be read."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _holds_run(folder: Path) -> bool:
    try:
        return (folder / "run.json").is_file()
    except OSError:
        return True  # opening the run reports why it cannot be read


@functools.lru_cache(maxsize=256)
def _parsed(text: str, shown: str) -> RunInfo:
    """The contents of a run.json, cached: runs are few, and each page reads the file several times.

    Raises:
        UserError: the text cannot be understood.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(_unreadable(shown)) from error
    return RunInfo.from_json(values, shown)


def _unreadable(shown: str) -> str:
    return f"{shown} cannot be read; restore the file or remove the folder."
