"""The loss, and any activation, as functions of two numbers modulo n."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.analysis.fourier_grid import loss_and_activation_grids
from explorer.film.panels.panel import Panel
from explorer.model.architectures import activation_shapes
from explorer.model.hooks import hook_axes
from explorer.tasks.data import Cycle, Grid
from explorer.views import panels
from explorer.views.subject import Subject


@dataclass(frozen=True)
class Pairs:
    """All pairs of numbers of a run whose tokens are numbers modulo n, with one of its answers."""

    subject: Subject
    cycle: Cycle
    answer: str  # one of the cycle's grids

    @property
    def grid(self) -> Grid:
        return self.cycle.grids[self.answer]

    @property
    def numbers(self) -> tuple[str, ...]:
        """How each number is written."""
        return self.subject.task.tokens[: self.cycle.n]

    @property
    def of_answer(self) -> str:
        """The part of a title that names the answer, if there are several."""
        return f" of {self.answer}" if len(self.cycle.grids) > 1 else ""

    @property
    def counted(self) -> str:
        """The part of a title that says on what values are computed."""
        return f"all {self.cycle.n**2:,} pairs"

    @functools.cached_property
    def positions(self) -> tuple[str, ...]:
        """A name for each position: x, y, the token that all pairs have there, or, of a written answer, "answer"."""
        x, y = torch.cartesian_prod(*[torch.arange(self.cycle.n)] * 2).unbind(1)
        labels = []
        for i, tokens in enumerate(self.grid.batch.tokens.unbind(1)):
            if bool((tokens == tokens[0]).all()):
                name = self.subject.task.tokens[int(tokens[0])]
            else:
                name = next((name for name, number in (("x", x), ("y", y)) if tokens.equal(number)), "answer")
            labels.append(f"{name} ({i})")
        return tuple(labels)

    @property
    def answered_at(self) -> int:
        """The position that predicts the answer."""
        return int(self.grid.batch.positions[0, 0])


@dataclass(frozen=True)
class Entry:
    """One entry of the activation at a hook point."""

    hook: str
    position: int  # of attention, the query's
    head: int = 0  # if the hook point has heads
    key: int = 0  # of attention: a position
    unit: int = 0  # otherwise

    @property
    def index(self) -> tuple[int, ...]:
        """Its place on each axis of the activation."""
        known = {"head": self.head, "pos": self.position, "query": self.position, "key": self.key}
        return tuple(known.get(axis, self.unit) for axis in hook_axes(self.hook))

    def named(self, positions: Sequence[str]) -> str:
        """The part of a title that names the entry.

        Args:
            positions: a name for each.
        """
        axes = hook_axes(self.hook)
        head = [f"L{self.hook.split('.')[1]}H{self.head}"] if "head" in axes else []
        if axes[-1] == "key":
            where = [f"from {positions[self.position]} to {positions[self.key]}"]
        else:
            where = [f"{axes[-1]} {self.unit}", f"at {positions[self.position]}"]
        return ", ".join([self.hook, *head, *where])


def default_hook(subject: Subject) -> str:
    """The neurons of the last block, or, without an MLP, the residual stream after it.

    Args:
        subject: the run.
    """
    hooks, last = activation_shapes(subject.info.model, 1), f"blocks.{subject.info.model.n_layers - 1}"
    return next(name for name in (f"{last}.mlp.hook_post", f"{last}.hook_resid_post") if name in hooks)


def n_units(subject: Subject, hook: str) -> int:
    """The number of units of a hook point at each position; of attention, 0.

    Args:
        subject: the run.
        hook: the name of a hook point.
    """
    return 0 if hook_axes(hook)[-1] == "key" else activation_shapes(subject.info.model, 1)[hook][-1]


def by_pair(pairs: Pairs, entry: Entry) -> list[Panel]:
    """The loss, and one entry of an activation, at each pair of numbers.

    Args:
        pairs: of a run.
        entry: of the activation.

    Raises:
        UserError: there is no such hook point.
    """

    def maps(id: str, title: str, values: Tensor, full_colour_at: float | None = None) -> Panel:
        numbers = pairs.numbers
        return panels.signed_maps(
            id, title, [""], values[:, None], numbers, numbers, "x", "y", span=6, full_colour_at=full_colour_at
        )

    subject = pairs.subject
    losses, values = loss_and_activation_grids(subject.ensemble, pairs.grid, pairs.cycle.n, entry.hook, entry.index)
    assert values is not None  # there is a hook point
    uniform = math.log(subject.info.model.d_vocab_out)
    silent = "" if values.any() else "; 0 at every snapshot"
    return [
        maps(
            "pair-losses",
            f"Loss{pairs.of_answer}, {pairs.counted}; full colour at a uniform guess or worse",
            losses,
            uniform,
        ),
        maps(
            "pair-activations",
            f"{entry.named(pairs.positions)}{pairs.of_answer}, {pairs.counted}{silent}",
            values,
        ),
    ]
