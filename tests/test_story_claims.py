"""What the stories say of their runs in words rather than in figures."""

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from explorer.analysis import ablation
from explorer.analysis import outcomes as how
from explorer.analysis.circuits import composition_scores, ov_circuit, scores_from_token
from explorer.analysis.components import components
from explorer.analysis.fourier import frequency_plane, key_frequencies, norms_by_frequency, weight_norms
from explorer.analysis.fourier_grid import progress_measures, split_logits, sum_directions
from explorer.analysis.heads import head_scores
from explorer.model.ensemble import Ensemble
from explorer.runs import Runs
from explorer.runs.sweeps import open_sweep
from explorer.sweeps.outcomes import Outcomes, read_outcomes
from explorer.tasks.data import Batch
from explorer.tasks.induction import TOKEN_OF
from explorer.views.classes import of_class
from explorer.views.fourier import pairs_of
from explorer.views.heads import repeated_sequences
from explorer.views.subject import Subject
from tests.claims import falls, subject_of
from tests.conftest import SHIPPED

PATTERN = "blocks.0.attn.hook_pattern"


def at(subject: Subject, *steps: int) -> Ensemble:
    return subject.ensemble.select([subject.steps.index(step) for step in steps])


def right(subject: Subject, ensemble: Ensemble, batch: Batch) -> Tensor:
    """Whether each answer is right, (snapshot batch answer)."""
    return ensemble.logits_at(batch.tokens, batch.positions).argmax(-1) == batch.targets


def rank_correlation(x: Tensor, y: Tensor) -> float:
    ranks = torch.stack([values.argsort().argsort().double() for values in (x, y)])
    return float(torch.corrcoef(ranks)[0, 1])


# --- How does a model learn to copy? ---


def test_all_copied_characters_fall_together():
    subject = subject_of("induction")
    found = falls(subject)
    assert len(found) == 30
    assert next(iter(found)) == "copy 2, token 16"
    assert list(found)[-1] == "copy 2, token 15"
    assert max(found.values()) - min(found.values()) < 60
    losses = smoothed(subject, 2171)
    assert min(losses["copy 1, token 2"], losses["copy 2, token 2"]) > 1
    assert min(losses["copy 1, token 3"], losses["copy 2, token 3"]) > 0.7
    assert max(loss for name, loss in losses.items() if not name.endswith((" 2", " 3"))) < 0.45
    later = smoothed(subject, 2423)
    assert max(later.values()) < 0.45


def smoothed(subject: Subject, step: int) -> dict[str, float]:
    """Loss -> its mean over fifty steps around a step."""
    near = subject.metrics["train_loss_per_token"][step - 25 : step + 25].mean(0)
    return dict(zip(subject.task.loss_names, near.tolist(), strict=True))


def test_the_two_characters_wait_where_no_head_notes_what_came_before_them():
    subject = subject_of("induction")
    steps, batch = (2171, 2423), subject.unseen(2048)
    ensemble = at(subject, *steps)
    _, cache = ensemble.run(batch.tokens[:128], [PATTERN])
    back = cache[PATTERN].mean(1).diagonal(offset=-1, dim1=-2, dim2=-1)  # (step head position)
    assert back[0, :, 1:3].max() < 0.05  # from the second and third character of a text
    assert back[0, 0, 3:27].mean() > 0.75
    assert back[1, 0, 1:3].min() > 0.75
    copied = batch.tokens[torch.arange(len(batch.tokens))[:, None], batch.positions[:, :1] + torch.arange(16)]
    starts = torch.stack([(batch.tokens[:, i : i + 16] == copied).all(1) for i in range(1, 14)], 1).int().argmax(1)
    losses = subject.task.losses(ensemble.logits_at(batch.tokens, batch.positions), batch)  # (step text answer)
    second, third = losses[..., 0], losses[..., 1]
    early, late = starts < 2, starts == 0
    assert min(second[0, starts == start].mean() for start in (0, 1)) > 5
    assert max(second[0, starts == start].mean() for start in range(2, 13)) < 1
    assert third[0, late].mean() > 5
    assert max(third[0, starts == start].mean() for start in range(1, 13)) < 1
    assert max(second[1, early].mean(), third[1, late].mean()) < 1.2


