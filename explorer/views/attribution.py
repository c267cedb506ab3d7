"""Which component brings how much of an answer, and how far the answer has got after each block."""

from explorer.analysis.attribution import direct_logit_attribution, logit_lens
from explorer.film.film import Columns, Film
from explorer.views import panels
from explorer.views.subject import Subject

FORMS = ("logit − mean logit", "logit")


def film(subject: Subject, text: str, answer: int, form: str = FORMS[0]) -> Film:
    """Direct logit attribution of one answer, and the logit lens of all answers.

    Args:
        answer: which of the example's answers; the last where there are not so many.
        form: one of `FORMS`.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    example = subject.task.encode(text)
    answer = min(answer, len(example.places) - 1)
    found = direct_logit_attribution(subject.ensemble, example, centred=form == FORMS[0])
    values = found.values[:, answer]  # (snapshot component)
    right = subject.task.answer_tokens[example.targets[answer]]
    named = f"{right} for {example.places[answer]}"
    curves = {"sum": found.logits[:, answer], **dict(zip(found.components, values.unbind(1), strict=True))}
    stages, logits = logit_lens(subject.ensemble, example)
    targets = example.targets.expand(*logits.shape[:-1])[..., None]
    probabilities = logits.softmax(-1).gather(-1, targets)[..., 0]  # (snapshot stage answer)
    places = [
        f"{place}: {subject.task.answer_tokens[target]}"
        for place, target in zip(example.places, example.targets.tolist(), strict=True)
    ]
    return Film(
        subject.steps,
        [
            panels.timeline(subject),
            Columns(
                "attribution",
                f"Direct logit attribution of {named}: {form}{panels.given(example)}",
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
                f"The same over training, and its sum: {form}",
                curves,
                "logits",
                span=7,
                total="sum",
            ),
            panels.signed_maps(
                "lens",
                f"Logit lens: probability of each right answer, read off on the way{panels.given(example)}",
                [""],
                probabilities[:, None],
                stages,
                places,
                "read after",
                "answer",
            ),
        ],
    )
