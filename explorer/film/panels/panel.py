"""The base class of panels."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int, Num

from explorer.errors import listed, quoted
from explorer.film.palette import Mode
from explorer.film.panels.figures import Figure

GAP = "no finite values at this snapshot"  # said where a snapshot's weights cannot be computed with


@dataclass(frozen=True)
class Panel(ABC):
    """One panel of a film.

    Each kind of panel is a subclass in a file of this folder and a JavaScript module in ``film/js/panels``, both named
    after its ``kind``. The module draws the data that `packed` returns.
    """

    kind: ClassVar[str]
    has_figure: ClassVar[bool] = True

    id: str  # the player remembers switches by it; letters, digits, hyphens and underscores
    title: str
    span: int = field(default=12, kw_only=True)  # of the 12 columns of the page
    gaps: Sequence[int] = field(default=(), kw_only=True)  # frames without values: they are not finite there

    @abstractmethod
    def fits(self, n_frames: int) -> bool:
        """Whether the panel has ``n_frames`` frames, and labels that fit its values."""

    def check(self, n_frames: int) -> None:
        """Refuse a panel that the player could not draw.

        Args:
            n_frames: how many steps the film has.

        Raises:
            ValueError: the panel does not fit the film or its own labels.
        """
        if not self.fits(n_frames):
            raise ValueError(f"The panel {self.title!r} does not fit the film's {n_frames} steps or its own labels.")

    @abstractmethod
    def framed(self, places: Int[np.ndarray, " frame"], steps: Sequence[int]) -> "Panel":
        """The panel with other frames, some of which may be gaps.

        Args:
            places: of the panel's present frames; -1 for a gap.
            steps: of the new frames.
        """

    def packed(self, steps: Sequence[int]) -> Mapping[str, Any]:
        """The panel's data for the player.

        Args:
            steps: of the film, one for each frame.

        Returns:
            Name -> JSON value, with arrays allowed anywhere inside.
        """
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def figure(self, frame: int, steps: Sequence[int], mode: Mode = "light") -> Figure:
        """One frame as a plotly figure.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame; empty for a panel outside a film.
            mode: of the page on which the figure is shown.

        Raises:
            ValueError: ``has_figure`` is False for this kind of panel.
        """
        raise ValueError(f"A panel of the kind {self.kind} has no figure.")

    def value(self, frame: int, steps: Sequence[int], names: Sequence[str]) -> float:
        """The number that the panel shows in a frame.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame.
            names: of the number: a curve's label; a map's name, its row and its column; a group and a category.

        Raises:
            LookupError: there is no such number; its message says what there is.
        """
        raise LookupError(f"the panel {self.id} has no numbers to name")

    def named(self, frame: int, steps: Sequence[int]) -> str:
        """The title, with the frame's step if the panel is part of a film.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame; empty for a panel outside a film.
        """
        gap = f": {GAP}" if frame in self.gaps else ""
        return f"{self.title}, step {steps[frame]:,}{gap}" if steps else self.title


def gaps_of(places: Int[np.ndarray, " frame"]) -> list[int]:
    """The frames that are gaps.

    Args:
        places: of frames; -1 for a gap.
    """
    return np.flatnonzero(places < 0).tolist()


def taken(values: Num[np.ndarray, "frame *axes"], places: Int[np.ndarray, " new"]) -> Num[np.ndarray, "new *axes"]:
    """The values of some frames.

    Args:
        values: of floating point, if there is a gap.
        places: of frames; -1 for a gap.

    Returns:
        nan at gaps.
    """
    found = values[places]
    if (places < 0).any():
        found[places < 0] = np.nan
    return found


def place_of(name: str, labels: Sequence[str], what: str) -> int:
    """The place of a label.

    Args:
        name: the label, or a place from 0; after "#" it is a place in any case.
        labels: to choose from.
        what: they are, for the message.

    Raises:
        LookupError: there is none, or several are equal.
    """
    n_equal = list(labels).count(name)
    if n_equal == 1:
        return list(labels).index(name)
    place = name.removeprefix("#")
    if n_equal == 0 and place.isascii() and place.isdigit() and int(place) < len(labels):
        return int(place)
    if n_equal:
        raise LookupError(f"{n_equal} {what}s are called {quoted(name)}; name its place from 0, such as #0")
    raise LookupError(f"no {what} is called {quoted(name)}; there are {listed([quoted(label) for label in labels])}")
