"""The local learning coefficient at each snapshot, and the comparison of settings with which it is sampled."""

import dataclasses
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.analysis.complexity import Calibration, calibrate, of_run
from explorer.analysis.components import Component, parse_component
from explorer.analysis.langevin import Problem, Sampled, Sampling, sample_in_groups
from explorer.errors import UserError
from explorer.measures.measure import Form, Measure, Measured, NoSettings, coarse_first, read_kept
from explorer.runs import Run
from explorer.settings import check_settings, setting

ALL = "all weights"
EXAMPLES = 2048  # of a run that sees new ones at every step
N_BETAS = (2.0, 8.0, 32.0, 128.0)
STEP_SIZES = (1e-4, 3e-4, 1e-3, 3e-3)
SNAPSHOTS = 4  # at which settings are compared
SHORT = {"chains": 3, "draws": 60, "burn_in": 60}  # of the chains for that
GRID = ("llc", "error", "ratio", "healthy")  # what is kept of each pair of settings
TRIED = 10  # updates of a trial


@dataclass(frozen=True)
class ComplexitySettings:
    """What is sampled, and how: those of `explorer.analysis.langevin.Sampling`."""

    part: str = setting("head or MLP whose weights alone are sampled, such as L0H1, or all weights", default=ALL)
    n_beta: float = setting("inverse temperature times the number of examples, 1 / nats", 1e-6, 1e9, default=25.0)
    localisation: float = setting("pull towards the snapshot, 1 / squared weight", 0, 1e9, default=100.0)
    step_size: float = setting("of SGLD, squared weight", 1e-12, 10, default=1e-3)
    chains: int = setting("of each snapshot", 2, 64, default=4)
    draws: int = setting("of each chain", 2, 100_000, default=300)
    burn_in: int = setting("updates before the first draw", 0, 100_000, default=100)
    batch_size: int = setting("examples of an update", 1, 1_000_000, default=128)
    seed: int = setting("of noise and batches", 0, 2**32 - 1, default=0)

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def sampling(self) -> Sampling:
        values = dataclasses.asdict(self)
        del values["part"]
        return Sampling(**values)


class Complexity(Measure[ComplexitySettings]):
    """A piece is a snapshot."""

    name, title = "complexity", "Local learning coefficient"
    sentence = "How fast the loss rises around the weights of each snapshot: how complex what it has learnt is."
    settings_type, places = ComplexitySettings, "place"

    def chosen(self, run: Run, of: Measured) -> ComplexitySettings:
        """Those of the plateau, if it was looked for and found."""
        measure, settings = Calibrated(), ComplexitySettings()
        try:
            kept, _ = read_kept(run, measure, NoSettings(), of)
        except UserError:  # which is said where the calibration is shown
            return settings
        if kept is None or kept.share < 1:
            return settings
        plateau = calibration(of, kept.tensors).choice
        if plateau is None:
            return settings
        return dataclasses.replace(settings, n_beta=plateau.n_beta, step_size=plateau.step_size)

    def file_name(self, settings: ComplexitySettings) -> str:
        part = "" if settings.part == ALL else f"-{settings.part.replace(' ', '-')}"
        return f"{self.name}{part}"

    def n_pieces(self, of: Measured, settings: ComplexitySettings) -> int:
        _component(of, settings.part)
        return len(of.ensemble)

    def forms(self, of: Measured, settings: ComplexitySettings) -> dict[str, Form]:
        return {
            "place": (torch.int64, ()),
            "baseline": (torch.float64, ()),
            "losses": (torch.float32, (settings.chains, settings.draws)),
            "ratios": (torch.float64, (settings.chains,)),
        }

    def pieces(self, of: Measured, settings: ComplexitySettings, which: range) -> Iterator[dict[str, Tensor]]:
        order = coarse_first(len(of.ensemble))
        places = [order[i] for i in which]
        at = dict(zip(of.ensemble.steps, range(len(of.ensemble)), strict=True))
        for found in sample_in_groups(_problem(of, settings.part).select(places), settings.sampling):
            for i, step in enumerate(found.steps):
                yield {
                    "place": torch.tensor(at[step]),
                    "baseline": found.baseline[i],
                    "losses": found.losses[i].float(),
                    "ratios": found.ratios[i],
                }

    def seconds(self, of: Measured, settings: ComplexitySettings) -> float:
        sampling = settings.sampling
        updates = sampling.burn_in + sampling.draws
        return _seconds_of_update(of, settings.part, sampling) * updates * len(of.ensemble)


