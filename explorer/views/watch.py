"""Everything a talk needs in one Film."""

from explorer.analysis.answers import greedy_answers
from explorer.film.film import Film
from explorer.views import panels
from explorer.views.subject import Subject


def film(subject: Subject, text: str) -> Film:
    """Losses as the timeline, the model's answer to one example, and every attention head.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    example = subject.task.encode(text)
    answers = greedy_answers(subject.ensemble, example)
    return Film(
        subject.steps,
        [
            panels.answer_strip(subject, "answers", "The model's own answer", example, answers),
            panels.losses(subject, detail=False, span=7, height=256),
            panels.answer_bars(subject, "probabilities", "How sure it is", example, answers, span=5),
            panels.pattern_maps(
                subject,
                "patterns",
                f"Attention patterns{panels.given(example)}",
                panels.mean_attention(subject, example.batch),
                panels.token_labels(subject, example),
            ),
        ],
    )
