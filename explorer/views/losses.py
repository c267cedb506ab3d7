"""Per-token losses, their phase changes, and the answers to one example."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.analysis.answers import teacher_forced_answers
from explorer.analysis.phases import SPIKE, deepest, resolution, spacing
from explorer.analysis.smoothing import spread
from explorer.film.film import Film
from explorer.film.panels.raster import Raster
from explorer.options import choice
from explorer.views import looking, panels, training_examples
from explorer.views.classes import class_films, has_classes
from explorer.views.sampling import SampledView, only
from explorer.views.subject import SMOOTHING, Subject, beta_per_row
from explorer.views.view import Item, Note, Table, same_labels

SMOOTHINGS = (0.0, 0.5, 0.8, SMOOTHING, 0.95, 0.98, 0.99)
MAX_POINTS = 1500  # of each row of the seismograph, more than a screen has pixels


@dataclass(frozen=True)
class Options:
    show: str = choice(
        "Show",
        lambda context: (
            {"losses": "losses"}
            | ({"kinds": f"by class of {context.subject.task.noun}"} if has_classes(context.subject) else {})
            | ({"examples": "each training example"} if training_examples.has_few_examples(context.subject) else {})
        ),
    )
    classes: str = choice(
        lambda context: f"Classes of {context.subject.task.noun}",
        lambda context: same_labels(context.subject.task.classes(1, 0)),
        labelled=True,
        when=lambda context: context.chosen["show"] == "kinds" and len(context.subject.task.classes(1, 0)) > 1,
    )
    smoothing: float = choice(
        "Smoothing of losses",
        same_labels(SMOOTHINGS),
        preferred=lambda context: SMOOTHING,
        widget="slider",
        width=360,
        labelled=True,
        when=lambda context: context.chosen["show"] == "losses",
        help="The factor per step of an exponential average, to both sides of each step, over a running median, which "
        "drops spikes. It changes what is drawn, not where phase changes are found.",
    )


class LossesView(SampledView[Options]):
    name, title, icon, order = "losses", "Losses", "show_chart", 1
    heading = "When does each loss fall?"
    sentence = (
        "The loss of each answer token over training; a flag marks where it falls fastest, its phase change. "
        "Below, every row is one loss and its colour is how much of it is left."
    )
    options_type = Options

    def uses_example(self, subject: Subject, options: Options) -> bool:
        return options.show == "losses"

    def films(
        self, subject: Subject, example: str, options: Options, second: Subject | None = None
    ) -> Iterator[tuple[Film, float]]:
        if options.show == "kinds":
            return class_films(subject, options.classes)
        if options.show == "examples":
            return only(training_examples.film(subject))
        return only(film(subject, example, options.smoothing))

    def look(self, subject: Subject, film: Film) -> Sequence[str]:
        return looking.at_falls(subject, film.steps)

    def below(self, subject: Subject, example: str, options: Options) -> Sequence[Item]:
        return _table(subject, options.smoothing) if options.show == "losses" else ()


@dataclass(frozen=True)
class Phase:
    """A fall or a rise of one loss: its steps, and its losses in nats without spikes and noise."""

    name: str  # of the loss
    kind: str  # "train" or "test"; "" where there is but one
    is_fall: bool
    is_deepest: bool  # the deepest fall of this loss
    begins: int
    steepest: int
    ends: int
    before: float
    after: float
    share: float  # how much of U - O the loss falls or rises by; nan where U or O is unknown

    @property
    def label(self) -> str:
        return f"{self.name}, {self.kind}" if self.kind else self.name

    @property
    def what(self) -> str:
        return ("deepest fall" if self.is_deepest else "fall") if self.is_fall else "rise"

    @property
    def width(self) -> int:
        return self.ends - self.begins

    @property
    def depth(self) -> float:
        """By how much the loss falls, or rises: nats, never negative."""
        return abs(self.before - self.after)


def film(subject: Subject, text: str, smoothing: float = SMOOTHING) -> Film:
    """All losses as the timeline, the teacher-forced probabilities of each answer, and the seismograph of the losses.

    Args:
        subject: the run.
        text: an example of the run's task.
        smoothing: beta per step of the exponential average of losses.

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


def phases(subject: Subject) -> tuple[Phase, ...]:
    """Every fall and rise of every loss. Losses are in the order in which their deepest falls are steepest, those that
    only rise last; of each loss the deepest fall is first, and the others follow in the order of training.

    Args:
        subject: the run.
    """
    found = []
    for losses in subject.losses():
        spans = (losses.uniform - losses.best).double()
        for token, (changes, span) in enumerate(zip(losses.changes, spans.tolist(), strict=True)):
            main = deepest(changes)
            of_token = [
                Phase(
                    losses.names[token],
                    losses.kind,
                    change.is_fall,
                    change is main,
                    losses.step(change.begins),
                    losses.step(change.steepest),
                    losses.step(change.ends),
                    change.before,
                    change.after,
                    abs(change.depth) / span if span else math.nan,
                )
                for change in sorted(changes, key=lambda change: (change is not main, change.begins))
            ]
            found.append((math.inf if main is None else losses.step(main.steepest), of_token))
    found.sort(key=lambda row: row[0])
    return tuple(phase for _, of_token in found for phase in of_token)


