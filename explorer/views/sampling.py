"""Films of measures on samples of examples, which grow in parts until the measures are precise."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor

from explorer.analysis.samples import ERRORS, Estimate, Tally
from explorer.film.film import Film
from explorer.film.panels.curves import Curves
from explorer.model.architectures import activation_bytes
from explorer.tasks.data import Batch
from explorer.views import panels
from explorer.views.subject import Subject
from explorer.views.view import GrowingView, Options

MOST = 512  # examples, or of each of several classes
LEAST = 64  # examples; with fewer, a standard error is itself not known well
FIRST = 16  # examples after which there is a film, and of a part at least
WORK = 2**30  # bytes of activations that are computed for a part, of all snapshots: about a second

Measure = Callable[[Batch], Mapping[str, Tensor]]  # examples -> what is measured, by name: (... example)
Draw = Callable[[Mapping[str, Estimate]], Film]


class SampledView(GrowingView[Options]):
    """A view of which some films are measured on samples."""

    growing = "Measuring on more examples, until the intervals are small…"


def only(film: Film) -> Iterator[tuple[Film, float]]:
    """A film that is not measured on a sample, as `grown` yields films.

    Args:
        film: which is complete.
    """
    yield film, 1.0


def grown(
    subject: Subject,
    sample: Batch,
    measure: Measure,
    draw: Draw,
    passes: int = 1,
    classes: int = 1,
    errors: Mapping[str, Tensor] | None = None,
) -> Iterator[tuple[Film, float]]:
    """Films on a sample that grows until every interval is small (`Estimate.is_precise`) or it is used up.

    Args:
        subject: the run.
        sample: the examples; of ``classes`` of them in turn.
        measure: gives the values of each example. Of several classes, it is called with equally many of each.
        draw: makes a film. It is called again when the sample has doubled, and at the end.
        passes: forward passes in which each example is measured; with more, fewer are measured at a time.
        classes: how many classes there are.
        errors: standard errors, by name, that the values have besides that of the sample.

    Yields:
        After each part, the latest film, and the share of the work that is done.
    """
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    all_there_are, done, drawn = len(sample.tokens), 0, 0
    cost = passes * len(subject.steps) * activation_bytes(subject.info.model, sample.tokens.shape[1])
    size = classes * max(1, max(FIRST, WORK // cost) // classes)
    film: Film | None = None
    while done < all_there_are:
        part = sample.rows(slice(done, done + size))
        for name, values in measure(part).items():
            tallies[name].add(values)
        done += len(part.tokens)
        estimates = {name: tally.estimate() for name, tally in tallies.items()}
        estimates |= {name: estimates[name].with_error(error) for name, error in (errors or {}).items()}
        if done >= LEAST * classes and all(estimate.is_precise for estimate in estimates.values()):
            all_there_are = done
        if film is None or done >= 2 * drawn or done == all_there_are:
            film, drawn = draw(estimates), done
        yield film, done / all_there_are


def curves(
    subject: Subject,
    id: str,
    title: str,
    names: Sequence[str],
    estimate: Estimate,
    unit: str,
    span: int = 12,
    height: int = 240,
) -> Curves:
    """Curves of means over a sample, with their intervals.

    Args:
        subject: the run.
        id: of the panel.
        title: of the panel.
        names: (curve,)
        estimate: the means, (snapshot curve).
        unit: of the means.
        span: columns of the page, of 12.
        height: in pixels.
    """
    means = dict(zip(names, estimate.mean.unbind(1), strict=True))
    intervals = dict(zip(names, estimate.interval.unbind(1), strict=True))
    return panels.over_snapshots(subject, id, title, means, unit, span, height, intervals=intervals)


def size(subject: Subject, n: int, of: str = "") -> str:
    """The size of a sample and the meaning of the bands, for a title.

    Args:
        subject: the run.
        n: examples in the sample.
        of: what the examples are; empty: unseen ones.
    """
    return f"on {n:,} {of or f'unseen {subject.task.noun}s'}, ± {ERRORS} standard errors"
