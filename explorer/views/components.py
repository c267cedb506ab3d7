"""Direct logit attribution and logit lens: what each component adds to a logit, and the answer after each block."""

from collections.abc import Mapping
from dataclasses import dataclass

from explorer.analysis.attribution import direct_logit_attribution, logit_lens
from explorer.film.film import Film
from explorer.film.panels.columns import Columns
from explorer.film.panels.heatmaps import Heatmaps
from explorer.options import Context, choice
from explorer.tasks.data import Example
from explorer.views import panels
from explorer.views.subject import Subject
from explorer.views.view import View

CENTRED, LOGIT = "centred", "logit"
FORMS: Mapping[str, str] = {CENTRED: "logit − mean logit", LOGIT: "logit"}


def answer_labels(subject: Subject, example: Example) -> list[str]:
    """A label for each answer: its place and its right token.

    Args:
        subject: the run.
        example: an example of the run's task.
    """
    tokens = [subject.task.answer_tokens[target] for target in example.targets.tolist()]
    return [f"{place}: {token}" for place, token in zip(example.places, tokens, strict=True)]


def _answers(context: Context) -> dict[int, str]:
    return dict(enumerate(answer_labels(context.subject, context.subject.task.encode(context.example))))


@dataclass(frozen=True)
class Options:
    of: str = choice("Logit", FORMS)
    answer: int = choice("Answer", _answers, widget="list")


class Components(View[Options]):
    name, title, icon, order = "components", "Components", "bar_chart", 4
    inside = True
    heading = "Which part of the model writes the answer?"
    sentence = (
        "Direct logit attribution splits the logit of the right token into what each component adds; the "
        "logit lens reads an answer from the residual stream after each layer."
    )
    options_type = Options

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        return film(subject, example, options.answer, options.of)


def film(subject: Subject, text: str, answer: int, form: str = CENTRED) -> Film:
    """Direct logit attribution of one answer, and the logit lens of all answers.

    Args:
        subject: the run.
        text: an example of the run's task.
        answer: the index of an answer; clipped to the last.
        form: one of `FORMS`.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    example = subject.task.encode(text)
    answer = min(answer, len(example.places) - 1)
    found = direct_logit_attribution(subject.ensemble, example, centred=form == CENTRED)
    values = found.values[:, answer]  # (snapshot component)
    right = subject.task.answer_tokens[example.targets[answer]]
    named = f"{right} for {example.places[answer]}"
    curves = {"sum": found.logits[:, answer], **dict(zip(found.components, values.unbind(1), strict=True))}
    stages, logits = logit_lens(subject.ensemble, example)
    targets = example.targets.expand(*logits.shape[:-1])[..., None]
    probabilities = logits.softmax(-1).gather(-1, targets)[..., 0]  # (snapshot stage answer)
    return Film(
        subject.steps,
        [
            panels.timeline(subject),
            Columns(
                "attribution",
                f"Direct logit attribution of {named}: {FORMS[form]}{panels.given(example)}",
                found.components,
                ["logit"],
                values[:, None].numpy(),
                unit="logits",
                category_axis="component",
                span=5,
            ),
            panels.over_snapshots(
                subject,
                "attribution-over-training",
                f"Direct logit attribution over training, and the sum: {FORMS[form]}",
                curves,
                "logits",
                span=7,
                total="sum",
            ),
            Heatmaps(
                "lens",
                f"Logit lens: probability of each right answer, read from the residual stream{panels.given(example)}",
                [""],
                probabilities[:, None].numpy(),
                stages,
                answer_labels(subject, example),
                "stage",
                "answer",
                low=0.0,
                high=1.0,
            ),
        ],
    )
