"""Addition of two n-digit numbers, digit by digit, most significant first.

With n = 5, ``12345 + 67890 = 080235`` is a row of 18 tokens::

    1 2 3 4 5 + 6 7 8 9 0 = 0 8 0 2 3 5      tokens 0-9, + is 10, = is 11
                          ^ ^ ^ ^ ^ ^        from "=" on, the next token is predicted: 6 answers

Columns are counted from the right; the units are column 0. The carry into column i is 1 if the sum of the numbers to
its right is 10^i or more. In the example the carries are, from the units up, 0 0 1 1 1 0.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from explorer.errors import UserError, quoted
from explorer.settings import TrainingConfig, check_settings, setting
from explorer.tasks.data import Batch, Classes, Cycle, Example, Grid, SampledStream, Stream
from explorer.tasks.task import Preset, Reference, Task
from explorer.tasks.typed import check_length

PLUS, EQUALS = 10, 11
SYMBOLS = "0123456789+="
PLACES = ("units", "tens", "hundreds", "thousands", "10k", "100k", "1M", "10M", "100M", "1B", "10B")
NOTEBOOK = {"d_model": 512, "n_heads": 4, "d_head": 128, "d_mlp": 2048}
SMALL = {"d_model": 128, "n_heads": 4, "d_head": 32, "d_mlp": 256}
CARRY_CLASSES = {
    "S0": "no column carries",
    "S1": "carries, none through a nine",
    "S2": "a carry through one nine",
    "S3": "a carry through two nines",
    "S4": "a carry through three nines",
    "S5": "a carry through four nines or more",
}


@dataclass(frozen=True)
class Addition(Task):
    """n-digit addition."""

    n_digits: int = setting("digits of each number", 1, 10, default=5, label="Digits")

    name: ClassVar[str] = "addition"
    noun: ClassVar[str] = "sum"
    token_noun: ClassVar[str] = "digit"
    presets: ClassVar[Mapping[str, Preset]] = {
        "quick": Preset(
            about="A small model that learns one digit after another in half a minute.",
            model=SMALL,
            training=TrainingConfig(steps=3000, lr=1e-3, weight_decay=0.1, cooldown=0.5, snapshot_dtype="float16"),
        ),
        "quick-finite": Preset(
            about="750 sums: memorised first, generalised a thousand steps later.",
            model=SMALL,
            training=TrainingConfig(
                steps=4500,
                finite=750,
                test_batch_size=256,
                lr=8.7e-4,
                weight_decay=1.15,
                cooldown=0.3,
                snapshot_moved=0.3,
                snapshot_share=0.025,
                snapshot_dtype="float16",
            ),
        ),
        "notebook": Preset(
            about="The model of the original notebook: 16 times the parameters, 3,000 slow steps.",
            model=NOTEBOOK,
            training=TrainingConfig(steps=3000, seed=129000, lr=1e-4, weight_decay=0.1, snapshot_every=50),
        ),
        "notebook-finite": Preset(
            about="The notebook's model on 750 sums, all of them in each update, tested on 64 others.",
            model=NOTEBOOK,
            training=TrainingConfig(steps=3000, finite=750, seed=129000, lr=1e-4, weight_decay=0.1, snapshot_every=50),
        ),
    }

    def __post_init__(self) -> None:
        check_settings(self)

    @classmethod
    def fitting(cls, model: Mapping[str, Any]) -> list[Task]:
        """As in `Task.fitting`: a sum of n digits has 3n + 3 tokens."""
        n_digits = (model.get("n_ctx") or 18) // 3 - 1
        return [cls(n_digits)] if 1 <= n_digits <= 10 else []

    # --- What it looks like ---

    @property
    def title(self) -> str:
        return f"{self.n_digits}-digit addition"

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(SYMBOLS)

    @property
    def answer_tokens(self) -> tuple[str, ...]:
        return tuple(SYMBOLS[:10])

    @property
    def n_ctx(self) -> int:
        return 3 * self.n_digits + 3

    @property
    def loss_names(self) -> tuple[str, ...]:
        return tuple(reversed(PLACES[: self.n_digits + 1]))

    @property
    def references(self) -> tuple[Reference, ...]:
        """A uniform guess, everything but the carries, and perfect.

        Two uniform digits make a carry with probability p_1 = 0.45; in a column that also receives a carry it is
        p_{k+1} = (45 + 10 p_k) / 100. If the carry into a column is unknown, the loss of its digit is the entropy of
        that carry: 0 for the units, and the leading digit *is* a carry.
        """
        carry, entropies = 0.0, []
        for _ in range(self.n_digits + 1):
            entropies.append(-sum(p * math.log(p) for p in (carry, 1 - carry) if p > 0))
            carry = (45 + 10 * carry) / 100
        n = self.n_digits + 1
        return (
            Reference("uniform guess", (math.log(10),) * n),
            Reference("carries unknown", tuple(reversed(entropies))),
            Reference("perfect", (0.0,) * n),
        )

    # --- Its data ---

    def sums(self, x: Tensor, y: Tensor) -> Batch:
        """A batch of the sums of given numbers.

        Args:
            x, y: (batch n_digits) int64, digits, most significant first.

        Returns:
            The batch. ``extra["carries"]`` is the carry into each column, (batch n_digits+1), units first: the first is
            always 0.
        """
        carries, digits = [torch.zeros_like(x[:, 0])], []  # (batch,) each, units first
        for column in reversed(range(self.n_digits)):
            total = x[:, column] + y[:, column] + carries[-1]
            digits.append(total % 10)
            carries.append(total // 10)
        answer = torch.stack([*digits, carries[-1]], 1).flip(1)  # (batch answer)
        plus, equals = (torch.full_like(x[:, :1], symbol) for symbol in (PLUS, EQUALS))
        tokens = torch.cat([x, plus, y, equals, answer], 1)  # (batch pos)
        first = 2 * self.n_digits + 1  # the position of "="
        positions = torch.arange(first, first + self.n_digits + 1).expand(len(x), -1)
        return Batch(tokens, positions, answer, {"carries": torch.stack(carries, 1)})

    def sample(self, n: int, rng: torch.Generator) -> Batch:
        """Sums of uniform digits.

        Args:
            n: sums.
            rng: the generator that draws them.
        """
        x = torch.randint(0, 10, (n, self.n_digits), generator=rng)
        y = torch.randint(0, 10, (n, self.n_digits), generator=rng)
        return self.sums(x, y)

    def endless_stream(self, batch_size: int, seed: int) -> Stream:
        return SampledStream(self.sample, batch_size, torch.Generator().manual_seed(seed))

    def training_set(self, training: TrainingConfig) -> Batch | None:
        if not training.finite:
            return None
        there_are = 100**self.n_digits
        if 2 * training.finite > there_are:
            raise UserError(
                f"finite is {training.finite:,}; {self.title} has only {there_are:,} sums, and at least half of "
                f"them must be left to test on."
            )
        return self.sample(training.finite, torch.Generator().manual_seed(training.seed))

    def test_stream(self, training: TrainingConfig) -> Stream:
        """Freshly drawn sums; for finite data, none that is in the training data."""
        trained = self.training_set(training)
        if trained is None:
            return self.endless_stream(training.test_batch_size, training.seed + 1)
        known = self._identity(trained)

        def unseen(n: int, rng: torch.Generator) -> Batch:
            batch = self.sample(n, rng)
            while (seen := torch.isin(self._identity(batch), known)).any():
                fresh = self.sample(int(seen.sum()), rng).tokens
                tokens = batch.tokens.masked_scatter(seen[:, None], fresh)
                batch = self.sums(*self._terms(tokens))
            return batch

        return SampledStream(unseen, training.test_batch_size, torch.Generator().manual_seed(training.seed + 1))

    def _terms(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        n = self.n_digits
        return tokens[:, :n], tokens[:, n + 1 : 2 * n + 1]

    def _identity(self, batch: Batch) -> Tensor:
        """A number that identifies each sum, (batch,). With ten digits it overflows and may collide, which only costs a
        redraw."""
        powers = 10 ** torch.arange(2 * self.n_digits)
        return (torch.cat(self._terms(batch.tokens), 1) * powers).sum(1)

    # --- What is measured on it ---

    @property
    def cycle(self) -> Cycle:
        """The digits, with a grid for each column: x and y in this column, 0 in all others."""
        return Cycle(10, {PLACES[column]: self._grid(column) for column in range(self.n_digits)})

    def _grid(self, column: int) -> Grid:
        x, y = torch.zeros(2, 100, self.n_digits, dtype=torch.int64)
        x[:, -1 - column], y[:, -1 - column] = torch.cartesian_prod(torch.arange(10), torch.arange(10)).unbind(1)
        batch, answer = self.sums(x, y), slice(self.n_digits - column, self.n_digits - column + 1)
        return Grid(Batch(batch.tokens, batch.positions[:, answer], batch.targets[:, answer]), sign=1)

    def classes(self, n: int, seed: int) -> Mapping[str, Classes]:
        return {"carries": self._by_carries(n, seed)}

    def _by_carries(self, n: int, seed: int) -> Classes:
        """Sums of each carry class that occurs with n digits, uniform within each class."""
        rng, names = torch.Generator().manual_seed(seed), tuple(CARRY_CLASSES)[: self.n_digits + 1]
        # A column adds up to less than nine (kind 0), to nine (1) or to more (2). All ways, and their probabilities:
        kinds = torch.arange(3**self.n_digits)[:, None] // 3 ** torch.arange(self.n_digits) % 3  # (way column)
        weights = torch.tensor([0.45, 0.1, 0.45])[kinds].prod(1)  # (way,)
        of_class = carry_class(torch.tensor([0, 9, 9])[kinds], torch.tensor([0, 0, 9])[kinds])  # (way,)
        drawn = [weights.where(of_class == k, 0).multinomial(n, True, generator=rng) for k in range(len(names))]
        kinds = kinds[torch.cat(drawn)]  # (batch column)

        pairs = torch.cartesian_prod(torch.arange(10), torch.arange(10))  # (pair 2)
        pairs = pairs[pairs.sum(1).sort(stable=True).indices]  # 45 below nine, 10 of nine, 45 above
        first, size = torch.tensor([0, 45, 55])[kinds], torch.tensor([45, 10, 45])[kinds]
        among = torch.rand(kinds.shape, generator=rng, dtype=torch.float64) * size
        x, y = pairs[first + among.long()].unbind(-1)  # (batch column)
        labels = torch.arange(len(names)).repeat_interleave(n)
        return Classes(names, tuple(CARRY_CLASSES.values())[: len(names)], self.sums(x, y), labels)

    # --- Text and tokens ---

    def tokens_to_string(self, tokens: Tensor) -> str:
        """One row of tokens as a sum on three lines, ``  12345\\n +67890\\n=080235``.

        Args:
            tokens: (pos,) int64; the answer may be missing.
        """
        text = "".join(SYMBOLS[token] for token in tokens.tolist())
        n = self.n_digits
        lines = [f"  {text[:n]}", f" {text[n : 2 * n + 1]}", text[2 * n + 1 :]]
        return "\n".join(line for line in lines if line.strip())

    def string_to_tokens(self, text: str, batch: bool = False) -> Tensor:
        """The tokens of a text.

        Args:
            text: digits, ``+`` and ``=``; white space is skipped.
            batch: return a batch of one.

        Returns:
            (pos,) int64, or (1 pos) if ``batch``.

        Raises:
            UserError: the text has another character.
        """
        text = "".join(text.split())
        if foreign := [character for character in text if character not in SYMBOLS]:
            raise UserError(f"{quoted(foreign[0])} is not part of a sum; use only digits, + and =.")
        tokens = torch.tensor([SYMBOLS.index(character) for character in text], dtype=torch.int64)
        return tokens[None] if batch else tokens

    # --- Its examples ---

    @property
    def examples(self) -> Mapping[str, str]:
        n = self.n_digits

        def cut(x: str, y: str) -> str:
            """The sum of the last n digits of two numbers."""
            return f"{x[-n:]}+{y[-n:]}"

        return {
            "some carries": "5+7" if n == 1 else cut("2109812345", "1320467890"),
            "no carry": cut("2312312345", "1423454321"),
            "one carry": cut("2312312345", "1423421236"),
            "a chain of carries": cut("7283745678", "2716254327"),
            "all nines": cut("9999999999", "0000000001"),
        }

    def encode(self, text: str) -> Example:
        n, form = self.n_digits, self._form()
        check_length(text, form)
        if not text.strip():
            raise UserError(f"Nothing was typed; {form}")
        match = re.fullmatch(r"([0-9]+)\+([0-9]+)=?([0-9]*)", "".join(text.split()))
        if not match:
            raise UserError(f"{quoted(text)} is not a sum; {form}")
        terms, typed = match.groups()[:2], match[3]
        for term in terms:
            if len(term.lstrip("0")) > n:
                raise UserError(f"{quoted(term)} has more than the {n} digits that this run adds; {form}")
        x, y = (term.lstrip("0").rjust(n, "0") for term in terms)
        batch = self.sums(self.string_to_tokens(x, batch=True), self.string_to_tokens(y, batch=True))
        right = "".join(str(digit) for digit in batch.targets[0].tolist())
        note = ""
        if typed:
            verdict = "right" if int(typed) == int(right) else "wrong"
            note = f"The typed answer {quoted(typed)} is {verdict}: {int(x)} + {int(y)} = {int(right)}."
        return Example(
            f"{x}+{y}", batch.tokens[0], 2 * n + 2, batch.positions[0], batch.targets[0], self.loss_names, note
        )

    def _form(self) -> str:
        upto = "one digit" if self.n_digits == 1 else f"up to {self.n_digits} digits"
        return f"type two numbers of {upto} with a plus between them, such as {next(iter(self.examples.values()))}."

    def written(self, example: Example, answer: Sequence[int]) -> str:
        x, y = self._terms(example.tokens[None])
        carries = self.sums(x, y).extra["carries"][0].flip(0).tolist()  # leading column first
        chain = "".join("1" if carry else "·" for carry in carries)
        said = "".join(SYMBOLS[token] for token in answer)
        wrong = "".join(" " if token == right else "^" for token, right in zip(answer, example.targets, strict=True))
        verdict = f" {wrong}  wrong" if wrong.strip() else f" {' ' * len(wrong)}  right"
        return f" {chain}  carries\n{self.tokens_to_string(example.tokens)}\n\n {said}  model\n{verdict}"

    def described(self, example: Example) -> str:
        """How far its longest chain of carries reaches: the name of its carry class."""
        return list(CARRY_CLASSES.values())[int(carry_class(*self._terms(example.tokens[None])))]

    def siblings(self, example: Example) -> Mapping[str, str]:
        """Sums close to this one: without carries, and with more carries or a longer chain of them."""
        x = self._terms(example.tokens[None])[0][0]

        def text(x: Tensor, y: Tensor) -> str:
            return "+".join("".join(map(str, term.tolist())) for term in (x, y))

        some = x.clamp(min=1)  # so that every column can be completed to ten
        through = 9 - some
        through[-1] += 1
        variations = {
            "one carry through nines": text(some, through),
            "a carry from every column": text(some, 10 - some),
            "no carry": text(x, (9 - x) // 2),
        }
        return {label: sibling for label, sibling in variations.items() if sibling != example.text}


def carry_class(x: Tensor, y: Tensor) -> Tensor:
    """The carry class of each sum: how far its longest chain of carries reaches.

    A column makes a carry if its two digits add up to ten or more, and propagates one if they add up to nine. In class
    0 no column makes a carry. In class 1 no carry is propagated. In classes 2, 3 and 4 the longest chain propagates a
    carry through one, two and three nines, in class 5 through four or more. Propagation ends at the leading column.

    Source: Quirke and Barez 2023, Understanding Addition in Transformers.

    Args:
        x, y: (batch n_digits) int64, digits, most significant first.

    Returns:
        (batch,) int64, from 0 to 5.
    """
    length = longest = torch.zeros_like(x[:, 0])  # columns in the chain of carries that ends in this one
    for total in (x + y).flip(1).unbind(1):  # units first
        passed = torch.where((total == 9) & (length > 0), length + 1, 0)
        length = torch.where(total >= 10, 1, passed)
        longest = longest.maximum(length)
    return longest.clamp(max=5)
