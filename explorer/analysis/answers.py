"""What a model answers to one example, at every snapshot.

Axes: snapshot · answer (the places asked for, in reading order) · d_vocab_out
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.model.ensemble import Ensemble, Hooks
from explorer.tasks.data import Example


@dataclass(frozen=True)
class Answers:
    """The answers of every snapshot to one example."""

    probabilities: Tensor  # (snapshot answer d_vocab_out) float32, each row sums to 1
    tokens: Tensor  # (snapshot answer) int64, the most probable
    right: Tensor  # (snapshot answer) bool

    @property
    def all_right(self) -> Tensor:
        """(snapshot,) bool."""
        return self.right.all(-1)

    def at(self, snapshots: list[int]) -> "Answers":
        """Those of some snapshots, any of which may come again."""
        return Answers(self.probabilities[snapshots], self.tokens[snapshots], self.right[snapshots])


def greedy_answers(ensemble: Ensemble, example: Example, hooks: Hooks | None = None) -> Answers:
    """Let every snapshot answer the prompt by itself, the most probable token each time.

    An answer that stands in the sequence after the prompt is read by the model as it wrote it, right or wrong, so
    no snapshot is helped by the right answer. ``hooks`` are put on every pass, as in `Ensemble.passes`.
    """
    tokens = example.tokens[: example.n_prompt].repeat(len(ensemble), 1, 1)  # (snapshot batch=1 pos)
    probabilities: list[Tensor] = []
    logits = None
    for position in example.positions.tolist():
        if position >= tokens.shape[-1]:
            tokens = torch.cat([tokens, probabilities[-1].argmax(-1)[:, None, None]], -1)
            logits = None
        if logits is None:
            logits, _ = ensemble.run(tokens, hooks=hooks)
        probabilities.append(logits[:, 0, position].softmax(-1))
    return _answers(torch.stack(probabilities, 1), example)


def teacher_forced_answers(ensemble: Ensemble, example: Example) -> Answers:
    """Ask for each answer with the right ones before it given, as in training: its loss is -log probability."""
    logits, _ = ensemble.run(example.tokens[None])
    return _answers(logits[:, 0, example.positions].softmax(-1), example)


def _answers(probabilities: Tensor, example: Example) -> Answers:
    tokens = probabilities.argmax(-1)
    return Answers(probabilities, tokens, tokens == example.targets)


def right_from(right: Tensor, steps: Iterable[int]) -> list[int | None]:
    """From which snapshot on each answer is right and stays right.

    Args:
        right: (snapshot answer) bool.
        steps: of the snapshots.

    Returns:
        A step for each answer; None where the last snapshot has it wrong.
    """
    steps = list(steps)
    stays = right.flip(0).long().cumprod(0).sum(0)  # (answer,): how many snapshots at the end are right
    return [steps[len(steps) - n] if n else None for n in stays.tolist()]
