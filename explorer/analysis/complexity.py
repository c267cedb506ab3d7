"""The local learning coefficient (LLC): how complex each snapshot is, by how fast the loss rises around its weights.

It is half the number of weights where the loss is a quadratic bowl around them, and less where it is flat in some
directions, or flatter than quadratic: where many different weights do the same. Around weights w* it is

    LLC = n_beta (E[L_n(w)] - L_n(w*))

in the limit of large n_beta, with w from the density that `explorer.analysis.langevin` samples. Beside the estimates of
a run, this file says which of them can be believed, and compares settings.

Source: Lau et al. 2023, The Local Learning Coefficient: A Singularity-Aware Complexity Measure; Watanabe 2009,
Algebraic Geometry and Statistical Learning Theory.

Axes
    snapshot               snapshots of the run
    stack, batch           as in `explorer.analysis.langevin`
    n_beta, step_size      the settings that a calibration compares
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from explorer.analysis.components import Component, check_component
from explorer.analysis.langevin import Measure, Problem, Sampled, Sampling, Weights, joined, sample_in_groups
from explorer.model.architectures import activation_bytes, model_from_weights
from explorer.model.ensemble import Ensemble
from explorer.model.fast_forward import logits_at
from explorer.model.transformer import ModelConfig
from explorer.tasks.data import Batch
from explorer.tasks.task import Task

MOST_RATIO = 1.2  # of the equipartition ratio: the estimate is about as much too large as the ratio is above 1
LEAST_RATIO = 0.8  # below it, the chains have not yet gone as far as they will
MOST_BELOW = 0.2  # share of draws below the baseline: there are better weights near by, so that w* is no minimum
PLATEAU = 0.2  # of the coefficient: how much it may differ from those of neighbouring settings
MOST_DRIFT = 0.1  # of the mean excess of the loss: how much it may differ between the halves of a chain


# --- Of a run ---


def of_run(ensemble: Ensemble, task: Task, examples: Batch, component: Component | None = None) -> Problem:
    """The problem of a run: the mean loss of a task on its training examples.

    Args:
        ensemble: the snapshots.
        task: whose loss it is: the mean over examples and answers.
        examples: the training set; for infinite data, a large sample.
        component: whose weights are sampled, while all others stay as they are; None for all weights.

    Raises:
        UserError: the model has no such component.
    """
    cfg = ensemble.cfg

    def bind(weights: Weights) -> Measure:
        model = model_from_weights(cfg, weights)
        parameters = dict(model.named_parameters())

        def measure(rows: Int[Tensor, "stack batch"], names: Sequence[str]) -> tuple[Tensor, Sequence[Tensor]]:
            batch = examples.rows(rows)
            with torch.set_grad_enabled(bool(names)):
                free = [parameters[name].requires_grad_() for name in names]
                losses = task.losses(logits_at(model, batch.tokens, batch.positions), batch).mean(-1)
                gradients = torch.autograd.grad(losses.mean(-1).sum(), free) if names else ()
            return losses.detach(), gradients

        return measure

    everything = {name: torch.tensor(True) for name, _ in ensemble.model(slice(0, 1)).named_parameters()}
    free = everything if component is None else component_mask(component, cfg)
    n_bytes = 2 * activation_bytes(cfg, examples.tokens.shape[1])
    return Problem(ensemble.steps, ensemble.weights, free, bind, len(examples.tokens), n_bytes)


def component_mask(component: Component, cfg: ModelConfig) -> dict[str, Bool[Tensor, "..."]]:
    """Which weights a component has to itself, as `Problem.free` has it.

    Those of a head are its queries, keys, values and outputs; of an MLP its two matrices and biases; of a neuron its
    column of W_in, its bias and its row of W_out. Layer norms and the bias of attention belong to no component.

    Args:
        component: a head, an MLP or a neuron.
        cfg: of the model.

    Raises:
        UserError: the model has no such component.
    """
    check_component(component, cfg)
    block, everything = f"blocks.{component.layer}", torch.tensor(True)
    if cfg.architecture == "table":
        return {f"{block}.attn.{name}": everything for name in ("QK", "OV")}
    if component.kind == "head":
        is_head = torch.arange(cfg.n_heads) == component.index
        matrices = {f"{block}.attn.W_{of}": is_head[:, None, None] for of in "QKVO"}
        return matrices | ({f"{block}.attn.b_{of}": is_head[:, None] for of in "QKV"} if cfg.attn_bias else {})
    own = everything if component.kind == "mlp" else torch.arange(cfg.d_mlp) == component.index
    found = {f"{block}.mlp.W_in": own, f"{block}.mlp.b_in": own, f"{block}.mlp.W_out": own[..., None]}
    return found | ({f"{block}.mlp.b_out": everything} if component.kind == "mlp" else {})


# --- Whether to believe it ---


@dataclass(frozen=True)
class Verdict:
    """Whether the estimate of one snapshot can be believed."""

    healthy: bool
    reason: str = ""  # a sentence that says why not


def verdicts(found: Sampled) -> tuple[Verdict, ...]:
    """Whether each estimate can be believed, and the first reason why not.

    Args:
        found: of some snapshots.

    Returns:
        (snapshot,) verdicts.
    """
    return tuple(Verdict(not reason, reason) for reason in map(_reason, *_measured(found)))


def _measured(found: Sampled) -> tuple[list[float], ...]:
    """What `_reason` takes, each as a list (snapshot,)."""
    excess, drift = (found.estimate.mean / found.sampling.n_beta).abs(), found.drift
    share = drift.mean.abs() / excess
    drifts = share.where(~(drift.mean.abs() <= drift.interval), 0)  # without an error, any difference counts
    diverged = found.diverged.mean(-1, dtype=torch.float64)
    return tuple(values.tolist() for values in (diverged, found.ratio, found.below, drifts))


def _reason(diverged: float, ratio: float, below: float, drift: float) -> str:
    if diverged == 1:
        return "All chains diverged, or the weights themselves are not finite; a smaller step size may help."
    if diverged:
        return f"{diverged:.0%} of the chains diverged; a smaller step size may help."
    if ratio > MOST_RATIO:
        return f"The equipartition ratio is {ratio:.2f} instead of 1: the steps are too large."
    if below > MOST_BELOW:
        return f"{below:.0%} of the draws have a lower loss than the weights themselves, which are at no minimum."
    if ratio < LEAST_RATIO:
        return f"The equipartition ratio is {ratio:.2f} instead of 1: the chains need a longer burn-in."
    if drift > MOST_DRIFT:
        return f"Between the halves of the chains, the excess loss changes by {drift:.0%}: they need a longer burn-in."
    return ""


# --- Which settings ---


@dataclass(frozen=True, eq=False)
class Calibration:
    """Estimates by several settings, to find a plateau: settings on whose choice they depend little.

    Attributes:
        sampling: the settings that all have in common.
        n_betas, step_sizes: the settings that were compared, each ascending.
        steps: the step of each snapshot.
        llc, error, ratio: the estimates, their standard errors and equipartition ratios; nan where not sampled yet.
        healthy: whether they can be believed.
    """

    sampling: Sampling
    n_betas: tuple[float, ...]
    step_sizes: tuple[float, ...]
    steps: tuple[int, ...]
    llc: Float64[Tensor, "n_beta step_size snapshot"]
    error: Float64[Tensor, "n_beta step_size snapshot"]
    ratio: Float64[Tensor, "n_beta step_size snapshot"]
    healthy: Bool[Tensor, "n_beta step_size snapshot"]

    @property
    def change(self) -> Float64[Tensor, "n_beta step_size"]:
        """How much the estimates differ from those of the settings next to them, as a share of their mean size.

        It is the mean over the neighbours in the grid, and over the snapshots at which both are healthy; nan if there
        are none.
        """
        llc = self.llc.masked_fill(~self.healthy, torch.nan)
        found = torch.full((4, *llc.shape), torch.nan, dtype=torch.float64)
        for axis in (0, 1):
            one, other = llc.narrow(axis, 1, llc.shape[axis] - 1), llc.narrow(axis, 0, llc.shape[axis] - 1)
            share = 2 * (one - other).abs() / (one.abs() + other.abs())
            found[2 * axis].narrow(axis, 1, llc.shape[axis] - 1).copy_(share)
            found[2 * axis + 1].narrow(axis, 0, llc.shape[axis] - 1).copy_(share)
        return found.nanmean(-1).nanmean(0)

    @property
    def choice(self) -> Sampling | None:
        """The settings in the middle of the plateau: those that `change` least among those that are healthy at as many
        snapshots as any; None if no such settings have healthy neighbours, or all change by more than `PLATEAU`."""
        n_healthy = self.healthy.sum(-1)
        change = self.change.where(n_healthy == n_healthy.max(), torch.nan).nan_to_num(torch.inf)
        if not (change <= PLATEAU).any():
            return None
        i, j = divmod(int(change.argmin()), len(self.step_sizes))
        return dataclasses.replace(self.sampling, n_beta=self.n_betas[i], step_size=self.step_sizes[j])


def calibrate(
    problem: Problem, sampling: Sampling, n_betas: Sequence[float], step_sizes: Sequence[float]
) -> Iterator[Calibration]:
    """Sample with every pair of an inverse temperature and a step size, to choose a pair with `Calibration.choice`.

    The coefficient is a property of the loss, so an estimate that follows the settings is one of the settings. With
    steps that are too large, and at a temperature that is too high, the chains leave the basin of w*; with steps that
    are too small, they do not arrive where they would stay. Between them lies a plateau. Short chains at three or four
    snapshots, early, in the middle and late, are enough to find it.

    Args:
        problem: at the snapshots to calibrate on, from `Problem.select`.
        sampling: everything but n_beta and step_size.
        n_betas, step_sizes: the settings to compare, in any order.

    Yields:
        The grid after each pair of settings; the last one is complete.
    """
    n_betas, step_sizes = sorted(set(n_betas)), sorted(set(step_sizes))
    shape = (len(n_betas), len(step_sizes), len(problem.steps))
    llc, error, ratio = torch.full((3, *shape), torch.nan, dtype=torch.float64)
    healthy = torch.zeros(shape, dtype=torch.bool)
    for i, n_beta in enumerate(n_betas):
        for j, step_size in enumerate(step_sizes):
            chosen = dataclasses.replace(sampling, n_beta=n_beta, step_size=step_size)
            found = joined(list(sample_in_groups(problem, chosen)))
            llc[i, j], error[i, j], ratio[i, j] = found.estimate.mean, found.estimate.error, found.ratio
            healthy[i, j] = torch.tensor([verdict.healthy for verdict in verdicts(found)])
            tables = (values.clone() for values in (llc, error, ratio, healthy))
            yield Calibration(sampling, tuple(n_betas), tuple(step_sizes), problem.steps, *tables)
