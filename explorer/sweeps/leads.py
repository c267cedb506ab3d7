"""What led each fall in the runs of a sweep, kept in leads.safetensors: it stays when the runs' snapshots are removed.

Axes
    run        of those that were dated
    fall       the losses whose falls are dated
    measure    what may have led them
    field      of a change, as in `DatedChange`
"""

import dataclasses
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.analysis.leads import DatedChange, Lead, compared, in_order
from explorer.errors import UserError, printable
from explorer.runs.place import LEADS
from explorer.runs.sweeps import Sweep

VERSION = 1  # of how changes are dated
FIELDS = tuple(field.name for field in dataclasses.fields(DatedChange))


@dataclass(frozen=True)
class Dated:
    """What led the fall of a loss in one run."""

    fall: DatedChange | None  # None if the loss never falls
    table: Sequence[Lead] = ()  # of all measures


@dataclass(frozen=True)
class DatedRun:
    """What led the falls in one run."""

    of: str  # what tells apart what was dated
    falls: Mapping[str, Dated]  # name of a loss -> what led its fall


def read_leads(sweep: Sweep, losses: Collection[str]) -> dict[str, DatedRun]:
    """What is kept of the runs that were dated, by name.

    Args:
        sweep: the sweep.
        losses: whose falls are dated, by name.

    Raises:
        UserError: the file is damaged, is of another sweep, or was written by another version.
    """
    tensors, metadata = sweep.read(LEADS)
    if not tensors:
        return {}
    shown = f"{sweep.name}/{LEADS}"
    again = f"while the snapshots are there, date them again with: python -m explorer measure leads {sweep.name}"
    try:
        told = json.loads(metadata["leads"])
        if told["version"] != VERSION:
            raise UserError(f"{shown} was written by another version of the explorer; {again}.")
        runs, falls, measures = (_names(told[name]) for name in ("runs", "falls", "measures"))
        of = _names(told["of"])
        shape = (len(runs), len(falls), len(measures))
        expected = {
            "fall": ((*shape[:2], len(FIELDS)), torch.float64),
            "changes": ((*shape, len(FIELDS)), torch.float64),
            "measured": (shape, torch.bool),
        }
        if {name: (tuple(x.shape), x.dtype) for name, x in tensors.items()} != expected:
            raise ValueError("The tensors have other shapes.")
        if len(of) != len(runs) or not set(runs) <= {cell.name for cell in sweep.info().cells}:
            raise ValueError("It is of other runs.")
        if falls != list(losses) or any(len(set(names)) < len(names) for names in (runs, measures)):
            raise ValueError("It is of other losses.")
        return {
            run: DatedRun(of[i], {fall: _dated(tensors, i, j, measures) for j, fall in enumerate(falls)})
            for i, run in enumerate(runs)
        }
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError):
        raise UserError(f"{shown} does not hold what led the falls of this sweep; {again}.") from None


def write_leads(sweep: Sweep, found: Mapping[str, DatedRun], check: Callable[[], object]) -> None:
    """Keep what led the falls.

    Args:
        sweep: the sweep.
        found: of some of its runs, by name, each with the same falls.
        check: what `Sweep.alone` yields.

    Raises:
        WriteError: it cannot be written.
    """
    falls = list(next(iter(found.values())).falls)
    of_all = [run.falls[fall] for run in found.values() for fall in falls]
    measures = list(dict.fromkeys(lead.measure for dated in of_all for lead in dated.table))
    shape = (len(found), len(falls), len(measures))
    fallen = torch.full((len(of_all), len(FIELDS)), torch.nan, dtype=torch.float64)
    changes = torch.full((len(of_all), len(measures), len(FIELDS)), torch.nan, dtype=torch.float64)
    measured = torch.zeros(len(of_all), len(measures), dtype=torch.bool)
    for i, dated in enumerate(of_all):
        if dated.fall:
            fallen[i] = torch.tensor(dataclasses.astuple(dated.fall), dtype=torch.float64)
        for lead in dated.table:
            place = measures.index(lead.measure)
            measured[i, place] = True
            if lead.change:
                changes[i, place] = torch.tensor(dataclasses.astuple(lead.change), dtype=torch.float64)
    tensors = {
        "fall": fallen.unflatten(0, shape[:2]),
        "changes": changes.unflatten(0, shape[:2]),
        "measured": measured.unflatten(0, shape[:2]),
    }
    told = {"version": VERSION, "runs": list(found), "of": [run.of for run in found.values()]}
    sweep.write(LEADS, tensors, {"leads": json.dumps({**told, "falls": falls, "measures": measures})}, check)


def _names(values: object) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("They are no names.")
    return [printable(value) for value in values]


def _dated(tensors: Mapping[str, Tensor], run: int, fall: int, measures: Sequence[str]) -> Dated:
    fallen = _change(tensors["fall"][run, fall])
    if fallen is None:
        return Dated(None)
    changes, measured = tensors["changes"][run, fall], tensors["measured"][run, fall]
    there = measured.nonzero()[:, 0].tolist()
    return Dated(fallen, in_order(compared(measures[i], fallen, _change(changes[i])) for i in there))


def _change(fields: Tensor) -> DatedChange | None:
    values = fields.tolist()
    return DatedChange(*values) if all(map(math.isfinite, values)) else None
