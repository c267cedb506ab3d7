"""What changed before a loss fell, with it, and after it: every measure over training, dated like the fall."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explorer.analysis import leads
from explorer.analysis.circuits import composition_scores
from explorer.analysis.heads import head_scores
from explorer.analysis.leads import DatedChange, Lead, Measure
from explorer.analysis.weights import parameter_norms
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels.curves import Curves
from explorer.film.panels.strip import Strip
from explorer.measures.grafts import UNCHANGED, Parts, single_parts
from explorer.measures.measure import NoSettings
from explorer.measures.sharpness import Sharpness, SharpnessSettings
from explorer.options import Context, choice
from explorer.views import fourier, panels
from explorer.views.heads import REPEATED_TOKENS, datasets, repeated_sequences
from explorer.views.measuring import kept
from explorer.views.subject import Losses, Subject
from explorer.views.view import Item, Link, Links, Note, Table, View, same_labels

SEQUENCES = 16  # of repeated random tokens, over which head scores are averaged
SCORES = ("previous token", "prefix matching")
PROMINENT = 0.2  # share of attention, or K-composition: heads that never have as much of a score are left out
MOST_PAIRS = 3  # of heads, with the largest K-composition
HEAD = re.compile(r"L\d+H\d+")


def _falls(context: Context) -> dict[str, str]:
    return same_labels(context.subject.groups)


@dataclass(frozen=True)
class Options:
    fall: str = choice("Fall of", _falls, widget="list", labelled=True)


class Leads(View[Options]):
    name, title, icon, order = "leads", "Leads", "schedule", 12
    heading = "What led the fall?"
    sentence = (
        "Every measure of the run has falls and rises of its own. Here they stand in the order of training, with "
        "intervals: what changed before the loss fell, and what only after it."
    )
    options_type = Options

    def unavailable(self, subject: Subject, example: str, options: Options) -> str:
        return "" if _fall(subject, options.fall) else _never(subject, options.fall)

    def uses_example(self, subject: Subject, options: Options) -> bool:
        return False

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        fall, table = _table(subject, options.fall)
        return Film(subject.steps, [panels.timeline(subject), _strip(options.fall, fall, table)])

    def look(self, subject: Subject, film: Film) -> Sequence[str]:
        strip = film.panels[1]
        assert isinstance(strip, Strip)
        return [_told(strip, step) for step in film.steps]

    def below(self, subject: Subject, example: str, options: Options) -> Sequence[Item]:
        _, table = _table(subject, options.fall)
        told = [one for one in table if one.change is not None]
        columns: dict[str, Sequence[Any]] = {
            "measure": [one.measure for one in told],
            "changes": ["falls" if one.change.is_fall else "rises" for one in told if one.change],
            "from": [one.change.before for one in told if one.change],
            "to": [one.change.after for one in told if one.change],
            "at step": [round(one.change.steepest) for one in told if one.change],
            "lag": [round(one.lag) for one in told],
            "at least": [round(one.low) for one in told],
            "at most": [round(one.high) for one in told],
            "": [one.verdict for one in told],
        }
        tooltips = {
            "lag": "steps after the loss falls fastest; negative: before it",
            "at least": "of the lag: both are known only to within the snapshots around them, and their noise",
        }
        silent = [one.measure for one in table if one.change is None]
        items: list[Item] = [Table(columns, steps=("at step", "lag", "at least", "at most"), help=tooltips)]
        if silent:
            items.append(Note(f"Without a change near this fall: {', '.join(silent)}.", is_caption=True))
        items.append(Note("What changes first need not be the cause. Ablating it is a test.", is_caption=True))
        heads = dict.fromkeys(head for one in told if one.verdict == "led" for head in HEAD.findall(one.measure))
        tests = [Link(f"ablate {head}", view="cut", options={"do": "ablate", "off": (head,)}) for head in heads]
        return [*items, Links(tests, "Test it:")] if tests else items


def _table(subject: Subject, group: str) -> tuple[DatedChange, list[Lead]]:
    """The deepest fall of a loss, and what led and followed it.

    Args:
        subject: the run.
        group: of losses, whose mean it is.

    Raises:
        UserError: it never falls.
    """
    fall = _fall(subject, group)
    if fall is None:
        raise UserError(_never(subject, group))
    return fall, leads.leads(fall, list(_measures(subject)))


def _fall(subject: Subject, group: str) -> DatedChange | None:
    return leads.deepest_fall(_of_loss(subject, subject.losses()[0], group))


def _never(subject: Subject, group: str) -> str:
    return f"The loss of {group} never falls in {subject.name}, so nothing can have led it; choose another loss or run."


def _of_loss(subject: Subject, losses: Losses, group: str) -> Measure:
    mean = losses.of(subject.groups[group], group)
    return Measure(f"loss of {mean.label(0)}", mean.steps, mean.values[:, 0], span=float(mean.uniform - mean.best))


def _measures(subject: Subject) -> Iterator[Measure]:
    """All measures of a run that are known, as curves over training."""
    steps = torch.tensor(subject.steps)

    def of(name: str, values: Tensor, error: Tensor | None = None, span: float = math.nan) -> Measure:
        return Measure(name, steps, values.double(), None if error is None else error.double(), span)

    for losses in subject.losses()[1:]:
        yield from (_of_loss(subject, losses, group) for group in subject.groups)
    if REPEATED_TOKENS in datasets(subject):
        found = head_scores(subject.ensemble, repeated_sequences(subject).tokens[:SEQUENCES])
        for score in SCORES:
            mean, error = found[score].mean(-1), found[score].std(-1) / SEQUENCES**0.5  # (snapshot head)
            for head, name in enumerate(panels.head_names(subject.info.model)):
                if mean[:, head].max() >= PROMINENT:
                    yield of(f"{score} score of {name}", mean[:, head], error[:, head], span=1.0)
    if subject.info.model.n_layers > 1:
        pairs, scores = composition_scores(subject.ensemble, "K")  # (snapshot pair)
        for pair in scores.amax(0).topk(min(MOST_PAIRS, len(pairs))).indices.tolist():
            yield of(f"K-composition of {' and '.join(pairs[pair])}", scores[:, pair])
    norms = parameter_norms(subject.ensemble)
    yield of("norm of all weights", torch.stack(list(norms.values())).square().sum(0).sqrt())
    if "progress" in fourier.available(subject.info):
        for panel in fourier.film(subject, "progress", fourier.answers(subject)[0]).panels:
            if isinstance(panel, Curves) and panel.id in ("progress", "gini"):
                for line in panel.lines:
                    if line.label in ("restricted", "excluded", "W_E"):
                        name = "Gini coefficient of W_E" if line.label == "W_E" else f"{line.label} loss"
                        yield of(name, torch.as_tensor(np.asarray(line.values)))
    yield from _kept(subject, of)


def _kept(subject: Subject, of: Callable[[str, Tensor], Measure]) -> Iterator[Measure]:
    """Those of the measures that take minutes."""
    sharp = kept(subject, (Sharpness(), SharpnessSettings()))
    if sharp is not None:
        values = torch.full((len(subject.steps),), torch.nan)
        values[sharp.tensors["place"].long()] = sharp.tensors["sharpness"].float()
        yield of("sharpness", values)
    parts = kept(subject, (Parts(), NoSettings()))
    if parts is not None:
        for name, losses in zip(single_parts(subject.info), parts.tensors["with_final"], strict=False):
            if name not in (UNCHANGED, "everything"):
                yield of(f"loss with the final {name}", losses.float().mean(-1))


def _strip(group: str, fall: DatedChange, table: Sequence[Lead]) -> Strip:
    """The fall and the changes near it, each at its steepest step, with its interval."""
    name = f"the fall: loss of {group}"
    dated = [(name, fall), *((one.measure, one.change) for one in table if one.change is not None)]
    dated.sort(key=lambda pair: pair[1].steepest)
    steepest, low, high = (
        np.array([[getattr(change, field) for _, change in dated]]) for field in ("steepest", "low", "high")
    )
    rows = [name for name, _ in dated]
    return Strip(
        "changes",
        "When each measure changes fastest",
        rows,
        ["changes"],
        steepest[:, :, None],
        [["steepest step"]],
        steepest,
        low,
        high,
        middle="steepest step",
        interval="its interval",
    )


def _told(strip: Strip, step: int) -> str:
    """Which changes are over at a step, and which comes next."""
    at = list(zip(strip.median[0].tolist(), strip.rows, strict=True))
    over, later = (
        [name for steepest, name in at if steepest <= step],
        [name for steepest, name in at if steepest > step],
    )
    if not over:
        return f"Nothing has changed yet; first comes the {later[0]}."
    latest = f"{len(over)} of {len(at)} have changed, the latest: {over[-1]}."
    return f"{latest} Next: {later[0]}." if later else latest
