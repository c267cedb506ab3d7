"""Runs made of other people's weights."""

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explorer.errors import UserError, listed, quoted
from explorer.interchange import names
from explorer.interchange.configs import settings_in
from explorer.model.architectures import check_weights, model_from_weights, n_weights
from explorer.model.fast_forward import logits_at
from explorer.model.transformer import ModelConfig
from explorer.runs.files import WriteError, parsed_json, read_text, write_tensors, write_text, writing
from explorer.runs.foreign import Snapshot, read_object, snapshots_in
from explorer.runs.info import RunInfo, snapshot_metadata, task_in
from explorer.runs.keeper import write_info
from explorer.runs.matching import matching
from explorer.runs.place import check_name
from explorer.runs.store import Run, Runs
from explorer.settings import TrainingConfig, from_dict, parse_assignments
from explorer.tasks import kind_named
from explorer.tasks.task import Task

MOST_STEPS = 10_000_000  # the largest step of a run
MOST_FILES = 5_000
MEASURED, LOGITS_ROOM = 256, 2**25  # examples that losses are measured on, and bytes of their logits
TEMPORARY = ".importing-"
NAMERS = {  # whose names the weights of a dialect have
    **{"property": "TransformerLens", "bridge": "TransformerLens' bridge"},
    **{"notebook": "the notebook", "explorer": "this explorer"},
}


@dataclass(frozen=True)
class Given:
    """What the reader says of the files."""

    task: str = ""  # its name; "" to be found out
    task_settings: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)  # settings of `ModelConfig`
    steps: Sequence[int] = ()  # of the files, in their order; empty to be found out
    config: Path | None = None  # a JSON or YAML file about the model; None for one beside the first file
    tokenizer: Path | None = None  # a tokenizer.json; None for one beside the first file


def given(
    task: str,
    assignments: Sequence[str],
    steps: str = "",
    config: Path | None = None,
    tokenizer: Path | None = None,
) -> Given:
    """What the reader says of the files, from typed texts.

    Args:
        task: its name; "" to be found out.
        assignments: settings of the model and, if it is named, of the task, each as KEY=VALUE.
        steps: with commas; "" to be found out.
        config, tokenizer: as in `Given`.

    Raises:
        UserError: a text cannot be understood.
    """
    kinds = [*([kind_named(task)] if task else []), ModelConfig]
    *of_task, of_model = parse_assignments(assignments, kinds)
    parts = [part.strip() for part in steps.split(",")] if steps.strip() else []
    if not all(part.isascii() and part.isdecimal() and len(part) < 16 for part in parts):
        raise UserError(f"The steps {quoted(steps)} are no list of numbers; write them as 0,100,200.")
    return Given(task, of_task[0] if of_task else {}, of_model, tuple(map(int, parts)), config, tokenizer)


def default_name(path: Path) -> str:
    """The name of a run that is made of a file.

    Args:
        path: of the file or folder.
    """
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in path.absolute().stem)
    return kept.strip("-")[:60].strip("-") or "imported"


@dataclass(frozen=True)
class Offer:
    """What would be imported. No weights are in memory."""

    snapshots: tuple[tuple[int, Snapshot], ...]  # with their steps, ascending
    info: RunInfo
    dialect: str  # whose names the weights have
    known: Mapping[str, Any]  # what names, shapes and files say of the model, by the names of `ModelConfig`
    tokenizer: str  # the text of a tokenizer.json; "" if there is none

    @property
    def guessed(self) -> list[str]:
        """The settings of the model that nothing says anything about, in words."""
        model, told = self.info.model, ("d_vocab_out", *self.known)
        names = ["positions", *(["act_fn"] if not model.attn_only else []), *(["eps"] if model.layer_norm else [])]
        return [f"{name}={getattr(model, name)}" for name in names if name not in told]

    @property
    def described(self) -> str:
        """What would be imported, in a few lines."""
        steps, info = [step for step, _ in self.snapshots], self.info
        several = f"{len(steps):,} snapshots, steps {steps[0]:,} to {steps[-1]:,}"
        size, namer = f"{n_weights(info.model):,} weights", NAMERS[self.dialect]
        lines = [
            f"{info.task.title}: {info.shape}, {size}, with the names of {namer}",
            several if len(steps) > 1 else f"one snapshot, step {steps[0]:,}",
        ]
        if self.guessed:
            lines.append(f"Assumed, as nothing says otherwise: {', '.join(self.guessed)}; change it with a setting.")
        return "\n".join(lines)


