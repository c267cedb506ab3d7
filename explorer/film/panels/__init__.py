"""The kinds of panels, found by looking into this folder."""

from explorer.film.panels.panel import Panel
from explorer.finding import subclasses

KINDS: dict[str, type[Panel]] = {kind.kind: kind for kind in subclasses(Panel, __name__, __path__)}
