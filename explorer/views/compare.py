"""Two runs on one timeline."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from explorer.analysis.answers import greedy_answers
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels.curves import Curves
from explorer.film.panels.panel import GAP, Panel
from explorer.film.panels.text import Text
from explorer.options import Context, choice
from explorer.runs import Runs
from explorer.tasks.data import Example
from explorer.views import panels
from explorer.views.subject import SMOOTHING, Subject
from explorer.views.view import View

ALIGNMENTS: Mapping[str, str] = {"step": "aligned by step", "loss": "aligned by loss"}
NO_SECOND_RUN = "There is no second run to compare with. Train one on the page Train."


def _others(context: Context) -> dict[str, str]:
    """The runs in the same folder."""
    return {name: name for name in _runs(context.subject).names() if name != context.subject.name}


def _runs(subject: Subject) -> Runs:
    return subject.among


@dataclass(frozen=True)
class Options:
    beside: str | None = choice(
        "Second run",
        _others,
        preferred=lambda context: default_partner(context.subject, _runs(context.subject)),
        widget="list",
        width=360,
    )
    align: str = choice("Align", ALIGNMENTS)


class Compare(View[Options]):
    name, title, icon, order = "compare", "Compare", "compare_arrows", 10
    heading = "How do two runs differ?"
    sentence = "Two runs beside each other, at the same step or at the same loss."
    options_type = Options

    def unavailable(self, subject: Subject, example: str, options: Options) -> str:
        return "" if options.beside else NO_SECOND_RUN

    def second_run(self, options: Options) -> str | None:
        return options.beside

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        if second is None:
            raise UserError(NO_SECOND_RUN)
        return film(subject, second, example, options.align)


def film(subject: Subject, other: Subject, text: str, align: str) -> Film:
    """Losses, answers and attention patterns of two runs. Each snapshot of the first is paired with one of the second.

    Either may be a gap, so that only one run has values in a frame.

    Args:
        subject: the first run, whose snapshots are the frames of the film.
        other: the second run.
        text: an example of the first run's task. The second run uses it too if it is valid there, otherwise the first
            example of its own task.
        align: "step" pairs a snapshot with the nearest in step; "loss" with the first at which the remaining share of
            the loss (of the test loss, if recorded) is as small.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    paired = _by_step(subject, other) if align == "step" else _by_loss(subject, other)
    both = (
        _Side(subject, "", subject.frames, subject.frames, subject.task.encode(text)),
        _Side(other, "-beside", subject.frames, paired, _example_for(other, text)),
    )
    captions = [
        "    ".join(f"{side.run.name} at {side.named(frame)}" for side in both) for frame in range(len(subject.frames))
    ]
    shown: list[Panel] = [Text("where", f"Both runs, {ALIGNMENTS[align]}", captions)]
    if align == "step":
        shown.append(_losses_of_both(subject, other))
    shown += [draw(side) for draw in (_losses, _answer, _attention) for side in both]
    return Film(subject.frames, shown)


def default_partner(subject: Subject, runs: Runs) -> str | None:
    """The run that is offered for comparison: one with the same task and settings, else the same task, else any other.

    Args:
        subject: the first run.
        runs: the folder of runs.

    Returns:
        Its name; None if no other run can be read.
    """
    likeness: dict[str, tuple[bool, bool]] = {}
    for name in runs.names():
        with contextlib.suppress(UserError):
            task = runs.open(name).info().task
            likeness[name] = (task == subject.task, task.name == subject.task.name)
    likeness.pop(subject.name, None)
    return max(likeness, key=likeness.__getitem__, default=None)


def _example_for(subject: Subject, text: str) -> Example:
    """The example, if it is one of the run's task; otherwise the first example of the task."""
    try:
        return subject.task.encode(text)
    except UserError:
        return subject.task.encode(subject.first_example)


def _by_step(subject: Subject, other: Subject) -> list[int]:
    """For each snapshot, the step of the snapshot of ``other`` nearest in step."""
    return [min(other.frames, key=lambda there: abs(there - step)) for step in subject.frames]


def _by_loss(subject: Subject, other: Subject) -> list[int]:
    """For each snapshot, the step of the first snapshot of ``other`` with no larger remaining share of the loss; of the
    last if there is none."""
    shares, other_shares = _smallest_share(subject), _smallest_share(other)
    return [other.frames[min(int((other_shares > share).sum()), len(other_shares) - 1)] for share in shares]


def _smallest_share(subject: Subject) -> Tensor:
    """The smallest remaining share of the loss up to each snapshot, (snapshot,): of the test loss, if recorded."""
    losses = subject.losses()[0]
    share = losses.remaining_share().nanmean(1).cummin(0).values
    rows = torch.searchsorted(losses.steps, torch.tensor(subject.frames), right=True) - 1
    return share[rows]


def _losses_of_both(subject: Subject, other: Subject) -> Curves:
    """The mean losses of both runs on one axis."""
    lines = []
    for colour, run in enumerate((subject, other)):
        metrics = run.metrics
        steps = torch.arange(len(metrics["train_loss"]))
        finite = "test_loss" in metrics
        if finite:
            test = f"{run.name}, test"
            lines.append(panels.curve(test, metrics["test_step"], metrics["test_loss"], colour, smoothing=SMOOTHING))
            if run.info.origin:  # was not trained here
                continue
        name = f"{run.name}, train" if finite else run.name
        lines.append(panels.curve(name, steps, metrics["train_loss"], colour, finite, smoothing=SMOOTHING))
    return Curves("losses-together", "Loss of both runs", lines, smoothing=SMOOTHING, height=240)


@dataclass(frozen=True)
class _Side:
    """One of the two runs."""

    run: Subject
    suffix: str  # of the ids of its panels
    frames: Sequence[int]  # the steps of the film
    shown: Sequence[int]  # the step of this run that each frame shows
    example: Example

    def named(self, frame: int) -> str:
        """The step that a frame shows, in words."""
        step = self.shown[frame]
        return f"step {step:,} ({GAP})" if step in self.run.gaps else f"step {step:,}"

    def paired(self, panel: Panel) -> Panel:
        """A panel of this run's snapshots, in the frames of the film."""
        place = {step: i for i, step in enumerate(self.run.steps)}
        return panel.framed(np.array([place.get(step, -1) for step in self.shown]), self.frames)


def _losses(side: _Side) -> Panel:
    run = side.run
    title = f"{run.name}: loss by {run.task.token_noun}"
    at = None if side.shown == side.frames else np.array(side.shown)
    losses = panels.losses(run, False, span=6, height=240, at=at, title=title, id=f"losses{side.suffix}")
    return replace(losses, axes="losses")


def _answer(side: _Side) -> Panel:
    answers = greedy_answers(side.run.ensemble, side.example)
    title = f"Answer of {side.run.name}"
    return side.paired(panels.answer_strip(side.run, f"answers{side.suffix}", title, side.example, answers))


def _attention(side: _Side) -> Panel:
    patterns = panels.mean_attention(side.run, side.example.batch)
    labels = panels.token_labels(side.run, side.example)
    title = f"{side.run.name}: attention patterns{panels.given(side.example)}"
    return side.paired(panels.pattern_maps(side.run, f"patterns{side.suffix}", title, patterns, labels, span=6))
