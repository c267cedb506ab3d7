"""Where every head looks, at every snapshot."""

from torch import Tensor

from explorer.film.film import Film
from explorer.views import panels
from explorer.views.subject import Subject

MEAN_BATCH = 32  # examples, fewer where they are long
MEAN_TOKENS = 1024


def example_film(subject: Subject, text: str) -> Film:
    """The patterns on one example.

    Raises:
        UserError: ``text`` is not an example of the run's task.
    """
    example = subject.task.encode(text)
    patterns = panels.mean_patterns(subject, example.tokens[None])
    return _film(
        subject,
        patterns,
        panels.token_labels(subject, example),
        f"Attention patterns on {panels.brief(example.text)}{panels.given(example)}",
    )


def mean_film(subject: Subject) -> Film:
    """The patterns averaged over a batch of unseen examples."""
    tokens = subject.task.test_stream(subject.info.training).next().tokens
    tokens = tokens[: min(MEAN_BATCH, max(1, MEAN_TOKENS // tokens.shape[1]))]
    patterns = panels.mean_patterns(subject, tokens)
    places = [str(place) for place in range(tokens.shape[1])]
    return _film(subject, patterns, places, f"Attention patterns, mean over {len(tokens)} unseen examples")


def _film(subject: Subject, patterns: Tensor, labels: list[str], title: str) -> Film:
    timeline = panels.losses(subject, detail=False, height=200)
    return Film(subject.steps, [timeline, panels.pattern_maps(subject, patterns, labels, title)])
