"""Per-token losses, their phase changes, and the answers to one example."""

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
from explorer.options import choice
from explorer.views import panels
from explorer.views.subject import SMOOTHING, Losses, Subject, beta_per_row
from explorer.views.view import Item, Note, Table, View, same_labels

SMOOTHINGS = (0.0, 0.5, 0.8, SMOOTHING, 0.95, 0.98, 0.99)
MAX_POINTS = 1500  # of each row of the seismograph, more than a screen has pixels
EXAMPLES_PER_CLASS = 512  # fewer if their activations would take too much memory


@dataclass(frozen=True)
class Options:
    show: str = choice(
        "Show",
        lambda context: (
            {"losses": "losses"}
            | ({"kinds": f"by class of {context.subject.task.noun}"} if has_classes(context.subject) else {})
        ),
    )
    smoothing: float = choice(
        "Smoothing of losses",
        same_labels(SMOOTHINGS),
        preferred=lambda context: SMOOTHING,
        widget="slider",
        width=360,
        labelled=True,
        when=lambda context: context.chosen["show"] == "losses",
        help="The factor per step of an exponential average that runs forwards and then backwards. Onsets are those of "
        "the smoothed losses.",
    )


class PhaseChanges(View[Options]):
    name, title, icon, place = "phase-changes", "Phase changes", "show_chart", (0, 1)
    options_type = Options

    def uses_example(self, options: Options) -> bool:
        return options.show == "losses"

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        return class_film(subject) if options.show == "kinds" else film(subject, example, options.smoothing)

    def below(self, subject: Subject, example: str, options: Options) -> Sequence[Item]:
        return _table(subject, phases(subject, options.smoothing)) if options.show == "losses" else ()


@dataclass(frozen=True)
class Phase:
    """The phase change of one loss, in steps. None if the loss does not cross the level that defines the step."""

    name: str
    onset: int | None
    steepest: int | None
    begins: int | None
    ends: int | None
    final_loss: float  # nats, smoothed

    @property
    def width(self) -> int | None:
        return None if self.begins is None or self.ends is None else self.ends - self.begins


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


def phases(subject: Subject, smoothing: float = SMOOTHING) -> tuple[Phase, ...]:
    """The phase change of every loss, test and training losses, the earliest onset first.

    Args:
        subject: the run.
        smoothing: beta per step of the exponential average of losses.
    """
    phases = []
    for losses in subject.losses():
        final = smooth_both_ways(losses.values, beta_per_row(smoothing, losses.steps))[-1]
        for token, fall in enumerate(losses.falls(smoothing)):
            rows = (fall.onset, fall.steepest, fall.begins, fall.ends)
            onset, steepest, begins, ends = (_step(losses, row) for row in rows)
            phases.append(Phase(losses.label(token), onset, steepest, begins, ends, float(final[token])))
    return tuple(sorted(phases, key=lambda phase: math.inf if phase.onset is None else phase.onset))


def seismograph(subject: Subject, smoothing: float = SMOOTHING) -> Raster:
    """The remaining share of every loss over the steps, one row per loss, sorted by onset.

    Args:
        subject: the run.
        smoothing: beta per step of the exponential average of losses.
    """
    measured = subject.losses()
    end = max(int(losses.steps[-1]) for losses in measured)
    steps = np.unique(np.linspace(0, end, min(MAX_POINTS, end + 1)).round().astype(int))
    rows: list[tuple[float, str, np.ndarray]] = []  # onset, label, values
    for losses in measured:
        shares = losses.remaining_share(smoothing).numpy()
        at = np.searchsorted(losses.steps.numpy(), steps, side="right") - 1  # the last row at or before each step
        for token, fall in enumerate(losses.falls(smoothing)):
            onset = _step(losses, fall.onset)
            rows.append((math.inf if onset is None else onset, losses.label(token), shares[at, token]))
    rows.sort(key=lambda row: row[0])
    onsets = np.array([onset for onset, _, _ in rows])
    return Raster(
        "seismograph",
        "Seismograph: remaining share of each loss, 1 at a uniform guess, 0 at the best possible, sorted by onset",
        [label for _, label, _ in rows],
        steps,
        np.stack([values for _, _, values in rows]),
        low=0.0,
        high=1.0,
        unit="left",
        onsets=np.where(np.isfinite(onsets), onsets, np.nan),
    )


