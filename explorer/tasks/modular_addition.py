"""Arithmetic modulo a prime p, trained on a share of all pairs: a task on which models grok.

A row is x, y and an equals sign, at which the answer is predicted. With p = 113::

    37 95 =        tokens: a number is itself, = is 113
          ^        at "=" the answer is predicted: 19, since 37 + 95 = 132 = 113 + 19

The training pairs are memorised within a few hundred steps. Thousands of steps later the model generalises to the
others.
"""

import contextlib
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from explorer.errors import UserError, quoted
from explorer.settings import TrainingConfig, check_settings, setting
from explorer.tasks.data import Batch, Classes, Cycle, Example, FixedStream, Grid, SampledStream, Stream
from explorer.tasks.task import Preset, Reference, Task
from explorer.tasks.typed import check_length

FUNCTIONS: Mapping[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "add": lambda x, y, p: (x + y) % p,
    "subtract": lambda x, y, p: (x - y) % p,
    "quadratic": lambda x, y, p: (x * x + x * y + y * y) % p,
    "random": lambda x, y, p: _random_table(p)[x, y],
}
SIGNS = {"add": "+", "subtract": "-", "quadratic": "∘", "random": "∘"}
TITLES = {"add": "addition", "subtract": "subtraction", "quadratic": "x² + xy + y²", "random": "a random table"}


