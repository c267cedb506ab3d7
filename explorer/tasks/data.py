"""The data of tasks: batches and streams of them, typed examples, grids and classes of examples.

Axes
    batch    examples
    pos      positions in the token sequence
    answer   the positions at which the next token is predicted, in reading order
    ...      nothing for one model; ``snapshot`` for a stack
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class _EqualByValue:
    """Two instances are equal if all their fields are, tensors by `torch.equal`. They cannot be hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(_same(getattr(self, one.name), getattr(other, one.name)) for one in dataclasses.fields(self))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return (one.dtype, one.device) == (other.dtype, other.device) and torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other


@dataclass(frozen=True, eq=False)
class Batch(_EqualByValue):
    """Examples to train or to measure on."""

    tokens: Tensor  # (batch pos) int64
    positions: Tensor  # (batch answer) int64: the positions whose logits predict the answers
    targets: Tensor  # (batch answer) int64: the right output token at each of them
    extra: Mapping[str, Tensor] = field(default_factory=dict)  # (batch ...): more about each example, by name

    def rows(self, which: Tensor | slice) -> "Batch":
        """Some of the examples.

        Args:
            which: an index into the batch axis.
        """
        return self._each(lambda values: values[which])

    def to(self, device: torch.device) -> "Batch":
        """The same examples on a device.

        Args:
            device: to copy them to.

        Returns:
            This object if its tensors are on the device already.
        """
        return self if self.tokens.device == device else self._each(lambda values: values.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        extra = {name: change(values) for name, values in self.extra.items()}
        return Batch(change(self.tokens), change(self.positions), change(self.targets), extra)

    def at_answers(self, values: Tensor) -> Tensor:
        """Logits, or another activation, at the positions that predict the answers.

        Args:
            values: (... batch pos width), such as logits (... batch pos d_vocab_out).

        Returns:
            (... batch answer width).
        """
        rows = torch.arange(len(self.tokens), device=values.device)[:, None]
        return values[..., rows, self.positions, :]


@dataclass(frozen=True, eq=False)
class Example(_EqualByValue):
    """One prompt, selected or typed, followed by the right answer."""

    text: str  # as in a link
    tokens: Tensor  # (pos,) int64, the prompt and then the answer without its last token
    n_prompt: int  # tokens of the prompt
    positions: Tensor  # (answer,) int64
    targets: Tensor  # (answer,) int64
    places: tuple[str, ...]  # (answer,): a label for each answer
    note: str = ""  # a sentence about what was typed

    @property
    def batch(self) -> Batch:
        """The example as a batch of one."""
        return Batch(self.tokens[None], self.positions[None], self.targets[None])


@dataclass(frozen=True, eq=False)
class Grid(_EqualByValue):
    """All n * n pairs of two numbers x and y, x outer, with one answer each."""

    batch: Batch  # (pair) rows; positions and targets are (pair 1)
    sign: int  # 1 if the answer is a function of x + y modulo n, -1 of x - y, 0 of neither


@dataclass(frozen=True)
class Cycle:
    """Numbers modulo n, whose tokens are 0 to n - 1 in the prompt and in the answer."""

    n: int
    grids: Mapping[str, Grid]  # by the name of an answer


@dataclass(frozen=True, eq=False)
class Classes(_EqualByValue):
    """Examples of several classes, equally many of each."""

    names: tuple[str, ...]  # (class,)
    about: tuple[str, ...]  # (class,): what its examples have in common, in a few words
    batch: Batch
    labels: Tensor  # (batch,) int64: the class of each example


class Stream(Protocol):
    """An endless source of batches whose state can be saved and restored."""

    def next(self) -> Batch:
        """The next batch."""

    def state(self) -> Tensor:
        """Everything that determines the batches that follow, (byte,) uint8."""

    def restore(self, state: Tensor) -> None:
        """Continue from a state.

        Args:
            state: (byte,) uint8, as `state` returned it for a stream that was made with the same arguments.

        Raises:
            RuntimeError, ValueError, OverflowError: it is not such a state.
        """


class SampledStream:
    """Batches drawn from a random generator.

    Args:
        sample: (n, generator) -> a batch of n examples.
        batch_size: examples of a batch.
        rng: the generator, used by this stream only.
    """

    def __init__(self, sample: Callable[[int, torch.Generator], Batch], batch_size: int, rng: torch.Generator):
        self._sample, self._batch_size, self._rng = sample, batch_size, rng

    def next(self) -> Batch:
        return self._sample(self._batch_size, self._rng)

    def state(self) -> Tensor:
        return self._rng.get_state()

    def restore(self, state: Tensor) -> None:
        self._rng.set_state(state)


class ShuffledStream:
    """Finite data in batches, shuffled again before each pass.

    The examples at the end of a pass that do not fill a batch are skipped.

    Args:
        examples: the data, (example ...).
        batch_size: examples of a batch, at most as many as there are.
        seed: of the generator that shuffles.
    """

    def __init__(self, examples: Batch, batch_size: int, seed: int):
        self._examples, self._batch_size = examples, batch_size
        self._rng = torch.Generator().manual_seed(seed)
        self._shuffle()

    def _shuffle(self) -> None:
        self._before = self._rng.get_state()
        self._order = torch.randperm(len(self._examples.tokens), generator=self._rng)
        self._at = 0

    def next(self) -> Batch:
        if self._at + self._batch_size > len(self._order):
            self._shuffle()
        rows = self._order[self._at : self._at + self._batch_size]
        self._at += self._batch_size
        return self._examples.rows(rows)

    def state(self) -> Tensor:
        return torch.cat([self._before, torch.tensor([self._at]).view(torch.uint8)])

    def restore(self, state: Tensor) -> None:
        self._rng.set_state(state[:-8].clone())
        self._shuffle()
        self._at = int(state[-8:].clone().view(torch.int64))
        if not 0 <= self._at <= len(self._order):
            raise ValueError(f"The data stream is at example {self._at} of {len(self._order)}.")


class FixedStream:
    """The same batch every time."""

    def __init__(self, batch: Batch):
        self._batch = batch

    def next(self) -> Batch:
        return self._batch

    def state(self) -> Tensor:
        return torch.empty(0, dtype=torch.uint8)

    def restore(self, state: Tensor) -> None:
        pass


def rows_among(rows: Tensor, others: Tensor) -> Tensor:
    """Which rows also occur in another tensor.

    Args:
        rows: (row pos) int64.
        others: (other pos) int64.

    Returns:
        (row,) bool.
    """
    _, same = torch.cat([rows, others]).unique(dim=0, return_inverse=True)  # (row + other,): equal for equal rows
    return torch.isin(same[: len(rows)], same[len(rows) :])