def test_at_the_fall_the_notes_are_vague_and_yet_they_are_found():
    subject = subject_of("induction")
    assert subject.metrics["accuracy"][979:1029].mean() > 0.7
    ensemble = at(subject, 1004, 6000)
    _, cache = ensemble.run(subject.unseen(128).tokens, [PATTERN])
    back = cache[PATTERN].mean(1).diagonal(offset=-1, dim1=-2, dim2=-1)[..., :27].mean(-1)  # (step head)
    assert back[0].max() < 0.4
    assert back[0].min() > 0.25
    assert back[1, 0] > 0.85
    example = torch.tensor([[0, *(TOKEN_OF[letter] for letter in "blacksmith forge ABCDEFGHIJKblacksmith forge")]])
    _, cache = ensemble.run(example, ["blocks.1.attn.hook_pattern"])
    assert (cache["blocks.1.attn.hook_pattern"][:, 0, 1, 33, 6] > 0.75).all()


def test_at_the_fall_all_heads_of_layer_0_look_back_a_little_and_l0h0_takes_over_later():
    subject = subject_of("induction")
    steps = 793, 1004, 1204, 2350, 6000
    scores = head_scores(at(subject, *steps), repeated_sequences(subject).tokens[:64])
    back = {step: row[:4] for step, row in zip(steps, scores["previous token"].mean(-1), strict=True)}
    spread = scores["previous token"].mean(-1)[1, 4:].mean()
    assert (back[1004] > 1.6 * spread).all()
    assert (back[1004] < 2.5 * spread).all()
    assert back[2350][0] > 1.6 * back[1204][0]
    assert (back[2350][1:] < 1.3 * back[1204][1:]).all()
    assert (back[6000][1:] < 0.1).all()
    assert back[6000][0] > 0.4
    induction = scores["prefix matching"].mean(-1)
    assert (induction[1, 4:] > 2.8 * induction[0, 4:]).all()


def test_neither_layer_makes_the_leap_alone():
    subject = subject_of("induction")
    ensemble = at(subject, 793, 1004, 793, 793)  # the last two get a layer of step 1,004 each
    weights = {name: values.clone() for name, values in ensemble.weights.items()}
    for name, values in weights.items():
        for layer in (0, 1):
            if name.startswith(f"blocks.{layer}."):
                values[2 + layer] = values[1]
    grafted = Ensemble(ensemble.cfg, ensemble.steps, weights)
    batch = subject.unseen(128)
    logits = grafted.logits_at(batch.tokens, batch.positions)
    before, after, *one_layer = subject.task.losses(logits, batch).mean((1, 2)).tolist()
    assert before - after > 2.5
    assert all(before - loss < 0.12 * (before - after) for loss in one_layer)
    scores = head_scores(grafted, repeated_sequences(subject).tokens[:64])["prefix matching"].mean(-1).amax(1)
    assert float(scores[2:].max()) < 0.2 < 0.45 < float(scores[1])


def test_cutting_heads_costs_as_the_story_says():
    subject = subject_of("induction")
    steps = 1004, 2350, 6000
    ensemble, batch, every = at(subject, *steps), subject.unseen(256), components(subject.info.model)
    means = ablation.mean_outputs(ensemble, every, batch.tokens[:128])
    cost = ablation.ablate_each(ensemble, subject.task, batch.rows(slice(128, 256)), means).mean(-1)  # (step head)
    assert (cost[0, 1:4] > 0.5).all()
    assert cost[0, 0] > 1.5 * cost[0, 1:4].max()
    assert (cost[1:, 1:4] < 0.45).all()
    assert (cost[1:, 0] > 3.5).all()
    assert (cost[:, 4:] < 0.6).all()
    assert (cost[2, 1:] < 0.4).all()
    assert cost[2, 1:].argmax() == 2  # L0H3


def test_the_final_look_back_is_of_the_first_third_and_layer_1_reads_it():
    subject = subject_of("induction")
    final = at(subject, 6000)
    _, cache = final.run(subject.unseen(64).tokens, [PATTERN])
    back = cache[PATTERN][0, :, 0].mean(0).diagonal(offset=-1)
    assert back[:27].mean() > 0.8
    assert back[28:].mean() < 0.1
    pairs, scores = composition_scores(final, "K")
    from_l0h0 = torch.tensor([early == "L0H0" for early, _ in pairs])
    assert scores[0, from_l0h0].min() > 0.15 + scores[0, ~from_l0h0].max()


def test_copies_that_follow_at_once_are_missed():
    subject, rng = subject_of("induction"), torch.Generator().manual_seed(0)

    def copied(distance: int) -> float:
        tokens = torch.randint(1, 128, (128, distance + 17), generator=rng)
        tokens[:, 0] = 0
        tokens[:, 1 + distance :] = tokens[:, 1:17]
        positions = torch.arange(1 + distance, 16 + distance).expand(128, -1)
        batch = Batch(tokens, positions, tokens.gather(1, positions + 1))
        return float(right(subject, at(subject, 6000), batch).double().mean())

    assert copied(17) < 0.6
    assert copied(28) > 0.9


