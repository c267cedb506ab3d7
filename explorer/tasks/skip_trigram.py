"""Skip trigrams: one letter anywhere in a text determines the answer after its end.

A row is 42 tokens: begin, 40 letters, end. One of the letters is a trigger, A-J; the others are fillers, a-j, which do
not matter. At the end token the answer of the trigger is predicted: ``A ... = 0``, ``B ... = 1`` and so on::

    ^ h b g j C a i e d ... f =        tokens: ^ is 0, = is 1, a-j are 2-11, A-J are 12-21
                              ^        at "=" the answer is predicted: 2, which belongs to C

The numbers of triggers, up to A-Z, and of letters are settings; these are the defaults. Each pair of a trigger and its
answer is a trigram that is learned separately. The smallest model that can learn it is a table: one attention score and
one row of logits for each token (`explorer.model.table`).
"""

import itertools
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.errors import UserError, quoted
from explorer.settings import TrainingConfig, check_settings, setting
from explorer.tasks.data import Batch, Classes, Example, SampledStream, Stream
from explorer.tasks.task import Measure, Preset, Reference, Task
from explorer.tasks.typed import check_length

BEGIN, END, FILLERS, TRIGGERS = 0, 1, 2, 12  # the first token of each kind
SYMBOLS = "^=abcdefghij" + string.ascii_uppercase  # the last of them are no tokens where there are fewer triggers
PATTERN = "blocks.0.attn.hook_pattern"
LETTERS = 4 * "hbgjcaiedfjgbhaecdifhajbgdceifbjhgadecif"  # fillers for named examples
MODEL = {"n_layers": 1, "d_model": 32, "n_heads": 1, "d_head": 8, "attn_only": True}
TABLE = {"n_layers": 1, "n_heads": 1, "architecture": "table"}


