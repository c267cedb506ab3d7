"""How complex what a model has learnt is: the local learning coefficient over training, its health, its settings."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.analysis.complexity import LEAST_RATIO, MOST_BELOW, MOST_RATIO, Calibration, verdicts
from explorer.analysis.components import components
from explorer.analysis.langevin import Sampled
from explorer.film.film import Film
from explorer.film.panels.columns import Columns
from explorer.film.panels.panel import Panel
from explorer.measures.complexity import (
    ALL,
    Calibrated,
    Complexity,
    ComplexitySettings,
    calibration,
    sampled,
)
from explorer.measures.measure import NoSettings
from explorer.options import Context, choice
from explorer.views import panels
from explorer.views.measuring import MeasuredView, Needed, kept, measured
from explorer.views.subject import Subject
from explorer.views.view import same_labels

BINS = 15  # of the draws of a chain, in a picture of them
FULL_COLOUR = 0.75  # quantile of the estimates at which colours end, so that a few large ones do not pale the others
GOOD, BAD = "estimate", "not to be believed"


def _parts(context: Context) -> dict[str, str]:
    return same_labels([ALL, *(component.name for component in components(context.subject.info.model))])


@dataclass(frozen=True)
class Options:
    part: str = choice("Complexity of", _parts, widget="list", labelled=True)


class ComplexityView(MeasuredView[Options]):
    name, title, icon, order = "complexity", "Complexity", "landscape", 14
    heading = "How complex is what it has learnt?"
    sentence = (
        "The local learning coefficient is half the number of directions in which the loss rises when the weights are "
        "changed, if it rises as in a bowl, and less if it is flatter. It is sampled by noisy steps around each "
        "snapshot; beside it stands whether this can be believed."
    )
    options_type = Options

    def needs(self, subject: Subject, options: Options) -> Sequence[Needed]:
        return [(Complexity(), settings_of(subject, options.part)), (Calibrated(), NoSettings())]

    def uses_example(self, subject: Subject, options: Options) -> bool:
        return False

    def film(self, subject: Subject, example: str, options: Options, second: Subject | None = None) -> Film:
        (complexity, grid), shown = self.needs(subject, options), list[Panel]([panels.timeline(subject)])
        found, of_grid, look = kept(subject, complexity), kept(subject, grid), list[str]()
        if found is not None:
            result = sampled(measured(subject), complexity[1], found.tensors)
            shown += _estimates(subject, result)
            look = _told(subject, result)
        if of_grid is not None:
            shown.append(_calibration(subject, of_grid.tensors))
        return Film(subject.steps, shown, look)

    def look(self, subject: Subject, film: Film) -> Sequence[str]:
        return film.look


def _told(subject: Subject, found: Sampled) -> list[str]:
    """What the estimate of each snapshot is, or why it cannot be believed."""
    at, told, said = {step: i for i, step in enumerate(found.steps)}, verdicts(found), []
    for step in subject.steps:
        if step not in at:
            said.append("Not measured yet.")
            continue
        place = at[step]
        mean, interval = found.estimate.mean[place], found.estimate.interval[place]
        excess = mean / found.sampling.n_beta
        good = (
            f"The coefficient is {mean:.1f} ± {interval:.1f}: the chains are on average {excess:.3g} nats above "
            f"the loss of the snapshot, {found.baseline[place]:.3g}."
        )
        said.append(f"Not to be believed here: {told[place].reason}" if told[place].reason else good)
    return said


def settings_of(subject: Subject, part: str = ALL) -> ComplexitySettings:
    """Those of the plateau, if it was looked for and found.

    Args:
        subject: the run.
        part: of the model, whose weights are sampled.
    """
    return dataclasses.replace(Complexity().chosen(subject.run, measured(subject)), part=part)


def believed(subject: Subject, found: Sampled) -> tuple[Tensor, Tensor]:
    """The learning coefficient and its standard error at each snapshot, nan where none can be believed.

    Args:
        subject: the run.
        found: what was measured of it.

    Returns:
        Both (snapshot,).
    """
    healthy = torch.tensor([verdict.healthy for verdict in verdicts(found)])
    good = (found.estimate.mean.where(healthy, torch.nan), found.estimate.error.where(healthy, torch.nan))
    llc, error = (_over(subject, found, values) for values in good)
    return llc, error


def _over(subject: Subject, found: Sampled, values: Tensor) -> Tensor:
    """Values of the measured snapshots as those of all."""
    frames = {step: frame for frame, step in enumerate(subject.steps)}
    whole = torch.full((len(frames), *values.shape[1:]), torch.nan, dtype=torch.float64)
    whole[[frames[step] for step in found.steps]] = values.double()
    return whole


def _estimates(subject: Subject, found: Sampled) -> list[Panel]:
    over = functools.partial(_over, subject, found)
    llc, interval, (good, _) = over(found.estimate.mean), over(found.estimate.interval), believed(subject, found)
    curves = {GOOD: good, BAD: llc.where(good.isnan(), torch.nan)}
    margins = {name: interval.where(~values.isnan(), torch.nan) for name, values in curves.items()}
    excess = found.losses - found.baseline[:, None, None]  # (snapshot chain draw)
    n = min(BINS, excess.shape[-1])
    binned = torch.stack([part.mean(-1) for part in excess.tensor_split(n, -1)], -1)
    chains = [f"chain {i + 1}" for i in range(binned.shape[1])]
    draws = [str(int(part[0]) + 1) for part in torch.arange(excess.shape[-1]).tensor_split(n)]
    n_chains = found.sampling.chains
    title = f"Local learning coefficient, the mean of {n_chains} chains with three standard errors"
    return [
        panels.over_snapshots(subject, "llc", title, curves, "", height=320, intervals=margins),
        panels.over_snapshots(
            subject,
            "ratio",
            "Equipartition ratio, which should be 1",
            {"ratio": over(found.ratio)},
            "",
            6,
            references=[("at least", LEAST_RATIO), ("at most", MOST_RATIO)],
        ),
        panels.over_snapshots(
            subject,
            "below",
            "Share of draws below the snapshot's own loss",
            {"share": over(found.below)},
            "",
            6,
            references=[("at most", MOST_BELOW)],
        ),
        Columns(
            "chains",
            "Loss along the chains, above that of the snapshot",
            draws,
            chains,
            over(binned).numpy(),
            unit="nats",
            category_axis="draw",
        ),
    ]


def _calibration(subject: Subject, tensors: Mapping[str, Tensor]) -> Panel:
    grid = calibration(measured(subject), tensors)
    shown = grid.llc.masked_fill(~grid.healthy, torch.nan).permute(2, 0, 1)  # (snapshot n_beta step_size)
    title, framed = _chosen(grid)
    return panels.signed_maps(
        "calibration",
        f"Learning coefficient where it can be believed, by settings{title}",
        [f"step {step:,}" for step in grid.steps],
        shown.expand(len(subject.steps), *shown.shape),
        [f"{n_beta:g}" for n_beta in grid.n_betas],
        [f"{step_size:g}" for step_size in grid.step_sizes],
        "n beta",
        "step size",
        framed,
        full_colour_at=float(shown.nanquantile(FULL_COLOUR)),
    )


def _chosen(grid: Calibration) -> tuple[str, list[tuple[int, int, int, int]]]:
    """The settings on whose choice it depends least, as the end of a title, and the cell to frame."""
    if grid.choice is None:
        return ": no plateau is found", []
    row, column = grid.n_betas.index(grid.choice.n_beta), grid.step_sizes.index(grid.choice.step_size)
    return f": it changes by {grid.change[row, column]:.0%} beside the framed ones", [(row, column, 1, 1)]
