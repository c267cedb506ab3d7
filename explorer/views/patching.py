"""The film of activation patching, and the pairs of examples that can be compared."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from explorer.analysis.patching import logit_difference, patch_heads, patch_positions
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels.curves import Curves
from explorer.film.panels.panel import Panel
from explorer.tasks.data import Example
from explorer.views import panels
from explorer.views.subject import Subject

PATCHED: Mapping[str, str] = {
    "heads": "heads",
    "residual": "residual stream",
    "attention": "attention outputs",
    "mlp": "MLP outputs",
}
HOOKS = {"residual": "hook_resid_pre", "attention": "hook_attn_out", "mlp": "hook_mlp_out"}
MAX_POSITIONS = 32  # that are patched, unless the examples differ at more
MIN_DIFFERENCE = 0.1  # of the largest logit difference over training; restored shares of smaller ones are not shown


def patch_film(subject: Subject, clean_text: str, corrupted_text: str, patched: str, answer: int) -> Film:
    """Activation patching: the share of the logit difference that is restored by activations of the clean example.

    Args:
        subject: the run.
        clean_text: the first example, whose activations are taken.
        corrupted_text: the second example, into whose forward pass they are patched.
        patched: one of `PATCHED`.
        answer: one of `differing_answers`.

    Raises:
        UserError: a text is no example, or the two cannot be compared.
    """
    pair = compared(subject, clean_text, corrupted_text, answer)
    by_head = patched == "heads"
    restored = _restored_by_head(subject, pair) if by_head else _restored_by_position(subject, pair, patched)
    return Film(subject.steps, [panels.timeline(subject), pair.panel(subject), restored])


@dataclass(frozen=True, eq=False)
class Pair:
    """Two examples that are compared at one answer, and how far apart they are.

    Attributes:
        clean, corrupted: the examples, cut off at the answer.
        answer: which of their answers, from 0.
        of: in words, "1 rather than 0, hundreds".
        differences: name of the example -> (snapshot,) the logit difference.
        is_enough: (snapshot,) whether the two differ enough for shares of it to mean something.
    """

    clean: Example
    corrupted: Example
    answer: int
    of: str
    differences: Mapping[str, Tensor]
    is_enough: Tensor

    def panel(self, subject: Subject, span: int = 12) -> Curves:
        """The logit differences over training.

        Args:
            subject: the run.
            span: columns of the page, of 12.
        """
        title = f"Logit difference for {self.of}"
        return panels.over_snapshots(subject, "logit-difference", title, self.differences, "logits", span, height=200)


def compared(subject: Subject, clean_text: str, corrupted_text: str, answer: int) -> Pair:
    """Two examples at one answer.

    Args:
        subject: the run.
        clean_text: the first example.
        corrupted_text: the second example.
        answer: one of `differing_answers`.

    Raises:
        UserError: a text is no example, or the two cannot be compared.
    """
    task = subject.task
    clean, corrupted = task.encode(clean_text), task.encode(corrupted_text)
    if answer not in _differing_answers(clean, corrupted):
        raise UserError(f"Both examples have the same right answer at {clean.places[answer]}; choose another answer.")
    clean, corrupted = (_cut_after(example, answer) for example in (clean, corrupted))
    right = f"{task.answer_tokens[clean.targets[answer]]} rather than {task.answer_tokens[corrupted.targets[answer]]}"
    both = torch.stack([clean.tokens, corrupted.tokens])
    first, second = logit_difference(subject.ensemble, both, clean, corrupted, answer).unbind(1)
    curves = {"clean, first example": first, "corrupted, second example": second}
    distance = (first - second).abs()
    is_enough = distance >= MIN_DIFFERENCE * distance.max()
    return Pair(clean, corrupted, answer, f"{right}, {clean.places[answer]}", curves, is_enough)


def _restored_by_head(subject: Subject, pair: Pair) -> Panel:
    heads, shares = patch_heads(subject.ensemble, pair.clean, pair.corrupted, pair.answer)
    title = "Share of the logit difference restored by patching one head from the first example"
    shares = shares.where(pair.is_enough[:, None], torch.nan)  # (snapshot head)
    curves = dict(zip(heads, shares.unbind(1), strict=True))
    return panels.over_snapshots(subject, "patched-heads", title, curves, unit="share", height=320)


def _restored_by_position(subject: Subject, pair: Pair, patched: str) -> Panel:
    clean, corrupted, n_layers = pair.clean, pair.corrupted, subject.info.model.n_layers
    positions, tokens = _positions(clean, corrupted), panels.token_labels(subject, corrupted)
    hooks = [f"blocks.{layer}.{HOOKS[patched]}" for layer in range(n_layers)]
    shares = torch.stack(
        [patch_positions(subject.ensemble, clean, corrupted, pair.answer, hook, positions) for hook in hooks], 1
    )  # (snapshot layer position)
    shares = shares.where(pair.is_enough[:, None, None], torch.nan)
    title = f"Share of the logit difference restored by patching the {PATCHED[patched]} at one position"
    rows = [f"layer {layer}" for layer in range(n_layers)]
    columns = [f"{tokens[position]} ({position})" for position in positions]
    return panels.signed_maps(
        "patched-positions", title, [""], shares[:, None], rows, columns, "layer", "position", full_colour_at=1
    )


def patched_activations(subject: Subject) -> dict[str, str]:
    """Those of `PATCHED` that the run's model has, as name -> label.

    Args:
        subject: the run.
    """
    cfg = subject.info.model
    lacking: set[str] = set()
    if cfg.architecture == "table":
        lacking = {"residual", "attention", "mlp"}
    elif cfg.attn_only:
        lacking = {"mlp"}
    return {name: label for name, label in PATCHED.items() if name not in lacking}


def corrupted_examples(subject: Subject, text: str) -> dict[str, str]:
    """Examples of the task that can serve as the corrupted one, as name -> text.

    Args:
        subject: the run.
        text: the clean example.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    task, suitable = subject.task, {}
    clean = task.encode(text)
    for name, other in {**task.siblings(clean), **task.examples}.items():
        with contextlib.suppress(UserError):
            _differing_answers(clean, task.encode(other))
            suitable[name] = other
    return suitable


