"""The losses of every token, where they fall, and what they mean for one example."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from explorer.analysis.answers import teacher_forced_answers
from explorer.analysis.phases import smooth_both_ways
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels.raster import Raster
from explorer.scene import choice
from explorer.views import panels
from explorer.views.subject import SMOOTHING, Losses, Subject, per_row
from explorer.views.view import Item, Note, Table, View, named

SMOOTHINGS = (0.0, 0.5, 0.8, SMOOTHING, 0.95, 0.98, 0.99)
MOST_POINTS = 1500  # of each row of the seismograph, more than a screen has pixels
EACH_CLASS = 512  # examples of each kind, fewer where they are long


@dataclass(frozen=True)
class Options:
    show: str = choice(
        "Show",
        lambda at: (
            {"losses": "losses"} | ({"kinds": f"by kind of {at.subject.task.noun}"} if has_classes(at.subject) else {})
        ),
    )
    smoothing: float = choice(
        "Smoothing of losses",
        named(SMOOTHINGS),
        usual=lambda at: SMOOTHING,
        widget="slider",
        width=360,
        labelled=True,
        when=lambda at: at.chosen["show"] == "losses",
        help="The factor per step of an exponential average that runs forwards and then backwards. Onsets are those of "
        "the smoothed losses.",
    )


class PhaseChanges(View):
    name, title, icon, place = "phase-changes", "Phase changes", "show_chart", (0, 1)
    Options = Options

    def asks_example(self, options: Options) -> bool:
        return options.show == "losses"

    def film(self, subject: Subject, example: str, options: Options, *beside: Subject) -> Film:
        return class_film(subject) if options.show == "kinds" else film(subject, example, options.smoothing)

    def below(self, subject: Subject, example: str, options: Options) -> Sequence[Item]:
        return _table(subject, phases(subject, options.smoothing)) if options.show == "losses" else ()


@dataclass(frozen=True)
class Phase:
    """The phase change of one loss, in steps; None where there is none."""

    name: str
    onset: int | None
    steepest: int | None
    begins: int | None
    ends: int | None
    last: float  # nats, the smoothed loss in the end

    @property
    def width(self) -> int | None:
        return None if self.begins is None or self.ends is None else self.ends - self.begins


def film(subject: Subject, text: str, smoothing: float = SMOOTHING) -> Film:
    """All losses as the timeline, train and test; beside it each answer's probabilities, right ones before given;
    below it all of them as a seismograph.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    example = subject.task.encode(text)
    answers = teacher_forced_answers(subject.ensemble, example)
    title = f"Probabilities for {panels.brief(example.text)}{panels.given(example)}"
    return Film(
        subject.steps,
        [
            panels.losses(subject, span=7, height=440, smoothing=smoothing),
            panels.answer_bars(subject, "probabilities", title, example, answers, span=5),
            seismograph(subject, smoothing),
            *panels.measures(subject),
        ],
    )


def phases(subject: Subject, smoothing: float = SMOOTHING) -> tuple[Phase, ...]:
    """The phase change of every loss, on unseen and on training data, the earliest onset first."""
    found = []
    for losses in subject.losses():
        last = smooth_both_ways(losses.values, per_row(smoothing, losses.steps))[-1]
        for token, fall in enumerate(losses.falls(smoothing)):
            steps = (_step(losses, row) for row in (fall.onset, fall.steepest, fall.begins, fall.ends))
            found.append(Phase(losses.label(token), *steps, float(last[token])))
    return tuple(sorted(found, key=lambda phase: math.inf if phase.onset is None else phase.onset))


