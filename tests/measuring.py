"""A run with measures that take minutes, and their views."""

from explorer.measures.complexity import ComplexitySettings
from explorer.measures.engine import measure_run
from explorer.measures.measure import Measured
from explorer.options import resolve
from explorer.runs import Run
from explorer.views import get_view
from explorer.views.subject import Subject

QUICK = ComplexitySettings(chains=2, draws=12, burn_in=4, batch_size=32)


def measure(run: Run, *measures, pieces: int = 10**6) -> None:
    left = iter(range(pieces - 1))
    subject = Subject.load(run)
    for one, settings in measures:
        measure_run(
            run, Measured(subject.info, subject.ensemble), one, settings, should_stop=lambda: next(left, None) is None
        )


def shown(subject: Subject, view: str, **texts: str):
    """The film of a view, and its items below, by their kind."""
    view, example = get_view(view), subject.first_example
    options, problems = resolve(view.options_type, subject, example, texts)
    assert not problems
    assert view.unavailable(subject, example, options) == ""
    film = view.whole_film(subject, example, options)
    return {panel.id: panel for panel in film.panels}, film, view.below(subject, example, options)


def why(subject: Subject, view: str, **texts: str) -> str:
    view = get_view(view)
    options, _ = resolve(view.options_type, subject, subject.first_example, texts)
    return view.unavailable(subject, subject.first_example, options)
