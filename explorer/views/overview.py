"""The overview, which opens first: losses, answer and attention patterns in one film."""

from collections.abc import Sequence

from explorer.analysis.answers import greedy_answers
from explorer.film.film import Film
from explorer.options import NoOptions
from explorer.views import looking, panels
from explorer.views.subject import Subject
from explorer.views.view import Item, Note, View


class Overview(View[NoOptions]):
    name, title, icon, order = "overview", "Overview", "play_circle", 0
    heading = "What does the model know now?"
    sentence = (
        "The answer to one example, the loss of each answer token, and where every head looks, at the "
        "snapshot under the cursor."
    )

    def film(self, subject: Subject, example: str, options: NoOptions, second: Subject | None = None) -> Film:
        return film(subject, example)

    def look(self, subject: Subject, film: Film) -> Sequence[str]:
        return looking.at_falls(subject, film.steps)

    def below(self, subject: Subject, example: str, options: NoOptions) -> Sequence[Item]:
        keys = "Drag on the losses, or use ←, →, Home and End. Click a map to enlarge it. Press F for full screen."
        return [Note(keys, is_caption=True)]


def film(subject: Subject, text: str) -> Film:
    """The losses as the timeline, the answer to one example, and the attention patterns of every head on it.

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
            panels.answer_strip(subject, "answers", "Answer by greedy decoding", example, answers),
            panels.losses(subject, detail=False, span=7, height=256),
            panels.answer_bars(subject, "probabilities", "Probabilities of each answer", example, answers, span=5),
            panels.pattern_maps(
                subject,
                "patterns",
                f"Attention patterns{panels.given(example)}",
                panels.mean_attention(subject, example.batch),
                panels.token_labels(subject, example),
            ),
        ],
    )