# --- Why does it suddenly understand? ---


def test_unseen_sums_are_understood_long_after_the_others_are_known():
    metrics = subject_of("modular-addition").metrics
    steps, test, accuracy = metrics["test_step"], metrics["test_loss"], metrics["test_accuracy"][:, 0]
    assert (metrics["accuracy"][241:, 0] == 1).all()
    assert float(accuracy[steps >= 6931].min()) > 0.98
    assert float(metrics["train_loss"][1341]) < 1e-6
    peak = int(steps[test.argmax()])
    assert 1341 < peak < 1700
    assert float(accuracy[steps <= 1341].max()) < 0.07
    assert float(accuracy[steps >= 6021].min()) > 0.5


def test_the_four_waves_lead_from_the_start_and_the_fourth_fades():
    subject = subject_of("modular-addition")
    norms = norms_by_frequency(weight_norms(at(subject, 241, 5901, 8000), subject.task.cycle)["W_E"])
    keys = key_frequencies(norms[-1])
    assert list(keys) == [4, 5, 12, 21]
    early, late, final = norms
    assert {1 + i for i in early.topk(4).indices.tolist()} == {4, 5, 12, 21}
    assert {1 + i for i in final.topk(3).indices.tolist()} == {4, 12, 21}
    assert final.topk(4).values[3] < 0.4 * final.topk(3).values[2]
    assert final[4] < 0.5 * late[4]


def test_the_numbers_come_to_stand_on_a_circle_in_order():
    subject = subject_of("modular-addition")
    plane = frequency_plane(at(subject, 1341, 6931), subject.task.cycle, 12)  # (step number 2)
    order = sorted(range(59), key=lambda number: number * 12 % 59)
    points = torch.view_as_complex(plane[:, order].float().contiguous())
    radius = points.abs()
    uneven = radius.std(1) / radius.mean(1)
    assert uneven[0] > 0.25
    assert uneven[1] < 0.1
    turns = (points[1].roll(-1) / points[1]).angle()
    assert float((turns.sign() == turns.median().sign()).double().mean()) > 0.95
    assert {(later - number) % 59 for number, later in itertools.pairwise(order)} == {5}


def test_the_rule_is_ready_while_a_memory_spoils_it():
    subject = subject_of("modular-addition")
    pairs = pairs_of(subject, next(iter(subject.task.cycle.grids)))
    cycle, grid = pairs.cycle, pairs.grid
    trained_on = subject.task.are_in_training_data(grid.batch, subject.info.training)
    keys = [4, 5, 12, 21]
    steps = 1341, 5391, 6931, 8000
    ensemble = at(subject, *steps)
    measures = progress_measures(ensemble, cycle, grid, trained_on, keys)
    assert measures.restricted[1] < 0.1
    assert measures.test[1] > 5
    assert measures.restricted[2] < 1e-6
    whole = progress_measures(subject.ensemble, cycle, grid, trained_on, keys)
    until = subject.steps.index(7251)
    assert (whole.restricted[: until + 1].diff() < 0).all()
    excluded = whole.excluded[subject.steps.index(641) : subject.steps.index(6271) + 1]
    assert (excluded.diff() > 0).all()
    logits = ensemble.logits_at(grid.batch.tokens, grid.batch.positions)[:, :, 0].double()
    rule, rest = split_logits(logits, sum_directions(cycle.n, keys, grid.sign))
    own = (rest - rest.mean(-1, keepdim=True)).gather(-1, grid.batch.targets.expand(len(steps), -1, -1))[..., 0]
    known, unseen = own[:, trained_on].mean(1), own[:, ~trained_on].mean(1)
    assert known[1] > 10
    assert unseen[1] < -3
    assert (known.diff() < 0).all()
    assert known[3] < 0.05 * known[0]
    assert (unseen.diff() > 0).all()
    margins = [ahead(part, grid.batch.targets)[:, ~trained_on].mean(1) for part in (rule, rest)]
    assert (margins[0].diff() > 0).all()
    assert (sum(margins) > 0).tolist() == [False, False, True, True]


def ahead(logits: Tensor, targets: Tensor) -> Tensor:
    """How far the right answer is above the best wrong one, (snapshot pair)."""
    which = targets.expand(len(logits), -1, -1)
    wrong = logits.scatter(-1, which, -torch.inf).amax(-1)
    return logits.gather(-1, which)[..., 0] - wrong


# --- Which digit first, and why are carries hard? ---