@dataclass(frozen=True)
class ModularAddition(Task):
    """Addition, or another function of two numbers, modulo p."""

    p: int = setting("the prime", 5, 251, default=113, label="Prime")
    function: Literal["add", "subtract", "quadratic", "random"] = setting(
        "of x and y modulo p: x + y, x - y, x² + xy + y², or a table drawn at random", default="add"
    )
    train_share: float = setting(
        "share of all pairs to train on, the others are for tests; 1: new examples at every step, drawn from all pairs",
        0.001,
        1,
        default=0.3,
        label="Share to train on",
        when=lambda values: values["same_examples"],
    )
    equals_output: bool = setting("whether = is an output too, so that there are p + 1 of them", default=False)

    name: ClassVar[str] = "modular-addition"
    noun: ClassVar[str] = "pair"
    token_noun: ClassVar[str] = "pair"
    presets: ClassVar[Mapping[str, Preset]] = {
        "quick": Preset(
            about="A smaller prime: memorised by step 400, generalised five thousand steps later.",
            model={"d_model": 64, "n_heads": 4, "d_head": 16, "d_mlp": 128},
            training=TrainingConfig(
                steps=8000,
                test_every=10,
                lr=1e-3,
                weight_decay=1.0,
                snapshot_moved=1.0,
                snapshot_share=0.04,
                snapshot_dtype="float16",
            ),
            task={"p": 59, "train_share": 0.4},
        ),
        "quick-infinite": Preset(
            about="Every pair may be drawn, so there is nothing to memorise: it is learned within a thousand steps.",
            model={"d_model": 64, "n_heads": 4, "d_head": 16, "d_mlp": 128},
            training=TrainingConfig(
                steps=2000,
                batch_size=1000,
                test_batch_size=1000,
                lr=1e-3,
                weight_decay=1.0,
                snapshot_moved=0.1,
                snapshot_dtype="float16",
            ),
            task={"p": 59, "train_share": 1.0},
        ),
        "notebook": Preset(
            about="The run of the original notebook, with = among the outputs: it groks after some 10,000 slow steps.",
            model={"d_model": 128, "n_heads": 4, "d_head": 32, "d_mlp": 512},
            training=TrainingConfig(steps=50_000, seed=0, test_every=10, lr=1e-3, weight_decay=1.0, snapshot_every=100),
            task={"equals_output": True},
        ),
    }

    def __post_init__(self) -> None:
        check_settings(self)
        if any(self.p % divisor == 0 for divisor in range(2, math.isqrt(self.p) + 1)):
            raise UserError(f"p is {self.p}, which is no prime; take {_next_prime(self.p)}.")
        if self.train_share < 1 and not 0 < self._n_train_pairs < self.p**2:
            raise UserError(
                f"train_share is {self.train_share}; of {self.p**2:,} pairs that leaves none for training; enlarge it."
            )

    @classmethod
    def uses(cls, name: str, same_examples: bool) -> bool:
        """As in `Task.uses`: `train_share` says which pairs are for training, and all others are for tests."""
        return name != "finite" and not (name == "test_batch_size" and same_examples)

    @classmethod
    def fitting(cls, model: Mapping[str, Any]) -> list[Task]:
        """As in `Task.fitting`: there is a token for each number modulo p, and one for the equals sign."""
        with contextlib.suppress(UserError):
            return [cls(p=model["d_vocab"] - 1, equals_output=model["d_vocab_out"] == model["d_vocab"])]
        return []

    # --- What it looks like ---

    @property
    def title(self) -> str:
        return f"{TITLES[self.function]} mod {self.p}"

    def run_name(self, training: TrainingConfig) -> str:
        return self.name if self.train_share < 1 else f"{self.name}-infinite"

    @property
    def tokens(self) -> tuple[str, ...]:
        return (*(str(number) for number in range(self.p)), "=")

    @property
    def answer_tokens(self) -> tuple[str, ...]:
        return self.tokens if self.equals_output else self.tokens[:-1]

    @property
    def n_ctx(self) -> int:
        return 3

    @property
    def loss_names(self) -> tuple[str, ...]:
        return ("answer",)

    @property
    def references(self) -> tuple[Reference, ...]:
        return Reference("uniform guess", (math.log(len(self.answer_tokens)),)), Reference("perfect", (0.0,))

    # --- Its data ---

    def _batch(self, pairs: Tensor) -> Batch:
        """A batch of given pairs, (batch 2) int64."""
        x, y = pairs.unbind(1)
        equals = torch.full_like(pairs[:, :1], self.p)
        answers = FUNCTIONS[self.function](x, y, self.p)
        return Batch(torch.cat([pairs, equals], 1), torch.full_like(equals, 2), answers[:, None])

    def sample(self, n: int, rng: torch.Generator) -> Batch:
        """Uniform pairs, drawn with replacement.

        Args:
            n: pairs.
            rng: the generator that draws them.
        """
        return self._batch(torch.randint(0, self.p, (n, 2), generator=rng))

    @property
    def _n_train_pairs(self) -> int:
        return int(self.train_share * self.p**2)

    def _split(self, training: TrainingConfig) -> tuple[Batch, Batch]:
        """The training pairs and the other pairs, shuffled by the seed of ``training``."""
        if training.finite:
            raise UserError("finite is not a setting of this task; set train_share, the share of pairs to train on.")
        pairs = [(x, y) for x in range(self.p) for y in range(self.p)]
        random.Random(training.seed).shuffle(pairs)
        batch = self._batch(torch.tensor(pairs))
        return batch.rows(slice(None, self._n_train_pairs)), batch.rows(slice(self._n_train_pairs, None))

    def n_train(self, training: TrainingConfig) -> int:
        return self._n_train_pairs if self.train_share < 1 else 0

    def n_test(self, training: TrainingConfig) -> int:
        return self.p**2 - self._n_train_pairs if self.train_share < 1 else training.test_batch_size

    def endless_stream(self, batch_size: int, seed: int) -> Stream:
        return SampledStream(self.sample, batch_size, torch.Generator().manual_seed(seed))

    def training_set(self, training: TrainingConfig) -> Batch | None:
        train, _ = self._split(training)
        return train if self.train_share < 1 else None

    def test_stream(self, training: TrainingConfig) -> Stream:
        """All pairs that are not in the training data; for infinite data, random pairs."""
        _, others = self._split(training)
        if self.train_share < 1:
            return FixedStream(others)
        return self.endless_stream(training.test_batch_size, training.seed + 1)

    # --- What is measured on it ---

    @property
    def cycle(self) -> Cycle:
        pairs = torch.cartesian_prod(torch.arange(self.p), torch.arange(self.p))
        sign = {"add": 1, "subtract": -1}.get(self.function, 0)
        return Cycle(self.p, {"answer": Grid(self._batch(pairs), sign)})

    def classes(self, n: int, seed: int) -> Mapping[str, Classes]:
        """Pairs whose sum or difference is itself the answer, and pairs for which it wraps around modulo p."""
        rng, pairs = torch.Generator().manual_seed(seed), torch.cartesian_prod(*[torch.arange(self.p)] * 2)
        x, y = pairs.unbind(1)
        if self.function == "add":
            names, wraps = (f"x + y < {self.p}", f"x + y ≥ {self.p}"), x + y >= self.p
        elif self.function == "subtract":
            names, wraps = ("x ≥ y", "x < y"), x < y
        else:
            return {}
        kinds = (pairs[~wraps], pairs[wraps])
        drawn = [kind[torch.randint(0, len(kind), (n,), generator=rng)] for kind in kinds]
        labels = torch.arange(2).repeat_interleave(n)
        about = ("does not wrap around", "wraps around")
        return {"wrapping": Classes(names, about, self._batch(torch.cat(drawn)), labels)}

    # --- Its examples ---

    def _text(self, x: int, y: int) -> str:
        return f"{x % self.p}{SIGNS[self.function]}{y % self.p}"

    @property
    def examples(self) -> Mapping[str, str]:
        named = {
            "a pair": self._text(37, 29),
            "the same, swapped": self._text(29, 37),
            "once around": self._text(self.p - 1, 1),
            "a double": self._text(self.p - 2, self.p - 2),
            "zeros": self._text(0, 0),
        }
        first = {text: name for name, text in reversed(named.items())}
        return {name: text for name, text in named.items() if first[text] == name}

    def prompt_texts(self, example: Example) -> list[str]:
        """The sign, which is no token, is written behind the first number."""
        first, *others = super().prompt_texts(example)
        return [f"{first} {SIGNS[self.function]}", *others]

    def encode(self, text: str) -> Example:
        sign = SIGNS[self.function]
        form = f"type two numbers below {self.p} with {sign} between them, such as {self._text(37, 95)}."
        check_length(text, form)
        if not text.strip():
            raise UserError(f"Nothing was typed; {form}")
        # A comma or a space is accepted too, for signs that are not on a keyboard.
        match = re.fullmatch(rf"\s*([0-9]+)(?:\s*[{re.escape(sign)},]\s*|\s+)([0-9]+)\s*(?:=\s*([0-9]*))?\s*", text)
        if not match:
            raise UserError(f"{quoted(text)} is not a pair; {form}")
        x, y = (int(number) for number in match.groups()[:2])
        for number in (x, y):
            if number >= self.p:
                raise UserError(f"{quoted(number)} is not below {self.p}; {form}")
        batch = self._batch(torch.tensor([[x, y]]))
        right, note = int(batch.targets), ""
        if match[3]:
            verdict = "right" if int(match[3]) == right else "wrong"
            note = f"The typed answer {quoted(match[3])} is {verdict}: {x} {sign} {y} = {right} modulo {self.p}."
        place = self._text(x, y)
        return Example(place, batch.tokens[0], 3, batch.positions[0], batch.targets[0], (place,), note)

    def written(self, example: Example, answer: Sequence[int]) -> str:
        x, y, _ = example.tokens.tolist()
        (right,), (said,) = example.targets.tolist(), answer
        whole = {"add": x + y, "subtract": x - y, "quadratic": x * x + x * y + y * y}.get(self.function)
        lines = [f"{x} {SIGNS[self.function]} {y} = {right}   mod {self.p}"]
        if whole is not None and whole != right:
            times = (whole - right) // self.p
            lines.append(f"{whole} = {right} {'+' if times > 0 else '-'} {abs(times)} × {self.p}")
        verdict = "right" if said == right else "wrong"
        if said not in (right, self.p):  # another number, not the equals sign
            verdict += f", off by {min((said - right) % self.p, (right - said) % self.p)}"
        return "\n".join([*lines, "", f"model: {self.tokens[said]}  {verdict}"])

    def siblings(self, example: Example) -> Mapping[str, str]:
        """The pair swapped, and a neighbour with the same sum."""
        x, y, _ = example.tokens.tolist()
        variations = {"swapped": self._text(y, x), "one more, one less": self._text(x + 1, y - 1)}
        return {label: sibling for label, sibling in variations.items() if sibling != example.text}


def _random_table(p: int) -> Tensor:
    """(x y) random answers, which depend on p only."""
    return torch.randint(0, p, (p, p), generator=torch.Generator().manual_seed(p))


def _next_prime(n: int) -> int:
    return next(m for m in range(n + 1, 2 * n) if all(m % divisor for divisor in range(2, math.isqrt(m) + 1)))
