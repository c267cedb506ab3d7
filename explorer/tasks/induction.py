"""Induction heads: a stretch of random tokens occurs three times, so that its repetitions can be predicted.

A row is 85 tokens: a beginning token and three intervals of 28 random tokens. A stretch of 16 tokens at a random
position of the first interval is copied to random positions of the second and the third. With a stretch of four::

    ^ . . a b c d . . . . . . . a b c d . .     tokens: ^ is 0, the others 1-127, uniform
                                ^ ^ ^           here the next token follows from the first occurrence

Each of the 127 tokens is typed as one character: 1-95 are the printable ASCII characters, beginning with the space,
96-127 are the letters from À to ß.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from explorer.errors import UserError, quoted
from explorer.settings import TrainingConfig, check_settings, setting
from explorer.tasks.data import Batch, Example, FixedStream, Stream
from explorer.tasks.task import Preset, Reference, Task
from explorer.tasks.typed import check_length

CHARACTERS = [*map(chr, range(0x20, 0x7F)), *map(chr, range(0xC0, 0xE0))]  # of the tokens from 1 on
TOKEN_OF = {character: token for token, character in enumerate(CHARACTERS, 1)}
N_COPIES = 2
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

    stretch: int = setting("tokens that are repeated", 2, 64, default=16)
    interval: int = setting("tokens of each of the three intervals", 2, 64, default=28)

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
            about="512 texts: they are slowly memorised, without generalising to unseen ones.",
            model=MODEL,
            training=replace(QUICK, finite=512, full_batch=False, test_every=5, snapshot_moved=0.5),
        ),
        "notebook": Preset(
            about="The run of the original notebook: two blocks of attention alone, 6,000 steps.",
            model=MODEL,
            training=NOTEBOOK,
        ),
        "notebook-finite": Preset(
            about="The notebook's 512 texts in shuffled batches, tested on 640 others, to which it never generalises.",
            model=MODEL,
            training=replace(NOTEBOOK, finite=512, full_batch=False, test_batch_size=640, test_every=10),
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
        return ("⊢", *("␣" if character == " " else character for character in CHARACTERS))

    @property
    def answer_tokens(self) -> tuple[str, ...]:
        return self.tokens

    @property
    def n_ctx(self) -> int:
        return 1 + (1 + N_COPIES) * self.interval

    @property
    def loss_names(self) -> tuple[str, ...]:
        """One for each copy and each predicted token of the stretch."""
        return tuple(f"copy {c}, token {t}" for c in range(1, N_COPIES + 1) for t in range(2, self.stretch + 1))

    @property
    def loss_groups(self) -> tuple[str, ...]:
        return tuple(f"copy {c}" for c in range(1, N_COPIES + 1) for _ in range(2, self.stretch + 1))

    @property
    def references(self) -> tuple[Reference, ...]:
        """A uniform guess, and copying the first occurrence of the stretch, whose loss is 0."""
        n = len(self.loss_names)
        return Reference("uniform guess", (math.log(len(CHARACTERS)),) * n), Reference("optimal", (0.0,) * n)

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
            The batch. ``extra["starts"]``, (batch 3) int64, holds the positions at which the stretch and its two copies
            begin.
        """
        tokens = rng.randint(1, len(self.tokens), (n, self.n_ctx))
        tokens[:, 0] = 0
        first = [1 + self.interval * i for i in range(1 + N_COPIES)]
        starts = np.stack([rng.randint(at, at + self.interval - self.stretch + 1, (n,)) for at in first], 1)
        rows, inside = np.arange(n)[:, None], np.arange(self.stretch)
        stretch = tokens[rows, starts[:, :1] + inside]
        for copy in range(1, 1 + N_COPIES):
            tokens[rows, starts[:, copy, None] + inside] = stretch
        positions = (starts[:, 1:, None] + inside[:-1]).reshape(n, -1)  # (batch answer): copy by copy
        return Batch(
            torch.from_numpy(tokens),
            torch.from_numpy(positions),
            torch.from_numpy(tokens[rows, positions + 1]),
            {"starts": torch.from_numpy(starts)},
        )

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

    # --- Its examples ---

    @property
    def examples(self) -> Mapping[str, str]:
        return {
            "a stretch, copied twice": self._text("blacksmith forge", 7),
            "another stretch there": self._text("uncopyrightables", 7),
            "copies at the ends": self._text("blacksmith forge", 0),
            "with repeated letters": self._text("phase transition", 7),
            "words": "the cat sat on the mat; the cat sat on the"[: self.n_ctx - 1],
        }

    def _text(self, words: str, at: int) -> str:
        """Random characters, none of them a lower-case letter, with ``words`` at this position of each interval."""
        words = words[: self.stretch]
        at = min(at, self.interval - len(words))
        others = [character for character in CHARACTERS if not character.islower() and character != " "]
        shuffled = np.random.RandomState(0).permutation(others)
        noise = "".join(shuffled[i % len(shuffled)] for i in range(self.n_ctx - 1))
        intervals = [noise[i : i + self.interval] for i in range(0, len(noise), self.interval)]
        return "".join(part[:at] + words + part[at + len(words) :] for part in intervals)

    def encode(self, text: str) -> Example:
        """As in `Task.encode`. An answer is predicted at each token that has occurred before, if the token after it is
        the one that followed its latest occurrence, or if it is the last token."""
        most = self.n_ctx - 1
        form = f"type up to {most} characters in which something repeats, such as abcd abc."
        check_length(text, form, most)
        if foreign := [character for character in text if character not in TOKEN_OF]:
            raise UserError(f"{quoted(foreign[0])} is no token of this task; use ASCII characters, or letters À to ß.")
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
