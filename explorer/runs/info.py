"""What run.json holds."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from explorer.errors import UserError, printable, quoted
from explorer.model.architectures import n_weights
from explorer.model.transformer import ModelConfig
from explorer.runs.files import Source, parsed_json, read_text
from explorer.settings import TrainingConfig, from_dict
from explorer.tasks import kind_named
from explorer.tasks.task import Task
from explorer.tasks.tokenizer import known, remember

FORMAT = 1  # of run.json
MOST_TOLD = 12  # things that a run was made with
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
    ended_at: tuple[int, ...] = ()  # the steps at which it was done before it was given more, ascending
    # What it was made with, by name: versions, the code, the device. Empty where nobody wrote it down.
    made_with: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    origin: str = ""  # where it comes from, if it was not trained here; its training settings are then unknown

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
        """The training data in words, or where the run comes from."""
        if self.origin:
            return self.origin
        examples = self.task.n_train(self.training)
        return f"the same {examples:,} examples" if examples else "new examples at every step"

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
        values["made_with"] = dict(self.made_with)
        return {"format": FORMAT, **values}

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
        task = task_in(values.get("task"), what)
        model = from_dict(ModelConfig, values.get("model"), what)
        task.model_config(**dataclasses.asdict(model))
        training = from_dict(TrainingConfig, values.get("training"), what)
        status, steps_done = values.get("status"), values.get("steps_done")
        snapshots, threads = values.get("snapshots"), values.get("threads", 0)
        rate, ended_at = values.get("steps_per_second", 0.0), values.get("ended_at", [])
        if status not in STATUSES:
            raise UserError(f"{what} has no valid status; it must be one of {', '.join(STATUSES)}.")
        if type(steps_done) is not int or not 0 <= steps_done <= training.steps:
            raise UserError(f"{what} has no valid steps_done; it must be from 0 to {training.steps:,}.")
        if type(rate) not in (int, float) or not (rate == 0 or 1e-6 < rate < 1e9):
            raise UserError(f"{what} has no valid steps_per_second; restore the file.")
        if type(threads) is not int or not 0 <= threads <= 1024:
            raise UserError(f"{what} has no valid number of threads; restore the file.")
        if not _are_steps(snapshots, training.steps):
            raise UserError(f"{what} does not list the steps of its snapshots; restore the file.")
        if not _are_steps(ended_at, training.steps - 1):
            raise UserError(f"{what} does not list the steps at which it ended before; restore the file.")
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
            ended_at=tuple(ended_at),
            made_with=_made_with(values),
            origin=printable(values.get("origin")),
        )


def _made_with(values: Mapping[str, Any]) -> dict[str, str]:
    """What a run.json says of that, as texts; older ones have the version of torch alone."""
    found = values.get("made_with", values.get("versions"))
    if not isinstance(found, Mapping):
        return {}
    return {printable(name, 40): printable(text, 80) for name, text in list(found.items())[:MOST_TOLD]}


def _are_steps(values: Any, most: int) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(step) is int and 0 <= step <= most for step in values)


@functools.lru_cache(maxsize=256)
def parsed_info(text: str, shown: str) -> RunInfo:
    """The contents of a run.json, cached: runs are few, and each page reads the file several times.

    Args:
        text: of the file.
        shown: its name in error messages.

    Raises:
        UserError: the text cannot be understood.
    """
    try:
        values = parsed_json(text, shown)
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(unreadable(shown)) from error
    return RunInfo.from_json(values, shown)


def with_tokenizer(info: RunInfo, source: Source) -> RunInfo:
    """The same, with the tokenizer of its task in memory. Where it cannot be read, tokens are written as numbers.

    Args:
        info: of a run.
        source: its tokenizer.json, if it has one.
    """
    if info.task.tokenizer and known(info.task.tokenizer) is None:
        with contextlib.suppress(OSError, ValueError, UserError):
            remember(read_text(source))
    return info


def unreadable(shown: str) -> str:
    """The sentence about a run.json that is not JSON.

    Args:
        shown: its name.
    """
    return f"{shown} cannot be read; restore the file or remove the folder."


def task_in(values: Any, what: str) -> Task:
    """The task that an object of run.json describes.

    Args:
        values: the object, or anything else.
        what: where it comes from, for error messages.

    Raises:
        UserError: it describes none.
    """
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        raise UserError(f"{what} does not name its task; restore the file.")
    settings = {name: value for name, value in values.items() if name != "name"}
    return from_dict(kind_named(values["name"]), settings, what)


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
        Whether the task, model and training that the header gives are those of the run. A run that was given more steps
        has snapshots of a training with fewer.
    """
    earlier = (dataclasses.replace(info.training, steps=steps) for steps in info.ended_at)
    readers: dict[str, tuple[Callable[[Any, str], Any], tuple[Any, ...]]] = {
        "task": (task_in, (info.task,)),
        "model": (functools.partial(from_dict, ModelConfig), (info.model,)),
        "training": (functools.partial(from_dict, TrainingConfig), (info.training, *earlier)),
    }
    try:
        return all(
            read(parsed_json(metadata[name], name), name) in accepted
            for name, (read, accepted) in readers.items()
            if name in metadata
        )
    except (ValueError, RecursionError):
        return False
