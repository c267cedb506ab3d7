"""The model as a drawing: where each head looks, and what each part adds to an answer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Int, Num

from explorer.film.panels.panel import Panel, gaps_of, place_of, taken


@dataclass(frozen=True)
class Diagram(Panel):
    """The tokens, the parts of the model in rows, and the answers, of which the reader chooses one.

    A line from a token to a head is as thick as the attention that the head pays it from where the answer is asked for.
    A part has the colour of what it adds to the answer, and so has the line from it.
    """

    kind: ClassVar[str] = "diagram"
    has_figure: ClassVar[bool] = False

    tokens: Sequence[str]
    places: Sequence[str]  # (answer,) a label for each answer
    answers: Sequence[str]  # (answer,) the right token of each
    asked: int  # the place of the answer that is chosen at first
    asks: Sequence[int]  # (answer,) the place of the token at which each is asked for
    parts: Sequence[str]  # what adds to the answers: "embedding", "L0H0", ..., "L0 MLP", ...
    rows: Sequence[int]  # (part,) the row in which each is drawn, from 0, in the order of computation
    heads: Sequence[int]  # places among the parts of those that look at tokens
    attention: Num[np.ndarray, "frame answer head token"]  # between 0 and 1
    added: Num[np.ndarray, "frame answer part"]  # in ``unit``
    probability: Num[np.ndarray, "frame answer"]  # of the right token
    full_colour_at: float  # the absolute value of ``added`` at which the colour scale ends
    unit: str
    ablatable: Sequence[int] = ()  # places of the parts that a reader can ask to have ablated
    ablated: Sequence[str] = ()  # names of those that are
    scale: str = "diverging"

    def fits(self, n_frames: int) -> bool:
        """Whether there is a value for each frame, answer, head, token and part, and a row for each part."""
        n = len(self.answers)
        fits = len(self.places) == len(self.asks) == n and len(self.rows) == len(self.parts)
        fits = fits and self.attention.shape == (n_frames, n, len(self.heads), len(self.tokens))
        return fits and self.added.shape == (n_frames, n, len(self.parts)) and self.probability.shape == (n_frames, n)

    def framed(self, places: Int[np.ndarray, " frame"], steps: Sequence[int]) -> "Diagram":
        """The panel with other frames, some of which may be gaps, which have no values.

        Args:
            places: of the panel's present frames; -1 for a gap.
            steps: of the new frames.
        """
        return replace(
            self,
            attention=taken(self.attention, places),
            added=taken(self.added, places),
            probability=taken(self.probability, places),
            gaps=gaps_of(places),
        )

    def value(self, frame: int, steps: Sequence[int], names: Sequence[str]) -> float:
        """The probability of an answer, what a part adds to it, or the attention of a head to a token.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame.
            names: the answer, then maybe the part, then maybe the token.

        Raises:
            LookupError: there is no such number.
        """
        if not 1 <= len(names) <= 3:
            raise LookupError(f"a number of {self.id} is ANSWER, ANSWER/PART or ANSWER/HEAD/TOKEN")
        answer = place_of(names[0], self.places, "answer")
        if len(names) == 1:
            return float(self.probability[frame, answer])
        part = place_of(names[1], self.parts, "part")
        if len(names) == 2:
            return float(self.added[frame, answer, part])
        if part not in self.heads:
            raise LookupError(f"{self.parts[part]} is no head, so it looks at no token")
        token = place_of(names[2], self.tokens, "token")
        return float(self.attention[frame, answer, list(self.heads).index(part), token])
