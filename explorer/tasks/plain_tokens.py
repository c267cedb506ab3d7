"""Models of somebody else's vocabulary: the next token of a text, and of random tokens that are repeated."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from explorer.errors import UserError, quoted
from explorer.settings import TrainingConfig, check_settings, setting
from explorer.tasks.data import Batch, Example, SampledStream, Stream
from explorer.tasks.task import Preset, Reference, Task
from explorer.tasks.tokenizer import Tokenizer, known, remember
from explorer.tasks.typed import check_length

MOST = 64  # tokens of a typed text
LONGEST = 1000  # characters of a typed text
REPEATED = 25  # random tokens, after which they come again
WORDS = {
    "a sentence, twice": "The cat sat on the mat. The cat sat on the mat.",
    "names": "When Mary and John went to the shop, John gave a drink to Mary.",
    "a count": "one two three four five one two three four five",
}


@dataclass(frozen=True)
class PlainTokens(Task):
    """Next-token prediction by a model that was trained elsewhere.

    What is measured on unseen data is measured on random tokens that are repeated once, on which a model with induction
    heads predicts the second half. The source is Olsson et al. 2022.
    """

    vocabulary: int = setting("tokens", 2, 65_536)
    context: int = setting("positions", 2, 65_536)
    tokenizer: str = setting("the SHA-256 of the tokenizer.json beside the run; empty if there is none", default="")

    name: ClassVar[str] = "plain-tokens"
    noun: ClassVar[str] = "text"
    token_noun: ClassVar[str] = "token"
    presets: ClassVar[Mapping[str, Preset]] = {}  # it is not trained here
    takes_tokenizer: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(self)

    @classmethod
    def fitting(cls, model: Mapping[str, Any]) -> list[Task]:
        """As in `Task.fitting`.

        Raises:
            UserError: the model does not predict the tokens that it reads, or nothing tells its longest text.
        """
        d_vocab, d_vocab_out = model["d_vocab"], model["d_vocab_out"]
        if d_vocab != d_vocab_out:
            raise UserError(
                f"This model reads {d_vocab:,} tokens and predicts {d_vocab_out:,} others; a model of plain tokens "
                "predicts those that it reads, so name another task."
            )
        if "n_ctx" not in model:
            raise UserError("The model has no positions, so nothing tells how long a text may be; set n_ctx=N.")
        return [cls(d_vocab, model["n_ctx"])]

    def split_by(self, tokenizer: str) -> Task:
        return dataclasses.replace(self, tokenizer=remember(tokenizer))

    # --- What it looks like ---

    @property
    def title(self) -> str:
        return "next tokens"

    @property
    def tokens(self) -> tuple[str, ...]:
        return self._tokenizer.written(self.vocabulary) if self._tokenizer else _numbers(self.vocabulary)

    @property
    def _tokenizer(self) -> Tokenizer | None:
        return known(self.tokenizer)

    @property
    def answer_tokens(self) -> tuple[str, ...]:
        return self.tokens

    @property
    def n_ctx(self) -> int:
        return self.context

    @property
    def loss_names(self) -> tuple[str, ...]:
        return ("new tokens", "repeated tokens") if self._n_repeated > 1 else ("new tokens",)

    @property
    def references(self) -> tuple[Reference, ...]:
        """A uniform guess, and copying what followed the first time."""
        guess, n = math.log(self.vocabulary), self._n_repeated
        if n < 2:
            return Reference("uniform guess", (guess,)), Reference("optimal", (guess,))
        shares = (n / (2 * n - 1), (n - 1) / (2 * n - 1))
        return Reference("uniform guess", (guess, guess), shares), Reference("optimal", (guess, 0.0), shares)

    # --- Its data ---

    @property
    def _n_repeated(self) -> int:
        return min(self.context // 2, REPEATED)

    def _sample(self, n: int, rng: torch.Generator) -> Batch:
        half = torch.randint(0, self.vocabulary, (n, self._n_repeated), generator=rng)
        tokens = torch.cat([half, half], 1)
        positions = torch.arange(tokens.shape[1] - 1).expand(n, -1)
        return Batch(tokens, positions, tokens[:, 1:])

    def endless_stream(self, batch_size: int, seed: int) -> Stream:
        return SampledStream(self._sample, batch_size, torch.Generator().manual_seed(seed))

    def training_set(self, training: TrainingConfig) -> Batch | None:
        return None

    def test_stream(self, training: TrainingConfig) -> Stream:
        return self.endless_stream(training.test_batch_size, training.seed + 1)

    def per_token(self, losses: Tensor, batch: Batch) -> Tensor:
        """As in `Task.per_token`; the last ``n - 1`` answers can be copied."""
        new, repeated = losses.split([self._n_repeated, self._n_repeated - 1], -1)
        means = [new.mean((-2, -1)), *([repeated.mean((-2, -1))] if self._n_repeated > 1 else [])]
        return torch.stack(means, -1)

    def occurrences(self, batch: Batch) -> Tensor | None:
        """As in `Task.occurrences`: the random tokens, and then the same again."""
        if self._n_repeated < 2:
            return None
        starts = torch.tensor([0, self._n_repeated])[:, None] + torch.arange(self._n_repeated - 1)
        return starts.expand(len(batch.tokens), -1, -1)

    # --- Its examples ---

    @property
    def examples(self) -> Mapping[str, str]:
        if self._tokenizer is None:
            n = min(self.context // 2, 8)
            some = torch.randperm(self.vocabulary, generator=torch.Generator().manual_seed(0))[:n].tolist()
            counted = [i % self.vocabulary for i in range(min(self.context, 12))]
            return {"random tokens, twice": _typed(some * 2), "a count": _typed(counted)}
        fitting = {name: self._fitting(text) for name, text in WORDS.items()}
        return {name: text for name, text in fitting.items() if text} or {"one token, twice": "a a"}

    def _fitting(self, text: str) -> str:
        """The longest beginning of a text, in words, that is an example; "" if none is."""
        words = text.split(" ")
        while words:
            try:
                return self.encode(" ".join(words)).text
            except UserError:
                words.pop()
        return ""

    def encode(self, text: str) -> Example:
        """As in `Task.encode`. The next token is predicted at every token but the last."""
        most = min(self.context, MOST)
        what = "a text" if self._tokenizer else f"token ids from 0 to {self.vocabulary - 1:,}, such as 3 1 4 3 1 4,"
        form = f"type {what} of 2 to {most} tokens."
        check_length(text, form, LONGEST)
        tokens = self._tokenizer.ids(text) if self._tokenizer else _ids(text, form)
        if not 2 <= len(tokens) <= most:
            raise UserError(f"That {'is one token' if len(tokens) == 1 else f'are {len(tokens):,} tokens'}; {form}")
        if foreign := [token for token in tokens if token >= self.vocabulary]:
            raise UserError(f"The token {foreign[0]:,} is none of this model, which has {self.vocabulary:,}; {form}")
        written = self.tokens
        return Example(
            text,
            torch.tensor(tokens),
            len(tokens),
            torch.arange(len(tokens) - 1),
            torch.tensor(tokens[1:]),
            tuple(f"after {written[token]} ({position})" for position, token in enumerate(tokens[:-1])),
        )

    def written(self, example: Example, answer: Sequence[int]) -> str:
        """One line for each token: what follows, and what the model predicts instead where it does."""
        tokens = self.tokens
        lines = []
        for token, right, said in zip(example.tokens.tolist(), example.targets.tolist(), answer, strict=False):
            instead = "" if said == right else f"   not {tokens[said]}"
            lines.append(f"{tokens[token]} → {tokens[right]}{instead}")
        return "\n".join(lines)


@functools.lru_cache(maxsize=16)
def _numbers(n: int) -> tuple[str, ...]:
    return tuple(map(str, range(n)))


def _typed(tokens: Sequence[int]) -> str:
    return " ".join(map(str, tokens))


def _ids(text: str, form: str) -> list[int]:
    parts = [part for part in re.split(r"[\s,]+", text) if part]
    for part in parts:
        if not re.fullmatch(r"[0-9]{1,6}", part):
            raise UserError(f"{quoted(part)} is no token id; {form}")
    return [int(part) for part in parts]