def differing_answers(subject: Subject, clean_text: str, corrupted_text: str) -> dict[int, str]:
    """The answers that differ between two examples.

    Args:
        subject: the run.
        clean_text: the first example.
        corrupted_text: the second example.

    Returns:
        Index of an answer -> label with the right token of each example.

    Raises:
        UserError: a text is no example, or the two cannot be compared.
    """
    task = subject.task
    clean, corrupted = task.encode(clean_text), task.encode(corrupted_text)

    def right(example: Example, answer: int) -> str:
        return task.answer_tokens[int(example.targets[answer])]

    return {
        answer: f"{clean.places[answer]}: {right(clean, answer)} or {right(corrupted, answer)}"
        for answer in _differing_answers(clean, corrupted)
    }


def _differing_answers(clean: Example, corrupted: Example) -> list[int]:
    same_form = len(clean.tokens) == len(corrupted.tokens) and clean.positions.equal(corrupted.positions)
    if not same_form:
        raise UserError(
            "The two examples have their answers at different positions; type a second one of the same form."
        )
    differs = (clean.targets != corrupted.targets).nonzero().flatten().tolist()
    if not differs:
        raise UserError("Both examples have the same right answers; type a second one with a different answer.")
    return differs


def _cut_after(example: Example, answer: int) -> Example:
    """The example cut off at one of its answers, which later tokens cannot influence."""
    n_pos, answers = int(example.positions[answer]) + 1, slice(answer + 1)
    return replace(
        example,
        tokens=example.tokens[:n_pos],
        positions=example.positions[answers],
        targets=example.targets[answers],
        places=example.places[answers],
    )


def _positions(clean: Example, corrupted: Example) -> list[int]:
    """The positions to patch: those with different tokens, and those after the first of them; if too many, the last.

    Before the first different token all activations are equal.
    """
    differ = (clean.tokens != corrupted.tokens).nonzero().flatten().tolist()
    others = [position for position in range(differ[0], len(clean.tokens)) if position not in differ]
    n_others = max(0, MAX_POSITIONS - len(differ))
    return sorted([*differ, *others[max(0, len(others) - n_others) :]])
