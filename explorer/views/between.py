"""The way from snapshot to snapshot: how far the weights move, what lies between, and how sharp the loss is."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from explorer.analysis.between import POINTS, barrier, moves
from explorer.film.film import Film
from explorer.film.panels.columns import Columns
from explorer.film.panels.curves import Curves
from explorer.film.panels.panel import Panel
from explorer.measures.sharpness import Sharpness, SharpnessSettings
from explorer.options import NoOptions
from explorer.views import panels
from explorer.views.measuring import MeasuredView, Needed, kept
from explorer.views.subject import Subject

LEAST_BARRIER = 1e-3  # nats; less is none


class Between(MeasuredView[NoOptions]):
    name, title, icon, order = "between", "Between", "route", 13
    heading = "What lies between two snapshots?"
    sentence = (
        "How far the weights have moved, whether they go straight on or turn, whether the loss rises on the straight "
        "line from each snapshot to the next, and how sharp the valley is in which they are."
    )

    def needs(self, subject: Subject, options: NoOptions) -> Sequence[Needed]:
        return [(Sharpness(), SharpnessSettings())]

    def unavailable(self, subject: Subject, example: str, options: NoOptions) -> str:
        return ""  # the path of the weights is known at once

    def uses_example(self, subject: Subject, options: NoOptions) -> bool:
        return False

    def film(self, subject: Subject, example: str, options: NoOptions, second: Subject | None = None) -> Film:
        path = moves(subject.ensemble)
        far = {"from the first snapshot": path.from_first, "length of the path": path.length}
        shown: list[Panel] = [
            panels.timeline(subject),
            panels.over_snapshots(subject, "distance", "Distance of the weights", far, "", 6),
            panels.over_snapshots(
                subject, "turn", "Cosine of the moves before and after", {"cosine": path.cosine}, "", 6
            ),
        ]
        (needed,) = self.needs(subject, options)
        measured = kept(subject, needed)
        if measured is not None:
            shown += _of_line(subject, measured.tensors)
        return Film(subject.steps, shown)

    def look(self, subject: Subject, film: Film) -> Sequence[str]:
        return [_told(film, frame, step) for frame, step in enumerate(film.steps)]


def _told(film: Film, frame: int, step: int) -> str:
    """Where the weights are on their path, how sharp the loss is there, and what lies before the next snapshot."""
    lines = {
        line.label: line.values[frame]
        for panel in film.panels
        if isinstance(panel, Curves) and panel.by_frame
        for line in panel.lines
    }
    straight, length = lines["from the first snapshot"], lines["length of the path"]
    said = [f"Step {step:,}: the weights are {straight:.1f} from the first snapshot, after a path of {length:.1f}."]
    if np.isfinite(lines.get("sharpness", np.nan)):
        said.append(f"The sharpness is {lines['sharpness']:.2g}.")
    if np.isfinite(rise := lines.get("barrier", np.nan)):
        high = f"a barrier of {rise:.2g} nats" if rise >= LEAST_BARRIER else "no barrier"
        said.append(f"There is {high} on the line to the next one.")
    return " ".join(said)


def _of_line(subject: Subject, tensors: Mapping[str, Tensor]) -> list[Panel]:
    n, places = len(subject.steps), tensors["place"].long()
    sharp = torch.full((n,), torch.nan)
    sharp[places] = tensors["sharpness"].float()
    lines = torch.full((n, *tensors["line"].shape[1:]), torch.nan)
    lines[places] = tensors["line"].float()
    barriers = barrier(lines.nanmean(-1).T)  # (snapshot,)
    along = (lines - lines[:, :1]).nanmean(-1)[:, None]  # (snapshot 1 point)
    shares = [f"{i / (POINTS - 1):.0%}" for i in range(POINTS)]
    title = "Change of the loss on the line to the next snapshot"
    return [
        panels.over_snapshots(
            subject,
            "sharpness",
            "Sharpness: top eigenvalue of the Hessian",
            {"sharpness": sharp},
            "",
            6,
            log=True,
        ),
        panels.over_snapshots(
            subject, "barrier", "Barrier on the line to the next snapshot", {"barrier": barriers}, "nats", 6
        ),
        Columns("line", title, shares, ["change"], along.numpy(), unit="nats", category_axis="of the way"),
    ]
