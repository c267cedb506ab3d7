"""The weights themselves: how large they are, and their path during training."""

from typing import Any

from explorer.analysis.weights import parameter_norms, trajectory
from explorer.film.film import Film
from explorer.film.panels.scatter import Scatter
from explorer.views import panels
from explorer.views.subject import Subject
from explorer.views.view import View


class Weights(View):
    name, title, icon, place = "weights", "Weights", "timeline", (1, 5)

    def asks_example(self, options: Any) -> bool:
        return False

    def film(self, subject: Subject, example: str, options: Any, *beside: Subject) -> Film:
        return film(subject)


def film(subject: Subject) -> Film:
    """The norm of each parameter, and the path of all weights in their first two principal components."""
    sizes, path = parameter_norms(subject.ensemble), trajectory(subject.ensemble, 3)
    shares = [f"PC{i} ({100 * share:.0f} %)" for i, share in enumerate(path.explained.tolist(), 1)]
    found = [
        panels.timeline(subject),
        panels.over_snapshots(
            subject, "norms", "Norm of each parameter", sizes, unit="norm", span=7, height=400, total="total"
        ),
    ]
    components = dict(zip(shares, path.coordinates.unbind(1), strict=True))
    if len(shares) > 1:
        x, y = (path.coordinates[:, i, None].numpy() for i in (0, 1))
        title = "Path of all weights in their first two principal components"
        found.append(Scatter("path", title, ["weights"], x, y, shares[0], shares[1], trail=True, span=5))
    found.append(
        panels.over_snapshots(subject, "components", "Principal components of all weights", components, unit="")
    )
    return Film(subject.steps, found)
