"""Creating, training and writing runs."""

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from explorer.errors import UserError, quoted
from explorer.model.architectures import model_from_weights
from explorer.model.fast_forward import logits_at
from explorer.model.transformer import ModelConfig
from explorer.runs.files import read_tensors, remove_incomplete, write_tensors, write_text
from explorer.runs.info import RunInfo, snapshot_metadata
from explorer.runs.store import NAME, Run, Runs
from explorer.settings import TrainingConfig
from explorer.tasks.task import Task
from explorer.training.loop import Measured, Training, weights_in
from explorer.training.memory import check_memory
from explorer.training.process import device_named, run_apart, threads_for

REPORT_EVERY = 2.0  # seconds between two reports of progress
HALF_PRECISION_TOLERANCE = 0.01  # if float16 changes a loss by a larger share, weights are kept in float32


def create(
    runs: Runs,
    name: str,
    task: Task,
    model: ModelConfig,
    training: TrainingConfig,
    preset: str = "",
    threads: int | None = None,
) -> Run:
    """Create a run on disk, at step 0.

    Args:
        runs: the folder of runs.
        name: of the run, and of its folder.
        task, model, training: what is trained, and how.
        preset: the name of the preset that all settings come from; "" if any was changed.
        threads: torch threads to train with. They stay the same when training is resumed, since the rounding of sums
            depends on their number. None: all threads of torch if they make a step faster, otherwise one.

    Returns:
        The run, whose status is "stopped".

    Raises:
        UserError: the name is taken or cannot be the name of a folder, the data cannot be made, the training would
            not fit in memory, or nothing can be written.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"{quoted(name)} cannot be the name of a run; use up to 64 letters, digits, dots, dashes and "
            f"underscores, beginning with a letter or a digit."
        )
    folder, threads = runs.root / name, threads or threads_for(task, model, training)
    taken = f"There is already a file or folder {name} in {runs.root}; choose another name."
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(taken)
    check_memory(task, model, training)
    task.train_stream(training)
    task.test_stream(training)
    run = Run(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(run):  # if two processes choose the name at once, one of them gets it
            if run.info_file.exists():
                raise UserError(taken)
            write_info(run, RunInfo(task, model, training, preset, "stopped", 0, (), threads=threads))
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}; choose another folder.") from error
    return run


def train(
    run: Run,
    on_update: Callable[[Measured], None] = lambda measured: None,
    should_stop: Callable[[], bool] = lambda: False,
    device: str = "auto",
) -> RunInfo:
    """Train a run from its current step to its last, and write snapshots, metrics and state.

    Training runs in another thread, and this one waits for it. Ctrl-C saves everything after the current update and
    then raises KeyboardInterrupt; a second Ctrl-C raises it at once.

    Args:
        run: must not be done.
        on_update: called after each update, in the training thread.
        should_stop: called after each update, in the training thread; if it returns true, or after `request_stop`,
            everything is saved and training stops.
        device: "cpu", "cuda", or "auto", which is the GPU if there is one.

    Returns:
        What run.json holds at the end.

    Raises:
        UserError: there is no such device, or the run is done, is being trained by another process, or cannot be
            resumed from its state.
    """
    device_named(device)
    interrupted = threading.Event()

    def must_stop() -> bool:
        return interrupted.is_set() or should_stop()

    threads = run.info().threads or torch.get_num_threads()
    return run_apart(lambda: _train_locked(run, on_update, must_stop, device), threads, interrupted.set)


def _train_locked(
    run: Run, on_update: Callable[[Measured], None], should_stop: Callable[[], bool], device: str
) -> RunInfo:
    with _locked(run):
        info = run.info()
        if info.status == "done":
            raise UserError(f"{run.name} is done: all of its {info.training.steps:,} steps are trained.")
        try:
            training = Training(info.task, info.model, info.training, device)
            return _train(run, training, info, on_update, should_stop)
        except Exception as error:
            message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            write_info(run, dataclasses.replace(run.info(), status="failed", message=message))
            raise


def _train(
    run: Run,
    training: Training,
    info: RunInfo,
    on_update: Callable[[Measured], None],
    should_stop: Callable[[], bool],
) -> RunInfo:
    remove_incomplete(run.folder)
    run.stop_file.unlink(missing_ok=True)
    if run.log.exists():  # the output of an earlier process
        run.log.write_bytes(b"")
    record = _Record(info.task)
    if run.resume_file.is_file():
        state, _ = read_tensors(run.resume_file, f"{run.name}/resume.safetensors")
        try:
            training.restore(state)
        except (RuntimeError, ValueError, OverflowError) as error:
            raise UserError(f"{run.name}/resume.safetensors is damaged: {error} Train a new run.") from error
        record.load(run.metrics(), training.step)
    elif info.steps_done:
        raise UserError(f"{run.name}/resume.safetensors is missing, so the run cannot be resumed; train a new one.")
    for step in run.steps_on_disk():
        if step > training.step:  # a process was killed between writing this snapshot and writing the state
            run.snapshot_file(step).unlink()
    snapshots = tuple(step for step in info.snapshots if step <= training.step)
    began = dataclasses.replace(info, status="running", message="", steps_per_second=0.0, snapshots=snapshots)
    with _Keeper(run, began, record, training.step) as keeper:
        if training.step == 0:
            keeper.keep(training)
        for measured, due in training.updates():
            record.add(measured)
            if due:
                keeper.keep(training)
            keeper.report(training)
            on_update(measured)
            if not training.over and (should_stop() or run.stop_file.exists()):
                return keeper.finish(training, "stopped")
        return keeper.finish(training, "done")


def request_stop(run: Run) -> None:
    """Ask the process that trains the run to save everything and stop after the current update.

    Args:
        run: which any process may be training.

    Raises:
        UserError: the request cannot be written to the run's folder.
    """
    if not run.info_file.exists():
        return  # the run has been removed
    try:
        run.stop_file.touch()
    except OSError as error:
        raise UserError(f"{run.name} cannot be stopped: {error.strerror}; stop its process.") from error


def write_info(run: Run, info: RunInfo) -> None:
    """Write run.json.

    Args:
        run: whose file is written.
        info: its new contents.

    Raises:
        OSError: it cannot be written.
    """
    write_text(run.info_file, json.dumps(info.to_json(), indent=2) + "\n")


@contextlib.contextmanager
def _locked(run: Run) -> Iterator[None]:
    """Lock the run against other processes."""
    try:
        with FileLock(run.lock_file, timeout=1):  # waits longer than `Run.is_training` holds the lock
            yield
    except Timeout:
        raise UserError(f"{run.name} is being trained by another process; wait for it or stop it.") from None


class _Record:
    """The rows of metrics.safetensors."""

    def __init__(self, task: Task):
        self._columns = {
            "train_loss": torch.empty(0, dtype=torch.float64),
            "train_loss_per_token": torch.empty(0, len(task.loss_names)),
        }
        self._fresh: dict[str, list[Tensor]] = {}  # rows that have not been added to the columns yet

    def add(self, measured: Measured) -> None:
        row = {name: values.float() for name, values in measured.measures.items()}
        row["train_loss"] = torch.tensor(measured.loss, dtype=torch.float64)
        row["train_loss_per_token"] = measured.per_token.float()
        if measured.test_loss is not None and measured.test_per_token is not None:
            row["test_step"] = torch.tensor(measured.step)
            row["test_loss"] = torch.tensor(measured.test_loss, dtype=torch.float64)
            row["test_loss_per_token"] = measured.test_per_token.float()
        for name, values in row.items():
            self._fresh.setdefault(name, []).append(values)

    def load(self, metrics: Mapping[str, Tensor], n_steps: int) -> None:
        """Start with the rows of the first ``n_steps`` steps of ``metrics``."""
        n_rows = len(metrics["train_loss"])
        if n_rows < n_steps:
            raise UserError(
                f"metrics.safetensors has {n_rows} rows, fewer than the {n_steps} steps trained; restore the file."
            )
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
    """Writes snapshots, metrics and state during training, in an order that leaves a consistent run if it is killed.

    Everything is copied in the training thread and then written in another thread. `keep` waits until the previous
    snapshot is on disk, and raises the error if it could not be written.
    """

    def __init__(self, run: Run, info: RunInfo, record: _Record, step_now: int):
        self._run, self._info, self._record = run, info, record
        self._kept = set(info.snapshots) | run.steps_on_disk()
        self._began, self._first, self._reported = time.monotonic(), step_now, time.monotonic()
        self._last_kept = -1
        self._probes = []
        if info.training.snapshot_dtype == "float16":
            self._probes.append(info.task.test_stream(info.training).next())
        if self._probes and info.task.n_train(info.training):
            self._probes.append(info.task.train_stream(info.training).next())
        self._writer, self._writing = ThreadPoolExecutor(1), Future[Any]()

    def __enter__(self) -> "_Keeper":
        self._writing = self._writer.submit(self._write_info, self._first, "running")
        return self

    def __exit__(self, *_: object) -> None:
        """Finish writing before the run's lock is released."""
        self._writer.shutdown()

    def keep(self, training: Training) -> None:
        """Write a snapshot of the current weights, and everything that is needed to resume from here."""
        self._writing.result()  # before anything is copied, so that there are never two copies in memory
        self._hand_over(self._write_all, training.step, self._record.tensors(), training.state())
        self._last_kept = training.step

    def report(self, training: Training) -> None:
        """Every `REPORT_EVERY` seconds, write metrics and progress. The state on disk may be older: if the process is
        killed, the steps in between are trained again, with the same results."""
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
            self._run.resume_file.unlink(missing_ok=True)
        return info

    def _hand_over(self, write: Callable[..., object], *what: object) -> None:
        self._writing.result()
        self._writing = self._writer.submit(write, *what)

    # --- In the writing thread ---

    def _write_all(self, step: int, metrics: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """The order matters: a snapshot on disk implies that all earlier losses are on disk, and a state implies that
        all earlier metrics and snapshots are."""
        write_tensors(self._run.metrics_file, metrics)
        self._write_snapshot(step, weights_in(state))
        write_tensors(self._run.resume_file, state)
        self._write_info(step, "running")

    def _write_report(self, step: int, metrics: dict[str, Tensor]) -> None:
        write_tensors(self._run.metrics_file, metrics)
        self._write_info(step, "running")

    def _write_progress(self, metrics: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        write_tensors(self._run.metrics_file, metrics)
        write_tensors(self._run.resume_file, state)

    def _write_info(self, step: int, status: str) -> RunInfo:
        snapshots = tuple(sorted(self._kept))
        info = dataclasses.replace(self._info, status=status, steps_done=step, snapshots=snapshots)
        if step > self._first:
            rate = (step - self._first) / max(time.monotonic() - self._began, 1e-6)
            info = dataclasses.replace(info, steps_per_second=round(rate, 3))
        write_info(self._run, info)
        return info

    def _write_snapshot(self, step: int, weights: dict[str, Tensor]) -> None:
        info = self._info
        if info.training.snapshot_dtype == "float16":
            half = {name: weight.half() for name, weight in weights.items()}
            if self._close(half, weights):
                weights = half
        write_tensors(self._run.snapshot_file(step), weights, snapshot_metadata(info, step))
        self._kept.add(step)

    @torch.no_grad()
    def _close(self, half: Mapping[str, Tensor], full: Mapping[str, Tensor]) -> bool:
        """Whether the loss on every probe batch changes by at most `HALF_PRECISION_TOLERANCE` in half precision."""
        task, cfg = self._info.task, self._info.model
        models = [
            model_from_weights(cfg, {name: weight.float() for name, weight in weights.items()})
            for weights in (half, full)
        ]
        for probe in self._probes:
            rounded, exact = (
                task.losses(logits_at(model, probe.tokens, probe.positions), probe).mean() for model in models
            )
            if not (rounded - exact).abs() <= HALF_PRECISION_TOLERANCE * exact:
                return False
        return True
