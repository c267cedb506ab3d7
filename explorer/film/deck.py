"""A deck: films with words, one panel large at a time. It is plain data, which the player's deck draws."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from explorer.film.film import Film, Switch, prefixed
from explorer.film.panels.curves import Curves
from explorer.film.panels.raster import Raster

TIMELINES = (Curves, Raster)


@dataclass(frozen=True)
class Slide:
    """One panel of a film, large, and what is said about it.

    Attributes:
        headline: plain text.
        text: HTML. A button with ``data-step`` moves to a step, one with ``data-light`` lights a name up.
        reveal: HTML that is shown only after the reveal; empty: there is nothing to reveal.
        film: place among the deck's films.
        start: the step to glide to.
        switches: values of panels' switches; all others keep their initial values.
        panel: the id of the panel that is shown large.
        light: the name that lights up, of a head, a curve or a map.
        veil: the step after which timelines are covered until the reveal.
        explore: a link to the scene in the app, on the last slide; empty: none.
        own: a link to where people type an example of their own; empty: none.
    """

    headline: str
    text: str
    reveal: str
    film: int
    start: int
    switches: Sequence[Switch]
    panel: str
    light: str | None = None
    veil: int | None = None
    explore: str = ""
    own: str = ""


@dataclass(frozen=True)
class Deck:
    """Slides, and the films that they show.

    Attributes:
        title: of the whole.
        run: the name of the run that it is about.
        slides: in their order.
        films: None for one that is not computed yet.
    """

    title: str
    run: str
    slides: Sequence[Slide]
    films: Sequence[Film | None]

    @cached_property
    def packed(self) -> bytes:
        """The deck as bytes: the length of a JSON header (4 bytes, little endian), the header, and the packed films.

        In the header each film is ``[offset, length]`` in bytes after the header, or null. A film is packed once, and
        of it only the panels that are shown: those that are large, and the first timeline, with which people scrub.
        """
        packed: list[bytes] = []
        places: list[tuple[int, int] | None] = []
        at = 0
        for i, film in enumerate(self.films):
            if film is None:
                places.append(None)
                continue
            large = {slide.panel for slide in self.slides if slide.film == i}
            packed.append(_shown(film, large).packed)
            places.append((at, len(packed[-1])))
            at += len(packed[-1])
        slides = [vars(slide) for slide in self.slides]
        header = prefixed({"title": self.title, "run": self.run, "slides": slides, "films": places})
        return b"".join([header, *packed])


def _shown(film: Film, large: set[str]) -> Film:
    """A film with its panels of some ids and its first timeline."""
    timeline = next((panel for panel in film.panels if isinstance(panel, TIMELINES)), None)
    return replace(film, panels=[panel for panel in film.panels if panel.id in large or panel is timeline])


def deck_message(deck: Deck, move: str, slide: int = 0) -> bytes:
    """The message to the player's deck: the length of a JSON header, the header, the packed deck.

    Args:
        deck: what to show.
        move: a deck on screen follows ``slide`` only if this text has changed.
        slide: the one to open at, from 0.
    """
    return prefixed({"move": move, "slide": slide}) + deck.packed
