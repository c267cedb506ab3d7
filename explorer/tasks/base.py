"""What a task is: all that the rest of the explorer asks of one.

A new task is one file in this folder with one subclass of `Task`; it is found by looking.

Axes
    batch    examples
    pos      places in the token sequence
    answer   the places whose next token is asked for, in reading order
    token    the per-token losses that are shown apart (a digit, a trigram...)
    ...      nothing for one model; ``snapshot`` for a stack
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import nll_loss

from explorer.errors import UserError, quoted
from explorer.model.transformer import ModelConfig
from explorer.settings import TrainingConfig

FEW = 32  # output tokens below which torch's own softmax is faster, along the first axis


@dataclass(frozen=True)
class Batch:
    """Examples to learn from or to measure on."""

    tokens: Tensor  # (batch pos) int64
    positions: Tensor  # (batch answer) int64: the logits at these positions are asked for...
    targets: Tensor  # (batch answer) int64: ...and should be largest at these output tokens
    extra: Mapping[str, Tensor] = field(default_factory=dict)  # what else the task knows of each example

    def rows(self, which: Tensor | slice) -> "Batch":
        """Some of the examples."""
        return self._each(lambda values: values[which])

    def to(self, device: torch.device) -> "Batch":
        """The same examples on a device; the very same batch if it is there."""
        return self if self.tokens.device == device else self._each(lambda values: values.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        extra = {name: change(values) for name, values in self.extra.items()}
        return Batch(change(self.tokens), change(self.positions), change(self.targets), extra)

    def asked(self, logits: Tensor) -> Tensor:
        """Of logits (... batch pos d_vocab_out) those that are asked for, (... batch answer d_vocab_out)."""
        rows = torch.arange(len(self.tokens), device=logits.device)[:, None]
        return logits[..., rows, self.positions, :]


class _CrossEntropy(torch.autograd.Function):
    """Of logits (... d_vocab_out) and targets (...), in float64, with one exponential where autograd takes two."""

    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor) -> Tensor:
        x, targets = logits.to(torch.float64, copy=True), targets[..., None]
        x -= x.amax(-1, keepdim=True)
        right = x.gather(-1, targets)
        total = x.exp_().sum(-1, keepdim=True)
        if ctx.needs_input_grad[0]:
            x /= total
            x.scatter_add_(-1, targets, torch.full_like(right, -1))
            ctx.save_for_backward(x.to(logits.dtype))
        return (total.log() - right).squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return slope * gradient[..., None].to(slope.dtype), None


@dataclass(frozen=True)
class Example:
    """One prompt that somebody chose or typed, with the right answer after it."""

    text: str  # as it stands in the URL
    tokens: Tensor  # (pos,) int64, the prompt and then the answer as far as the model reads it
    n_prompt: int  # how many tokens are the prompt
    positions: Tensor  # (answer,) int64
    targets: Tensor  # (answer,) int64
    places: tuple[str, ...]  # (answer,): what each answer is called
    note: str = ""  # a sentence about what was typed, if one is owed

    @property
    def batch(self) -> Batch:
        """The example as a batch of one."""
        return Batch(self.tokens[None], self.positions[None], self.targets[None])


@dataclass(frozen=True)
class Preset:
    """A named choice of settings; the task fills in its own widths."""

    about: str
    model: Mapping[str, Any]
    training: TrainingConfig
    task: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """A loss to compare with: per token, in nats."""

    label: str
    losses: tuple[float, ...]  # (token,); nan where it says nothing


@dataclass(frozen=True)
class Measure:
    """Something that a task records at each step beside its losses."""

    title: str
    unit: str
    lines: tuple[str, ...]  # a name for each value of a step


@dataclass(frozen=True)
class Grid:
    """All n * n pairs of two numbers x and y, x outer, with one answer asked of each."""

    batch: Batch  # (pair) rows; positions and targets are (pair 1)
    sign: int  # 1 where the answer is a function of x + y modulo n, -1 of x - y, 0 of neither


@dataclass(frozen=True)
class Cycle:
    """Numbers modulo n that are tokens 0 to n - 1, both where they are read and where they are predicted."""

    n: int
    grids: Mapping[str, Grid]  # by the name of an answer


@dataclass(frozen=True)
class Classes:
    """Examples of each of several kinds, as many of one as of another."""

    names: tuple[str, ...]  # (class,)
    about: tuple[str, ...]  # (class,): what they have in common, in a few words
    batch: Batch
    labels: Tensor  # (batch,) int64: the class of each example


class Stream(Protocol):
    """An endless source of batches that can be put back where it was."""

    def next(self) -> Batch: ...

    def state(self) -> Tensor:
        """All that decides what comes next, as uint8."""

    def restore(self, state: Tensor) -> None: ...


class SampledStream:
    """Batches that ``sample`` draws from a generator of its own."""

    def __init__(self, sample: Callable[[int, torch.Generator], Batch], batch_size: int, rng: torch.Generator):
        self._sample, self._batch_size, self._rng = sample, batch_size, rng

    def next(self) -> Batch:
        return self._sample(self._batch_size, self._rng)

    def state(self) -> Tensor:
        return self._rng.get_state()

    def restore(self, state: Tensor) -> None:
        self._rng.set_state(state)


class ShuffledStream:
    """The examples of ``examples`` in batches, in a new order each time all of them have been seen.

    A rest that does not fill a batch is left out, another one each time.
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
            raise ValueError(f"It stands at example {self._at} of {len(self._order)}.")


