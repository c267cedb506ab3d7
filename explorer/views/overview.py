"""The overview, which opens first: losses, answer and attention patterns in one film."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from explorer.analysis.ablation import ablation_hooks
from explorer.analysis.answers import greedy_answers
from explorer.analysis.components import components, parse_component
from explorer.film.film import Film
from explorer.options import several
from explorer.views import looking, panels
from explorer.views.model_diagram import diagram
from explorer.views.subject import Subject
from explorer.views.view import Choices, Item, Note, View, same_labels


@dataclass(frozen=True)
class Options:
    without: tuple[str, ...] = several(
        "Ablate",
        lambda context: same_labels(part.name for part in components(context.subject.info.model)),
        placeholder="ablate heads and MLPs: their outputs become zero",
        place="end",
    )


class Overview(View[Options]):
    name, title, icon, order = "overview", "Overview", "play_circle", 0
    heading = "What does the model know now?"
    sentence = (
        "The answer to one example, the loss of each answer token, and where every head looks, at the "
        "snapshot under the cursor."
    )
    options_type = Options

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        return film(subject, example, options.without)

    def look(self, subject: Subject, film: Film) -> Sequence[str]:
        return looking.at_falls(subject, film.steps)

    def below(self, subject: Subject, example: str, options: Options) -> Sequence[Item]:
        keys = (
            "Drag on the losses, or use ←, →, Home and End. Click a part of the model: it stands out in all "
            "views, and X ablates it. Click a map to enlarge it. Press F for full screen."
        )
        return [Note(keys, is_caption=True), Choices(["without"])]


def film(subject: Subject, text: str, ablated: Sequence[str] = ()) -> Film:
    """The losses as the timeline, the answer to one example, the model that gives it, and the attention patterns of
    every head.

    Args:
        subject: the run.
        text: an example of the run's task.
        ablated: the names of the heads and MLPs whose outputs are replaced by zero. The losses stay those of training.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    example = subject.task.encode(text)
    parts = [parse_component(name, subject.info.model) for name in ablated]
    hooks = ablation_hooks(subject.ensemble, parts, {}) if parts else None
    without = f", {', '.join(ablated)} ablated" if ablated else ""
    answers = greedy_answers(subject.ensemble, example, hooks)
    model, patterns = diagram(subject, example, ablated, hooks)
    losses = panels.losses(subject, detail=False, span=7, height=256)
    if ablated:
        losses = replace(losses, title=f"{losses.title} in training, nothing ablated")
    return Film(
        subject.steps,
        [
            panels.answer_strip(subject, "answers", f"Answer by greedy decoding{without}", example, answers),
            losses,
            panels.answer_bars(
                subject, "probabilities", f"Probabilities of each answer{without}", example, answers, span=5
            ),
            replace(model, title=f"{model.title}{without}"),
            panels.pattern_maps(
                subject,
                "patterns",
                f"Attention patterns{panels.given(example)}{without}",
                patterns,
                panels.token_labels(subject, example),
            ),
        ],
    )
