"""The activation or gradient at a hook point, on one example or on unseen ones, with the labels of its axes."""

from collections.abc import Sequence
from dataclasses import dataclass

from einops import rearrange
from torch import Tensor

from explorer.errors import UserError, quoted
from explorer.model.architectures import activation_shapes
from explorer.model.hooks import hook_axes
from explorer.tasks.data import Batch, Example
from explorer.views import panels
from explorer.views.subject import Subject

KINDS = ("activation", "gradient")
Selection = tuple[int, ...]  # indices along an axis; empty means all
MAX_NAMED = 6  # selected labels listed in a title


@dataclass(frozen=True)
class Activation:
    """The activation or gradient at a hook point on one example, at every snapshot."""

    title: str
    maps: tuple[str, ...]  # names of heads, or ("",)
    values: Tensor  # (snapshot map pos unit)
    positions: tuple[str, ...]
    units: tuple[str, ...]
    unit_axis: str  # "key" for attention, where positions are queries

    @property
    def position_axis(self) -> str:
        return "query" if self.unit_axis == "key" else "position"


@dataclass(frozen=True)
class Axes:
    """The labels of the heads, positions and units of a hook point, to select from."""

    heads: tuple[str, ...]
    positions: tuple[str, ...]
    units: tuple[str, ...]
    unit_axis: str


def hook_names(subject: Subject) -> tuple[str, ...]:
    """The names of all hook points of the run's model.

    Args:
        subject: the run.
    """
    return tuple(activation_shapes(subject.info.model, 1))


def axes(subject: Subject, text: str, hook: str) -> Axes:
    """The labels to select from, for one example and hook point.

    Args:
        subject: the run.
        text: an example of the run's task.
        hook: the name of a hook point.

    Raises:
        UserError: ``text`` is not an example of the run's task, or there is no such hook point.
    """
    return _axes(subject, hook, _numbered(subject, subject.task.encode(text)))


def axes_of_batch(subject: Subject, batch: Batch, hook: str) -> Axes:
    """The labels to select from, for many examples and a hook point.

    Args:
        subject: the run.
        batch: the examples; a position at which all have the same token is named after it, others have their index.
        hook: the name of a hook point.

    Raises:
        UserError: there is no such hook point.
    """
    same = (batch.tokens == batch.tokens[0]).all(0).tolist()  # (pos,)
    tokens = [subject.task.tokens[token] for token in batch.tokens[0].tolist()]
    positions = tuple(f"{token} ({i})" if same[i] else str(i) for i, token in enumerate(tokens))
    return _axes(subject, hook, positions)


def _axes(subject: Subject, hook: str, positions: tuple[str, ...]) -> Axes:
    shapes = activation_shapes(subject.info.model, len(positions))
    if hook not in shapes:
        raise UserError(f"There is no hook point {quoted(hook)} in this model; choose another.")
    names = hook_axes(hook)
    n_heads = shapes[hook][1 + names.index("head")] if "head" in names else 0
    units = positions if names[-1] == "key" else tuple(str(unit) for unit in range(shapes[hook][-1]))
    return Axes(head_names(hook, n_heads), positions, units, names[-1])


def head_names(hook: str, n_heads: int) -> tuple[str, ...]:
    """The names of the heads of the block to which a hook point belongs.

    Args:
        hook: the name of the hook point.
        n_heads: of a block.
    """
    return tuple(f"L{hook.split('.')[1]}H{head}" for head in range(n_heads))


def _numbered(subject: Subject, example: Example) -> tuple[str, ...]:
    """The tokens of an example with their positions."""
    return tuple(f"{label} ({i})" for i, label in enumerate(panels.token_labels(subject, example)))


def read(subject: Subject, text: str, hook: str, kind: str) -> Activation:
    """The activation or gradient at a hook point.

    Args:
        subject: the run.
        text: an example of the run's task.
        hook: the name of a hook point.
        kind: one of `KINDS`; the gradient is that of the mean loss over the example's answers.

    Raises:
        UserError: ``text`` is not an example of the run's task, or there is no such hook point.
    """
    example = subject.task.encode(text)
    batch = example.batch
    _, cache = subject.ensemble.run(batch.tokens, [hook], subject.loss_on(batch) if kind == "gradient" else None)
    values = cache[f"{hook}_grad" if kind == "gradient" else hook][:, 0]  # of the batch of one
    names = hook_axes(hook)
    over_keys = names[-1] == "key"
    if over_keys:
        values = panels.masked_future(values)
    maps: tuple[str, ...] = ("",)
    if "head" in names:
        if names[0] != "head":
            values = rearrange(values, "snapshot pos head unit -> snapshot head pos unit")
        maps = head_names(hook, values.shape[1])
    else:
        values = values[:, None]
    tokens = _numbered(subject, example)
    return Activation(
        f"{'gradient at ' if kind == 'gradient' else ''}{hook} on {panels.brief(example.text)}{panels.given(example)}",
        maps,
        values,
        tokens,
        tokens if over_keys else tuple(str(i) for i in range(values.shape[-1])),
        names[-1],
    )


def select(activation: Activation, heads: Selection, positions: Selection, units: Selection) -> Activation:
    """The selected heads, positions and units, named in the title.

    Args:
        activation: of all of them.
        heads, positions, units: indices, of which those that this example does not have are ignored.
    """
    nouns = ("", f"{activation.position_axis} ", f"{activation.unit_axis} ")
    chosen, named = [], [activation.title]
    for noun, selection, labels in zip(
        nouns, (heads, positions, units), (activation.maps, activation.positions, activation.units), strict=True
    ):
        chosen.append(selected(selection, labels))
        named.append(named_selection(noun, chosen[-1], labels))
    maps, rows, columns = chosen
    return Activation(
        "; ".join(filter(None, named)),
        tuple(activation.maps[i] for i in maps),
        activation.values[:, maps][:, :, rows][..., columns],
        tuple(activation.positions[i] for i in rows),
        tuple(activation.units[i] for i in columns),
        activation.unit_axis,
    )


def selected(selection: Selection, labels: Sequence[str]) -> list[int]:
    """The selected indices that there are, ascending; all of them if none is selected.

    Args:
        selection: indices.
        labels: of all indices.
    """
    return sorted(i for i in selection if i < len(labels)) or list(range(len(labels)))


def named_selection(noun: str, indices: Sequence[int], labels: Sequence[str]) -> str:
    """The part of a title that names what is selected; empty if all are.

    Args:
        noun: before the labels, with a space, or empty.
        indices: that are selected.
        labels: of all indices.
    """
    if len(indices) == len(labels):
        return ""
    return noun + ", ".join(labels[i] for i in indices[:MAX_NAMED]) + ", …" * (len(indices) > MAX_NAMED)
