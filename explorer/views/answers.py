"""One example, answered at every snapshot."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from explorer.analysis.answers import greedy_answers, right_from
from explorer.film.film import Film
from explorer.film.panels.raster import Raster
from explorer.film.panels.text import Text
from explorer.options import NoOptions
from explorer.views import panels
from explorer.views.subject import Subject
from explorer.views.view import Item, Link, Links, Note, Table, View


class Answers(View[NoOptions]):
    name, title, icon, order = "answers", "Answers", "edit", 2
    heading = "When is your own example answered right?"
    sentence = "Your example, answered by greedy decoding at every snapshot."

    def film(self, subject: Subject, example: str, options: NoOptions, second: Subject | None = None) -> Film:
        return film(subject, example)

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
    return Film(
        subject.steps,
        [
            panels.answer_strip(subject, "answers", "Answer by greedy decoding", example, answers),
            *ribbons(subject, text),
            Text("working", "Written out", blocks, span=4),
            panels.answer_bars(subject, "probabilities", "Probabilities of each answer", example, answers, span=8),
            panels.losses(subject, detail=False),
        ],
    )


def ribbons(subject: Subject, text: str) -> list[Raster]:
    """The probability of each right answer over the snapshots, for an example and its first two variations.

    A mark stands where an answer is right for good.

    Args:
        subject: the run.
        text: an example of the run's task.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    task = subject.task
    lives = {"": text, **dict(list(task.siblings(task.encode(text)).items())[:2])}
    shown = []
    for i, (label, one) in enumerate(lives.items()):
        example = task.encode(one)
        answers = greedy_answers(subject.ensemble, example)
        targets = example.targets.expand(*answers.tokens.shape)[..., None]
        named = f"{label}: {panels.brief(one)}" if label else panels.brief(one)
        shown.append(
            Raster(
                "ribbon" if i == 0 else f"ribbon-{i}",
                f"Probability of each right {task.token_noun}, {named}",
                example.places,
                np.array(subject.steps),
                answers.probabilities.gather(-1, targets)[..., 0].T.numpy(),  # (answer snapshot)
                low=0.0,
                high=1.0,
                unit="probability",
                marks=np.array([np.nan if step is None else step for step in right_from(answers.right, subject.steps)]),
                mark="right for good",
                by_frame=True,
                span=12 if len(lives) == 1 else 6 if len(lives) == 2 else 4,
            )
        )
    return shown


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