def seismograph(subject: Subject, smoothing: float = SMOOTHING) -> Raster:
    """Every loss as a row over the steps, scaled from the best possible to a uniform guess, by their onsets."""
    rows: list[tuple[float, str, Losses, int]] = []
    measured = subject.losses()
    for losses in measured:
        for token, fall in enumerate(losses.falls(smoothing)):
            step = _step(losses, fall.onset)
            rows.append((math.inf if step is None else step, losses.label(token), losses, token))
    rows.sort(key=lambda row: row[0])
    end = max(int(losses.steps[-1]) for losses in measured)
    steps = np.unique(np.linspace(0, end, min(MOST_POINTS, end + 1)).round().astype(int))
    shares = {losses.kind: losses.scaled(smoothing).numpy() for losses in measured}
    values = []
    for _, _, losses, token in rows:
        at = np.searchsorted(losses.steps.numpy(), steps, side="right") - 1  # measured last before
        values.append(shares[losses.kind][at, token])
    onsets = np.array([row[0] for row in rows])
    return Raster(
        "seismograph",
        "Seismograph: what is left of each loss, from a uniform guess (1) to the best possible (0), by onset",
        [label for _, label, _, _ in rows],
        steps,
        np.stack(values),
        low=0.0,
        high=1.0,
        unit="left",
        onsets=np.where(np.isfinite(onsets), onsets, np.nan),
    )


def class_film(subject: Subject) -> Film:
    """Loss and share of right answers of each kind of unseen example, over training.

    Raises:
        UserError: the task tells no kinds apart, or all examples of a kind are learnt.
    """
    task, training, found = subject.task, subject.info.training, []
    classes = task.classes(EACH_CLASS, training.seed + 1)
    if classes is None:
        raise UserError(f"{task.title.capitalize()} tells no kinds of {task.noun} apart.")
    learnt, n = task.learnt(classes.batch, training), len(classes.names)
    new = torch.ones(len(classes.labels), dtype=torch.bool) if learnt is None else ~learnt
    each = subject.fitting(classes.batch.tokens.shape[1]) // n
    rows = [(new & (classes.labels == label)).nonzero()[:, 0] for label in range(n)]
    each = min(each, *(len(own) for own in rows))
    if not each:
        raise UserError(f"Of some kind every {task.noun} is learnt, so nothing can be measured on unseen ones.")
    batch = classes.batch.rows(torch.cat([own[:each] for own in rows]))
    for logits, _ in subject.ensemble.passes(batch.tokens):
        asked = batch.asked(logits)
        right = (asked.argmax(-1) == batch.targets).all(-1)  # (snapshot batch)
        found.append(torch.stack([task.losses(asked, batch).mean(-1), right.double()]))
    loss, right = torch.cat(found, 1)
    members = [slice(label * each, (label + 1) * each) for label in range(n)]
    names = [f"{name}: {about}" if about else name for name, about in zip(classes.names, classes.about, strict=True)]
    return Film(
        subject.steps,
        [
            panels.timeline(subject),
            panels.over_snapshots(
                subject,
                "loss-by-kind",
                f"Loss, mean over {each} unseen {task.noun}s of each kind",
                {name: loss[:, own].mean(1) for name, own in zip(names, members, strict=True)},
                unit="nats",
            ),
            panels.over_snapshots(
                subject,
                "right-by-kind",
                f"Share of these {task.noun}s with every answer right",
                {name: right[:, own].mean(1) for name, own in zip(names, members, strict=True)},
                unit="share",
            ),
        ],
    )


def _table(subject: Subject, found: tuple[Phase, ...]) -> list[Item]:
    steps = {
        "onset": [phase.onset for phase in found],
        "steepest": [phase.steepest for phase in found],
        "begins": [phase.begins for phase in found],
        "ends": [phase.ends for phase in found],
        "width": [phase.width for phase in found],
    }
    last = "loss at the end"
    items: list[Item] = [
        Note("Phase changes", is_heading=True),
        Note(
            "Onset: the first step from which a loss stays below the middle between a uniform guess and the best "
            "possible loss. Width: the steps between a tenth and nine tenths of that distance. An empty cell: the loss "
            "never was so high, or never gets so low. Click a heading to sort.",
            is_quiet=True,
        ),
        Table(
            {
                subject.task.token_noun: [phase.name for phase in found],
                **steps,
                last: [phase.last for phase in found],
            },
            steps=list(steps),
            help={**dict.fromkeys(steps, "step"), last: "nats, smoothed"},
        ),
    ]
    if all(phase.onset is None for phase in found):
        items.append(Note("No loss falls below that middle and stays there."))
    return items


def _step(losses: Losses, row: int | None) -> int | None:
    return None if row is None else int(losses.steps[row])


def has_classes(subject: Subject) -> bool:
    """Whether the task tells kinds of examples apart."""
    return subject.task.classes(1, 0) is not None