def look(paths: Sequence[Path], told: Given = Given()) -> Offer:
    """Find out what files hold, and check that all of them fit one model.

    Args:
        paths: of files with one snapshot each, or folders of such.
        told: what is known of them.

    Raises:
        UserError: a file cannot be read, is not of a kind that is known, or has a part that models here have not; the
            files are not of one model; something has to be said about them.
    """
    snapshots = snapshots_in(list(paths))
    if not snapshots:
        raise UserError("There is no file to import; name one.")
    if len(snapshots) > MOST_FILES:
        raise UserError(f"These are {len(snapshots):,} files; import at most {MOST_FILES:,}.")
    first, metadata = snapshots[0].read(only_header=True)
    if "task" in metadata and "model" in metadata:
        ours = _own(metadata, snapshots[0].shown)
        dialect, model, task, training = "explorer", *ours
        known: Mapping[str, Any] = dataclasses.asdict(model)
        if told.task or told.task_settings or told.model:
            raise UserError(f"{snapshots[0].shown} says itself what it is; leave --task and --set out.")
    else:
        known = _config_beside(snapshots[0].path, told.config) | dict(told.model)
        understood = names.read(first, snapshots[0].shown, known)
        known = understood.settings | known
        dialect = understood.dialect
        model, task = _completed(known, told, snapshots[0].shown)
        training = TrainingConfig(test_batch_size=MEASURED)
    steps = _steps(snapshots, told.steps)
    for snapshot in snapshots:
        _converted(snapshot, model, dialect, only_header=True)
    tokenizer = ""
    if task.takes_tokenizer:
        tokenizer = _tokenizer_beside(snapshots[0].path, told.tokenizer)
        task = task.split_by(tokenizer) if tokenizer else task
    ordered = tuple(sorted(zip(steps, snapshots, strict=True), key=lambda pair: pair[0]))
    last = ordered[-1][0]
    files = f"{snapshots[0].shown} and {len(snapshots) - 1:,} more" if len(snapshots) > 1 else snapshots[0].shown
    info = RunInfo(
        task=task,
        model=model,
        training=dataclasses.replace(training, steps=max(last, 1)),
        preset="",
        status="done",
        steps_done=last,
        snapshots=tuple(step for step, _ in ordered),
        origin=f"imported from {files}",
    )
    return Offer(ordered, info, dialect, known, tokenizer)


def bring_in(runs: Runs, name: str, offer: Offer, on_file: Callable[[], object] = lambda: None) -> Run:
    """Make a run of files. One snapshot is in memory at a time. If it cannot be completed, nothing is left of it.

    Args:
        runs: the folder of runs.
        name: of the new one.
        offer: what `look` returned.
        on_file: called after each file.

    Raises:
        UserError: the name is taken or cannot be that of a run, a file has changed or cannot be read, or nothing can be
            written.
    """
    info = offer.info
    with new_run(runs, name) as run:
        with writing(run.snapshots_folder):
            run.snapshots_folder.mkdir()
        losses = []
        for step, snapshot in offer.snapshots:
            weights = _converted(snapshot, info.model, offer.dialect)
            write_tensors(run.snapshot_file(step), weights, snapshot_metadata(info, step))
            losses.append(_measured(info, weights))
            on_file()
        write_tensors(run.metrics_file, _metrics(info, losses))
        if offer.tokenizer:
            write_text(run.tokenizer_file, offer.tokenizer)
        write_info(run, info)
    return Run(runs.root / name)


@contextlib.contextmanager
def new_run(runs: Runs, name: str) -> Iterator[Run]:
    """A run in a hidden folder, which gets its name at the end if all went well; otherwise it is removed.

    Args:
        runs: the folder of runs.
        name: of the new run.

    Raises:
        UserError: the name is taken or cannot be that of a run, or nothing can be written.
    """
    check_name(name)
    folder = runs.root / name
    if folder.exists() or folder.is_symlink():
        raise UserError(runs.taken(name))
    try:
        with writing(runs.root):
            runs.root.mkdir(parents=True, exist_ok=True)
            hidden = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=runs.root))
        try:
            yield Run(hidden)
            with writing(folder):
                hidden.chmod(0o755)
                hidden.rename(folder)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    except WriteError as error:
        raise UserError(error.sentence("import the run again")) from error


# --- What the files are ---


def _own(metadata: Mapping[str, str], shown: str) -> tuple[ModelConfig, Task, TrainingConfig]:
    """Model, task and training of a snapshot that the explorer wrote."""
    try:
        held = {name: parsed_json(metadata[name], shown) for name in ("task", "model", "training") if name in metadata}
    except (ValueError, RecursionError) as error:
        raise UserError(f"The metadata of {shown} cannot be read; restore the file.") from error
    model = from_dict(ModelConfig, held["model"], shown)
    task = task_in(held["task"], shown)
    task.model_config(**dataclasses.asdict(model))
    return model, task, from_dict(TrainingConfig, held.get("training", {}), shown)


