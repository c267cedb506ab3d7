"""Lines of monospaced text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Int

from explorer.film.panels.panel import GAP, Panel, gaps_of


@dataclass(frozen=True)
class Text(Panel):
    """Lines of monospaced text."""

    kind: ClassVar[str] = "text"
    has_figure: ClassVar[bool] = False

    blocks: Sequence[str]  # (frame,) or one for all frames

    def fits(self, n_frames: int) -> bool:
        """Whether there is one block for all frames, or one for each frame."""
        return len(self.blocks) in (1, n_frames)

    def framed(self, places: Int[np.ndarray, " frame"], steps: Sequence[int]) -> "Text":
        """The panel with other frames, some of which may be gaps. One block for all frames stays.

        Args:
            places: of the panel's present frames; -1 for a gap.
            steps: of the new frames.
        """
        if len(self.blocks) == 1:
            return self
        blocks = [self.blocks[place] if place >= 0 else GAP for place in places.tolist()]
        return replace(self, blocks=blocks, gaps=gaps_of(places))
