"""The local learning coefficient, against losses for which it is known and against SGLD written out by hand."""

import dataclasses
import math
import random

import pytest
import torch

from explorer.analysis.complexity import Calibration, calibrate, component_mask, of_run, verdicts
from explorer.analysis.components import Component, components
from explorer.analysis.langevin import Problem, Sampled, Sampling, joined, sample, sample_in_groups
from explorer.errors import UserError
from explorer.model.ensemble import Ensemble
from tests.conftest import random_ensemble
from tests.stacks import MLPS, TABLE, TASK, stack, with_weights
from tests.truths import CURVATURES, exact, normal_crossings, quadratic, reduced_rank, squared_distances

BOWL = Sampling(n_beta=100, localisation=1, step_size=2e-3, chains=1024, draws=300, burn_in=200)
CROSSING = {"n_beta": 1000 / math.log(1000), "localisation": 1}
CROSSINGS = {(1, 1): 0.3833, (0, 2): 0.2465, (1, 2): 0.2212, (2, 2): 0.1614, (1, 3): 0.1487}
REDUCED_RANK = {
    (5, 3, 5, 0): 6.5,
    (5, 4, 5, 0): 8,
    (4, 3, 8, 0): 6,
    (8, 3, 4, 0): 6,
    (3, 8, 4, 0): 6,
    (5, 3, 5, 3): 10.5,
    (6, 4, 5, 2): 12,
}
SHORT = Sampling(n_beta=20, localisation=10, step_size=1e-3, chains=2, draws=4, burn_in=3, batch_size=8, seed=5)
EXAMPLES = TASK.sample(20, torch.Generator().manual_seed(1))  # in batches of 8: two of each pass, and 4 are left


def with_finite_steps(curvatures: torch.Tensor, sampling: Sampling) -> tuple[float, float]:
    """The coefficient of a quadratic, and its equipartition ratio, that SGLD finds with steps that are not small."""
    a = sampling.n_beta * curvatures + sampling.localisation
    too_far = 1 / (1 - sampling.step_size * a / 4)
    return float((sampling.n_beta * curvatures / a * too_far).sum() / 2), float(too_far.mean())


def same(one: Sampled, other: Sampled) -> bool:
    names = ("baseline", "losses", "ratios")
    return one.steps == other.steps and all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


# --- Known truths ---


def test_a_quadratic_has_the_coefficient_of_finite_steps():
    found = sample(quadratic(), BOWL)
    truth, ratio = with_finite_steps(CURVATURES, BOWL)
    assert (round(truth, 4), round(ratio, 2)) == (2.2013, 1.11)
    assert found.estimate.mean.item() == pytest.approx(truth, rel=0.03)
    assert found.estimate.error.item() < 0.01 * truth
    assert found.ratio.item() == pytest.approx(ratio, abs=0.01)
    assert found.baseline.item() == found.below.item() == 0
    assert verdicts(found)[0].healthy


def test_a_quadratic_in_one_of_two_weights():
    """It has one stiff direction, so small steps, but few of them."""
    found = sample(normal_crossings([(0, 1)], 4), Sampling(**CROSSING, step_size=1e-5, chains=1024, burn_in=1000))
    assert abs(found.estimate.mean.item() - 0.4996) < found.estimate.interval.item() < 0.1


def test_normal_crossings():
    """They are flat along the axes, so the chains need 1 / localisation of time to get where they will stay."""
    sampling = Sampling(**CROSSING, step_size=1.25e-4, chains=40, draws=300, burn_in=32_000, updates_per_draw=80)
    found = sample(normal_crossings(list(CROSSINGS), 4), sampling).estimate
    assert (found.interval < 0.2 * found.mean).all()
    assert ((found.mean - torch.tensor(list(CROSSINGS.values()))).abs() < found.interval).all(), found


def test_reduced_rank_regression():
    """By Aoyagi and Watanabe 2005; n_beta is large enough for the limit, and small enough for steps that arrive."""
    sampling = Sampling(
        n_beta=250, localisation=1, step_size=1.25e-4, chains=16, draws=120, burn_in=24_000, updates_per_draw=80
    )
    found = sample(reduced_rank(list(REDUCED_RANK)), sampling)
    truth = torch.tensor(list(REDUCED_RANK.values()), dtype=torch.float64)
    torch.testing.assert_close(found.estimate.mean, truth, rtol=0.1, atol=0)
    assert all(verdict.healthy for verdict in verdicts(found)), verdicts(found)