def _config_beside(path: Path, given: Path | None) -> dict[str, Any]:
    """What a configuration says of the model; {} if there is none."""
    beside = (path.with_suffix(".json"), path.parent / "config.json", path.parent / "config.yaml")
    found = given or next((one for one in beside if one != path and one.is_file()), None)  # an index ends in .json too
    if found is None:
        return {}
    plain = {name: value for name, value in read_object(found).items() if not isinstance(value, dict | list)}
    return settings_in(plain, found.name)


def _completed(known: Mapping[str, Any], told: Given, shown: str) -> tuple[ModelConfig, Task]:
    """The model, and the task that it fits."""
    task = matching(known, told.task, told.task_settings, shown)
    settings = {name: value for name, value in known.items() if name not in ("d_vocab", "d_vocab_out", "n_ctx")}
    return task.model_config(**_checked(settings, shown)), task


def _checked(settings: Mapping[str, Any], shown: str) -> dict[str, Any]:
    """Settings that are of the right type, from a file that is not trusted."""
    widths = {"d_vocab": 2, "d_vocab_out": 2, "n_ctx": 1}
    model = from_dict(ModelConfig, {**widths, **settings}, shown)
    return {name: getattr(model, name) for name in settings}


def _steps(snapshots: Sequence[Snapshot], given: Sequence[int]) -> list[int]:
    """The step of each snapshot: as given, as its metadata say, or the last number in its name."""
    if given and len(given) != len(snapshots):
        raise UserError(f"{len(given):,} steps are given for {len(snapshots):,} files; give one for each.")
    steps: list[int | None] = [*given] or [_own_step(snapshot) for snapshot in snapshots]
    if not given and len(steps) == 1 and steps[0] is None:
        steps = [0]
    for step, snapshot in zip(steps, snapshots, strict=True):
        if step is None:
            raise UserError(f"Neither the name nor the metadata of {snapshot.shown} give its step; give --steps.")
        if not 0 <= step <= MOST_STEPS:
            raise UserError(f"The step of {snapshot.shown} is {step:,}; give --steps from 0 to {MOST_STEPS:,}.")
    found = [step for step in steps if step is not None]
    twice = next((step for step in found if found.count(step) > 1), None)
    if twice is not None:
        which = listed([one.shown for one, step in zip(snapshots, found, strict=True) if step == twice])
        raise UserError(f"{which} are all of step {twice:,}; give --steps, one for each file.")
    return found


def _own_step(snapshot: Snapshot) -> int | None:
    if snapshot.path.suffix == ".safetensors":
        _, metadata = snapshot.read(only_header=True)
        if metadata.get("step", "").isdecimal() and len(metadata["step"]) < 16:
            return int(metadata["step"])
    return snapshot.step


def _tokenizer_beside(path: Path, given: Path | None) -> str:
    found = given or path.parent / "tokenizer.json"
    if given is None and not found.is_file():
        return ""
    try:
        return read_text(found)
    except OSError as error:
        raise UserError(f"{quoted(found.name)} cannot be read: {error.strerror}; give another.") from error
    except ValueError as error:
        raise UserError(
            f"{quoted(found.name)} is no text file of at most 16 MiB; give another or leave it out."
        ) from error


# --- Their weights ---


def _converted(snapshot: Snapshot, model: ModelConfig, dialect: str, only_header: bool = False) -> dict[str, Tensor]:
    """The weights of a file under our names, checked against the model, in memory of their own."""
    tensors, _ = snapshot.read(only_header)
    if dialect == "explorer":
        weights = tensors
    else:
        found = names.read(tensors, snapshot.shown, dataclasses.asdict(model))
        if found.dialect != dialect:
            raise UserError(
                f"{snapshot.shown} has the names of another kind than the files before it; import it alone."
            )
        weights = found.weights
    try:
        check_weights(model, weights)
    except UserError as error:
        raise UserError(f"{snapshot.shown} does not fit: {error}") from error
    return {name: weight.detach().clone(memory_format=torch.contiguous_format) for name, weight in weights.items()}


@torch.no_grad()
def _measured(info: RunInfo, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The mean loss, and that of each token, on unseen data, in nats."""
    batch = info.task.test_stream(info.training).next()
    room = LOGITS_ROOM // (4 * batch.positions.shape[1] * info.model.d_vocab_out)
    batch = batch.rows(slice(max(1, min(room, MEASURED))))
    model = model_from_weights(info.model, {name: weight.float() for name, weight in weights.items()})
    losses = info.task.losses(logits_at(model, batch.tokens, batch.positions), batch)
    return losses.mean(), info.task.per_token(losses, batch)


def _metrics(info: RunInfo, losses: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    means, per_token = zip(*losses, strict=True)
    return {
        "train_loss": torch.empty(0, dtype=torch.float64),
        "train_loss_per_token": torch.empty(0, len(info.task.loss_names)),
        "test_step": torch.tensor(info.snapshots),
        "test_loss": torch.stack(means).double(),
        "test_loss_per_token": torch.stack(per_token).float(),
    }
