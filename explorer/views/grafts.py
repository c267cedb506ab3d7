"""Which part of the model carries the phase change: parts of one snapshot put into another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explorer.analysis.grafts import carried, parts
from explorer.film.film import Film
from explorer.film.panels.curves import Curves
from explorer.film.panels.pairs import Pairs
from explorer.film.panels.panel import Panel
from explorer.measures.grafts import UNCHANGED, Grafts, OfPart, Parts, single_parts
from explorer.measures.measure import NoSettings
from explorer.options import Context, choice
from explorer.views import panels
from explorer.views.measuring import MeasuredView, Needed, kept
from explorer.views.subject import Subject
from explorer.views.view import same_labels

ALL_TOKENS = -1
LEAST_FALL = 0.1  # of the largest difference between the losses of any two snapshots; shares of less say little


def _parts_of(context: Context) -> dict[str, str]:
    return same_labels(name for name in parts(context.subject.info.model) if name != "everything")


def _tokens(context: Context) -> dict[int, str]:
    names = context.subject.task.loss_names
    return {ALL_TOKENS: "all"} | (dict(enumerate(names)) if len(names) > 1 else {})


@dataclass(frozen=True)
class Options:
    part: str = choice("Part", _parts_of, widget="list", labelled=True)
    token: int = choice("Loss of", _tokens, widget="list", labelled=True)


class GraftView(MeasuredView[Options]):
    name, title, icon, order = "grafts", "Grafts", "move_down", 11
    heading = "Which part carries the change?"
    sentence = (
        "The weights of one part of the model are taken from one snapshot and put into another. If a late part alone "
        "gives an early model a low loss, this part carries what was learnt. Losses are means over some 3,000 answers "
        "that the model is not trained on, those of the map over 400."
    )
    options_type = Options

    def needs(self, subject: Subject, options: Options) -> Sequence[Needed]:
        return [(Parts(), NoSettings()), (Grafts(), OfPart(options.part))]

    def uses_example(self, subject: Subject, options: Options) -> bool:
        return False

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        of_parts, matrix = (kept(subject, needed) for needed in self.needs(subject, options))
        shown: list[Panel] = [panels.timeline(subject)]
        if matrix is not None:
            shown += _maps(subject, options, matrix.tensors)
        if of_parts is not None:
            known = single_parts(subject.info)
            first = {part: name for name, part in reversed(known.items())}  # of the names of the same weights
            titles = {"with_final": "Early models with the final part", "final_with": "Final model with early parts"}
            for name, title in titles.items():
                losses = _of_token(of_parts.tensors[name], options.token)  # (part snapshot)
                curves = {
                    label: row
                    for (label, part), row in zip(known.items(), losses, strict=False)  # some may be missing yet
                    if label in (first[part], options.part)
                }
                shown.append(panels.over_snapshots(subject, name, title, curves, "nats", total=options.part))
        return Film(subject.steps, shown)

    def look(self, subject: Subject, film: Film) -> Sequence[str]:
        found = [panel for panel in film.panels if isinstance(panel, Curves) and panel.id == "with_final"]
        if not found:
            return ()
        *early, last = enumerate(film.steps)
        return [*(_carried(found[0], *at) for at in early), _finally(found[0], *last)]


def _of_token(losses: Tensor, token: int) -> Tensor:
    """(... token) as those of one token, or the mean of those that occur."""
    return losses.float().nanmean(-1) if token == ALL_TOKENS else losses[..., token].float()


def _maps(subject: Subject, options: Options, tensors: Mapping[str, Tensor]) -> list[Panel]:
    """The loss of each pair, and how much of the fall between the two snapshots the part alone carries.

    Args:
        subject: the run.
        options: of the view.
        tensors: of `Grafts`.
    """
    n = len(subject.steps)
    losses = torch.full((n, n), torch.nan)
    losses[tensors["receiver"].long()] = _of_token(tensors["loss"], options.token)
    axes = "all else from step", f"{options.part} from step"
    found = losses.numpy()
    title = f"Loss with {options.part} of another snapshot"
    high = float(np.max(found, where=np.isfinite(found), initial=0)) or 1.0
    of_fall = f"Share of the fall carried by {options.part} alone"
    own = losses.diagonal()
    fall = (own[:, None] - own).abs()
    largest = fall.nan_to_num(0).max()
    shares = carried(losses).where(fall >= LEAST_FALL * largest, torch.nan).numpy()
    return [
        Pairs("graft", title, found, *axes, low=0.0, high=high, unit="nats", span=6),
        Pairs("share", of_fall, shares, *axes, low=-1.0, high=1.0, unit="of the fall", scale="diverging", span=6),
    ]


def _carried(panel: Curves, frame: int, step: int) -> str:
    """Which final part lowers the loss of the model at a frame most."""
    losses = {line.label: float(line.values[frame]) for line in panel.lines if np.isfinite(line.values[frame])}
    before, whole = losses.pop(UNCHANGED, None), losses.pop("everything", None)
    if before is None or not losses:
        return ""
    best = min(losses, key=losses.__getitem__)
    if losses[best] >= before:
        return f"Step {step:,}: no final part alone lowers the loss, {before:.2f} nats; the parts fit only each other."
    final = "" if whole is None else f"; with all final weights it is {whole:.2f}"
    return (
        f"Step {step:,}: the final weights of {best} alone bring the loss from {before:.2f} to {losses[best]:.2f} "
        f"nats{final}."
    )


def _finally(panel: Curves, frame: int, step: int) -> str:
    """What there is to say of the last snapshot, into which its own parts are put."""
    (loss,) = [float(line.values[frame]) for line in panel.lines if line.label == UNCHANGED]
    at = f", {loss:.2f} nats" if np.isfinite(loss) else ""
    return f"Step {step:,}: these are the final parts themselves, so none of them changes the loss{at}."
