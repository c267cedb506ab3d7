"""The losses of every token, and what they mean for one example."""

from explorer.analysis.answers import taught_answers
from explorer.film.film import Film
from explorer.views import panels
from explorer.views.subject import Subject


def film(subject: Subject, text: str) -> Film:
    """All losses as the timeline, train and test; beside it each answer's probabilities, right ones before given.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    example = subject.task.encode(text)
    answers = taught_answers(subject.ensemble, example)
    title = f"Probabilities for {panels.brief(example.text)}{panels.given(example)}"
    return Film(
        subject.steps,
        [
            panels.losses(subject, span=7, height=440),
            panels.answer_bars(subject, example, answers, title, span=5),
            *panels.measures(subject),
        ],
    )
