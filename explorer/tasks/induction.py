"""Induction heads: a stretch of random tokens occurs three times, so that its repetitions can be predicted.

A row is 85 tokens: a beginning token and three intervals of 28 random tokens. A stretch of 16 tokens at a random
position of the first interval is copied to random positions of the second and the third. With a stretch of four::

    ^ . . a b c d . . . . . . . a b c d . .     tokens: ^ is 0, the others 1-127, uniform
                                ^ ^ ^           here the next token follows from the first occurrence

All of these numbers are settings; those above are the defaults. The loss is that of the tokens that follow from the
first occurrence, or of all tokens.

Each token is typed as one character: 1-95 are the printable ASCII characters, beginning with the space, from 96 on
they are the signs of Latin-1 from À on, and then those of Latin Extended-A.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from explorer.errors import UserError, quoted
from explorer.settings import TrainingConfig, check_settings, setting
from explorer.tasks.data import Batch, Example, FixedStream, Stream
from explorer.tasks.task import Preset, Reference, Task
from explorer.tasks.typed import check_length

CHARACTERS = [*map(chr, range(0x20, 0x7F)), *map(chr, range(0xC0, 0x180))]  # of the tokens from 1 on
TOKEN_OF = {character: token for token, character in enumerate(CHARACTERS, 1)}
# As in the original notebook: two blocks that each double the residual stream, with weights scaled by the heads' width.
MODEL = {
    "n_layers": 2,
    "d_model": 48,
    "n_heads": 4,
    "d_head": 12,
    "attn_only": True,
    "residual_gain": 2.0,
    "init": "d_head",
}

QUICK = TrainingConfig(
    steps=1200,
    batch_size=64,
    test_batch_size=128,
    seed=123,
    lr=2e-3,
    weight_decay=1.0,
    beta2=0.999,
    warmup=50,
    snapshot_moved=0.3,
    snapshot_share=0.03,
    snapshot_dtype="float16",
)
NOTEBOOK = TrainingConfig(
    steps=6000,
    batch_size=128,
    test_batch_size=128,
    seed=123,
    weight_decay=1.0,
    beta2=0.999,
    warmup=100,
    snapshot_moved=0.3,
    snapshot_share=0.025,
    snapshot_dtype="float16",
)


@dataclass(frozen=True)
class Induction(Task):
    """Repeated stretches of random tokens."""

    stretch: int = setting("tokens that are repeated", 2, 64, default=16, label="Repeated tokens")
    interval: int = setting("tokens of each interval, which holds the stretch or a copy of it", 2, 64, default=28)
    copies: int = setting("repetitions of the stretch, each in an interval of its own", 1, 8, default=2)
    vocabulary: int = setting("tokens, the one at the beginning included", 96, 256, default=128)
    answers: Literal["copies", "all"] = setting(
        "what the loss is of: the tokens of the copies that follow from the first occurrence, or all tokens",
        default="copies",
    )

    name: ClassVar[str] = "induction"
    noun: ClassVar[str] = "text"
    token_noun: ClassVar[str] = "copy and place"
    presets: ClassVar[Mapping[str, Preset]] = {
        "quick": Preset(
            about="The notebook's model with smaller batches and larger steps: the heads form around step 800.",
            model=MODEL,
            training=QUICK,
        ),
        "quick-finite": Preset(
            about="576 texts: the loss on unseen texts climbs from 4.8 to 6.1 while these are memorised, and falls to "
            "1 between steps 1,900 and 2,250.",
            model=MODEL,
            training=replace(
                QUICK,
                steps=3500,
                finite=576,
                full_batch=False,
                test_batch_size=256,
                test_every=5,
                snapshot_moved=0.25,
                snapshot_share=0.025,
            ),
        ),
        "notebook": Preset(
            about="The run of the original notebook: two blocks of attention alone, 6,000 steps.",
            model=MODEL,
            training=NOTEBOOK,
        ),
        "notebook-finite": Preset(
            about="The notebook's 512 texts: 6,000 times all four shuffled batches, each time tested on 640 others.",
            model=MODEL,
            training=replace(
                NOTEBOOK,
                steps=4 * 6000,
                finite=4 * 128,
                full_batch=False,
                test_batch_size=640,
                test_every=4,
                snapshot_moved=1.0,
            ),
        ),
    }

    def __post_init__(self) -> None:
        check_settings(self)
        if self.stretch > self.interval:
            raise UserError(f"stretch is {self.stretch}; it must fit into an interval of {self.interval}.")

    # --- What it looks like ---

    @property
    def title(self) -> str:
        return "induction heads"

    @property
    def tokens(self) -> tuple[str, ...]:
        return ("⊢", *("␣" if character == " " else character for character in self.characters))

    @property
    def characters(self) -> Sequence[str]:
        """How the tokens from 1 on are typed."""
        return CHARACTERS[: self.vocabulary - 1]

    @property
    def answer_tokens(self) -> tuple[str, ...]:
        return self.tokens

    @property
    def n_ctx(self) -> int:
        return 1 + (1 + self.copies) * self.interval

    @property
    def loss_names(self) -> tuple[str, ...]:
        """One for each copy and each predicted token of the stretch; last, that of the random tokens, if they count."""
        copied = tuple(f"copy {c}, token {t}" for c in range(1, self.copies + 1) for t in range(2, self.stretch + 1))
        return (*copied, *self._random)

    @property
    def loss_groups(self) -> tuple[str, ...]:
        return (*(f"copy {c}" for c in range(1, self.copies + 1) for _ in range(2, self.stretch + 1)), *self._random)

    @property
    def _random(self) -> tuple[str, ...]:
        """The name of the loss of the tokens that cannot be predicted, if they count."""
        return ("random tokens",) if self.answers == "all" else ()

    @property
    def references(self) -> tuple[Reference, ...]:
        """A uniform guess, and copying the first occurrence of the stretch: a loss of 0, and of a guess elsewhere."""
        n, guess = self.copies * (self.stretch - 1), math.log(len(self.characters))
        n_answers = self.n_ctx - 1 if self._random else n
        shares = (*(1 / n_answers,) * n, *(1 - n / n_answers for _ in self._random))
        return (
            Reference("uniform guess", (guess,) * len(shares), shares),
            Reference("optimal", (*(0.0,) * n, *(guess for _ in self._random)), shares),
        )

    @property
    def smoothing(self) -> tuple[float, float]:
        return 0.99, 5.2

    # --- Its data ---

    def sample(self, n: int, rng: np.random.RandomState) -> Batch:
        """Random texts with repeated stretches.

        Args:
            n: texts.
            rng: the generator that draws them.

        Returns:
            The batch. ``extra["starts"]``, (batch 1+copies) int64, holds the positions at which the stretch and its
            copies begin.
        """
        tokens = rng.randint(1, len(self.tokens), (n, self.n_ctx))
        tokens[:, 0] = 0
        first = [1 + self.interval * i for i in range(1 + self.copies)]
        starts = np.stack([rng.randint(at, at + self.interval - self.stretch + 1, (n,)) for at in first], 1)
        rows, inside = np.arange(n)[:, None], np.arange(self.stretch)
        stretch = tokens[rows, starts[:, :1] + inside]
        for copy in range(1, 1 + self.copies):
            tokens[rows, starts[:, copy, None] + inside] = stretch
        if self.answers == "all":
            positions = np.tile(np.arange(self.n_ctx - 1), (n, 1))  # (batch answer)
        else:
            positions = self._copied(torch.from_numpy(starts)).numpy()
        return Batch(
            torch.from_numpy(tokens),
            torch.from_numpy(positions),
            torch.from_numpy(tokens[rows, positions + 1]),
            {"starts": torch.from_numpy(starts)},
        )

    def _copied(self, starts: Tensor) -> Tensor:
        """The positions whose next token follows from the first occurrence, copy by copy, (... batch copied), from
        where the stretch and its copies start, (... batch 1+copies)."""
        return (starts[..., 1:, None] + torch.arange(self.stretch - 1, device=starts.device)).flatten(-2)

    def per_token(self, losses: Tensor, batch: Batch) -> Tensor:
        """As in `Task.per_token`; the random tokens are at all places that are not copied."""
        if self.answers == "copies":
            return losses.mean(-2)
        positions = self._copied(batch.extra["starts"])  # (... batch copied); answer i is at position i
        copied = losses.gather(-1, positions.expand(*losses.shape[:-1], -1))
        others = losses.sum((-2, -1)) - copied.sum((-2, -1))
        n_others = losses.shape[-2] * losses.shape[-1] - positions.shape[-2] * positions.shape[-1]
        return torch.cat([copied.mean(-2), (others / n_others)[..., None]], -1)

    def endless_stream(self, batch_size: int, seed: int) -> Stream:
        return _NumpyStream(self, batch_size, seed)

    def training_set(self, training: TrainingConfig) -> Batch | None:
        if not training.finite:
            return None
        return self.sample(training.finite, np.random.RandomState(training.seed))

    def train_stream(self, training: TrainingConfig) -> Stream:
        """As in `Task.train_stream`, but infinite data start with the second batch, as in the golden runs."""
        stream = super().train_stream(training)
        if not training.finite:
            stream.next()
        return stream

    def test_stream(self, training: TrainingConfig) -> Stream:
        """For finite data the same held-out texts every time. None is in the training data: there are 127^84 texts."""
        if training.finite:
            return FixedStream(self.sample(training.test_batch_size, np.random.RandomState(training.seed + 1)))
        return self.endless_stream(training.test_batch_size, training.seed + 1)

    def are_in_training_data(self, batch: Batch, training: TrainingConfig) -> Tensor | None:
        """As in `Task.are_in_training_data`, but whole texts are compared: the answers are a part of them."""
        return self._in_training_data(batch.tokens, training)

    # --- What is measured on it ---

    def occurrences(self, batch: Batch) -> Tensor:
        """As in `Task.occurrences`: the stretch, and then its copies."""
        return batch.extra["starts"][..., None] + torch.arange(self.stretch - 1)

    # --- Its examples ---

    @property
    def examples(self) -> Mapping[str, str]:
        return {
            "words": self._twice("blacksmith forge"),
            "other words": self._twice("trampoline ducks"),
            "a stretch, copied twice": self._text("blacksmith forge", 7),
            "another stretch there": self._text("uncopyrightables", 7),
            "copies at the ends": self._text("blacksmith forge", 0),
            "with repeated letters": self._text("phase transition", 7),
            "a sentence": "the cat sat on the mat; the cat sat on the"[: self.n_ctx - 1],
        }

    def _twice(self, words: str) -> str:
        """Words without a letter twice, again after other letters; both are shorter where a text is."""
        words = words[: (self.n_ctx - 1) // 2]
        between = " ABCDEFGHIJK"[: self.n_ctx - 1 - 2 * len(words)]
        return words + between + words

    def _text(self, words: str, at: int) -> str:
        """Random characters, none of them a lower-case letter, with ``words`` at this position of each interval."""
        words = words[: self.stretch]
        at = min(at, self.interval - len(words))
        others = [character for character in self.characters if not character.islower() and character != " "]
        rng, rounds = np.random.RandomState(0), -(-self.n_ctx // len(others))
        noise = "".join(character for _ in range(rounds) for character in rng.permutation(others))[: self.n_ctx - 1]
        intervals = [noise[i : i + self.interval] for i in range(0, len(noise), self.interval)]
        return "".join(part[:at] + words + part[at + len(words) :] for part in intervals)

    def encode(self, text: str) -> Example:
        """As in `Task.encode`. An answer is predicted at each token that has occurred before, if the token after it is
        the one that followed its latest occurrence, or if it is the last token: also where the loss is of all tokens,
        since the others are random."""
        most = self.n_ctx - 1
        form = f"type up to {most} characters in which something repeats, such as abcd abc."
        check_length(text, form, most)
        if foreign := [character for character in text if TOKEN_OF.get(character, self.vocabulary) >= self.vocabulary]:
            more = "" if self.vocabulary == 96 else f", or À to {self.characters[-1]}"
            raise UserError(f"{quoted(foreign[0])} is no token of this task; use ASCII characters{more}.")
        tokens = [0, *(TOKEN_OF[character] for character in text)]
        positions: list[int] = []
        targets: list[int] = []
        latest: dict[int, int] = {}  # token -> its last position so far
        for position in range(1, len(tokens)):
            before = latest.get(tokens[position])
            latest[tokens[position]] = position
            if before is None:
                continue
            follows = tokens[before + 1]
            if position + 1 == len(tokens) or tokens[position + 1] == follows:
                positions.append(position)
                targets.append(follows)
        if not positions:
            raise UserError(f"In {quoted(text)} nothing repeats; {form}")
        return Example(
            text,
            torch.tensor(tokens),
            len(tokens),
            torch.tensor(positions),
            torch.tensor(targets),
            tuple(f"after {self.tokens[tokens[position]]} ({position})" for position in positions),
        )

    def written(self, example: Example, answer: Sequence[int]) -> str:
        """The text in rows of one interval; below each row the model's predictions, with marks under the wrong ones."""
        text = "".join(self.tokens[token] for token in example.tokens[1:].tolist())
        text += " " if int(example.positions[-1]) == len(text) else ""  # the token that would follow the text
        said, wrong = [" "] * len(text), [" "] * len(text)
        for position, token, right in zip(example.positions.tolist(), answer, example.targets.tolist(), strict=True):
            said[position] = self.tokens[token]  # position i predicts the token at i + 1, which is character i
            wrong[position] = " " if token == right else "^"
        lines = []
        for start in range(0, len(text), self.interval):
            part = slice(start, start + self.interval)
            rows = [text[part], "".join(said[part]), "".join(wrong[part])]
            lines += [f"{name:<5} {row}".rstrip() for name, row in zip(("text", "model", ""), rows, strict=True)]
        return "\n".join(lines).rstrip()

    def siblings(self, example: Example) -> Mapping[str, str]:
        """The text backwards, in which each token is followed by another one than before."""
        try:
            backwards = self.encode(example.text[::-1]).text
        except UserError:
            return {}
        return {} if backwards == example.text else {"backwards": backwards}


class _NumpyStream:
    """Infinite texts from numpy's legacy generator, which the golden runs used."""

    def __init__(self, task: Induction, batch_size: int, seed: int):
        self._task, self._batch_size = task, batch_size
        self._rng = np.random.RandomState(seed)

    def next(self) -> Batch:
        return self._task.sample(self._batch_size, self._rng)

    def state(self) -> Tensor:
        _, keys, position, *_ = self._rng.get_state()
        return torch.from_numpy(np.append(keys, np.uint32(position)).view(np.uint8).copy())

    def restore(self, state: Tensor) -> None:
        keys = state.numpy().copy().view(np.uint32)
        if keys[-1] > len(keys) - 1:
            raise ValueError(f"The state of the generator has position {keys[-1]} of {len(keys) - 1}.")
        self._rng.set_state(("MT19937", keys[:-1], int(keys[-1]), 0, 0.0))
