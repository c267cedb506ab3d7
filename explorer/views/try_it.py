"""One example, asked at every snapshot."""

from dataclasses import dataclass

from explorer.analysis.answers import greedy_answers, right_from
from explorer.film.film import Film, Text
from explorer.views import panels
from explorer.views.subject import Subject


@dataclass(frozen=True)
class Learned:
    """When one answer was learnt."""

    place: str
    right: str  # the right token
    since: int | None  # the step from which on it is right and stays right
    probability: float  # of the right token at the last snapshot


@dataclass(frozen=True)
class Tried:
    film: Film
    learned: tuple[Learned, ...]


def tried(subject: Subject, text: str) -> Tried:
    """The example answered by every snapshot for itself.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    task, example = subject.task, subject.task.encode(text)
    answers = greedy_answers(subject.ensemble, example)
    blocks = [task.written(example, answer) for answer in answers.tokens.tolist()]
    bars = panels.answer_bars(subject, "probabilities", "Probability of each answer", example, answers, span=8)
    film = Film(
        subject.steps,
        [
            panels.answer_strip(subject, "answers", "The model's own answer", example, answers),
            Text("working", "Worked out", blocks, span=4),
            bars,
            panels.losses(subject, detail=False),
        ],
    )
    learned = tuple(
        Learned(place, task.answer_tokens[target], since, float(answers.probabilities[-1, i, target]))
        for i, (place, target, since) in enumerate(
            zip(example.places, example.targets.tolist(), right_from(answers.right, subject.steps), strict=True)
        )
    )
    return Tried(film, learned)
