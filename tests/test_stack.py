"""Runs that are trained as one stack turn out as each does by itself, up to rounding."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from explorer.errors import UserError
from explorer.model.architectures import model_from_weights, new_model
from explorer.model.fast_forward import logits_at
from explorer.settings import TrainingConfig
from explorer.tasks.addition import Addition
from explorer.tasks.induction import Induction
from explorer.tasks.modular_addition import ModularAddition
from explorer.tasks.skip_trigram import TABLE, SkipTrigram
from explorer.training.loop import Measured, Training
from explorer.training.plan import Plan
from explorer.training.stack import Stack, shape_of
from tests.test_fast_forward import SHAPES
from tests.test_fast_forward import WIDTHS as WIDE

WIDTHS = {"d_model": 16, "n_heads": 2, "d_head": 8, "d_mlp": 32}
INFINITE = TrainingConfig(steps=20, batch_size=16, warmup=3, snapshot_moved=0.02, snapshot_share=0.3)
FINITE = replace(INFINITE, finite=20, test_batch_size=12, test_every=3)
SGD = {"optimiser": "sgd", "momentum": 0.9, "lr": 0.05}
SUMS, TRIGRAMS, COPIES = Addition(2), SkipTrigram(4, 16), Induction(stretch=5, interval=8)
CASES = {
    "addition": (SUMS, {"n_layers": 2}, INFINITE),
    "addition, finite": (SUMS, {}, FINITE),
    "addition, SGD": (SUMS, {}, replace(INFINITE, **SGD)),
    "addition, layer norms": (SUMS, {"layer_norm": True, "act_fn": "gelu"}, INFINITE),
    "addition, attention biases": (SUMS, {"attn_bias": True, "unembed_bias": True}, INFINITE),
    "trigrams": (TRIGRAMS, {"attn_only": True}, INFINITE),
    "trigrams, finite": (TRIGRAMS, {"attn_only": True}, FINITE),
    "trigrams, SGD, finite": (TRIGRAMS, {}, replace(FINITE, **SGD)),
    "table": (TRIGRAMS, TABLE, INFINITE),
    "table, SGD": (TRIGRAMS, TABLE, replace(INFINITE, **SGD)),
    "induction": (COPIES, {"n_layers": 2, "attn_only": True}, INFINITE),
    "induction, shuffled": (COPIES, {"n_layers": 2}, replace(FINITE, finite=50, full_batch=False)),
    "modular addition": (ModularAddition(13), {}, replace(FINITE, finite=0)),
    "modular addition, infinite": (ModularAddition(13, train_share=1.0), {}, replace(INFINITE, **SGD)),
}
EVERY_CASE = pytest.mark.parametrize(("task", "model", "training"), CASES.values(), ids=CASES)
SOME = ["addition, finite", "trigrams", "table, SGD", "induction", "modular addition"]
SOME_CASES = pytest.mark.parametrize(("task", "model", "training"), [CASES[name] for name in SOME], ids=SOME)
Updates = list[tuple[Measured, bool]]


def varied(training: TrainingConfig) -> list[TrainingConfig]:
    """Trainings that differ in all that those of one stack may differ in; the third ends after its first update."""
    return [
        replace(training, seed=1),
        replace(training, seed=2, lr=2 * training.lr, weight_decay=1.0, warmup=0),
        replace(training, seed=3, stop_below=90.0),
        replace(training, seed=4, steps=13, cooldown=0.5, snapshot_every=4),
        replace(training, seed=1, weight_decay=0.0, keep="losses"),
    ]


def begun(task, model: dict, trainings: list[TrainingConfig]) -> list[Training]:
    return [Training(task, task.model_config(**{**WIDTHS, **model}), training) for training in trainings]


def together(trainings: list[Training], n: int | None = None) -> list[Updates]:
    """The updates of each, trained as one stack, to the end or the first ``n``."""
    found: dict[Training, Updates] = {training: [] for training in trainings}
    for taken in itertools.islice(Stack(trainings).updates(), n):
        for training, outcome in taken:
            assert not isinstance(outcome, UserError), outcome
            found[training].append(outcome)
    return list(found.values())


def exact(state: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in state.items()}


def assert_near(found: Tensor, expected: Tensor, name: str) -> None:
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype), name
    known = ~expected.isnan()
    assert torch.equal(known, ~found.isnan()), name
    if not found.dtype.is_floating_point:
        assert torch.equal(found, expected), name
        return
    found, expected = found[known].double(), expected[known].double()
    assert (found - expected).norm() <= 1e-5 * expected.norm() + 1e-9, name


def assert_alike(found: Updates, expected: Updates) -> None:
    """See that measurements are alike, and that snapshots are due at the same steps."""
    assert [(measured.step, due) for measured, due in found] == [(measured.step, due) for measured, due in expected]
    for (one, _), (other, _) in zip(found, expected, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert_near(one.per_token, other.per_token, "per_token")
        assert (one.test_loss is None) == (other.test_loss is None)
        if one.test_loss is not None:
            assert one.test_loss == pytest.approx(other.test_loss, rel=1e-5)
            assert_near(one.test_per_token, other.test_per_token, "test_per_token")
        assert one.measures.keys() == other.measures.keys()
        for name, values in one.measures.items():
            assert_near(values, other.measures[name], name)


def assert_states_alike(found: Training, expected: Training) -> None:
    """See that states are alike. Of the biases of keys, which change no pattern, all gradients are rounding, and AdamW
    makes as much of these as of any others."""
    one, other = found.state(), expected.state()
    assert one.keys() == other.keys()
    for name in one:
        if not name.endswith("attn.b_K"):
            assert_near(one[name], other[name], name)


@EVERY_CASE
def test_runs_in_a_stack_turn_out_as_each_does_by_itself(task, model, training):
    stacked, alone = (begun(task, model, varied(training)) for _ in range(2))
    found = together(stacked)
    assert [len(updates) for updates in found] == [20, 20, 1, 13, 20]
    for one, updates, other in zip(stacked, found, alone, strict=True):
        assert_alike(updates, list(other.updates()))
        assert_states_alike(one, other)
        assert one.over


@SOME_CASES
def test_some_runs_of_a_stack_turn_out_bit_for_bit_as_they_do_among_all(task, model, training):
    trainings = varied(training)
    whole = begun(task, model, trainings)
    together(whole)
    for chosen in ([3], [4, 2, 1]):
        part = begun(task, model, [trainings[i] for i in chosen])
        together(part)
        for i, one in zip(chosen, part, strict=True):
            assert exact(one.state()) == exact(whole[i].state())


@SOME_CASES
def test_a_run_goes_on_by_itself_from_a_state_of_a_stack_and_in_a_stack_from_its_own(task, model, training):
    trainings = varied(replace(training, keep="losses"))[:2]
    straight, left, joined = (begun(task, model, trainings) for _ in range(3))
    expected = [list(one.updates()) for one in straight]
    together(left, 8)
    for one in joined:
        list(itertools.islice(one.updates(), 8))
    alone, stacked = (begun(task, model, trainings) for _ in range(2))
    for before, after in zip(left + joined, alone + stacked, strict=True):
        after.restore(before.state())
        assert after.step == 8
    after_all = [list(one.updates()) for one in alone] + together(stacked)
    for found, wanted, one, other in zip(
        after_all, expected + expected, alone + stacked, straight + straight, strict=True
    ):
        assert_alike(found, wanted[8:])
        assert_states_alike(one, other)


@pytest.mark.parametrize("optimiser", [{}, SGD], ids=["AdamW", "SGD"])
def test_a_stack_stopped_and_resumed_equals_the_one_that_was_not_bit_for_bit(optimiser):
    """Also if its runs were stopped at different steps, as they are where a process was killed."""
    trainings = varied(replace(FINITE, **optimiser))
    straight = begun(SUMS, {}, trainings)
    together(straight)
    resumed = begun(SUMS, {}, trainings)
    for n, one in enumerate(resumed):
        before = begun(SUMS, {}, trainings)
        together(before, 3 * n)
        one.restore(before[n].state())
    together(resumed)
    for one, other in zip(resumed, straight, strict=True):
        assert exact(one.state()) == exact(other.state())


def test_a_run_that_diverges_leaves_with_its_error_and_the_others_go_on():
    trainings = varied(FINITE)
    trainings[1] = replace(trainings[1], optimiser="sgd", lr=100.0, momentum=0.99)
    found = begun(SUMS, {}, trainings)
    told = {}
    for taken in Stack(found).updates():
        told |= {training: outcome for training, outcome in taken if isinstance(outcome, UserError)}
    assert list(told) == [found[1]]
    assert "this training diverged; a smaller lr than 100.0 may help" in str(told[found[1]])
    assert found[1].step < 20
    alone = begun(SUMS, {}, trainings)
    with pytest.raises(UserError, match="diverged"):
        list(alone[1].updates())
    others = [alone[i] for i in (0, 2, 3, 4)]
    together(others)
    for one, other in zip([found[i] for i in (0, 2, 3, 4)], others, strict=True):
        assert exact(one.state()) == exact(other.state())


def test_a_run_that_leaves_goes_on_by_itself_and_the_others_do_not_touch_it():
    trainings = varied(INFINITE)[:2]
    found, straight, alone = (begun(SUMS, {}, trainings) for _ in range(3))
    together(straight)
    stack = Stack(found)
    updates = stack.updates()
    for _ in range(7):
        next(updates)
    stack.leave(found[0])
    before = exact(found[0].state())
    assert [[training for training, _ in taken] for taken in updates] == 13 * [[found[1]]]
    assert exact(found[0].state()) == before
    assert exact(found[1].state()) == exact(straight[1].state())
    list(found[0].updates())
    list(alone[0].updates())
    assert_states_alike(found[0], alone[0])


def test_runs_that_are_over_are_not_trained_again():
    over, fresh = begun(SUMS, {}, [replace(INFINITE, steps=3), INFINITE])
    list(over.updates())
    before = exact(over.state())
    assert together([over, fresh])[0] == []
    assert exact(over.state()) == before
    assert list(Stack([over]).updates()) == []
    assert list(Stack([]).updates()) == []


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_logits_and_gradients_of_a_stack_are_those_of_its_models(shape, n_layers):
    task = Addition(3)
    cfg = task.model_config(**{**WIDE, "n_layers": n_layers, **shape})
    batches = [task.sample(5, torch.Generator().manual_seed(seed)) for seed in range(3)]
    models = [new_model(cfg, seed) for seed in range(3)]
    states = [model.state_dict() for model in models]
    weights = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    stack = model_from_weights(cfg, weights).requires_grad_()
    tokens, positions = (torch.stack([getattr(batch, name) for batch in batches]) for name in ("tokens", "positions"))
    logits = logits_at(stack, tokens, positions)
    assert logits.shape == (3, 5, 4, cfg.d_vocab_out)
    logits.logsumexp(-1).sum().backward()
    gradients = {name: weight.grad for name, weight in stack.named_parameters()}
    for i, (model, batch) in enumerate(zip(models, batches, strict=True)):
        expected = logits_at(model, batch.tokens, batch.positions)
        torch.testing.assert_close(logits[i], expected, rtol=1e-5, atol=1e-5)
        expected.logsumexp(-1).sum().backward()
        for name, weight in model.named_parameters():
            assert (gradients[name][i] - weight.grad).norm() <= 1e-5 * weight.grad.norm() + 1e-6, name


@pytest.mark.parametrize(
    ("settings", "is_one"),
    [
        ({"seed": 5, "lr": 0.1, "weight_decay": 0.0, "steps": 7, "optimiser": "sgd", "keep": "losses"}, True),
        ({"batch_size": 17}, False),
        ({"finite": 64}, True),
        ({"finite": 65}, False),
        ({"finite": 65, "full_batch": False}, True),
    ],
)
def test_runs_of_one_stack_have_one_task_one_model_and_equally_large_batches(settings, is_one):
    plain = Plan.from_preset(Addition, "quick", {}, {}, {})
    assert (shape_of(Plan.from_preset(Addition, "quick", {}, {}, settings)) == shape_of(plain)) == is_one
    for other in (({"n_digits": 4}, {}), ({}, {"d_mlp": 64})):
        assert shape_of(Plan.from_preset(Addition, "quick", *other, {})) != shape_of(plain)


def test_runs_on_finite_and_on_infinite_data_may_be_one_stack():
    trainings = [replace(INFINITE, batch_size=20, seed=1), replace(FINITE, seed=2)]
    stacked, alone = (begun(TRIGRAMS, {}, trainings) for _ in range(2))
    for updates, one, other in zip(together(stacked), stacked, alone, strict=True):
        assert_alike(updates, list(other.updates()))
        assert_states_alike(one, other)