class FixedStream:
    """The same batch for ever."""

    def __init__(self, batch: Batch):
        self._batch = batch

    def next(self) -> Batch:
        return self._batch

    def state(self) -> Tensor:
        return torch.empty(0, dtype=torch.uint8)

    def restore(self, state: Tensor) -> None:
        pass


class Task(ABC):
    """A task. Its instances are frozen dataclasses whose fields are the task's own settings."""

    name: ClassVar[str]  # on the command line and in run.json
    noun: ClassVar[str]  # what an example is called, "sum"
    token_noun: ClassVar[str]  # what per-token losses are counted by, "digit"
    presets: ClassVar[Mapping[str, Preset]]  # the first is what is trained if nothing is said
    watched_gradients: ClassVar[tuple[str, ...]] = ()  # hook points whose gradient `measure` is given while training

    # --- What it looks like ---

    @property
    @abstractmethod
    def title(self) -> str:
        """A few words for a person, "5-digit addition"."""

    def run_name(self, training: TrainingConfig) -> str:
        """What a run is called if nobody says."""
        return f"{self.name}-finite" if training.finite else self.name

    @property
    @abstractmethod
    def tokens(self) -> tuple[str, ...]:
        """How each token that can be read is written."""

    @property
    @abstractmethod
    def answer_tokens(self) -> tuple[str, ...]:
        """How each token that can be predicted is written: output i is input token i, where it is read again."""

    @property
    def answered_inputs(self) -> tuple[int, ...]:
        """For each output token the input token that it answers for."""
        return tuple(range(len(self.answer_tokens)))

    @property
    @abstractmethod
    def n_ctx(self) -> int:
        """The longest sequence, in tokens."""

    @property
    @abstractmethod
    def loss_names(self) -> tuple[str, ...]:
        """A name for each per-token loss."""

    @property
    def loss_groups(self) -> tuple[str, ...]:
        """For each per-token loss the group it is drawn with, in one colour under one name."""
        return self.loss_names

    @property
    @abstractmethod
    def references(self) -> tuple[Reference, ...]:
        """Losses to compare with: first that of a uniform guess, last the best possible."""

    @property
    def smoothing(self) -> tuple[float, float] | None:
        """If the overall loss has a customary exponential average: its beta, and the value that it starts at."""
        return None

    # --- Its data ---

    @abstractmethod
    def endless_stream(self, batch_size: int, seed: int) -> Stream:
        """Fresh examples for ever."""

    @abstractmethod
    def training_set(self, training: TrainingConfig) -> Batch | None:
        """The examples of a training on finite data; None where they are endless.

        Raises:
            UserError: there are not examples enough to train and to test on.
        """

    def n_train(self, training: TrainingConfig) -> int:
        """How many examples `training_set` has, without making them; 0 where they are endless."""
        return training.finite

    def n_test(self, training: TrainingConfig) -> int:
        """How many examples a batch of `test_stream` has."""
        return training.test_batch_size

    def train_stream(self, training: TrainingConfig) -> Stream:
        """The batches to learn from.

        Raises:
            UserError: the settings do not fit this task.
        """
        examples = self.training_set(training)
        if examples is None:
            return self.endless_stream(training.batch_size, training.seed)
        if training.full_batch:
            return FixedStream(examples)
        if training.batch_size > len(examples.tokens):
            raise UserError(
                f"batch_size is {training.batch_size:,}; there are only {len(examples.tokens):,} training examples."
            )
        return ShuffledStream(examples, training.batch_size, training.seed)

    @abstractmethod
    def test_stream(self, training: TrainingConfig) -> Stream:
        """Batches from a seed of their own; for finite data they share no example with the training data.

        Raises:
            UserError: there are not examples enough for both.
        """

    def was_trained_on(self, example: Example, training: TrainingConfig) -> bool | None:
        """Whether the example's prompt stands in the training data; None where they are endless."""
        found = self._among_learnt(example.tokens[None, : example.n_prompt], training)
        return None if found is None else bool(found)

    def learnt(self, batch: Batch, training: TrainingConfig) -> Tensor | None:
        """Which rows' prompts stand in the training data, (batch,) bool; None where they are endless.

        A prompt goes up to the first position that any row of the batch asks at.
        """
        return self._among_learnt(batch.tokens[:, : int(batch.positions.min()) + 1], training)

    def _among_learnt(self, prompts: Tensor, training: TrainingConfig) -> Tensor | None:
        """Which of ``prompts`` (batch pos) begin a row of the training data, (batch,) bool; None: endless data."""
        examples = self.training_set(training)
        if examples is None:
            return None
        rows = torch.cat([prompts, examples.tokens[:, : prompts.shape[1]]])
        _, same = rows.unique(dim=0, return_inverse=True)  # (row,): equal numbers for equal rows
        return torch.isin(same[: len(prompts)], same[len(prompts) :])

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss of every answer, float64 in nats.

        Args:
            logits: (... batch answer d_vocab_out), those that are asked for.

        Returns:
            (... batch answer). The softmax is in float64: in float32 it hides losses below 1e-7.
        """
        targets = batch.targets.expand(logits.shape[:-1])
        if logits.shape[-1] >= FEW:
            return _CrossEntropy.apply(logits, targets)
        log_probabilities = logits.movedim(-1, 0).log_softmax(0, dtype=torch.float64).movedim(0, -1)
        return nll_loss(log_probabilities.flatten(0, -2), targets.flatten(), reduction="none").view_as(targets)

    def per_token(self, losses: Tensor, batch: Batch) -> Tensor:
        """The mean loss of each of `loss_names`, (... token), from `losses`, (... batch answer)."""
        return losses.mean(-2)

    @property
    def measures(self) -> Mapping[str, Measure]:
        """What else is recorded at each step, by name."""
        return {"accuracy": Measure("Answers right", "share", ("accuracy",))}

    def measure(self, logits: Tensor, batch: Batch, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values of `measures` on one batch, each (line,).

        Args:
            logits: (batch answer d_vocab_out), those that are asked for.
            gradients: of the batch's loss at each of `watched_gradients`, in the last block of the queries that are
                asked for; empty where nothing is learnt from the batch, and measures that need them are left out then.
        """
        return {"accuracy": (logits.argmax(-1) == batch.targets).mean(dtype=torch.float64)[None]}

    # --- Its examples ---

    @property
    @abstractmethod
    def examples(self) -> Mapping[str, str]:
        """Named example texts; the first is what a page opens with."""

    @abstractmethod
    def encode(self, text: str) -> Example:
        """Read what somebody typed.

        Raises:
            UserError: it is not an example of this task; the sentence says what to type.
        """

    @abstractmethod
    def written(self, example: Example, answer: Sequence[int]) -> str:
        """The example worked out by hand and a model's answer beside it, as lines of monospaced text.

        Args:
            answer: output tokens, one for each place asked for.
        """

    def siblings(self, example: Example) -> Mapping[str, str]:
        """Named variations of an example that are harder, as texts."""
        return {}

    # --- What is measured on it ---

    @property
    def cycle(self) -> Cycle | None:
        """Its numbers, if they are taken modulo something; None where they are not."""
        return None

    def classes(self, n: int, seed: int) -> Classes | None:
        """``n`` examples of each kind of prompt that may be learnt at a time of its own; None where none is known."""
        return None

    # --- Its models ---

    def model_config(self, **settings: Any) -> ModelConfig:
        """A model that fits this task, with these settings.

        Raises:
            UserError: a setting that follows from the task is another one, or a setting makes no sense.
        """
        widths = {"d_vocab": len(self.tokens), "d_vocab_out": len(self.answer_tokens), "n_ctx": self.n_ctx}
        for name, width in widths.items():
            if settings.get(name, width) != width:
                raise UserError(f"{name} is {settings[name]}; for {self.title} it is {width}, so leave it out.")
        return ModelConfig(**{**settings, **widths})

    @classmethod
    def preset(cls, name: str) -> Preset:
        """The preset of that name.

        Raises:
            UserError: there is none; the sentence names those there are.
        """
        if name not in cls.presets:
            raise UserError(f"{cls.name} has no preset {quoted(name)}; it has {', '.join(cls.presets)}.")
        return cls.presets[name]