def test_the_loss_of_batches_is_that_of_the_whole_set():
    """With centres x, L_n(w) - L_n(mean of x) = 1/2 |w - mean of x|^2, but that of a batch is far from it."""
    centres, seen = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)), []
    sampling = Sampling(n_beta=20, localisation=20, step_size=1e-3, chains=128, draws=350, burn_in=250, batch_size=3)
    found = sample(squared_distances(centres, seen), sampling)
    assert found.baseline.item() == pytest.approx((centres - centres.mean(0)).square().sum(1).mean().item() / 2)
    assert found.estimate.mean.item() == pytest.approx(3 / 2 * 20 / 40, rel=0.1)
    assert found.losses.std().item() < centres.square().sum(1).div(2).std().item() / math.sqrt(3)
    passes = torch.stack(seen).unflatten(0, (-1, 3)).movedim(2, 1).flatten(2)  # (pass chain 9)
    assert (passes.sort(-1).values.diff(dim=-1) > 0).all()  # no example twice
    assert len(passes.flatten(0, 1).unique(dim=0)) > 0.9 * 200 * 128  # hardly ever in the same order


# --- Bits ---


def test_the_same_twice_gives_the_same_bits_and_other_seeds_do_not():
    short = dataclasses.replace(BOWL, chains=3, draws=5)
    assert same(sample(quadratic(2), short), sample(quadratic(2), short))
    first, second = sample(quadratic(2), short).losses
    assert not torch.equal(first, second)
    assert not same(sample(quadratic(2), short), sample(quadratic(2), dataclasses.replace(short, seed=1)))


@pytest.mark.parametrize("component", [None, "last"])
def test_what_is_found_of_a_snapshot_does_not_depend_on_its_group(ensemble, component):
    component = None if component is None else components(ensemble.cfg)[-1]
    problem = of_run(ensemble, TASK, EXAMPLES, component)
    whole = sample(problem, SHORT)
    assert whole.losses.isfinite().all()
    assert not whole.diverged.any()
    for at_once in (1, 2, None):
        assert same(joined(list(sample_in_groups(problem, SHORT, at_once))), whole)
    assert same(sample(problem.select([2]), SHORT), sample(problem.select(slice(2, 3)), SHORT))
    assert torch.equal(sample(problem.select([2]), SHORT).losses[0], whole.losses[2])


def test_groups_have_as_many_snapshots_as_fit_the_cache(monkeypatch):
    problem = of_run(stack(MLPS), TASK, EXAMPLES)
    assert [part.steps for part in sample_in_groups(problem, SHORT)] == [(0, 1, 2)]
    monkeypatch.setattr("explorer.analysis.langevin.MEMORY_BUDGET", 1)
    assert [part.steps for part in sample_in_groups(problem, SHORT)] == [(0,), (1,), (2,)]


# --- A part of the weights ---


def test_only_the_free_weights_move_and_have_their_own_coefficient():
    free, seen = torch.tensor([True, False, True, False]), []
    problem = quadratic(free=free)

    def bind(weights):
        measure = problem.bind(weights)

        def watched(rows, names):
            seen.append(weights["w"].abs().amax(0))
            return measure(rows, names)

        return watched

    found = sample(dataclasses.replace(problem, bind=bind), BOWL)
    furthest = torch.stack(seen).amax(0)
    assert (furthest[free] > 0).all()
    assert (furthest[~free] == 0).all()
    truth, ratio = with_finite_steps(CURVATURES[free], BOWL)
    assert found.estimate.mean.item() == pytest.approx(truth, rel=0.03)
    assert found.ratio.item() == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize("component", [*components(MLPS), Component(1, "neuron", 3)], ids=lambda one: one.name)
def test_only_the_weights_of_the_component_move(component):
    ensemble, bound = stack(MLPS), []
    problem = of_run(ensemble, TASK, EXAMPLES, component)
    watched = dataclasses.replace(problem, bind=lambda weights: bound.append(weights) or problem.bind(weights))
    sample(watched, SHORT)
    mask = component_mask(component, MLPS)
    moved = 0
    for name, weight in bound[0].items():
        has_moved = weight.unflatten(0, (3, 2)) != ensemble.weights[name][:, None]
        own = mask.get(name, torch.tensor(False)).expand(weight.shape[1:])
        assert (has_moved == own).all()
        moved += int(own.sum())
    sizes = {"head": 4 * 16 * 8, "mlp": 2 * 16 * 32 + 32 + 16, "neuron": 2 * 16 + 1}
    assert moved == problem.n_free == sizes[component.kind]


