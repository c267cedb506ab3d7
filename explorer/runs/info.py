"""What run.json holds."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import torch

from explorer.errors import UserError, quoted
from explorer.model.architectures import n_weights
from explorer.model.transformer import ModelConfig
from explorer.settings import TrainingConfig, from_dict
from explorer.tasks import task_named
from explorer.tasks.task import Task

FORMAT = 1  # of run.json
STATUSES = ("running", "stopped", "done", "failed")


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """What run.json holds: what is trained, how, and how far training got."""

    task: Task
    model: ModelConfig
    training: TrainingConfig
    preset: str  # the preset that all settings come from; "" if any setting was changed
    status: str  # one of STATUSES
    steps_done: int  # updates
    snapshots: tuple[int, ...]  # their steps, ascending
    message: str = ""  # why training failed; "" if it did not
    steps_per_second: float = 0.0  # of the latest process that trained it; 0 before the first
    threads: int = 0  # torch threads to train with; 0 if run.json does not say

    def stack_bytes(self, n_snapshots: int) -> int:
        """The size of an `Ensemble`, whose weights are float32.

        Args:
            n_snapshots: in the ensemble.

        Returns:
            The bytes of its weights.
        """
        return 4 * n_weights(self.model) * n_snapshots

    @property
    def data(self) -> str:
        """The training data in words."""
        examples = self.task.n_train(self.training)
        return f"{examples:,} training examples" if examples else "infinite data"

    @property
    def shape(self) -> str:
        """The model in words."""
        cfg = self.model
        if cfg.architecture == "table":
            return f"{cfg.d_vocab} scores and rows of logits"
        layers, heads = f"layer{'s' * (cfg.n_layers > 1)}", f"head{'s' * (cfg.n_heads > 1)}"
        return f"{cfg.n_layers} {layers}, {cfg.n_heads} {heads}, d_model {cfg.d_model}"

    def to_json(self) -> dict[str, Any]:
        """The object that run.json holds."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["task"] = {"name": self.task.name, **dataclasses.asdict(self.task)}
        values["model"] = dataclasses.asdict(self.model)
        values["training"] = dataclasses.asdict(self.training)
        return {"format": FORMAT, **values, "versions": {"torch": torch.__version__}}

    @classmethod
    def from_json(cls, values: Any, what: str) -> "RunInfo":
        """Check parsed JSON and read it.

        Args:
            values: what `to_json` gives, or anything else.
            what: where the values come from, for error messages.

        Returns:
            The values, checked.

        Raises:
            UserError: ``values`` do not describe a run.
        """
        if not isinstance(values, Mapping):
            raise UserError(f"{what} is not a JSON object that describes a run; restore the file.")
        if values.get("format") != FORMAT:
            raise UserError(f"{what} has format {quoted(values.get('format'))}; this explorer reads format {FORMAT}.")
        task = _task_from(values.get("task"), what)
        model = from_dict(ModelConfig, values.get("model"), what)
        task.model_config(**dataclasses.asdict(model))
        training = from_dict(TrainingConfig, values.get("training"), what)
        status, steps_done = values.get("status"), values.get("steps_done")
        snapshots, threads = values.get("snapshots"), values.get("threads", 0)
        rate = values.get("steps_per_second", 0.0)
        if status not in STATUSES:
            raise UserError(f"{what} has no valid status; it must be one of {', '.join(STATUSES)}.")
        if type(steps_done) is not int or not 0 <= steps_done <= training.steps:
            raise UserError(f"{what} has no valid steps_done; it must be from 0 to {training.steps:,}.")
        if type(rate) not in (int, float) or not (rate == 0 or 1e-6 < rate < 1e9):
            raise UserError(f"{what} has no valid steps_per_second; restore the file.")
        if type(threads) is not int or not 0 <= threads <= 1024:
            raise UserError(f"{what} has no valid number of threads; restore the file.")
        if not isinstance(snapshots, list) or any(
            type(step) is not int or not 0 <= step <= training.steps for step in snapshots
        ):
            raise UserError(f"{what} does not list the steps of its snapshots; restore the file.")
        return cls(
            task=task,
            model=model,
            training=training,
            preset=printable(values.get("preset")),
            status=status,
            steps_done=steps_done,
            snapshots=tuple(snapshots),
            message=printable(values.get("message")),
            steps_per_second=float(rate),
            threads=threads,
        )


def printable(text: Any) -> str:
    """Text from an untrusted file, made safe to display.

    Args:
        text: any parsed JSON value; None is empty text.

    Returns:
        The first 500 characters, without control characters.
    """
    return "".join(c for c in str(text or "")[:500] if c.isprintable())


def _task_from(values: Any, what: str) -> Task:
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        raise UserError(f"{what} does not name its task; restore the file.")
    settings = {name: value for name, value in values.items() if name != "name"}
    return from_dict(task_named(values["name"]), settings, what)


def snapshot_metadata(info: RunInfo, step: int) -> dict[str, str]:
    """The metadata in the header of a snapshot file, so that the file can be read without its run.

    Args:
        info: the run that the snapshot belongs to.
        step: the step of the snapshot.

    Returns:
        ``step``, and ``task``, ``model`` and ``training`` as JSON text.
    """
    values = info.to_json()
    return {
        "format": "pt",
        "step": str(step),
        **{name: json.dumps(values[name]) for name in ("task", "model", "training")},
    }


def is_of_run(metadata: Mapping[str, str], info: RunInfo) -> bool:
    """Whether a snapshot file belongs to a run.

    Args:
        metadata: of the file's header, as `snapshot_metadata` makes it; any of task, model and training may be missing.
        info: the run.

    Returns:
        Whether the task, model and training that the header gives are those of the run.
    """
    readers = {
        "task": _task_from,
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
