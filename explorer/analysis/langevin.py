"""Stochastic gradient Langevin dynamics (SGLD): draws of weights near those of each snapshot, where the loss is low.

Chains that begin at weights w* draw from the density

    p(w)  ~  exp(-n_beta L_n(w) - localisation / 2 |w - w*|^2)

by steps w <- w - step_size / 2 (n_beta grad L_batch(w) + localisation (w - w*)) + sqrt(step_size) N(0, 1). L_n is the
mean loss of all examples. This file knows no models: what has weights and a loss can be sampled.

Each draw is measured on its own batch, before the next step, and compared there with w* on the same examples. So its
loss does not depend on how hard its batch is, and the baseline L_n(w*) is that of the whole set.

Source: Welling and Teh 2011, Bayesian Learning via Stochastic Gradient Langevin Dynamics; Lau et al. 2023, The Local
Learning Coefficient: A Singularity-Aware Complexity Measure.

Axes
    snapshot    snapshots of the run
    chain       independent chains of each snapshot
    draw        the weights of a chain that count, in the order in which they were drawn
    stack       (snapshot chain), all sampled at once
    weight      all weights that are sampled, flattened one after another
    batch       examples of a batch
    example     all examples
"""

import dataclasses
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from explorer.analysis.samples import Estimate, Tally
from explorer.errors import UserError

MEMORY_BUDGET = 64 * 2**20  # bytes that one update of all chains uses; with more, they do not stay in the cache

Weights = Mapping[str, Tensor]  # name -> (stack ...)
# Rows of the examples (stack batch), names of weights -> the loss of each example (stack batch) in nats, and for each
# of the names the gradient of each model's mean loss, (stack ...).
Measure = Callable[[Int[Tensor, "stack batch"], Sequence[str]], tuple[Float[Tensor, "stack batch"], Sequence[Tensor]]]
Bind = Callable[[Weights], Measure]  # the weights are changed in place afterwards