def test_what_belongs_to_a_component():
    biased = dataclasses.replace(MLPS, attn_bias=True)
    assert of_run(random_ensemble(biased), TASK, EXAMPLES, Component(0, "head", 1)).n_free == 4 * 16 * 8 + 3 * 8
    assert of_run(stack(TABLE), TASK, EXAMPLES, Component(0, "head")).n_free == 12 + 12 * 10
    fixed = TASK.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32, positions="sinusoidal")
    all_weights = of_run(random_ensemble(fixed), TASK, EXAMPLES)
    assert "pos_embed.W_pos" in all_weights.weights
    assert "pos_embed.W_pos" not in all_weights.free
    with pytest.raises(UserError, match="There is no L2H0"):
        component_mask(Component(2, "head"), MLPS)


# --- A run ---


def test_a_run_is_sampled_as_by_hand():
    """One chain after another, in float64, by the model's own forward pass; only noise and batches are the same."""
    ensemble, sampling = stack(MLPS), dataclasses.replace(SHORT, draws=3, burn_in=1, updates_per_draw=2)
    found = sample(of_run(ensemble, TASK, EXAMPLES).select([1, 2]), sampling)
    for i, snapshot in enumerate((1, 2)):
        losses, ratios, baseline = by_hand(ensemble.select([snapshot]), sampling)
        torch.testing.assert_close(found.losses[i], losses, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.ratios[i], ratios, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.baseline[i], baseline, rtol=1e-6, atol=0)
        by_chain = sampling.n_beta * (losses.mean(-1) - baseline)
        torch.testing.assert_close(found.by_chain[i], by_chain, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.estimate.mean[i], by_chain.mean(), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.estimate.error[i], by_chain.std() / math.sqrt(2), rtol=1e-2, atol=1e-3)


