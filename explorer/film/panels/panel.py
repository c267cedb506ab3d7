"""What every kind of panel has."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from explorer.film.palette import Mode
from explorer.film.panels.figures import Figure


@dataclass(frozen=True)
class Panel(ABC):
    """One panel of a film.

    A kind of panel is a subclass in a file of this folder, and the JavaScript module of the same name as its ``kind``
    in ``film/js/panels``, which draws what `packed` gives.
    """

    kind: ClassVar[str]
    has_figure: ClassVar[bool] = True

    id: str  # by which the player remembers what people set on it; letters, digits, hyphens and underscores
    title: str
    span: int = field(default=12, kw_only=True)  # of the 12 columns of the page

    @abstractmethod
    def fits(self, n_frames: int) -> bool:
        """Whether the panel has one frame for each of so many steps, and labels for all its values."""

    def check(self, n_frames: int) -> None:
        """Refuse a panel that the player could not draw.

        Raises:
            ValueError: the panel does not fit.
        """
        if not self.fits(n_frames):
            raise ValueError(f"The panel {self.title!r} does not fit the film's {n_frames} steps or its own labels.")

    def packed(self, steps: Sequence[int]) -> Mapping[str, Any]:
        """What travels to the player, by name: JSON values, and arrays wherever one stands.

        Args:
            steps: of the film, one for each frame.
        """
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def figure(self, frame: int, steps: Sequence[int], mode: Mode = "light") -> Figure:
        """One frame as a plotly figure.

        Args:
            frame: which.
            steps: of the film, one for each frame; empty where a panel stands by itself.
            mode: of the page on which the figure is shown.

        Raises:
            NotImplementedError: a kind of panel whose ``has_figure`` is False.
        """
        raise NotImplementedError(f"A panel of the kind {self.kind} has no figure.")

    def named(self, frame: int, steps: Sequence[int]) -> str:
        """The title with the frame's step."""
        return f"{self.title}, step {steps[frame]:,}" if steps else self.title