@dataclass(frozen=True)
class Sampling:
    """How SGLD samples.

    Raises:
        UserError: a setting is out of range; the sentence names it.
    """

    n_beta: float = 25.0  # inverse temperature times the number of examples, 1 / nats
    localisation: float = 100.0  # strength of the pull towards w*, 1 / squared unit of the weights
    step_size: float = 1e-3  # squared unit of the weights
    chains: int = 4  # of each snapshot
    draws: int = 300  # of each chain
    burn_in: int = 100  # updates before the first draw
    updates_per_draw: int = 1
    batch_size: int = 128  # examples of an update; the whole set if it has no more
    seed: int = 0  # of noise and batches; each snapshot makes its own from it

    def __post_init__(self) -> None:
        least = {"chains": 2, "draws": 2, "burn_in": 0, "updates_per_draw": 1, "batch_size": 1, "seed": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least {low}.")
        for name in ("n_beta", "step_size"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}; it must be a number above 0.")
        if not 0 <= self.localisation < math.inf:
            raise UserError(f"localisation is {self.localisation}; it must be 0 or a number above 0.")


@dataclass(frozen=True, eq=False)
class Problem:
    """What is sampled: weights, and a loss as a function of them. It need not be that of a model.

    Attributes:
        steps: the step of each snapshot; each is there once.
        weights: name -> (snapshot ...), w*.
        free: name -> bool, of the shape of one snapshot's weight or broadcast to it: which entries are sampled. All
            others, and weights without a name in it, stay as they are.
        bind: given the weights of a stack, returns what measures them.
        n: examples.
        bytes_of_example: memory that one example takes in one model during an update.
    """

    steps: tuple[int, ...]
    weights: Weights
    free: Mapping[str, Tensor]
    bind: Bind
    n: int
    bytes_of_example: int = 0

    def select(self, snapshots: slice | list[int]) -> "Problem":
        """The same problem at some of the snapshots.

        Args:
            snapshots: slice of the snapshot axis, or places on it.
        """
        places = range(len(self.steps))[snapshots] if isinstance(snapshots, slice) else snapshots
        weights = {name: weight[snapshots] for name, weight in self.weights.items()}
        return dataclasses.replace(self, steps=tuple(self.steps[place] for place in places), weights=weights)

    @property
    def n_free(self) -> int:
        """How many weights of a snapshot are sampled."""
        return sum(int(mask.expand(self.weights[name].shape[1:]).sum()) for name, mask in self.free.items())


@dataclass(frozen=True, eq=False)
class Sampled:
    """What the chains of some snapshots found. A chain that diverged has losses that are not finite.

    Attributes:
        steps: the step of each snapshot.
        sampling: how they were sampled.
        baseline: L_n(w*) in nats, on all examples.
        losses: L_n(w) in nats, estimated on the batch of each draw.
        ratios: the mean over draws of (w - w*) . (n_beta grad L + localisation (w - w*)), by the number of weights. It
            is 1 for the density itself, whatever the loss is (equipartition); steps that are too large make it larger.
    """

    steps: tuple[int, ...]
    sampling: Sampling
    baseline: Float64[Tensor, " snapshot"]
    losses: Float64[Tensor, "snapshot chain draw"]
    ratios: Float64[Tensor, "snapshot chain"]

    @property
    def diverged(self) -> Bool[Tensor, "snapshot chain"]:
        """Whether a loss of a chain, or its ratio, is not finite."""
        return ~(self.losses.isfinite().all(-1) & self.ratios.isfinite() & self.baseline.isfinite()[:, None])

    @property
    def by_chain(self) -> Float64[Tensor, "snapshot chain"]:
        """The coefficient by each chain alone; nan where it diverged."""
        found = self.sampling.n_beta * (self.losses.mean(-1) - self.baseline[:, None])
        return found.masked_fill(self.diverged, torch.nan)

    @property
    def estimate(self) -> Estimate:
        """The coefficient of each snapshot: the mean and standard error over the chains that did not diverge."""
        return _over_chains(self.by_chain)

    @property
    def ratio(self) -> Float64[Tensor, " snapshot"]:
        """The equipartition ratio of each snapshot, over the chains that did not diverge."""
        return self.ratios.masked_fill(self.diverged, torch.nan).nanmean(-1)

    @property
    def below(self) -> Float64[Tensor, " snapshot"]:
        """The share of draws whose loss is below the baseline, over the chains that did not diverge."""
        of_chain = (self.losses < self.baseline[:, None, None]).mean(-1, dtype=torch.float64)
        return of_chain.masked_fill(self.diverged, torch.nan).nanmean(-1)

    @property
    def drift(self) -> Estimate:
        """The mean loss of the second half of the draws minus that of the first half, in nats, for each snapshot."""
        half = self.losses.shape[-1] // 2
        found = self.losses[..., -half:].mean(-1) - self.losses[..., :half].mean(-1)
        return _over_chains(found.masked_fill(self.diverged, torch.nan))


def _over_chains(values: Float64[Tensor, "snapshot chain"]) -> Estimate:
    tally = Tally()
    tally.add(values)
    return tally.estimate()


def joined(parts: Sequence[Sampled]) -> Sampled:
    """The results of several groups of snapshots as one.

    Args:
        parts: at least one, all sampled in the same way.
    """

    def together(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    steps = tuple(step for part in parts for step in part.steps)
    return Sampled(steps, parts[0].sampling, together("baseline"), together("losses"), together("ratios"))


# --- Sampling ---


def sample_in_groups(problem: Problem, sampling: Sampling, at_once: int | None = None) -> Iterator[Sampled]:
    """Sample some snapshots after others, so that results come one by one and the chains stay in the cache.

    Every snapshot has its own generator of noise and batches, seeded by ``sampling.seed`` and its step. So what is
    found of it does not depend on the snapshots beside which it is sampled, bit for bit.

    Args:
        problem: what is sampled.
        sampling: how.
        at_once: snapshots of a group; None for as many as fit the cache.

    Yields:
        The results of each group.
    """
    if at_once is None:
        n_weights = sum(weight[0].numel() for weight in problem.weights.values())
        per_model = min(sampling.batch_size, problem.n) * problem.bytes_of_example + 16 * n_weights
        at_once = max(1, MEMORY_BUDGET // (sampling.chains * per_model))
    for first in range(0, len(problem.steps), at_once):
        yield sample(problem.select(slice(first, first + at_once)), sampling)


@torch.no_grad()
def sample(problem: Problem, sampling: Sampling) -> Sampled:
    """Sample all chains of all snapshots as one stack; see `sample_in_groups` for parts of it.

    Args:
        problem: what is sampled.
        sampling: how.
    """
    rngs = [_generator(sampling.seed, step) for step in problem.steps]
    chains = _Chains(problem, sampling)
    of_examples = _losses_of_examples(problem, sampling, chains.measure)
    baseline = of_examples.mean(-1)
    losses = torch.empty(len(rngs), sampling.chains, sampling.draws, dtype=torch.float64)
    forces = torch.zeros(len(rngs), sampling.chains, dtype=torch.float64)
    batches = _batches(problem.n, sampling, rngs)
    for update in range(sampling.burn_in + sampling.draws * sampling.updates_per_draw):
        rows = next(batches)  # (snapshot chain batch)
        found, gradients = chains.measure(rows.flatten(0, 1), chains.names)
        draw, between = divmod(update - sampling.burn_in, sampling.updates_per_draw)
        if draw >= 0 and not between:
            excess = found.view_as(rows) - of_examples.gather(1, rows.flatten(1)).view_as(rows)
            losses[..., draw] = baseline[:, None] + excess.mean(-1)
            forces += chains.forces(gradients).view_as(forces)
        chains.move(gradients, rngs)
    return Sampled(problem.steps, sampling, baseline, losses, forces / (sampling.draws * problem.n_free))


def _generator(seed: int, step: int) -> torch.Generator:
    """Its own for each seed and step; torch uses 32 bits of a seed."""
    return torch.Generator().manual_seed(random.Random(f"{seed} {step}").getrandbits(32))


def _batches(n: int, sampling: Sampling, rngs: Sequence[torch.Generator]) -> Iterator[Int[Tensor, "snapshot chain b"]]:
    """The rows of the batch of each update; each chain shuffles the examples again when they are used up.

    Those at the end of a pass that do not fill a batch are skipped.
    """
    if n <= sampling.batch_size:
        everything = torch.arange(n).expand(len(rngs), sampling.chains, -1)
        while True:
            yield everything
    while True:
        orders = [torch.stack([torch.randperm(n, generator=rng) for _ in range(sampling.chains)]) for rng in rngs]
        whole = n // sampling.batch_size * sampling.batch_size
        yield from torch.stack(orders)[..., :whole].split(sampling.batch_size, -1)


def _losses_of_examples(problem: Problem, sampling: Sampling, measure: Measure) -> Float64[Tensor, "snapshot example"]:
    """The loss of each example at w*, by chains that have not moved yet; each measures other examples."""
    width = min(sampling.batch_size, problem.n)
    n_parts = -(-problem.n // (sampling.chains * width))
    rows = (torch.arange(n_parts * sampling.chains * width) % problem.n).view(n_parts, sampling.chains, width)
    n_snapshots = len(problem.steps)
    parts = [measure(part.expand(n_snapshots, -1, -1).flatten(0, 1), ())[0].view(n_snapshots, -1) for part in rows]
    return torch.cat(parts, 1)[:, : problem.n].double()


class _Chains:
    """The weights of a stack of chains, as the sum of w* and a distance. Both have one row of memory for each chain.

    A stack has at least two models, since there are at least two chains: torch rounds the products of a single one in
    another way.
    """

    def __init__(self, problem: Problem, sampling: Sampling):
        self._sampling = sampling
        self.names = tuple(problem.free)
        shapes = {name: problem.weights[name].shape[1:] for name in self.names}
        sizes = [shape.numel() for shape in shapes.values()]
        self._start = torch.cat([problem.weights[name].flatten(1) for name in self.names], 1)[:, None]
        masks = torch.cat([problem.free[name].expand(shape).flatten() for name, shape in shapes.items()])
        self._mask = None if masks.all() else masks
        shape = (len(problem.steps), sampling.chains, self._start.shape[-1])
        self._weights = self._start.expand(shape).contiguous()  # (snapshot chain weight)
        self._distance, self._noise = torch.zeros_like(self._weights), torch.empty_like(self._weights)
        self._distances = self._distance.flatten(0, 1).split(sizes, -1)  # of each name, (stack entry)
        stack = {
            name: weight.unflatten(1, shapes[name])
            for name, weight in zip(self.names, self._weights.flatten(0, 1).split(sizes, -1), strict=True)
        }
        fixed = {name: weight for name, weight in problem.weights.items() if name not in stack}
        repeated = {name: weight.repeat_interleave(sampling.chains, 0) for name, weight in fixed.items()}
        self.measure = problem.bind({**repeated, **stack})

    def forces(self, gradients: Sequence[Tensor]) -> Float64[Tensor, " stack"]:
        """(w - w*) . (n_beta grad L + localisation (w - w*)) of each chain."""
        pairs = zip(self._distances, gradients, strict=True)
        along = sum(torch.linalg.vecdot(distance, gradient.flatten(1)).double() for distance, gradient in pairs)
        distance = self._distance.flatten(0, 1)
        return self._sampling.n_beta * along + self._sampling.localisation * torch.linalg.vecdot(distance, distance)

    def move(self, gradients: Sequence[Tensor], rngs: Sequence[torch.Generator]) -> None:
        """Take one step of SGLD."""
        sampling, half = self._sampling, self._sampling.step_size / 2
        self._distance.mul_(1 - half * sampling.localisation)
        for distance, gradient in zip(self._distances, gradients, strict=True):
            distance.add_(gradient.flatten(1), alpha=-half * sampling.n_beta)
        for noise, rng in zip(self._noise, rngs, strict=True):
            noise.normal_(generator=rng)
        self._distance.add_(self._noise, alpha=math.sqrt(sampling.step_size))
        if self._mask is not None:
            self._distance.mul_(self._mask)
        torch.add(self._start, self._distance, out=self._weights)
