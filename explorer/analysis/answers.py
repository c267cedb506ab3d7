"""The answers of a model to one example, at every snapshot.

Axes
    snapshot       snapshots of the run
    answer         the tokens that the example asks for, in reading order
    d_vocab_out    output tokens
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from explorer.model.ensemble import Ensemble, Hooks
from explorer.tasks.data import Example


@dataclass(frozen=True)
class Answers:
    """The answers of every snapshot to one example."""

    probabilities: Float[Tensor, "snapshot answer d_vocab_out"]  # softmax of the logits
    tokens: Int64[Tensor, "snapshot answer"]  # the most probable token
    right: Bool[Tensor, "snapshot answer"]  # whether that is the right token

    @property
    def all_right(self) -> Bool[Tensor, " snapshot"]:
        """Whether a snapshot has every answer right."""
        return self.right.all(-1)


def greedy_answers(ensemble: Ensemble, example: Example, hooks: Hooks | None = None) -> Answers:
    """Greedy decoding: every snapshot continues the prompt with the token it finds most probable.

    Each answer token that is part of the sequence is fed back as the model wrote it, right or wrong.

    Args:
        ensemble: the snapshots.
        example: its prompt is given to the model; its right answers are only compared with.
        hooks: added to every forward pass, as in `Ensemble.passes`.
    """
    tokens = example.tokens[: example.n_prompt].repeat(len(ensemble), 1, 1)  # (snapshot batch=1 pos)
    probabilities: list[Tensor] = []
    logits: Tensor | None = None
    for position in example.positions.tolist():
        if position >= tokens.shape[-1]:
            tokens = torch.cat([tokens, probabilities[-1].argmax(-1)[:, None, None]], -1)  # (snapshot 1 pos+1)
            logits = None
        if logits is None:
            logits, _ = ensemble.run(tokens, hooks=hooks)
        probabilities.append(logits[:, 0, position].softmax(-1))  # (snapshot d_vocab_out)
    return _compare(torch.stack(probabilities, 1), example)


def teacher_forced_answers(ensemble: Ensemble, example: Example) -> Answers:
    """Teacher forcing: every answer is predicted from the prompt and the right answers before it, as in training.

    The training loss of an answer is the negative logarithm of its probability here.

    Args:
        ensemble: the snapshots.
        example: the prompt and its right answers, which are given to the model.
    """
    logits, _ = ensemble.run(example.tokens[None])
    return _compare(logits[:, 0, example.positions].softmax(-1), example)


def _compare(probabilities: Float[Tensor, "snapshot answer d_vocab_out"], example: Example) -> Answers:
    tokens = probabilities.argmax(-1)
    return Answers(probabilities, tokens, tokens == example.targets)


def right_from(right: Bool[Tensor, "snapshot answer"], steps: Iterable[int]) -> list[int | None]:
    """The step from which on each answer is right at every snapshot.

    Args:
        right: whether each answer is right.
        steps: the step of each snapshot, ascending.

    Returns:
        A step for each answer; None where the last snapshot has it wrong.
    """
    steps = list(steps)
    n_right = right.flip(0).long().cumprod(0).sum(0)  # (answer,): how many snapshots in a row are right at the end
    return [steps[len(steps) - n] if n else None for n in n_right.tolist()]