def seismograph(subject: Subject, smoothing: float = SMOOTHING) -> Raster:
    """The remaining share of every loss over the steps, one row per loss, sorted by the steepest step of its deepest
    fall, which is marked.

    Args:
        subject: the run.
        smoothing: beta per step of the exponential average of losses.
    """
    measured = subject.losses()
    end = max(int(losses.steps[-1]) for losses in measured)
    steps = np.unique(np.linspace(0, end, min(MAX_POINTS, end + 1)).round().astype(int))
    rows: list[tuple[float, str, np.ndarray]] = []  # marked step, label, values
    for losses in measured:
        shares = losses.remaining_share(smoothing).numpy()
        at = np.searchsorted(losses.steps.numpy(), steps, side="right") - 1  # the last row at or before each step
        for token, fall in enumerate(losses.deepest):
            marked = math.inf if fall is None else losses.step(fall.steepest)
            rows.append((marked, losses.label(token), shares[at, token]))
    rows.sort(key=lambda row: row[0])
    marks = np.array([marked for marked, _, _ in rows])
    return Raster(
        "seismograph",
        "Seismograph: remaining share of each loss, 1 at a uniform guess, 0 at the best possible, sorted by the "
        "steepest step of its deepest fall",
        [label for _, label, _ in rows],
        steps,
        np.stack([values for _, _, values in rows]),
        low=0.0,
        high=1.0,
        unit="left",
        marks=np.where(np.isfinite(marks), marks, np.nan),
        mark="deepest fall steepest",
    )


def _table(subject: Subject, smoothing: float) -> list[Item]:
    found = phases(subject)
    rows: dict[str, Sequence[Any]] = {
        subject.task.token_noun: [phase.label for phase in found],
        "what": [phase.what for phase in found],
        "begins": [phase.begins for phase in found],
        "steepest": [phase.steepest for phase in found],
        "ends": [phase.ends for phase in found],
        "width": [phase.width for phase in found],
        "depth": [phase.depth for phase in found],
        "share": [phase.share for phase in found],
        "loss before": [phase.before for phase in found],
        "loss after": [phase.after for phase in found],
    }
    about = {
        "begins": "step from which the slope is at least a tenth of the steepest",
        "steepest": "step at which the loss falls or rises fastest",
        "ends": "step up to which the slope is at least a tenth of the steepest",
        "width": "steps from begin to end",
        "depth": "nats from begin to end: the depth of a fall, the height of a rise",
        "share": "depth as a share of the way from a uniform guess to the best possible loss",
        "loss before": "nats, at the step where it begins",
        "loss after": "nats, at the step where it ends",
    }
    heading = Note("Phase changes", is_heading=True)
    if not found:
        return [heading, Note("No loss falls or rises by more than its noise.")]
    steps = ("begins", "steepest", "ends", "width")
    return [heading, Note(_caption(subject, smoothing), is_caption=True), Table(rows, steps=steps, help=about)]


def _caption(subject: Subject, smoothing: float) -> str:
    """What the table's words mean, and what smoothing does to widths."""
    resolved, drawn = {}, {}
    for losses in subject.losses():
        every = spacing(losses.steps)
        resolved[losses.kind] = resolution(every)
        drawn[losses.kind] = round(spread(beta_per_row(smoothing, losses.steps)) * every)
    sentences = [
        "A loss may fall several times, and rise. A change is steepest where the loss moves fastest; it begins and "
        "ends where the slope is a tenth of that, so a slow tail does not belong to it.",
        f"Spikes that are over within {SPIKE} steps, changes of less than a twentieth of the way from a uniform guess "
        "to the best possible loss, and changes that the noise explains are left out.",
        f"Losses are averaged a little before they are measured: a width below {_of_each(resolved)} is not resolved.",
    ]
    if smoothing:
        sentences.append(
            f"Smoothing over beta = {smoothing:g} spreads a sudden fall over about {_of_each(drawn)} in the curves "
            "above, not in this table."
        )
    return " ".join([*sentences, "Click a heading to sort."])


def _of_each(steps: Mapping[str, int]) -> str:
    """ "10 steps", or "100 steps (test) or 10 steps (train)" where kinds of losses differ."""
    if len({*steps.values()}) == 1:
        return f"{next(iter(steps.values())):,} steps"
    return " or ".join(f"{n:,} steps ({kind})" for kind, n in steps.items())