@dataclass(frozen=True)
class SkipTrigram(Task):
    """Skip trigrams."""

    # With 16 letters there are more than 10^16 texts, so that drawn ones differ.
    n_triggers: int = setting("triggers, and as many answers", 2, 26, default=10, label="Triggers")
    n_letters: int = setting("letters of a text, one of them the trigger", 16, 160, default=40)

    name: ClassVar[str] = "skip-trigram"
    noun: ClassVar[str] = "text"
    token_noun: ClassVar[str] = "trigram"
    watched_gradients: ClassVar[tuple[str, ...]] = (PATTERN,)
    presets: ClassVar[Mapping[str, Preset]] = {
        "quick": Preset(
            about="One head learns ten trigrams at nearly the same moment.",
            model=MODEL,
            training=TrainingConfig(
                steps=1000,
                batch_size=256,
                test_batch_size=256,
                seed=6798,
                snapshot_moved=0.12,
                snapshot_share=0.025,
                snapshot_dtype="float16",
            ),
        ),
        "quick-finite": Preset(
            about="100 texts: on unseen ones it learns a little later, and never quite as well.",
            model=MODEL,
            training=TrainingConfig(
                steps=1000,
                finite=100,
                test_batch_size=256,
                seed=6798,
                snapshot_moved=0.12,
                snapshot_share=0.025,
                snapshot_dtype="float16",
            ),
        ),
        "table": Preset(
            about="Attention reduced to a table: one score and one row of logits for each token.",
            model=TABLE,
            training=TrainingConfig(
                steps=1000,
                batch_size=256,
                test_batch_size=256,
                seed=6798,
                lr=1e-2,
                weight_decay=0.0,
                snapshot_moved=0.12,
                snapshot_share=0.025,
            ),
        ),
        "notebook-table": Preset(
            about="The table with the notebook's learning rate and weight decay, at which it learns slowly.",
            model=TABLE,
            training=TrainingConfig(
                steps=3000,
                batch_size=256,
                test_batch_size=256,
                seed=6798,
                snapshot_moved=0.12,
                snapshot_share=0.025,
            ),
        ),
        "notebook": Preset(
            about="The run of the original notebook: 3,000 steps, a snapshot every 100.",
            model=MODEL,
            training=TrainingConfig(steps=3000, batch_size=256, test_batch_size=256, seed=6798, snapshot_every=100),
        ),
        "notebook-finite": Preset(
            about="The notebook's 100 texts: a snapshot every 5 steps.",
            model=MODEL,
            training=TrainingConfig(steps=3000, finite=100, test_batch_size=256, seed=6798, snapshot_every=5),
        ),
    }

    def __post_init__(self) -> None:
        check_settings(self)

    # --- What it looks like ---

    @property
    def title(self) -> str:
        return "skip trigrams"

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(SYMBOLS[: TRIGGERS + self.n_triggers])

    @property
    def answer_tokens(self) -> tuple[str, ...]:
        return tuple(str(i) for i in range(self.n_triggers))

    @property
    def triggers(self) -> tuple[str, ...]:
        """The letter of each trigger."""
        return self.tokens[TRIGGERS:]

    @property
    def answered_inputs(self) -> tuple[int, ...]:
        """The triggers."""
        return tuple(range(TRIGGERS, TRIGGERS + self.n_triggers))

    @property
    def n_ctx(self) -> int:
        return self.n_letters + 2

    @property
    def loss_names(self) -> tuple[str, ...]:
        return tuple(f"{trigger} → {i}" for i, trigger in enumerate(self.triggers))

    @property
    def references(self) -> tuple[Reference, ...]:
        return (
            Reference("uniform guess", (math.log(self.n_triggers),) * self.n_triggers),
            Reference("perfect", (0.0,) * self.n_triggers),
        )

    # --- Its data ---

    def sample(self, n: int, rng: torch.Generator, trigram: int | None = None) -> Batch:
        """Random texts with one trigger each.

        Args:
            n: texts.
            rng: the generator that draws them.
            trigram: of all texts; None draws one for each text, uniformly.

        Returns:
            The batch. ``extra["trigger"]``, (batch,) int64, holds the position of each text's trigger.
        """
        letters, answers = self._drawn(n, rng)
        if trigram is not None:
            answers = torch.full_like(answers, trigram)
        trigger = torch.randint(1, self.n_letters + 1, (n,), generator=rng)
        return self._batch(self._with_triggers(letters, answers, trigger), answers, trigger)

    def _drawn(self, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Fillers for ``n`` texts, (batch letter), and their answers, (batch,)."""
        letters = torch.randint(FILLERS, TRIGGERS, (n, self.n_letters), generator=rng)
        return letters, torch.randint(0, self.n_triggers, (n,), generator=rng)

    def _with_triggers(self, letters: Tensor, answers: Tensor, trigger: Tensor) -> Tensor:
        return letters.scatter(1, trigger[:, None] - 1, TRIGGERS + answers[:, None])

    def _batch(self, letters: Tensor, answers: Tensor, trigger: Tensor) -> Batch:
        begin, end = (letters.new_full((len(letters), 1), token) for token in (BEGIN, END))
        tokens = torch.cat([begin, letters, end], 1)  # (batch pos)
        return Batch(tokens, torch.full_like(end, self.n_letters + 1), answers[:, None], {"trigger": trigger})

    def endless_stream(self, batch_size: int, seed: int) -> Stream:
        return SampledStream(self.sample, batch_size, torch.Generator().manual_seed(seed))

    def training_set(self, training: TrainingConfig) -> Batch | None:
        if not training.finite:
            return None
        return self.sample(training.finite, torch.Generator().manual_seed(training.seed))

    def test_stream(self, training: TrainingConfig) -> Stream:
        """Freshly drawn texts. None is in the training data: there are too many texts to draw one twice."""
        return self.endless_stream(training.test_batch_size, training.seed + 1)

    def per_token(self, losses: Tensor, batch: Batch) -> Tensor:
        """As in `Task.per_token`: the mean over the texts of each trigram."""
        texts = (batch.targets == torch.arange(self.n_triggers, device=losses.device)).to(losses.dtype)  # (batch token)
        return (losses.mT @ texts / texts.sum(-2, keepdim=True))[..., 0, :]

    @property
    def measures(self) -> Mapping[str, Measure]:
        gradient = Measure("Gradient of each text's loss at its attention to the trigger", "nats", self.loss_names)
        return {**super().measures, "attention_gradient": gradient}

    def measure(self, logits: Tensor, batch: Batch, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As in `Task.measure`: accuracy, and ``attention_gradient``, the gradient of each text's own loss at the
        attention pattern of head 0, from the end to the trigger, averaged over the texts of each trigram. The
        original notebook has the gradient of the batch's mean loss: this one, divided by the size of the batch."""
        measured = super().measure(logits, batch, gradients)
        if gradients:
            last = gradients[PATTERN][..., 0, -1, :]  # (... batch key)
            at_trigger = last.gather(-1, batch.extra["trigger"][..., None])  # (... batch 1)
            measured["attention_gradient"] = self.per_token(last.shape[-2] * at_trigger.double(), batch)
        return measured

    # --- What is measured on it ---

    def classes(self, n: int, seed: int) -> Mapping[str, Classes]:
        return {"place": self._by_place(n, seed), "trigger": self._by_trigger(n, seed)}

    def _by_trigger(self, n: int, seed: int) -> Classes:
        """Texts of each trigger."""
        rng = torch.Generator().manual_seed(seed)
        labels = torch.arange(self.n_triggers).repeat_interleave(n)
        letters, _ = self._drawn(len(labels), rng)
        place = torch.randint(1, self.n_letters + 1, labels.shape, generator=rng)
        batch = self._batch(self._with_triggers(letters, labels, place), labels, place)
        return Classes(self.loss_names, tuple(f"the trigger is {one}" for one in self.triggers), batch, labels)

    def _by_place(self, n: int, seed: int) -> Classes:
        """Texts whose trigger is in the first, second and last third of their letters."""
        rng, names = torch.Generator().manual_seed(seed), ("early", "middle", "late")
        letters, answers = self._drawn(3 * n, rng)
        ends = [0, *(self.n_letters * third // 3 for third in (1, 2, 3))]
        thirds = list(itertools.pairwise(ends))
        trigger = torch.cat([torch.randint(start + 1, end + 1, (n,), generator=rng) for start, end in thirds])
        batch = self._batch(self._with_triggers(letters, answers, trigger), answers, trigger)
        about = tuple(f"the trigger is one of letters {start + 1} to {end}" for start, end in thirds)
        return Classes(names, about, batch, torch.arange(3).repeat_interleave(n))

    # --- Its examples ---

    @property
    def examples(self) -> Mapping[str, str]:
        middle, first = self.n_letters // 2, "B"
        others = (trigger for trigger in self.triggers if trigger != first)
        return {
            f"{first} in the middle": self._with_trigger(first, middle),
            f"{first} at the beginning": self._with_trigger(first, 1),
            f"{first} at the end": self._with_trigger(first, self.n_letters),
            **{f"{trigger} in the middle": self._with_trigger(trigger, middle) for trigger in others},
        }

    def _with_trigger(self, trigger: str, place: int) -> str:
        """A text with the trigger at this position, counted from 1."""
        return LETTERS[: place - 1] + trigger + LETTERS[place : self.n_letters]

    def encode(self, text: str) -> Example:
        form = (
            f"type up to {self.n_letters} letters with one trigger, A to {self.triggers[-1]}, among fillers, a to j, "
            f"such as {LETTERS[:6]}B{LETTERS[6:9]}."
        )
        check_length(text, form)
        letters = "".join(text.split()).removeprefix("^")
        letters, _equals, typed = letters.partition("=")
        if not letters:
            raise UserError(f"Nothing was typed; {form}")
        if foreign := [letter for letter in letters if letter not in self.tokens[FILLERS:]]:
            raise UserError(f"{quoted(foreign[0])} is not a letter of this task; {form}")
        if len(letters) > self.n_letters:
            raise UserError(f"{quoted(letters)} has {len(letters)} letters; {form}")
        triggers = [i for i, letter in enumerate(letters) if letter.isupper()]
        if len(triggers) != 1:
            raise UserError(f"{quoted(letters)} has {len(triggers) or 'no'} triggers; {form}")
        notes = []
        if len(letters) < self.n_letters:
            notes.append(f"Filled up with fillers to {self.n_letters} letters, as in training.")
        full = letters + LETTERS[len(letters) : self.n_letters]
        tokens = torch.tensor([[SYMBOLS.index(letter) for letter in full]])
        answer = tokens[:, triggers[0]] - TRIGGERS
        batch = self._batch(tokens, answer, torch.tensor([triggers[0] + 1]))
        right = int(answer)
        if typed:
            verdict = "right" if typed == str(right) else "wrong"
            notes.append(f"The typed answer {quoted(typed)} is {verdict}: {letters[triggers[0]]} goes with {right}.")
        return Example(
            letters,
            batch.tokens[0],
            self.n_ctx,
            batch.positions[0],
            batch.targets[0],
            (self.loss_names[right],),
            " ".join(notes),
        )

    def written(self, example: Example, answer: Sequence[int]) -> str:
        text = "".join(SYMBOLS[token] for token in example.tokens[1:-1].tolist())
        (place,) = [i for i, letter in enumerate(text) if letter.isupper()]
        (right,), (said,) = example.targets.tolist(), answer
        half = self.n_letters // 2
        lines = []
        for start, end in ((0, half), (half, self.n_letters)):
            lines.append(text[start:end])
            if start <= place < end:
                lines.append(" " * (place - start) + "↑")
        verdict = "right" if said == right else f"wrong, {text[place]} goes with {right}"
        return "\n".join([*lines, "", f"{text[place]} … = {right}", f"model: {said}  {verdict}"])

    def siblings(self, example: Example) -> Mapping[str, str]:
        """The same trigger at other positions, and another trigger at the same position."""
        text = "".join(SYMBOLS[token] for token in example.tokens[1:-1].tolist())
        (place,) = [i for i, letter in enumerate(text) if letter.isupper()]
        trigger = text[place]
        without = text[:place] + LETTERS[place] + text[place + 1 :]
        following = self.triggers[(self.triggers.index(trigger) + 1) % self.n_triggers]
        variations = {
            f"{trigger} first": trigger + without[1:],
            f"{trigger} last": without[:-1] + trigger,
            f"{following} instead of {trigger}": text[:place] + following + text[place + 1 :],
        }
        return {label: sibling for label, sibling in variations.items() if sibling != example.text}