def test_digits_fall_in_the_order_of_the_story():
    subject = subject_of("addition")
    found = falls(subject)
    assert list(found) == ["100k", "10k", "tens", "thousands", "units", "hundreds"]
    assert found["units"] - found["thousands"] < 60
    others = [step for name, step in found.items() if name != "units"]
    assert min(later - earlier for earlier, later in itertools.pairwise(others)) > 100


def test_after_its_fall_a_digit_has_two_candidates_and_tosses_a_coin():
    subject = subject_of("addition")
    batch, names = subject.unseen(2048), subject.task.loss_names
    for step, name in ((1080, "hundreds"), (878, "thousands"), (453, "tens")):
        answer = names.index(name)
        column = answer - 1  # of the numbers, from the left
        without = (batch.tokens[:, column] + batch.tokens[:, 6 + column]) % 10
        logits = at(subject, step).logits_at(batch.tokens, batch.positions)[0, :, answer]
        candidates = torch.stack([without, (without + 1) % 10], 1).sort(1).values
        favourites = logits.topk(2).indices.sort(1).values
        assert float((favourites == candidates).all(1).double().mean()) > 0.87
        assert 0.48 < float((logits.argmax(-1) == batch.targets[:, answer]).double().mean()) < 0.6


def test_the_leading_digit_is_settled_early_except_where_its_columns_make_nine():
    subject = subject_of("addition")
    batch = subject.unseen(4096)
    leading = right(subject, at(subject, 101), batch)[0, :, 0].double()
    makes_nine = batch.tokens[:, 0] + batch.tokens[:, 6] == 9
    assert leading[~makes_nine].mean() > 0.98
    assert leading[makes_nine].mean() < 0.85


def test_long_carries_stay_wrong_and_unsettled():
    subject = subject_of("addition")
    late = [step for step in subject.steps if step >= 1701]
    ensemble = at(subject, *late)
    shares = {}
    for name in ("S0", "S1", "S3", "S4", "S5"):
        batch = of_class(subject, name, 512)
        shares[name] = right(subject, ensemble, batch).all(-1).double().mean(1)
    assert min(shares["S0"][-1], shares["S1"][-1]) > 0.92
    assert shares["S1"][-1] - 0.2 > shares["S3"][-1] > shares["S4"][-1] > shares["S5"][-1]
    assert shares["S5"].max() - shares["S5"].min() > 0.3
    assert shares["S4"].max() - shares["S4"].min() > 0.3


# --- One head, ten facts ---


def test_facts_are_learnt_in_the_order_in_which_the_head_looks_at_them():
    subject = subject_of("skip-trigram")
    found = falls(subject)
    assert [name[0] for name in found][:3] == ["C", "E", "D"]
    assert [name[0] for name in found][-1] == "H"
    assert max(found.values()) - min(found.values()) < 50
    steepest = torch.tensor([found[name] for name in subject.task.loss_names])
    early = at(subject, 97)
    scores = scores_from_token(early, 0, 1, 41)[0, 0, 12:]  # from "=", which is token 1, to each capital
    outputs = ov_circuit(early, 0)[0, 0, 12:].diagonal()
    assert outputs.argmax() == 2
    for lead in (scores, outputs, -subject.metrics["attention_gradient"][92:103].mean(0)):
        assert rank_correlation(lead, steepest) < -0.75


def test_the_head_looks_at_j_before_it_knows_what_to_say():
    subject = subject_of("skip-trigram")
    batch = of_class(subject, "J → 9", 512)
    steps = 164, 199
    ensemble = at(subject, *steps)
    share = right(subject, ensemble, batch).double().mean((1, 2))
    _, cache = ensemble.run(batch.tokens, [PATTERN])
    places = (batch.tokens == 21).int().argmax(1)  # of the J
    attention = cache[PATTERN][:, :, 0, -1].gather(-1, places.expand(2, -1)[..., None])[..., 0].mean(1)
    assert attention[0] > 0.8
    assert share[0] < 0.15
    assert share[1] > 0.99


def test_the_finished_head_is_two_tables():
    subject = subject_of("skip-trigram")
    final = at(subject, 1000)
    scores, outputs = scores_from_token(final, 0, 1, 41)[0, 0], ov_circuit(final, 0)[0, 0]
    assert outputs[12:].argmax(1).tolist() == list(range(10))
    assert outputs[2:12].abs().mean() < 0.5 * outputs[12:].abs().mean()
    assert scores[12:].argmin() == 6  # G
    assert scores[2:12].argmax() == 0  # a
    gap = scores[12:].min() - scores[2:12].max()
    assert gap.exp() > 10 * 40
    for place in ("early", "middle", "late"):
        assert right(subject, final, of_class(subject, place, 256)).double().mean() > 0.99


