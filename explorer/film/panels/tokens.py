"""A prompt and the tokens that the model predicts, as a row of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Int, Num, Real

from explorer.film.panels.panel import Panel, gaps_of, taken


@dataclass(frozen=True)
class Tokens(Panel):
    """A row of tokens: the prompt, followed by the tokens that the model predicts in each frame.

    A prediction may also be for a place within the prompt. It is then marked at that token.
    """

    kind: ClassVar[str] = "tokens"
    has_figure: ClassVar[bool] = False

    prompt: Sequence[str]
    answers: Real[np.ndarray, "frame answer"]  # predicted tokens, places in ``vocabulary``; -1: none
    probabilities: Num[np.ndarray, "frame answer"]  # of the predicted tokens
    targets: Sequence[int]  # (answer,) right tokens, places in ``vocabulary``
    places: Sequence[int]  # (answer,) places in the row; those after the prompt are consecutive
    vocabulary: Sequence[str]

    def fits(self, n_frames: int) -> bool:
        """Whether every answer has a token and a probability in each frame, and a place in the row."""
        fits = self.answers.shape == self.probabilities.shape == (n_frames, len(self.targets))
        after = [place for place in self.places if place >= len(self.prompt)]
        fits = fits and len(self.places) == len(self.targets)
        return fits and after == list(range(len(self.prompt), len(self.prompt) + len(after)))

    def framed(self, places: Int[np.ndarray, " frame"], steps: Sequence[int]) -> "Tokens":
        """The panel with other frames, some of which may be gaps, in which nothing is predicted.

        Args:
            places: of the panel's present frames; -1 for a gap.
            steps: of the new frames.
        """
        answers = np.where(places[:, None] < 0, -1, self.answers[places])
        return replace(self, answers=answers, probabilities=taken(self.probabilities, places), gaps=gaps_of(places))
