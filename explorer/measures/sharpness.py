"""How sharp the loss is at each snapshot, and the losses on the straight line to the next one."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.analysis.between import POINTS, line_losses, sharpness
from explorer.measures.measure import Measure, Measured, coarse_first
from explorer.settings import check_settings, setting

TRIED = 8  # a trial is on one of so many of the examples
UNSEEN = 128  # examples on which the losses between snapshots are means: on fewer, barriers are mostly noise


@dataclass(frozen=True)
class SharpnessSettings:
    """Of which examples."""

    examples: int = setting("of the training data on which the Hessian is that of the mean loss", 1, 4096, default=64)

    def __post_init__(self) -> None:
        check_settings(self)


class Sharpness(Measure[SharpnessSettings]):
    """The largest eigenvalue of the Hessian, and the loss between snapshots. A piece is a snapshot."""

    name, title = "sharpness", "Sharpness and barriers"
    sentence = "The largest curvature of the loss at each snapshot, and the loss on the straight line to the next one."
    settings_type = SharpnessSettings

    def n_pieces(self, of: Measured, settings: SharpnessSettings) -> int:
        return len(of.ensemble)

    def pieces(self, of: Measured, settings: SharpnessSettings, which: range) -> Iterator[dict[str, Tensor]]:
        n = len(of.ensemble)
        order = coarse_first(n)
        train, unseen = of.training_data(settings.examples), of.unseen(UNSEEN)
        train = train.rows(slice(settings.examples))
        for place in (order[i] for i in which):
            (top,) = sharpness(of.ensemble.select([place]), train)
            line = torch.full((POINTS, len(of.task.loss_names)), torch.nan, dtype=torch.float64)
            if place + 1 < n:
                line = line_losses(of.ensemble, of.task, unseen, place, place + 1)
            yield {"place": torch.tensor(place), "sharpness": torch.tensor(top), "line": line.float()}

    def seconds(self, of: Measured, settings: SharpnessSettings) -> float:
        few = SharpnessSettings(-(-settings.examples // TRIED))
        began = time.perf_counter()
        next(self.pieces(of, few, range(1)))
        return (time.perf_counter() - began) * settings.examples / few.examples * len(of.ensemble)