def class_film(subject: Subject) -> Film:
    """Loss and accuracy of each class of unseen examples, over training.

    Args:
        subject: the run.

    Raises:
        UserError: the task has no classes, or every example of a class is in the training data.
    """
    task, training = subject.task, subject.info.training
    classes = task.classes(EXAMPLES_PER_CLASS, training.seed + 1)
    if classes is None:
        raise UserError(f"{task.title.capitalize()} has no classes of {task.noun}s.")
    trained_on, n_classes = task.are_in_training_data(classes.batch, training), len(classes.names)
    unseen = torch.ones(len(classes.labels), dtype=torch.bool) if trained_on is None else ~trained_on
    rows = [(unseen & (classes.labels == label)).nonzero()[:, 0] for label in range(n_classes)]
    n = min(subject.fitting(classes.batch.tokens.shape[1]) // n_classes, *(len(of_class) for of_class in rows))
    if not n:
        raise UserError(
            f"Every {task.noun} of one class is in the training data, so that class cannot be measured on unseen "
            f"{task.noun}s."
        )
    batch = classes.batch.rows(torch.cat([of_class[:n] for of_class in rows]))
    chunks = []  # (loss-or-accuracy snapshot batch), some snapshots each
    for logits, _ in subject.ensemble.passes(batch.tokens):
        answer_logits = batch.at_answers(logits)  # (snapshot batch answer d_vocab_out)
        all_right = (answer_logits.argmax(-1) == batch.targets).all(-1)  # (snapshot batch)
        chunks.append(torch.stack([task.losses(answer_logits, batch).mean(-1), all_right.double()]))
    loss, accuracy = torch.cat(chunks, 1)
    members = [slice(label * n, (label + 1) * n) for label in range(n_classes)]
    names = [f"{name}: {about}" if about else name for name, about in zip(classes.names, classes.about, strict=True)]
    return Film(
        subject.steps,
        [
            panels.timeline(subject),
            panels.over_snapshots(
                subject,
                "loss-by-kind",
                f"Mean loss of {n} unseen {task.noun}s of each class",
                {name: loss[:, of_class].mean(1) for name, of_class in zip(names, members, strict=True)},
                unit="nats",
            ),
            panels.over_snapshots(
                subject,
                "right-by-kind",
                f"Accuracy: share of these {task.noun}s with every answer right",
                {name: accuracy[:, of_class].mean(1) for name, of_class in zip(names, members, strict=True)},
                unit="share",
            ),
        ],
    )


def _table(subject: Subject, phases: tuple[Phase, ...]) -> list[Item]:
    steps = {
        "onset": [phase.onset for phase in phases],
        "steepest": [phase.steepest for phase in phases],
        "begins": [phase.begins for phase in phases],
        "ends": [phase.ends for phase in phases],
        "width": [phase.width for phase in phases],
    }
    final = "final loss"
    items: list[Item] = [
        Note("Phase changes", is_heading=True),
        Note(
            "Onset: the first step from which a loss stays below half-way between a uniform guess and the best "
            "possible loss. Width: the steps from 10 % to 90 % of the fall. An empty cell: the loss starts below that "
            "level or does not stay below it. Click a heading to sort.",
            is_caption=True,
        ),
        Table(
            {
                subject.task.token_noun: [phase.name for phase in phases],
                **steps,
                final: [phase.final_loss for phase in phases],
            },
            steps=list(steps),
            help={**dict.fromkeys(steps, "step"), final: "nats, smoothed"},
        ),
    ]
    if all(phase.onset is None for phase in phases):
        items.append(Note("No loss falls below half-way and stays there."))
    return items


def _step(losses: Losses, row: int | None) -> int | None:
    return None if row is None else int(losses.steps[row])


def has_classes(subject: Subject) -> bool:
    """Whether the run's task has classes of examples.

    Args:
        subject: the run.
    """
    return subject.task.classes(1, 0) is not None
