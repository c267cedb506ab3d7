"""The norms of the parameters, and the path of all weights during training."""

from explorer.analysis.weights import parameter_norms, trajectory
from explorer.film.film import Film
from explorer.film.panels.panel import Panel
from explorer.film.panels.scatter import Scatter
from explorer.options import NoOptions
from explorer.views import panels
from explorer.views.subject import Subject
from explorer.views.view import View


class Weights(View[NoOptions]):
    name, title, icon, order = "weights", "Weights", "timeline", 8
    heading = "How far have the weights moved?"
    sentence = "The norm of every parameter, and the path of all weights through their first two principal components."

    def uses_example(self, subject: Subject, options: NoOptions) -> bool:
        return False

    def film(self, subject: Subject, example: str, options: NoOptions, second: Subject | None = None) -> Film:
        return film(subject)


def film(subject: Subject) -> Film:
    """The norm of each parameter, and the path of all weights in their first two principal components.

    Args:
        subject: the run.
    """
    norms, path = parameter_norms(subject.ensemble), trajectory(subject.ensemble, 3)
    axes = [f"PC{i} ({100 * share:.0f} %)" for i, share in enumerate(path.explained.tolist(), 1)]
    shown: list[Panel] = [
        panels.timeline(subject),
        panels.over_snapshots(
            subject, "norms", "Norm of each parameter", norms, unit="norm", span=7, height=400, total="total"
        ),
    ]
    components = dict(zip(axes, path.coordinates.unbind(1), strict=True))
    if len(axes) > 1:
        x, y = (path.coordinates[:, i, None].numpy() for i in (0, 1))
        title = "Path of all weights in their first two principal components"
        shown.append(Scatter("path", title, ["weights"], x, y, axes[0], axes[1], trail=True, span=5))
    shown.append(
        panels.over_snapshots(
            subject, "components", "Principal components of the weights over training", components, unit=""
        )
    )
    return Film(subject.steps, shown)
