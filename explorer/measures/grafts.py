"""The loss of one snapshot with a part of another, for all pairs of snapshots, and of each part alone over training."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.analysis.grafts import ANSWERS, NOTHING, Part, graft_losses, measured_on, parts
from explorer.errors import UserError, quoted
from explorer.measures.measure import Form, Measure, Measured, NoSettings, coarse_first
from explorer.runs.info import RunInfo
from explorer.settings import setting
from explorer.tasks.data import Batch

UNCHANGED = "unchanged"
MORE = 8  # times as many answers for `Parts`, which measures far fewer pairs
TRIED = 4  # pairs of a trial


@dataclass(frozen=True)
class OfPart:
    """Which part is grafted."""

    part: str = setting("of the model that is grafted, such as L0H0, embeddings or all attention", default="embeddings")


class Grafts(Measure[OfPart]):
    """All pairs of snapshots, for one part of the model. A piece is a receiver."""

    name, title = "grafts", "Graft matrix"
    sentence = "The loss of each snapshot with this part of each other snapshot."
    settings_type, places = OfPart, "receiver"

    def file_name(self, settings: OfPart) -> str:
        return f"{self.name}-{settings.part.replace(' ', '-')}"

    def n_pieces(self, of: Measured, settings: OfPart) -> int:
        _part(of.info, settings.part)
        return len(of.ensemble)

    def forms(self, of: Measured, settings: OfPart) -> dict[str, Form]:
        return {"receiver": (torch.int64, ()), "loss": _form_of_row(of)}

    def pieces(self, of: Measured, settings: OfPart, which: range) -> Iterator[dict[str, Tensor]]:
        part, batch, order = _part(of.info, settings.part), _batch(of), coarse_first(len(of.ensemble))
        for receiver in (order[i] for i in which):
            (row,) = graft_losses(of.ensemble, of.task, batch, part, [receiver])
            yield {"receiver": torch.tensor(receiver), "loss": row.half()}

    def seconds(self, of: Measured, settings: OfPart) -> float:
        return _seconds_of_pair(of) * len(of.ensemble) ** 2


class Parts(Measure[NoSettings]):
    """Each of `single_parts` in early models, and early ones in the final model. A piece is a part."""

    name, title, version = "parts", "Parts alone", 2
    sentence = "The loss of early models with each final part, and of the final model with each early part."
    settings_type = NoSettings

    def n_pieces(self, of: Measured, settings: NoSettings) -> int:
        return len(single_parts(of.info))

    def forms(self, of: Measured, settings: NoSettings) -> dict[str, Form]:
        return dict.fromkeys(("with_final", "final_with"), _form_of_row(of))

    def pieces(self, of: Measured, settings: NoSettings, which: range) -> Iterator[dict[str, Tensor]]:
        batch, last, each = _batch(of, MORE), len(of.ensemble) - 1, list(single_parts(of.info).values())
        for part in (each[i] for i in which):
            column = torch.cat(list(graft_losses(of.ensemble, of.task, batch, part, donors=[last])))
            (row,) = graft_losses(of.ensemble, of.task, batch, part, [last])
            yield {"with_final": column.half(), "final_with": row.half()}

    def seconds(self, of: Measured, settings: NoSettings) -> float:
        return _seconds_of_pair(of, MORE) * 2 * len(of.ensemble) * len(single_parts(of.info))


def single_parts(info: RunInfo) -> dict[str, Part]:
    """What `Parts` grafts: nothing, named `UNCHANGED`, then each part of the model, at last everything.

    Args:
        info: of the run.
    """
    return {UNCHANGED: NOTHING, **parts(info.model)}


def _part(info: RunInfo, name: str) -> Part:
    known = parts(info.model)
    if name not in known:
        raise UserError(f"There is no part {quoted(name)} of this model; there are {', '.join(known)}.")
    return known[name]


def _form_of_row(of: Measured) -> Form:
    """Of the losses (snapshot token)."""
    return torch.float16, (len(of.ensemble), len(of.task.loss_names))


def _batch(of: Measured, more: int = 1) -> Batch:
    return measured_on(of.unseen(more * ANSWERS), more * ANSWERS)


def _seconds_of_pair(of: Measured, more: int = 1) -> float:
    batch = _batch(of, more)
    pairs = graft_losses(of.ensemble, of.task, batch, NOTHING, [0] * TRIED, [0])
    times = []
    began = time.perf_counter()
    for _ in pairs:
        now = time.perf_counter()
        times.append(now - began)
        began = now
    return min(times)
