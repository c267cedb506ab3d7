"""Everything that a talk needs in one film: the opening view."""

from collections.abc import Sequence
from typing import Any

from explorer.analysis.answers import greedy_answers
from explorer.film.film import Film
from explorer.views import panels
from explorer.views.subject import Subject
from explorer.views.view import Item, Note, View


class Watch(View):
    name, title, icon, place = "watch", "Watch", "play_circle", (0, 0)

    def film(self, subject: Subject, example: str, options: Any, *beside: Subject) -> Film:
        return film(subject, example)

    def below(self, subject: Subject, example: str, options: Any) -> Sequence[Item]:
        keys = "Drag on the losses, or use ← → Home End. Click a map to enlarge it. F fills the screen, for a talk."
        return [Note(keys, is_quiet=True)]


def film(subject: Subject, text: str) -> Film:
    """Losses as the timeline, the model's answer to one example, and every attention head.

    Args:
        subject: the run.
        text: an example of the run's task.

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