def sampled(of: Measured, settings: ComplexitySettings, tensors: Mapping[str, Tensor]) -> Sampled:
    """The pieces of `Complexity` that there are, in the order of training.

    Args:
        of: what was measured.
        settings: with which.
        tensors: of the pieces.
    """
    order = tensors["place"].argsort()
    steps = tuple(of.ensemble.steps[place] for place in tensors["place"][order].tolist())
    losses = tensors["losses"][order].double()
    return Sampled(steps, settings.sampling, tensors["baseline"][order], losses, tensors["ratios"][order])


class Calibrated(Measure[NoSettings]):
    """Short chains with each pair of an inverse temperature and a step size, at a few snapshots. A piece is a pair."""

    name, title = "calibration", "Calibration of the learning coefficient"
    sentence = "Estimates by several step sizes and temperatures: a plateau shows which can be believed."
    settings_type = NoSettings

    def n_pieces(self, of: Measured, settings: NoSettings) -> int:
        return len(N_BETAS) * len(STEP_SIZES)

    def forms(self, of: Measured, settings: NoSettings) -> dict[str, Form]:
        at = (len(calibrated_at(len(of.ensemble))),)
        return {name: (torch.bool if name == "healthy" else torch.float64, at) for name in GRID}

    def pieces(self, of: Measured, settings: NoSettings, which: range) -> Iterator[dict[str, Tensor]]:
        problem = _problem(of, ALL).select(calibrated_at(len(of.ensemble)))
        pairs = [(n_beta, step_size) for n_beta in N_BETAS for step_size in STEP_SIZES]
        for n_beta, step_size in (pairs[i] for i in which):
            (found,) = calibrate(problem, _short(n_beta, step_size), [n_beta], [step_size])
            yield {name: getattr(found, name)[0, 0] for name in GRID}

    def seconds(self, of: Measured, settings: NoSettings) -> float:
        updates = SHORT["draws"] + SHORT["burn_in"]
        each = _seconds_of_update(of, ALL, _short(N_BETAS[0], STEP_SIZES[0]))
        return each * updates * len(calibrated_at(len(of.ensemble))) * self.n_pieces(of, settings)


def calibrated_at(n: int) -> list[int]:
    """The places of the snapshots at which settings are compared, ascending.

    Args:
        n: snapshots of the run.
    """
    return sorted(coarse_first(n)[:SNAPSHOTS])


def calibration(of: Measured, tensors: Mapping[str, Tensor]) -> Calibration:
    """The pieces of `Calibrated` that there are, as a grid.

    Args:
        of: what was measured.
        tensors: of the pieces.
    """
    steps = tuple(of.ensemble.steps[place] for place in calibrated_at(len(of.ensemble)))
    shape = (len(N_BETAS), len(STEP_SIZES), len(steps))

    def grid(name: str) -> Tensor:
        values = tensors[name]
        whole = (
            torch.zeros(shape, dtype=torch.bool)
            if values.dtype == torch.bool
            else torch.full(shape, torch.nan).double()
        )
        whole.flatten(0, 1)[: len(values)] = values
        return whole

    return Calibration(_short(N_BETAS[0], STEP_SIZES[0]), N_BETAS, STEP_SIZES, steps, *map(grid, GRID))


def _short(n_beta: float, step_size: float) -> Sampling:
    return dataclasses.replace(ComplexitySettings().sampling, n_beta=n_beta, step_size=step_size, **SHORT)


def _problem(of: Measured, part: str) -> Problem:
    return of_run(of.ensemble, of.task, of.training_data(EXAMPLES), _component(of, part))


def _component(of: Measured, part: str) -> Component | None:
    return None if part == ALL else parse_component(part, of.info.model)


def _seconds_of_update(of: Measured, part: str, sampling: Sampling) -> float:
    """Of all chains of one snapshot."""
    problem = _problem(of, part).select([0])
    one_batch = dataclasses.replace(problem, n=min(problem.n, sampling.batch_size))  # all need one baseline only

    def took(burn_in: int) -> float:
        began = time.perf_counter()
        next(sample_in_groups(one_batch, dataclasses.replace(sampling, draws=2, burn_in=burn_in)))
        return time.perf_counter() - began

    took(0)
    return max(took(TRIED) - took(0), 0.0) / TRIED
