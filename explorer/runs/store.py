"""A run on disk. The only module that reads or writes checkpoint files.

    <root>/<run>/
      run.json                            what was trained, how, and how far it got
      metrics.safetensors                 row i: measured with the weights of step i
      snapshots/step-000640.safetensors   the weights at step 640, its configuration in the metadata
      resume.safetensors                  all that decides what follows, while the run can go on
      train.log                           what the process that trains it prints, if it is one of its own

Every file is written whole beside its place and then moved there, so a process killed at any moment leaves the old
file or the new one. Nothing is ever unpickled.
"""

import contextlib
import dataclasses
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from explorer.errors import UserError, quoted
from explorer.model.architectures import check_weights, model_from_weights
from explorer.model.ensemble import Ensemble
from explorer.model.fast_forward import asked_logits
from explorer.model.hooks import HookedModel
from explorer.model.transformer import ModelConfig
from explorer.settings import TrainingConfig, from_dict
from explorer.tasks import task_named
from explorer.tasks.base import Task
from explorer.training.loop import (
    Measured,
    Training,
    check_memory,
    device_named,
    quick_process,
    threads_for,
    weights_in,
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SNAPSHOT = re.compile(r"step-(\d{6,})\.safetensors")
FORMAT = 1  # of run.json
STATUSES = ("running", "stopped", "done", "failed")
REPORT_EVERY = 2.0  # seconds between two reports of a training's progress
FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
HALF_PRECISION_TOLERANCE = 0.01  # share of a loss that float16 weights may change before float32 is kept


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """What run.json holds."""

    task: Task
    model: ModelConfig
    training: TrainingConfig
    preset: str  # "" where settings were not those of a preset
    status: str
    steps_done: int
    snapshots: tuple[int, ...]
    message: str = ""  # why it failed
    steps_per_second: float = 0.0  # of the process that trained it last; 0 where none has yet
    threads: int = 0  # that it is trained with; 0 where it is not said

    def to_json(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["task"] = {"name": self.task.name, **dataclasses.asdict(self.task)}
        values["model"] = dataclasses.asdict(self.model)
        values["training"] = dataclasses.asdict(self.training)
        return {"format": FORMAT, **values, "versions": {"torch": torch.__version__}}

    @property
    def data(self) -> str:
        """What it is trained on, in words."""
        examples = self.task.n_train(self.training)
        return f"{examples:,} training examples" if examples else "infinite data"

    @property
    def shape(self) -> str:
        """The model, in words."""
        cfg = self.model
        if cfg.architecture == "table":
            return f"{cfg.d_vocab} scores and rows of logits"
        layers, heads = f"layer{'s' * (cfg.n_layers > 1)}", f"head{'s' * (cfg.n_heads > 1)}"
        return f"{cfg.n_layers} {layers}, {cfg.n_heads} {heads}, d_model {cfg.d_model}"

    @classmethod
    def from_json(cls, values: Any, what: str) -> "RunInfo":
        """Raises UserError where ``values`` is not what `to_json` gives."""
        if not isinstance(values, Mapping):
            raise UserError(f"{what} is not an object that describes a run.")
        if values.get("format") != FORMAT:
            raise UserError(f"{what} has format {quoted(values.get('format'))}; this explorer reads format {FORMAT}.")
        task = _task(values.get("task"), what)
        model = from_dict(ModelConfig, values.get("model"), what)
        task.model_config(**dataclasses.asdict(model))
        training = from_dict(TrainingConfig, values.get("training"), what)
        status, steps_done = values.get("status"), values.get("steps_done")
        snapshots, threads = values.get("snapshots"), values.get("threads", 0)
        rate = values.get("steps_per_second", 0.0)
        if status not in STATUSES or type(steps_done) is not int or not 0 <= steps_done <= training.steps:
            raise UserError(f"{what} says neither how far its run got nor its status.")
        if type(rate) not in (int, float) or not (rate == 0 or 1e-6 < rate < 1e9):
            raise UserError(f"{what} has no sensible steps_per_second; restore the file.")
        if type(threads) is not int or not 0 <= threads <= 1024:
            raise UserError(f"{what} has no sensible number of threads; restore the file.")
        if not isinstance(snapshots, list) or any(
            type(step) is not int or not 0 <= step <= training.steps for step in snapshots
        ):
            raise UserError(f"{what} does not list its snapshots.")
        return cls(
            task=task,
            model=model,
            training=training,
            preset=_tidy(values.get("preset")),
            status=status,
            steps_done=steps_done,
            snapshots=tuple(snapshots),
            message=_tidy(values.get("message")),
            steps_per_second=float(rate),
            threads=threads,
        )


def _tidy(text: Any) -> str:
    """A text from a file, short and printable."""
    return "".join(c for c in str(text or "")[:500] if c.isprintable())


def _task(values: Any, what: str) -> Task:
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        raise UserError(f"{what} does not name its task.")
    settings = {name: value for name, value in values.items() if name != "name"}
    return from_dict(task_named(values["name"]), settings, what)


class Runs:
    """All runs below one folder."""

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def names(self) -> list[str]:
        """The runs there are, readable or not.

        Raises:
            UserError: the folder is no folder, or cannot be read.
        """
        if not self.root.exists():
            return []
        try:
            return sorted(p.name for p in self.root.iterdir() if NAME.fullmatch(p.name) and _holds_run(p))
        except OSError as error:
            raise UserError(f"{self.root} cannot be read as a folder of runs: {error.strerror}.") from error

    def open(self, name: str) -> "Run":
        """Raises UserError where there is no such run or its run.json cannot be understood."""
        names = self.names()
        if name not in names:
            there = f"there are {', '.join(names)}" if names else f"{self.root} holds none yet"
            raise UserError(f"There is no run {quoted(name)}; {there}.")
        run = Run(self.root / name)
        run.info()
        return run

    def create(
        self,
        name: str,
        task: Task,
        model: ModelConfig,
        training: TrainingConfig,
        preset: str = "",
        threads: int | None = None,
    ) -> "Run":
        """A new run, ready to be trained.

        Args:
            preset: whose settings these are, if they are one's.
            threads: that torch computes it with, from beginning to end, since the last bits of a sum depend on them;
                if not given, as many as there are where that makes a step faster, else one.

        Raises:
            UserError: the name is taken or cannot be a folder's, the data cannot be made, the training would not fit
                in memory, or nothing can be written.
        """
        if not NAME.fullmatch(name):
            raise UserError(
                f"{quoted(name)} cannot be the name of a run; use up to 64 letters, digits, dots, dashes and "
                f"underscores, beginning with a letter or a digit."
            )
        folder, threads = self.root / name, threads or threads_for(task, model, training)
        taken = f"There is already something called {name} in {self.root}; choose another name."
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(taken)
        check_memory(task, model, training)
        task.train_stream(training)
        task.test_stream(training)
        run = Run(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with run._locked():  # of two who want the name at once, one gets it
                if (folder / "run.json").exists():
                    raise UserError(taken)
                run._write_info(RunInfo(task, model, training, preset, "stopped", 0, (), threads=threads))
        except OSError as error:
            raise UserError(f"{folder} cannot be made: {error.strerror}; choose another folder.") from error
        return run


class Run:
    """One training on disk."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.name = folder.name

    def info(self) -> RunInfo:
        """run.json as it is now.

        A run that claims to be running while no process trains it counts as failed: its process was killed or crashed.

        Raises:
            UserError: the file cannot be read or understood.
        """
        info = self._read_info()
        if info.status == "running" and not self._is_locked():
            info = self._read_info()  # it may just have ended
            if info.status == "running":
                info = dataclasses.replace(info, status="failed", message=self.last_words())
        return info

    def is_training(self) -> bool:
        """Whether a process trains it now."""
        return self._is_locked()

    @property
    def log(self) -> Path:
        """Where a process of its own prints to."""
        return self.folder / "train.log"

    def last_words(self) -> str:
        """What the process that trained it said last."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 2000))
                lines = file.read().decode(errors="replace").split("\n")
        except OSError:
            lines = []
        said = [line for line in map(_tidy, lines) if line.strip()]
        return (
            said[-1]
            if said
            else "The process that trained it was killed without a word; resume it from its last snapshot."
        )

    def _read_info(self) -> RunInfo:
        shown = f"{self.name}/run.json"
        try:
            values = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{shown} cannot be read; restore the file or remove the folder.") from error
        return RunInfo.from_json(values, shown)

    # --- Reading ---

    def steps(self) -> tuple[int, ...]:
        """The steps of all snapshots: those on disk, and those that should be."""
        return tuple(sorted(self._steps_on_disk() | set(self.info().snapshots)))

    def _steps_on_disk(self) -> set[int]:
        try:
            names = [path.name for path in self._snapshots.iterdir()]
        except OSError:
            return set()  # each snapshot is missed by name when it is asked for
        return {int(match[1]) for name in names if (match := SNAPSHOT.fullmatch(name))}

    def version(self) -> tuple[object, ...]:
        """Changes whenever something new has been written, or a process that trained it has gone; for caches."""
        paths = [self.folder / "run.json", self.folder / "metrics.safetensors", self._snapshots]
        return (self.info().status, *(path.stat().st_mtime_ns for path in paths if path.exists()))

    def snapshot_times(self) -> dict[int, int]:
        """When the file of each snapshot on disk was written, in nanoseconds."""
        times = {}
        for step in sorted(self._steps_on_disk()):
            with contextlib.suppress(OSError):  # it may just have gone
                times[step] = self._snapshot_path(step).stat().st_mtime_ns
        return times

    def snapshot(self, step: int) -> dict[str, Tensor]:
        """The weights at ``step``, in float32.

        Raises:
            UserError: the file is missing, damaged, or belongs to another model; the sentence names it.
        """
        return self._snapshot(step, self.info(), self.steps())

    def _snapshot(
        self, step: int, info: RunInfo, known: tuple[int, ...], only_header: bool = False
    ) -> dict[str, Tensor]:
        """`snapshot`, for whoever reads many and has read ``info`` and the ``known`` steps once; or only whether it
        could be read, as tensors without memory."""
        path = self._snapshot_path(step)
        shown = f"{self.name}/snapshots/{path.name}"
        if step not in known:
            nearest = min(known, key=lambda there: abs(there - step), default="none")
            raise UserError(f"{self.name} has no snapshot at step {step}; the nearest is at {nearest}.")
        weights, metadata = _read(path, shown, only_header)
        if metadata.get("step", str(step)) != str(step):
            raise UserError(f"{shown} holds step {quoted(metadata['step'])}; restore the right file.")
        if not _belongs(metadata, info):
            raise UserError(f"{shown} was written by another run, with other settings; restore the right file.")
        try:
            check_weights(info.model, weights)
        except UserError as error:
            raise UserError(f"{shown} does not belong to this run: {error}") from error
        return {name: weight.float() for name, weight in weights.items()}

    def readable(self, problems: list[str], unchanged: Collection[int] = ()) -> tuple[int, ...]:
        """The steps of the snapshots that can be read, by what their files say of themselves.

        Args:
            problems: a sentence on each of the others is added here.
            unchanged: of these it is known that they can be.

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
            raise UserError(f"No snapshot of {self.name} can be read; train it, or restore its snapshots folder.")
        return tuple(readable)

    def model(self, step: int) -> HookedModel:
        """The model at ``step``; every call gives a new one.

        Raises:
            UserError: as `snapshot`.
        """
        return model_from_weights(self.info().model, self.snapshot(step))

    def ensemble(self, steps: Iterable[int] | None = None) -> Ensemble:
        """Snapshots as one stack.

        Args:
            steps: which; None for all.

        Raises:
            UserError: a snapshot cannot be read, or there is none.
        """
        info, known = self.info(), self.steps()
        read = {step: self._snapshot(step, info, known) for step in (known if steps is None else steps)}
        if not read:
            raise UserError(f"No snapshot of {self.name} can be read; train it, or restore its snapshots folder.")
        names = next(iter(read.values()))
        return Ensemble(
            info.model, tuple(read), {name: torch.stack([w[name] for w in read.values()]) for name in names}
        )

    def metrics(self) -> dict[str, Tensor]:
        """Everything recorded so far: name -> (step, ...).

        Raises:
            UserError: the file is missing or damaged.
        """
        shown = f"{self.name}/metrics.safetensors"
        metrics, _ = _read(self.folder / "metrics.safetensors", shown)
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

    # --- Training ---

    def train(
        self,
        on_update: Callable[[Measured], None] = lambda measured: None,
        should_stop: Callable[[], bool] = lambda: False,
        device: str = "auto",
    ) -> RunInfo:
        """Train from where the run stands to its last step, keeping snapshots, losses and state on the way.

        Args:
            on_update: called after each update.
            should_stop: asked after each update; if true, or after `request_stop`, all is kept and training ends.
            device: "cpu", "cuda", or "auto", the GPU if there is one.

        Raises:
            UserError: there is no such device, the run is done, is being trained by another process, or cannot go on
                from its state.
        """
        device_named(device)
        with self._locked():
            info = self.info()
            if info.status == "done":
                raise UserError(f"{self.name} is done: all of its {info.training.steps:,} steps are trained.")
            try:
                with quick_process(info.threads or torch.get_num_threads()):
                    training = Training(info.task, info.model, info.training, device)
                    return self._train(training, info, on_update, should_stop)
            except KeyboardInterrupt:
                self._write_info(dataclasses.replace(self.info(), status="stopped"))
                raise
            except Exception as error:
                message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                self._write_info(dataclasses.replace(self.info(), status="failed", message=message))
                raise

    def _train(
        self,
        training: Training,
        info: RunInfo,
        on_update: Callable[[Measured], None],
        should_stop: Callable[[], bool],
    ) -> RunInfo:
        for left in self.folder.rglob(".writing-*"):  # by a process that was killed
            left.unlink()
        self._stop.unlink(missing_ok=True)
        if self.log.exists():  # what an earlier process said is not this one's
            self.log.write_bytes(b"")
        record = _Record(info.task)
        if self._resume.is_file():
            state, _ = _read(self._resume, f"{self.name}/resume.safetensors")
            try:
                training.restore(state)
            except (RuntimeError, ValueError, OverflowError) as error:
                raise UserError(f"{self.name}/resume.safetensors is damaged: {error} Train a new run.") from error
            record.load(self.metrics(), training.step)
        elif info.steps_done:
            raise UserError(f"{self.name}/resume.safetensors is missing, so the run cannot go on; train a new one.")
        began = dataclasses.replace(info, status="running", message="", steps_per_second=0.0)
        with _Keeper(self, began, record, training.step) as keeper:
            if training.step == 0:
                keeper.keep(training)
            for measured, due in training.updates():
                record.add(measured)
                if due:
                    keeper.keep(training)
                keeper.report(training)
                on_update(measured)
                if not training.over and (should_stop() or self._stop.exists()):
                    return keeper.finish(training, "stopped")
            return keeper.finish(training, "done")

    def request_stop(self) -> None:
        """Ask the process that trains the run, whichever it is, to keep everything and end after its update.

        Raises:
            UserError: nothing can be written there.
        """
        if not (self.folder / "run.json").exists():
            return  # somebody has removed it
        try:
            _write_atomically(self._stop, lambda path: path.write_bytes(b""))
        except OSError as error:
            raise UserError(f"{self.name} cannot be stopped: {error.strerror}; stop its process.") from error

    # --- Places ---

    @property
    def _snapshots(self) -> Path:
        return self.folder / "snapshots"

    @property
    def _resume(self) -> Path:
        return self.folder / "resume.safetensors"

    @property
    def _stop(self) -> Path:
        return self.folder / ".stop"

    def _snapshot_path(self, step: int) -> Path:
        return self._snapshots / f"step-{step:06d}.safetensors"

    def _write_info(self, info: RunInfo) -> None:
        text = json.dumps(info.to_json(), indent=2) + "\n"
        _write_atomically(self.folder / "run.json", lambda path: path.write_text(text, encoding="utf-8"))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the run against other processes; the lock goes with the process, however it ends."""
        try:
            with FileLock(self.folder / ".lock", timeout=1):  # longer than anybody who only looks holds it
                yield
        except Timeout:
            raise UserError(f"{self.name} is being trained by another process; wait for it or stop it.") from None

    def _is_locked(self) -> bool:
        try:  # longer than somebody else who only looks holds it
            with FileLock(self.folder / ".lock", timeout=0.02, poll_interval=0.002):
                return False
        except Timeout:
            return True
        except OSError:
            return False  # in a folder that cannot be written to, nobody trains


class _Record:
    """The rows of metrics.safetensors, as they come in."""

    def __init__(self, task: Task):
        self._columns = {
            "train_loss": torch.empty(0, dtype=torch.float64),
            "train_loss_per_token": torch.empty(0, len(task.loss_names)),
        }
        self._fresh: dict[str, list[Tensor]] = {}  # rows that are not in the columns yet

    def add(self, measured: Measured) -> None:
        row = {name: values.float() for name, values in measured.measures.items()}
        row["train_loss"] = torch.tensor(measured.loss, dtype=torch.float64)
        row["train_loss_per_token"] = measured.per_token.float()
        if measured.test_loss is not None:
            row["test_step"] = torch.tensor(measured.step)
            row["test_loss"] = torch.tensor(measured.test_loss, dtype=torch.float64)
            row["test_loss_per_token"] = measured.test_per_token.float()
        for name, values in row.items():
            self._fresh.setdefault(name, []).append(values)

    def load(self, metrics: Mapping[str, Tensor], n_steps: int) -> None:
        """Take back the rows of the first ``n_steps`` steps of a file."""
        n_rows = len(metrics["train_loss"])
        if n_rows < n_steps:
            raise UserError(f"metrics.safetensors has {n_rows} rows, fewer than the {n_steps} steps trained.")
        n_tests = int((metrics["test_step"] < n_steps).sum()) if "test_step" in metrics else 0
        self._columns = {
            name: values[: n_tests if name.startswith("test_") else n_steps] for name, values in metrics.items()
        }

    def tensors(self) -> dict[str, Tensor]:
        for name, rows in self._fresh.items():
            fresh = torch.stack(rows)
            self._columns[name] = torch.cat([self._columns[name], fresh]) if name in self._columns else fresh
        self._fresh = {}
        return dict(self._columns)


class _Keeper:
    """Writes a training's snapshots, metrics and state while it goes on, in an order that a kill cannot spoil.

    What is handed over is copied at once and written by a thread of its own, one piece after another. Whoever brings
    the next snapshot waits until the last is on the disk, and hears of it there if it could not be written.
    """

    def __init__(self, run: Run, info: RunInfo, record: _Record, step_now: int):
        self._run, self._info, self._record = run, info, record
        self._kept = set(info.snapshots) | {step for step in run._steps_on_disk() if step <= step_now}
        self._began, self._first, self._reported = time.monotonic(), step_now, time.monotonic()
        self._last_kept = -1
        self._probes = []
        if info.training.snapshot_dtype == "float16":
            self._probes.append(info.task.test_stream(info.training).next())
        if self._probes and info.task.n_train(info.training):
            self._probes.append(info.task.train_stream(info.training).next())
        self._writer, self._writing = ThreadPoolExecutor(1), Future()

    def __enter__(self) -> "_Keeper":
        self._writing = self._writer.submit(self._write_info, self._first, "running")
        return self

    def __exit__(self, *_: object) -> None:
        """What is being written is finished, however often somebody presses Ctrl-C: the run's lock goes after it."""
        interrupted = None
        while True:
            try:
                self._writer.shutdown()
                break
            except KeyboardInterrupt as interrupt:
                interrupted = interrupt
        if interrupted:
            raise interrupted

    def keep(self, training: Training) -> None:
        """Keep the weights as they are now, and all that is needed to go on from here."""
        self._writing.result()  # before anything is copied, so that there are never two copies
        self._hand_over(self._write_all, training.step, self._record.tensors(), training.state())
        self._last_kept = training.step

    def report(self, training: Training) -> None:
        """Let whoever watches see how far it got, every now and then. The state on disk may be older: what follows it
        is then trained again, to the same rows."""
        if time.monotonic() - self._reported > REPORT_EVERY and self._writing.done():
            self._hand_over(self._write_report, training.step, self._record.tensors())
            self._reported = time.monotonic()

    def finish(self, training: Training, status: str) -> RunInfo:
        self._writing.result()
        if training.step != self._last_kept:
            self._hand_over(self._write_progress, self._record.tensors(), training.state())
        self._hand_over(self._write_info, training.step, status)
        info = self._writing.result()
        if status == "done":
            self._run._resume.unlink(missing_ok=True)
        return info

    def _hand_over(self, write: Callable[..., object], *what: object) -> None:
        self._writing.result()
        self._writing = self._writer.submit(write, *what)

    # --- In the writer's thread ---

    def _write_all(self, step: int, metrics: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """Losses first, state last: of every snapshot on disk the losses before it are there, and of every state all
        that it speaks of."""
        _write_tensors(self._run.folder / "metrics.safetensors", metrics)
        self._write_snapshot(step, weights_in(state))
        _write_tensors(self._run._resume, state)
        self._write_info(step, "running")

    def _write_report(self, step: int, metrics: dict[str, Tensor]) -> None:
        _write_tensors(self._run.folder / "metrics.safetensors", metrics)
        self._write_info(step, "running")

    def _write_progress(self, metrics: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        _write_tensors(self._run.folder / "metrics.safetensors", metrics)
        _write_tensors(self._run._resume, state)

    def _write_info(self, step: int, status: str) -> RunInfo:
        snapshots = tuple(sorted(self._kept))
        info = dataclasses.replace(self._info, status=status, steps_done=step, snapshots=snapshots)
        if step > self._first:
            rate = (step - self._first) / max(time.monotonic() - self._began, 1e-6)
            info = dataclasses.replace(info, steps_per_second=round(rate, 3))
        self._run._write_info(info)
        return info

    def _write_snapshot(self, step: int, weights: dict[str, Tensor]) -> None:
        info = self._info
        if info.training.snapshot_dtype == "float16":
            half = {name: weight.half() for name, weight in weights.items()}
            if self._close(half, weights):
                weights = half
        metadata = {"format": "pt", "step": str(step), **_description(info)}
        _write_tensors(self._run._snapshot_path(step), weights, metadata)
        self._kept.add(step)

    @torch.no_grad()
    def _close(self, half: Mapping[str, Tensor], full: Mapping[str, Tensor]) -> bool:
        """Whether half precision leaves every probe's loss within the tolerance."""
        task, cfg = self._info.task, self._info.model
        models = [
            model_from_weights(cfg, {name: weight.float() for name, weight in weights.items()})
            for weights in (half, full)
        ]
        for probe in self._probes:
            rounded, exact = (
                task.losses(asked_logits(model, probe.tokens, probe.positions), probe).mean() for model in models
            )
            if not (rounded - exact).abs() <= HALF_PRECISION_TOLERANCE * exact:
                return False
        return True


def _holds_run(folder: Path) -> bool:
    try:
        return (folder / "run.json").is_file()
    except OSError:
        return True  # opening it will say why it cannot be read


def _description(info: RunInfo) -> dict[str, str]:
    """What a snapshot file says of the run it belongs to: name -> JSON text."""
    values = info.to_json()
    return {name: json.dumps(values[name]) for name in ("task", "model", "training")}


def _belongs(metadata: Mapping[str, str], info: RunInfo) -> bool:
    """Whether what a snapshot file says of its run, where it says so, is what the run says of itself."""
    readers = {
        "task": _task,
        "model": lambda values, what: from_dict(ModelConfig, values, what),
        "training": lambda values, what: from_dict(TrainingConfig, values, what),
    }
    try:
        return all(
            read(json.loads(metadata[name]), name) == getattr(info, name)
            for name, read in readers.items()
            if name in metadata
        )
    except (ValueError, RecursionError):
        return False


def _read(path: Path, shown: str, only_header: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, which is mapped into memory, and its metadata; of the header alone, tensors without
    memory."""
    try:
        with safe_open(path, framework="pt") as file:
            read = (lambda name: _described_by(file.get_slice(name))) if only_header else file.get_tensor
            return {name: read(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError as error:
        raise UserError(f"{shown} is missing; restore the file, or train the run again.") from error
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{shown} is damaged or is not a safetensors file; restore it.") from error


def _described_by(part: Any) -> Tensor:
    """A tensor without memory, of the shape and type that a safetensors header gives."""
    return torch.empty(part.get_shape(), dtype=FLOATS.get(part.get_dtype(), torch.uint8), device="meta")


def _write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    _write_atomically(path, lambda temporary: save_file(contiguous, temporary, dict(metadata or {"format": "pt"})))


def _write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, see it on the disk, then move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
