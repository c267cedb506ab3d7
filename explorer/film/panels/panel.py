"""The base class of panels."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from explorer.film.palette import Mode
from explorer.film.panels.figures import Figure


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

    def named(self, frame: int, steps: Sequence[int]) -> str:
        """The title, with the frame's step if the panel is part of a film.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame; empty for a panel outside a film.
        """
        return f"{self.title}, step {steps[frame]:,}" if steps else self.title
