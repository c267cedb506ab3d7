"""What is kept of a run while it trains: the rows of its metrics, its snapshots, its state, its progress."""

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from explorer.errors import UserError
from explorer.runs.files import write_tensors, write_text, writing
from explorer.runs.info import RunInfo, snapshot_metadata
from explorer.runs.lock import Held
from explorer.runs.store import Run
from explorer.tasks.task import Task
from explorer.training.half_precision import halved, probes
from explorer.training.loop import Measured, Training, weights_in

REPORT_EVERY = 2.0  # seconds between two reports of progress
STATE_EVERY = 15.0  # seconds between two states of a run without snapshots, with which states are written otherwise


def write_info(run: Run, info: RunInfo, check: Callable[[], object] = lambda: None) -> None:
    """Write run.json.

    Args:
        run: whose file is written.
        info: its new contents.
        check: called just before the new file takes the place of the old one; what it raises leaves the old one there.

    Raises:
        WriteError: it cannot be written.
    """
    write_text(run.info_file, json.dumps(info.to_json(), indent=2) + "\n", check)


class Record:
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
        n_steps, n_tests = (len(self._columns.get(name, ())) for name in ("train_loss", "test_loss"))
        for name, rows in self._fresh.items():
            fresh, before = torch.stack(rows), self._columns.get(name)
            if before is None:  # the first rows, or those of a measure that an older version of the task did not have
                n_before = n_tests if name.startswith("test_") else n_steps
                before = torch.full((n_before, *fresh.shape[1:]), torch.nan).to(fresh.dtype)
            self._columns[name] = torch.cat([before, fresh])
        self._fresh = {}
        return dict(self._columns)


class Keeper:
    """Writes snapshots, metrics and state during training, in an order that leaves a consistent run if it is killed.

    Everything is copied in the training thread and then written in another thread. `keep` waits until the previous
    snapshot is on disk. If something could not be written, the next call of `keep`, `report` or `finish` raises the
    error.
    """

    def __init__(self, run: Run, held: Held, info: RunInfo, record: Record, step_now: int):
        self._run, self._held, self._info, self._record = run, held, info, record
        self._kept = set(info.snapshots) | run.steps_on_disk()
        self._began, self._first, self._reported = time.monotonic(), step_now, time.monotonic()
        self._last_kept = -1
        training = info.training
        self._has_snapshots = training.keep == "all"
        is_halved = training.snapshot_dtype == "float16" and training.keep != "losses"
        self._probes = probes(info.task, training) if is_halved else []
        self._writer, self._writing = ThreadPoolExecutor(1), Future[Any]()

    def __enter__(self) -> "Keeper":
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
        if not self._writing.done():
            return
        self._writing.result()
        since = time.monotonic() - self._reported
        if since > (REPORT_EVERY if self._has_snapshots else STATE_EVERY):
            state = None if self._has_snapshots else training.state()
            self._hand_over(self._write_report, training.step, self._record.tensors(), state)
            self._reported = time.monotonic()

    def finish(self, training: Training, status: str) -> RunInfo:
        """Write what is not on disk yet. Where not all snapshots are kept, neither is the state in the end."""
        self._writing.result()
        if training.step != self._last_kept:
            self._hand_over(self._write_progress, self._record.tensors(), training.state())
        self._hand_over(self._write_info, training.step, status)
        info = self._writing.result()
        if status == "done" and not self._has_snapshots:
            self._held.check()
            with writing(self._run.resume_file):
                self._run.resume_file.unlink(missing_ok=True)
        return info

    def _hand_over(self, write: Callable[..., object], *what: object) -> None:
        self._writing.result()
        self._writing = self._writer.submit(write, *what)

    # --- In the writing thread ---

    def _write_all(self, step: int, metrics: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """The order matters: a snapshot on disk implies that all earlier losses are on disk, and a state implies that
        all earlier metrics and snapshots are."""
        write_tensors(self._run.metrics_file, metrics, check=self._held.check)
        self._write_snapshot(step, weights_in(state))
        write_tensors(self._run.resume_file, state, check=self._held.check)
        self._write_info(step, "running")

    def _write_report(self, step: int, metrics: dict[str, Tensor], state: dict[str, Tensor] | None) -> None:
        write_tensors(self._run.metrics_file, metrics, check=self._held.check)
        if state is not None:
            write_tensors(self._run.resume_file, state, check=self._held.check)
        self._write_info(step, "running")

    def _write_progress(self, metrics: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        write_tensors(self._run.metrics_file, metrics, check=self._held.check)
        write_tensors(self._run.resume_file, state, check=self._held.check)

    def _write_info(self, step: int, status: str) -> RunInfo:
        snapshots = tuple(sorted(self._kept))
        info = replace(self._info, status=status, steps_done=step, snapshots=snapshots)
        if step > self._first:
            rate = (step - self._first) / max(time.monotonic() - self._began, 1e-6)
            info = replace(info, steps_per_second=round(rate, 3))
        write_info(self._run, info, self._held.check)
        return info

    def _write_snapshot(self, step: int, weights: Mapping[str, Tensor]) -> None:
        info = self._info
        if info.training.snapshot_dtype == "float16":
            weights = halved(info.task, info.model, weights, self._probes)
        write_tensors(self._run.snapshot_file(step), weights, snapshot_metadata(info, step), self._held.check)
        self._kept.add(step)
