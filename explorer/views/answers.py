"""One example, answered at every snapshot."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from explorer.analysis.answers import Answers as Decoded
from explorer.analysis.answers import greedy_answers, right_from
from explorer.film.film import Film
from explorer.film.panels.raster import Raster
from explorer.film.panels.text import Text
from explorer.film.panels.tokens import Tokens
from explorer.options import NoOptions
from explorer.tasks.data import Example
from explorer.views import looking, panels
from explorer.views.subject import Subject
from explorer.views.view import Item, Link, Links, Note, Table, View


class Answers(View[NoOptions]):
    name, title, icon, order = "answers", "Answers", "edit", 2
    heading = "When is your own example answered right?"
    sentence = "Your example, answered by greedy decoding at every snapshot."

    def film(self, subject: Subject, example: str, options: NoOptions, second: Subject | None = None) -> Film:
        return film(subject, example)

    def look(self, subject: Subject, film: Film) -> Sequence[str]:
        """How many answers are right at each snapshot, and which are so for good."""
        ribbon = next(panel for panel in film.panels if isinstance(panel, Raster))
        strip = next(panel for panel in film.panels if isinstance(panel, Tokens))
        right = (strip.answers == np.array(strip.targets)).sum(1)  # (frame,)
        since = dict(zip(ribbon.rows, ribbon.marks if ribbon.marks is not None else (), strict=True))
        sentences = []
        for step, n in zip(film.steps, right.tolist(), strict=True):
            kept = [place for place, mark in since.items() if mark <= step]
            coming = sorted((int(mark), place) for place, mark in since.items() if mark > step)
            alone = len(since) == 1
            parts = [("right" if n else "wrong") if alone else f"{n} of {len(since)} answers right"]
            if kept:
                parts.append("from now on for good" if alone else f"for good: {looking.listed(kept)}")
            if coming:
                which = "right for good" if alone else f"next for good: {coming[0][1]},"
                parts.append(f"{which} from step {coming[0][0]:,} on")
            sentences.append(f"{'; '.join(parts)}.".capitalize() if alone else f"{'; '.join(parts)}.")
        return sentences

    def above(self, subject: Subject, example: str, options: NoOptions) -> Sequence[Item]:
        return notes(subject, example)

    def below(self, subject: Subject, example: str, options: NoOptions) -> Sequence[Item]:
        return [_table(subject, learned(subject, example))]


@dataclass(frozen=True)
class Learned:
    """When one answer was learnt."""

    place: str
    right: str  # the right token
    since: int | None  # the step from which the answer is right at every snapshot; None if it is wrong at the last
    probability: float  # of the right token at the last snapshot


def film(subject: Subject, text: str) -> Film:
    """The example answered by greedy decoding at every snapshot.

    Args:
        subject: the run.
        text: an example of the run's task.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    task, example = subject.task, subject.task.encode(text)
    answers = greedy_answers(subject.ensemble, example)
    blocks = [task.written(example, answer) for answer in answers.tokens.tolist()]
    siblings = list(task.siblings(example).items())
    span = 12 // max(len(siblings), 1)
    return Film(
        subject.steps,
        [
            panels.answer_strip(subject, "answers", "Answer by greedy decoding", example, answers),
            _ribbon(subject, "ribbon", example, answers, task.described(example), span=12),
            *(_ribbon_of(subject, i, label, other, span) for i, (label, other) in enumerate(siblings, 1)),
            Text("working", "Written out", blocks, span=4),
            panels.answer_bars(subject, "probabilities", "Probabilities of each answer", example, answers, span=8),
            panels.losses(subject, detail=False),
        ],
    )


def _ribbon_of(subject: Subject, place: int, label: str, text: str, span: int) -> Raster:
    """The ribbon of a variation of the example."""
    example = subject.task.encode(text)
    return _ribbon(subject, f"ribbon-{place}", example, greedy_answers(subject.ensemble, example), label, span)


def _ribbon(subject: Subject, id: str, example: Example, answers: Decoded, label: str, span: int) -> Raster:
    """The life of an example: the probability of each right answer over the snapshots, with a mark where an answer is
    right for good."""
    targets = example.targets.expand(*answers.tokens.shape)[..., None]
    named = f"{panels.brief(example.text)}: {label}" if label else panels.brief(example.text)
    return Raster(
        id,
        f"Probability of each right {subject.task.token_noun}, {named}",
        example.places,
        np.array(subject.steps),
        answers.probabilities.gather(-1, targets)[..., 0].T.numpy(),  # (answer snapshot)
        low=0.0,
        high=1.0,
        unit="probability",
        marks=np.array([np.nan if step is None else step for step in right_from(answers.right, subject.steps)]),
        mark="right for good",
        by_frame=True,
        span=span,
    )


def learned(subject: Subject, text: str) -> tuple[Learned, ...]:
    """The step from which each answer is right at every snapshot.

    Args:
        subject: the run.
        text: an example of the run's task.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    task, example = subject.task, subject.task.encode(text)
    answers = greedy_answers(subject.ensemble, example)
    return tuple(
        Learned(place, task.answer_tokens[target], since, float(answers.probabilities[-1, i, target]))
        for i, (place, target, since) in enumerate(
            zip(example.places, example.targets.tolist(), right_from(answers.right, subject.steps), strict=True)
        )
    )


def notes(subject: Subject, text: str) -> list[Item]:
    """Notes on an example, and links to its harder variations.

    Args:
        subject: the run.
        text: an example of the run's task.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    task, example = subject.task, subject.task.encode(text)
    sentences = [example.note] if example.note else []
    trained_on = task.was_trained_on(example, subject.info.training)
    if trained_on is not None:
        sentences.append(f"This {task.noun} is {'' if trained_on else 'not '}in the training data.")
    items: list[Item] = [Note(" ".join(sentences))] if sentences else []
    if siblings := task.siblings(example):
        links = [Link(f"{label}: {panels.brief(other)}", example=other) for label, other in siblings.items()]
        items.append(Links(links, title="Variations:"))
    return items


def _table(subject: Subject, rows: tuple[Learned, ...]) -> Table:
    since, probability = "right from", "final probability"
    return Table(
        {
            subject.task.token_noun: [row.place for row in rows],
            "right answer": [row.right for row in rows],
            since: ["not yet" if row.since is None else f"step {row.since:,}" for row in rows],
            probability: [row.probability for row in rows],
        },
        probabilities=[probability],
    )
