"""The interface of a task: everything that the rest of the explorer needs to know of it.

A new task is one file in this folder with one subclass of `Task`, which is registered by its presence.

Axes as in `explorer.tasks.data`, and
    token    the per-token losses, one for each of `Task.loss_names` (a digit, a trigram...)
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from explorer.errors import UserError, quoted
from explorer.model.transformer import ModelConfig
from explorer.settings import TrainingConfig
from explorer.tasks.data import Batch, Classes, Cycle, Example, FixedStream, ShuffledStream, Stream, rows_among
from explorer.tasks.losses import cross_entropy


@dataclass(frozen=True)
class Preset:
    """Named settings of a run. The vocabularies and n_ctx of the model are left out: the task determines them."""

    about: str  # a sentence for the user
    model: Mapping[str, Any]
    training: TrainingConfig
    task: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """Losses to compare with, in nats."""

    label: str
    losses: tuple[float, ...]  # (token,)
    shares: tuple[float, ...] = ()  # (token,): of all answers, those that belong to each token; empty: equal shares

    @property
    def mean(self) -> float:
        """The mean over all answers, to compare the overall loss with."""
        shares = self.shares or (1 / len(self.losses),) * len(self.losses)
        return math.fsum(loss * share for loss, share in zip(self.losses, shares, strict=True))


@dataclass(frozen=True)
class Measure:
    """What a task records at each step besides its losses."""

    title: str
    unit: str
    lines: tuple[str, ...]  # (line,): a name for each value of a step


@dataclass(frozen=True)
class Task(ABC):
    """A task. Its instances are frozen dataclasses whose fields are the task's own settings."""

    name: ClassVar[str]  # on the command line and in run.json
    noun: ClassVar[str]  # for an example, such as "sum"
    token_noun: ClassVar[str]  # for what a per-token loss belongs to, such as "digit"
    presets: ClassVar[Mapping[str, Preset]]  # the first is the default
    takes_tokenizer: ClassVar[bool] = False  # whether a tokenizer.json may split typed text
    watched_gradients: ClassVar[tuple[str, ...]] = ()  # hook points whose gradients are given to `measure`

    # --- Names ---

    @property
    @abstractmethod
    def title(self) -> str:
        """The task in a few words, such as "5-digit addition"."""

    def run_name(self, training: TrainingConfig) -> str:
        """The default name of a run.

        Args:
            training: its settings.
        """
        return f"{self.name}-finite" if training.finite else self.name

    @property
    @abstractmethod
    def tokens(self) -> tuple[str, ...]:
        """How each input token is written."""

    @property
    def tokenizer(self) -> str:
        """The hash of the tokenizer.json that splits typed text; "" if the task does that itself."""
        return ""

    def split_by(self, tokenizer: str) -> "Task":
        """The same task with a tokenizer; tasks that do not take any return themselves.

        Args:
            tokenizer: the text of a tokenizer.json.

        Raises:
            UserError: it is no such file, or the package that reads it is missing.
        """
        return self

    @property
    @abstractmethod
    def answer_tokens(self) -> tuple[str, ...]:
        """How each output token is written. Where answers are also inputs, output token i is input token i."""

    def prompt_texts(self, example: Example) -> list[str]:
        """How each token of an example's prompt is written for reading, where the tokens alone do not say enough.

        Args:
            example: of this task.
        """
        return [self.tokens[token] for token in example.tokens[: example.n_prompt].tolist()]

    @property
    def answered_inputs(self) -> tuple[int, ...]:
        """For each output token, the input token that it corresponds to."""
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
        """For each per-token loss, the name of its group; the losses of a group share a colour in figures."""
        return self.loss_names

    @property
    @abstractmethod
    def references(self) -> tuple[Reference, ...]:
        """Losses to compare with: first that of a uniform guess, last the best possible."""

    @property
    def smoothing(self) -> tuple[float, float] | None:
        """The exponential average that is customary for this task's loss: beta per step, and the initial value in nats;
        None if none is customary."""
        return None

    # --- Its data ---

    @abstractmethod
    def endless_stream(self, batch_size: int, seed: int) -> Stream:
        """Batches of freshly drawn examples, without end.

        Args:
            batch_size: examples of a batch.
            seed: of the generator that draws them.
        """

    @abstractmethod
    def training_set(self, training: TrainingConfig) -> Batch | None:
        """All training examples, for finite data.

        Args:
            training: whose ``finite`` and ``seed`` determine them.

        Returns:
            The examples; None for infinite data.

        Raises:
            UserError: the task has too few examples to train and to test on.
        """

    def n_train(self, training: TrainingConfig) -> int:
        """The number of examples in `training_set`, without drawing them.

        Args:
            training: the settings of a run.

        Returns:
            The number; 0 for infinite data.
        """
        return training.finite

    def n_test(self, training: TrainingConfig) -> int:
        """The number of examples in a batch of `test_stream`.

        Args:
            training: the settings of a run.
        """
        return training.test_batch_size

    def train_stream(self, training: TrainingConfig) -> Stream:
        """The batches to train on.

        Args:
            training: the settings of a run.

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
        """The batches to test on, from another seed; for finite data they share no example with the training data.

        Args:
            training: the settings of a run.

        Raises:
            UserError: the task has too few examples to train and to test on.
        """

    def was_trained_on(self, example: Example, training: TrainingConfig) -> bool | None:
        """Whether the example's prompt is in the training data.

        Args:
            example: of this task.
            training: the settings of a run.

        Returns:
            None for infinite data.
        """
        found = self._in_training_data(example.tokens[None, : example.n_prompt], training)
        return None if found is None else bool(found)

    def are_in_training_data(self, batch: Batch, training: TrainingConfig) -> Tensor | None:
        """Which examples have a prompt that is in the training data.

        A prompt ends at the first position of any answer in the batch.

        Args:
            batch: examples of this task.
            training: the settings of a run.

        Returns:
            (batch,) bool; None for infinite data.
        """
        return self._in_training_data(batch.tokens[:, : int(batch.positions.min()) + 1], training)

    def _in_training_data(self, prompts: Tensor, training: TrainingConfig) -> Tensor | None:
        """Which of ``prompts`` (batch pos) begin a row of the training data, (batch,) bool; None for infinite data."""
        examples = self.training_set(training)
        if examples is None:
            return None
        return rows_among(prompts, examples.tokens[:, : prompts.shape[1]])

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """The cross-entropy of every answer, in nats.

        Args:
            logits: (... batch answer d_vocab_out), at the positions that predict the answers.
            batch: the examples.

        Returns:
            (... batch answer) float64.
        """
        return cross_entropy(logits, batch.targets)

    def per_token(self, losses: Tensor, batch: Batch) -> Tensor:
        """The mean loss of each of `loss_names`.

        Args:
            losses: (... batch answer) nats, as `losses` returns them.
            batch: the examples: the same for all models of a stack, or those of each, with a leading axis.

        Returns:
            (... token) nats; nan for a token that does not occur in the batch.
        """
        return losses.mean(-2)

    @property
    def measures(self) -> Mapping[str, Measure]:
        """What is recorded at each step besides losses, by name."""
        return {"accuracy": Measure("Answers right", "share", ("accuracy",))}

    def measure(self, logits: Tensor, batch: Batch, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The values of `measures` on one batch.

        Args:
            logits: (... batch answer d_vocab_out), at the positions that predict the answers.
            batch: the examples: of one model, or of each of a stack, with a leading axis.
            gradients: hook point -> gradient of the batch's mean loss there, for each of `watched_gradients`; in the
                last block only at the queries that predict answers. Empty for a test batch, for which measures that
                need gradients are left out.

        Returns:
            Name -> (... line), in the measure's unit.
        """
        return {"accuracy": (logits.argmax(-1) == batch.targets).mean((-2, -1), dtype=torch.float64)[..., None]}

    # --- Its examples ---

    @property
    @abstractmethod
    def examples(self) -> Mapping[str, str]:
        """Named example texts; the first is what a page opens with."""

    @abstractmethod
    def encode(self, text: str) -> Example:
        """Parse a typed example.

        Args:
            text: as typed.

        Raises:
            UserError: it is not an example of this task; the sentence says what to type.
        """

    @abstractmethod
    def written(self, example: Example, answer: Sequence[int]) -> str:
        """The example worked out by hand with a model's answer beside it, as lines of monospaced text.

        Args:
            example: of this task.
            answer: (answer,) the model's output tokens.
        """

    def described(self, example: Example) -> str:
        """What kind of example it is, in a few words; empty if the task knows no kinds.

        Args:
            example: of this task.
        """
        return ""

    def siblings(self, example: Example) -> Mapping[str, str]:
        """Named variations of an example, for comparison with it.

        Args:
            example: of this task.

        Returns:
            Label -> text of the variation.
        """
        return {}

    # --- What is measured on it ---

    @property
    def cycle(self) -> Cycle | None:
        """The numbers modulo n that the task computes with; None if it has none."""
        return None

    def classes(self, n: int, seed: int) -> Mapping[str, Classes]:
        """Classes of prompts that may be learned at different times.

        Args:
            n: examples of each class.
            seed: of the generator that draws them.

        Returns:
            What the prompts are classified by, in a word or two -> the classes; empty if none are known.
        """
        return {}

    def occurrences(self, batch: Batch) -> Tensor | None:
        """Where a subsequence that occurs several times in each example is predicted, its first token left out.

        Args:
            batch: examples that the task has drawn.

        Returns:
            (batch occurrence place) int64, the positions whose logits predict its tokens, in reading order; None if the
            task repeats nothing.
        """
        return None

    # --- Its settings ---

    @classmethod
    def uses(cls, name: str, same_examples: bool) -> bool:
        """Whether a setting has an effect on this task, as far as that depends on the task.

        Args:
            name: of a setting of the task, its model or its training.
            same_examples: whether the training data are finite.
        """
        return True

    # --- Its models ---

    @classmethod
    def fitting(cls, model: Mapping[str, Any]) -> list["Task"]:
        """The tasks of this kind that a model of unknown origin may have been trained on.

        Args:
            model: its ``d_vocab``, ``d_vocab_out`` and, if it is known, ``n_ctx``.
        """
        return [cls()]

    def model_config(self, **settings: Any) -> ModelConfig:
        """A model that fits this task.

        Args:
            settings: fields of `ModelConfig`; vocabularies and n_ctx follow from the task.

        Raises:
            UserError: a setting contradicts the task, or is invalid.
        """
        widths = {"d_vocab": len(self.tokens), "d_vocab_out": len(self.answer_tokens), "n_ctx": self.n_ctx}
        for name, width in widths.items():
            if settings.get(name, width) != width:
                raise UserError(f"{name} is {settings[name]}; for {self.title} it is {width}, so leave it out.")
        return ModelConfig(**{**settings, **widths})

    @classmethod
    def preset(cls, name: str) -> Preset:
        """The preset of that name.

        Args:
            name: one of `presets`.

        Raises:
            UserError: there is no such preset; the sentence lists all names.
        """
        if name not in cls.presets:
            raise UserError(f"{cls.name} has no preset {quoted(name)}; it has {', '.join(cls.presets)}.")
        return cls.presets[name]
