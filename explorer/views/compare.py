"""Two runs under one cursor."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explorer.analysis.answers import greedy_answers
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels.curves import Curves
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.panel import Panel
from explorer.film.panels.text import Text
from explorer.film.panels.tokens import Tokens
from explorer.runs import Runs
from explorer.scene import At, choice
from explorer.tasks.data import Example
from explorer.views import panels
from explorer.views.subject import SMOOTHING, Subject
from explorer.views.view import View

ALIGNMENTS: Mapping[str, str] = {"step": "aligned by step", "loss": "aligned by loss"}


def _others(at: At) -> dict[str, str]:
    """The runs in the same folder."""
    return {name: name for name in _runs(at.subject).names() if name != at.subject.name}


def _runs(subject: Subject) -> Runs:
    return Runs(subject.run.folder.parent)


@dataclass(frozen=True)
class Options:
    beside: str | None = choice(
        "Beside it", _others, usual=lambda at: partner(at.subject, _runs(at.subject)), widget="list", width=360
    )
    align: str = choice("Aligned", ALIGNMENTS)


class Compare(View):
    name, title, icon, place = "compare", "Compare", "compare_arrows", (0, 3)
    Options = Options

    def lacks(self, subject: Subject, example: str, options: Options) -> str:
        return "" if options.beside else "There is no second run to compare with. Train one on the page Train."

    def beside(self, options: Options) -> str | None:
        return options.beside

    def film(self, subject: Subject, example: str, options: Options, *beside: Subject) -> Film:
        return film(subject, beside[0], example, options.align)


ENDS = ("", "-beside")  # of the ids of panels of the chosen run, and of the other


def film(subject: Subject, other: Subject, text: str, align: str) -> Film:
    """Losses, answers and attention of a run at each of its snapshots, and of another run where it was then.

    Args:
        text: an example of the first run's task; of the other's as well, or it answers an example of its own.
        align: one of `ALIGNMENTS`. By step, the other run stands at its snapshot nearest to this step; by loss, at the
            first whose loss on unseen data had fallen as far from a uniform guess to the best possible.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    frames = range(len(subject.steps))
    partners = _by_step(subject, other) if align == "step" else _by_loss(subject, other)
    at = np.array([other.steps[i] for i in partners])
    one = subject.task.encode(text)
    both: list[tuple[Subject, Sequence[int], np.ndarray | None, Example]] = [
        (subject, frames, None, one),
        (other, partners, at, _own(other, text)),
    ]
    where = [
        f"{subject.name} at step {step:,}    {other.name} at step {beside:,}"
        for step, beside in zip(subject.steps, at.tolist(), strict=True)
    ]
    found: list[Panel] = [Text("where", f"Both runs, {ALIGNMENTS[align]}", where)]
    if align == "step":
        found.append(_together(subject, other))
    found += [_losses(run, end, stands) for end, (run, _, stands, _) in zip(ENDS, both, strict=True)]
    found += [_answer(run, end, example, rows) for end, (run, rows, _, example) in zip(ENDS, both, strict=True)]
    found += [_attention(run, end, example, rows) for end, (run, rows, _, example) in zip(ENDS, both, strict=True)]
    return Film(subject.steps, found)


def partner(subject: Subject, runs: Runs) -> str | None:
    """The run that this one is likely to be compared with: of the same task, if there is one; None if there is no
    other that can be read."""
    found: dict[str, tuple[bool, bool]] = {}
    for name in runs.names():
        with contextlib.suppress(UserError):
            task = runs.open(name).info().task
            found[name] = (task == subject.task, task.name == subject.task.name)
    found.pop(subject.name, None)
    return max(found, key=found.get, default=None)


def _own(other: Subject, text: str) -> Example:
    """The same example, or the first of the other run's own if it is of another task."""
    try:
        return other.task.encode(text)
    except UserError:
        return other.task.encode(next(iter(other.task.examples.values())))


def _by_step(subject: Subject, other: Subject) -> list[int]:
    there = np.array(other.steps)
    return [int(np.abs(there - step).argmin()) for step in subject.steps]


def _by_loss(subject: Subject, other: Subject) -> list[int]:
    """The first snapshot of ``other`` whose loss had fallen as far; the last where none has."""
    mine, theirs = _lowest(subject), _lowest(other)
    return [min(int((theirs > level).sum()), len(theirs) - 1) for level in mine]


def _lowest(subject: Subject) -> Tensor:
    """The lowest loss on unseen data so far, at each snapshot, from 1 at a uniform guess to 0 at the best."""
    losses = subject.losses()[0]
    share = losses.scaled().nanmean(1).cummin(0).values
    rows = torch.searchsorted(losses.steps, torch.tensor(subject.steps), right=True) - 1
    return share[rows]


def _together(subject: Subject, other: Subject) -> Curves:
    """The overall losses on one axis."""
    lines = []
    for colour, run in enumerate((subject, other)):
        metrics = run.metrics
        steps = torch.arange(len(metrics["train_loss"]))
        finite = "test_loss" in metrics
        if finite:
            test = f"{run.name}, test"
            lines.append(panels.curve(test, metrics["test_step"], metrics["test_loss"], colour, smoothing=SMOOTHING))
        name = f"{run.name}, train" if finite else run.name
        lines.append(panels.curve(name, steps, metrics["train_loss"], colour, finite, smoothing=SMOOTHING))
    return Curves("losses-together", "Loss of both", lines, smoothing=SMOOTHING, height=240)


def _losses(run: Subject, end: str, at: np.ndarray | None) -> Curves:
    noun = run.task.token_noun
    return panels.losses(run, False, span=6, height=240, at=at, title=f"{run.name}: loss by {noun}", id=f"losses{end}")


def _answer(run: Subject, end: str, example: Example, snapshots: Sequence[int]) -> Tokens:
    answers = greedy_answers(run.ensemble, example).at(list(snapshots))
    return panels.answer_strip(run, f"answers{end}", f"Answer of {run.name}", example, answers)


def _attention(run: Subject, end: str, example: Example, snapshots: Sequence[int]) -> Heatmaps:
    patterns = panels.mean_attention(run, example.batch)[list(snapshots)]
    labels = panels.token_labels(run, example)
    title = f"{run.name}: attention patterns{panels.given(example)}"
    return panels.pattern_maps(run, f"patterns{end}", title, patterns, labels, span=6)
