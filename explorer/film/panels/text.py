"""Lines of monospaced text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from explorer.film.panels.panel import Panel


@dataclass(frozen=True)
class Text(Panel):
    """Lines of monospaced text."""

    kind: ClassVar[str] = "text"
    has_figure: ClassVar[bool] = False

    blocks: Sequence[str]  # (frame,) or one for all frames

    def fits(self, n_frames: int) -> bool:
        """Whether there is one block for all frames, or one for each frame."""
        return len(self.blocks) in (1, n_frames)