def by_hand(ensemble: Ensemble, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses (chain draw), ratios (chain,) and the baseline of one snapshot, with two batches in each pass."""
    rng = torch.Generator().manual_seed(random.Random(f"{sampling.seed} {ensemble.steps[0]}").getrandbits(32))
    start = {name: weight.double() for name, weight in ensemble.weights.items()}
    sizes = [weight.numel() for weight in start.values()]

    def losses_of(rows: torch.Tensor, model) -> torch.Tensor:
        batch = EXAMPLES.rows(rows)
        return TASK.losses(batch.at_answers(model(batch.tokens)), batch)[0].mean(-1)

    chains = [{name: weight.clone() for name, weight in start.items()} for _ in range(sampling.chains)]
    models = [Ensemble(ensemble.cfg, ensemble.steps, chain).model().requires_grad_() for chain in chains]
    at_start = losses_of(torch.arange(20), models[0]).detach()
    losses, forces = torch.zeros(2, sampling.chains, sampling.draws, dtype=torch.float64)
    for update in range(sampling.burn_in + 2 * sampling.draws):
        if update % 2 == 0:
            orders = [torch.randperm(20, generator=rng) for _ in chains]
        noises = torch.randn(sampling.chains, sum(sizes), generator=rng).split(sizes, 1)
        for c, model in enumerate(models):
            rows = orders[c][:8] if update % 2 == 0 else orders[c][8:16]
            parameters = dict(model.named_parameters())
            loss, force = losses_of(rows, model), 0.0
            gradients = torch.autograd.grad(loss.mean(), list(parameters.values()))
            for (name, weight), gradient, noise in zip(parameters.items(), gradients, noises, strict=True):
                distance = weight.detach() - start[name]
                drift = sampling.n_beta * gradient + sampling.localisation * distance
                force += float((distance * drift).sum())
                step = -sampling.step_size / 2 * drift + math.sqrt(sampling.step_size) * noise[c].view_as(weight)
                weight.data += step
            if update >= sampling.burn_in and (update - sampling.burn_in) % 2 == 0:
                draw = (update - sampling.burn_in) // 2
                losses[c, draw] = (loss.detach() - at_start[rows]).mean() + at_start.mean()
                forces[c, draw] = force / sum(sizes)
    return losses, forces.mean(-1), at_start.mean()


# --- Whether to believe it ---


def test_a_chain_that_diverges_spoils_no_other():
    sampling = dataclasses.replace(BOWL, chains=4, draws=100)

    def steeper(factors: torch.Tensor) -> Problem:
        def loss_and_gradients(weights):
            slope = factors[:, None] * CURVATURES * weights["w"]
            return (slope * weights["w"]).sum(-1) / 2, {"w": slope}

        return dataclasses.replace(quadratic(2), bind=exact(loss_and_gradients))

    healthy = sample(quadratic(2), sampling)
    found = sample(steeper(torch.tensor([1, 100, 1, 1, 1, 1, 1, 1])), sampling)
    assert found.diverged.tolist() == [[False, True, False, False], [False] * 4]
    assert torch.equal(found.losses[~found.diverged], healthy.losses[~found.diverged])
    assert torch.equal(found.by_chain.isnan(), found.diverged)
    torch.testing.assert_close(found.estimate.mean[0], healthy.by_chain[0, [0, 2, 3]].mean())
    torch.testing.assert_close(found.estimate.error[0], healthy.by_chain[0, [0, 2, 3]].std() / math.sqrt(3))
    torch.testing.assert_close(found.ratio[0], healthy.ratios[0, [0, 2, 3]].mean())
    bad, good = verdicts(found)
    assert (bad.healthy, bad.reason) == (False, "25% of the chains diverged; a smaller step size may help.")
    assert good.healthy

    none = sample(steeper(torch.full((8,), 100)), sampling)
    assert none.estimate.mean.isnan().all()
    assert none.below.isnan().all()
    assert all(verdict.reason.startswith("All chains diverged") for verdict in verdicts(none))


def test_weights_that_are_not_finite_spoil_no_other_snapshot():
    ensemble = stack(MLPS)
    spoilt = with_weights(ensemble, lambda weights: weights["embed.W_E"][1].fill_(torch.nan))
    found, healthy = (sample(of_run(one, TASK, EXAMPLES), SHORT) for one in (spoilt, ensemble))
    assert found.diverged.tolist() == [[False] * 2, [True] * 2, [False] * 2]
    for name in ("baseline", "losses", "ratios"):
        assert torch.equal(getattr(found, name)[::2], getattr(healthy, name)[::2])
    assert "not finite" in verdicts(found)[1].reason


def test_steps_that_are_too_large_are_told():
    found = sample(quadratic(), dataclasses.replace(BOWL, step_size=6e-3))
    assert not found.diverged.any()
    assert verdicts(found)[0].reason == "The equipartition ratio is 1.55 instead of 1: the steps are too large."


def test_chains_without_a_burn_in_are_told():
    found = sample(quadratic(), dataclasses.replace(BOWL, burn_in=0, draws=10))
    assert "ratio is 0." in verdicts(found)[0].reason
    assert "burn-in" in verdicts(found)[0].reason


def test_weights_at_no_minimum_are_told():
    problem = dataclasses.replace(quadratic(), weights={"w": torch.ones(1, 4)})
    found = sample(problem, BOWL)
    assert found.estimate.mean.item() < 0
    assert verdicts(found)[0].reason.startswith("100% of the draws have a lower loss")


def made(losses: torch.Tensor, ratio: float = 1.0) -> Sampled:
    """(chain draw) losses above a baseline of 1 nat, of one snapshot."""
    ratios = torch.full((1, len(losses)), ratio, dtype=torch.float64)
    return Sampled((0,), SHORT, torch.ones(1).double(), 1 + losses[None].double(), ratios)


def test_what_is_derived_from_the_draws():
    found = made(torch.tensor([[1.0, 2.0, -1.0, 4.0, 4.0], [2.0, 2.0, 2.0, 2.0, 2.0]]), 1.1)
    assert found.by_chain.tolist() == [[40, 40]]
    assert (found.estimate.mean.item(), found.estimate.error.item()) == (40, 0)
    assert found.below.item() == pytest.approx(0.1)
    assert found.drift.mean.item() == pytest.approx((2.5 + 0) / 2)
    assert found.ratio.item() == pytest.approx(1.1)


def test_a_drift_is_told_if_it_is_neither_small_nor_by_chance():
    flat, noise = torch.ones(4, 10), torch.linspace(-1, 1, 4)[:, None]
    later = torch.arange(10) >= 5

    def reason(losses: torch.Tensor) -> str:
        return verdicts(made(losses))[0].reason

    assert reason(flat + 0.05 * later) == ""
    assert reason(flat + 0.2 * later) == (
        "Between the halves of the chains, the excess loss changes by 18%: they need a longer burn-in."
    )
    assert reason(flat + (0.2 + noise) * later) == ""
    assert "changes by 18%" in reason(flat + 0.2 * ~later)


# --- Which settings ---


def test_a_calibration_has_the_estimates_of_all_settings_and_chooses_a_plateau():
    short = dataclasses.replace(BOWL, chains=64, draws=40)
    grids = list(calibrate(quadratic(2), short, [400, 100], [2e-3, 2e-2, 1e-3]))
    assert [int(grid.llc[..., 0].isfinite().sum()) for grid in grids] == [1, 2, 2, 3, 4, 4]  # two settings diverge
    last = grids[-1]
    assert (last.n_betas, last.step_sizes, last.steps) == ((100, 400), (1e-3, 2e-3, 2e-2), (0, 1))
    for i, n_beta in enumerate(last.n_betas):
        for j, step_size in enumerate(last.step_sizes):
            found = sample(quadratic(2), dataclasses.replace(short, n_beta=n_beta, step_size=step_size))
            torch.testing.assert_close(last.llc[i, j], found.estimate.mean, equal_nan=True, rtol=0, atol=0)
            torch.testing.assert_close(last.error[i, j], found.estimate.error, equal_nan=True, rtol=0, atol=0)
            torch.testing.assert_close(last.ratio[i, j], found.ratio, equal_nan=True, rtol=0, atol=0)
            assert last.healthy[i, j].tolist() == [verdict.healthy for verdict in verdicts(found)]
    assert last.choice == dataclasses.replace(short, n_beta=100, step_size=1e-3)


def grid(llc: torch.Tensor, healthy: torch.Tensor) -> Calibration:
    llc = llc.double()
    return Calibration(SHORT, (10, 20), (0.1, 0.2, 0.3), tuple(range(llc.shape[-1])), llc, llc, llc, healthy)


def test_the_choice_changes_least_from_its_neighbours():
    llc = torch.tensor([[1.0, 3.0, 3.0], [1.0, 3.0, 9.0]])[..., None]
    found = grid(llc, torch.ones(2, 3, 1, dtype=torch.bool))
    torch.testing.assert_close(found.change, torch.tensor([[0.5, 1 / 3, 0.5], [0.5, 2 / 3, 1]]).double())
    assert found.choice is None  # a third is no plateau

    found = grid(torch.tensor([[9.0, 10.0, 10.0], [9.0, 10.0, 12.0]])[..., None], torch.ones(2, 3, 1, dtype=torch.bool))
    assert found.change.argmin() == 1
    assert found.choice == dataclasses.replace(SHORT, n_beta=10, step_size=0.2)

    healthy = torch.tensor([[True, True, False], [True, False, True]])[..., None]
    found = grid(llc, healthy)
    expected = torch.tensor([[0.5, 1, torch.nan], [0, torch.nan, torch.nan]]).double()
    torch.testing.assert_close(found.change, expected, equal_nan=True)
    assert found.choice == dataclasses.replace(SHORT, n_beta=20, step_size=0.1)


def test_settings_that_are_healthy_at_more_snapshots_are_preferred():
    llc = torch.tensor([[1.0, 1.0, 1.02], [1.0, 1.2, 1.22]])[..., None].expand(2, 3, 2)
    healthy = torch.ones(2, 3, 2, dtype=torch.bool)
    assert grid(llc, healthy).choice == dataclasses.replace(SHORT, n_beta=10, step_size=0.1)
    healthy[0, :2, 1] = False
    assert grid(llc, healthy).choice == dataclasses.replace(SHORT, n_beta=20, step_size=0.1)


def test_nothing_is_chosen_where_no_neighbours_are_healthy():
    healthy = torch.tensor([[True, False, False], [False, False, True]])[..., None]
    assert grid(torch.ones(2, 3, 1), healthy).choice is None
    assert grid(torch.ones(2, 3, 1), ~healthy & healthy).choice is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("chains", 1), ("draws", 1), ("burn_in", -1), ("updates_per_draw", 0), ("batch_size", 0), ("seed", -1)),
        *(("n_beta", 0.0), ("n_beta", math.inf), ("step_size", math.nan), ("localisation", -1.0)),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(UserError, match=f"^{name} is {value}; it must be"):
        Sampling(**{name: value})