@pytest.fixture(autouse=True, scope="module")
def forget_runs():
    """Runs take memory, which other tests need."""
    yield
    subject_of.cache_clear()


# --- Does it always happen in this order? ---


@cache
def falls_over_seeds(name: str) -> dict[str, np.ndarray]:
    """Loss -> (seed,) the steepest step of its deepest fall."""
    sweep = open_sweep(Runs(SHIPPED), name)
    outcomes = read_outcomes(sweep)
    assert outcomes is not None
    assert outcomes.ended.all()
    names = sweep.info().cells[0].plan.task.loss_names
    return dict(zip(names, outcomes.of["train"].fall.T, strict=True))


def test_the_two_leading_digits_fall_first_in_every_seed_and_then_one_alone():
    found = falls_over_seeds("addition-seeds")
    later = np.stack([found[name] for name in ("thousands", "hundreds", "tens", "units")], 1)  # (seed digit)
    assert len(later) == 20
    assert (found["100k"] < found["10k"]).all()
    assert (found["10k"] < later.min(1)).all()
    assert later.min() > 240  # none of the four by then
    assert ((later <= 495).sum(1) == 1).all()
    assert later.argmin(1).min() > 0  # never the thousands
    assert np.bincount(later.argmin(1)).tolist() == [0, 8, 5, 7]  # hundreds, tens, units
    in_turn = np.sort(later, 1)
    assert (in_turn[:, 1] > 525).all()
    assert (in_turn[:, 1] - in_turn[:, 0] > 100).all()
    assert later.max() <= 1110
    assert len({tuple(order) for order in later.argsort(1)[:, 1:].tolist()}) > 3


def test_no_two_seeds_learn_the_ten_facts_in_the_same_order():
    found = np.stack(list(falls_over_seeds("skip-trigram-seeds").values()), 1)
    assert found.shape == (50, 10)
    assert len({tuple(order) for order in found.argsort(1, kind="stable").tolist()}) == 50
    assert np.ptp(found, 1).max() < 100


# --- Where does it understand at all? ---


@cache
def plane_of(name: str) -> tuple[dict[tuple[float, ...], int], Outcomes]:
    """The place of each run by the values of its settings, and how all turned out."""
    sweep = open_sweep(Runs(SHIPPED), name)
    outcomes = read_outcomes(sweep)
    assert outcomes is not None
    return {cell.values: i for i, cell in enumerate(sweep.info().cells)}, outcomes


def phases_at_the_end(name: str, reached: float) -> dict[tuple[float, ...], str]:
    places, outcomes = plane_of(name)
    found = how.phases(outcomes.of["train"].right, outcomes.unseen.right, outcomes.points, reached)
    return {values: how.PHASES[found[place, -1]] for values, place in places.items()}


def test_the_plane_of_induction_has_three_outcomes():
    found = phases_at_the_end("induction-plane", 0.8)
    assert {values for values, phase in found.items() if phase == "comprehension"} == {
        *((576, 1.0), (640, 1.0), (1024, 0.3), (1024, 1.0)),
    }
    assert {values for values, phase in found.items() if phase == "memorisation"} == {(n, 0.3) for n in (512, 576, 640)}
    assert {values for values, phase in found.items() if phase == "confusion"} == {
        *((512, 1.0), *((n, 3.0) for n in (512, 576, 640, 1024))),
    }


def test_texts_are_half_learnt_by_heart_before_the_rule():
    places, outcomes = plane_of("induction-plane")
    train, unseen = (of_kind.right[places[576, 1.0]] for of_kind in (outcomes.of["train"], outcomes.unseen))
    at = outcomes.points.tolist().index(1500)
    assert train[at] == pytest.approx(0.5, abs=0.05)
    assert unseen[at] < 0.1
    assert train[-1] > 0.9
    assert unseen[-1] == pytest.approx(0.9, abs=0.02)
    first = [how.reached_at(of_kind[None], outcomes.points, 0.8)[0] for of_kind in (train, unseen)]
    assert first[1] - first[0] < 200


def test_the_plane_of_modular_addition_goes_from_memorisation_over_grokking_to_comprehension():
    found = phases_at_the_end("modular-addition-plane", 0.9)
    assert {phase for (share, _), phase in found.items() if share == 0.3} == {"memorisation"}
    assert [found[share, 1.0] for share in (0.4, 0.5, 0.7)] == ["grokking", "grokking", "comprehension"]
    assert [found[0.5, decay] for decay in (0.3, 1.0, 3.0)] == ["memorisation", "grokking", "comprehension"]
