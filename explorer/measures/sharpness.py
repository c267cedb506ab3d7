"""How sharp the loss is at each snapshot, and the losses on the straight line to the next one."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.analysis.between import POINTS, line_losses, sharpness
from explorer.measures.measure import Form, Measure, Measured, coarse_first
from explorer.settings import check_settings, setting
from explorer.tasks.data import Batch

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
    settings_type, places = SharpnessSettings, "place"

    def n_pieces(self, of: Measured, settings: SharpnessSettings) -> int:
        return len(of.ensemble)

    def forms(self, of: Measured, settings: SharpnessSettings) -> dict[str, Form]:
        of_line = (POINTS, len(of.task.loss_names))
        return {"place": (torch.int64, ()), "sharpness": (torch.float32, ()), "line": (torch.float32, of_line)}

    def pieces(self, of: Measured, settings: SharpnessSettings, which: range) -> Iterator[dict[str, Tensor]]:
        n = len(of.ensemble)
        order = coarse_first(n)
        train, unseen = _data(of, settings)
        for place in (order[i] for i in which):
            (top,) = sharpness(of.ensemble.select([place]), train)
            line = torch.full((POINTS, len(of.task.loss_names)), torch.nan, dtype=torch.float64)
            if place + 1 < n:
                line = line_losses(of.ensemble, of.task, unseen, place, place + 1)
            yield {"place": torch.tensor(place), "sharpness": torch.tensor(top), "line": line.float()}

    def seconds(self, of: Measured, settings: SharpnessSettings) -> float:
        n, times = len(of.ensemble), [time.perf_counter()]
        train, unseen = _data(of, settings)
        few = -(-len(train.tokens) // TRIED)
        times.append(time.perf_counter())
        next(sharpness(of.ensemble.select([n - 1]), train.rows(slice(few))))
        times.append(time.perf_counter())
        line_losses(of.ensemble, of.task, unseen, 0, n - 1)
        times.append(time.perf_counter())
        drawing, curvature, line = (after - before for before, after in itertools.pairwise(times))
        return drawing + n * curvature * len(train.tokens) / few + (n - 1) * line


def _data(of: Measured, settings: SharpnessSettings) -> tuple[Batch, Batch]:
    """The examples of the curvature, and those of the lines."""
    return of.training_data(settings.examples).rows(slice(settings.examples)), of.unseen(UNSEEN)
