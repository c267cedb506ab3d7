"""What every task promises, asked of all of them; what is one task's own is in a file of its own."""

import dataclasses
import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from explorer.errors import UserError
from explorer.settings import TrainingConfig
from explorer.tasks import TASKS, task_named
from explorer.tasks.data import Batch, ShuffledStream

ADDITION, TRIGRAMS = TASKS["addition"](n_digits=2), TASKS["skip-trigram"]()
MORE_TRIGRAMS = TASKS["skip-trigram"](n_triggers=26, n_letters=17)
INDUCTION = TASKS["induction"](stretch=5, interval=8)
MORE_COPIES = TASKS["induction"](stretch=16, interval=28, copies=4, vocabulary=129)
ALL_TOKENS = dataclasses.replace(INDUCTION, answers="all", vocabulary=96, copies=1)
MODULAR = TASKS["modular-addition"](p=13, train_share=0.4)
ENDLESS = TrainingConfig(batch_size=50, test_batch_size=30, seed=4)
FULL = dataclasses.replace(ENDLESS, finite=60)
SHUFFLED = dataclasses.replace(FULL, full_batch=False)
CASES = [
    *((task, training) for task in (ADDITION, TRIGRAMS, INDUCTION) for training in (ENDLESS, FULL, SHUFFLED)),
    *((task, ENDLESS) for task in (MORE_TRIGRAMS, MORE_COPIES, ALL_TOKENS, MODULAR)),
    (ALL_TOKENS, SHUFFLED),
    (dataclasses.replace(MODULAR, equals_output=True), ENDLESS),
    (dataclasses.replace(MODULAR, train_share=1.0), ENDLESS),
    *((dataclasses.replace(MODULAR, function=function), ENDLESS) for function in ("subtract", "quadratic", "random")),
]
TASKS_HERE = list(dict.fromkeys(task for task, _ in CASES))
case = pytest.mark.parametrize(("task", "training"), CASES, ids=lambda x: getattr(x, "title", None))
each = pytest.mark.parametrize("task", TASKS_HERE, ids=lambda task: task.title)


def test_there_are_four():
    assert sorted(TASKS) == ["addition", "induction", "modular-addition", "skip-trigram"]
    with pytest.raises(UserError, match="no task 'subtraction'; there are addition"):
        task_named("subtraction")


@case
def test_batches_have_valid_tokens_positions_and_targets(task, training):
    for stream in (task.train_stream(training), task.test_stream(training)):
        batch = stream.next()
        assert batch.tokens.dtype == batch.positions.dtype == batch.targets.dtype == torch.int64
        assert batch.tokens.shape[1] == task.n_ctx
        assert batch.positions.shape == batch.targets.shape
        assert batch.tokens.min() >= 0
        assert batch.tokens.max() < len(task.tokens)
        assert batch.targets.max() < len(task.answer_tokens)
        assert batch.positions.max() < task.n_ctx


@each
def test_each_output_token_stands_for_another_input_token(task):
    inputs = task.answered_inputs
    assert len(set(inputs)) == len(inputs) == len(task.answer_tokens)
    assert set(inputs) <= set(range(len(task.tokens)))


def test_a_trigger_is_answered_by_its_own_token():
    assert TRIGRAMS.answered_inputs.index(TRIGRAMS.tokens.index("C")) == 2
    assert ADDITION.answered_inputs == tuple(range(10))


@case
def test_the_loss_of_a_uniform_guess_is_the_first_reference(task, training):
    batch = task.train_stream(training).next()
    logits = torch.zeros(2, *batch.targets.shape, len(task.answer_tokens))  # of two snapshots
    losses = task.losses(logits, batch)
    assert losses.dtype == torch.float64
    per_token = task.per_token(losses, batch)
    assert per_token.shape == (2, len(task.loss_names))
    costs = torch.tensor(task.references[0].losses, dtype=torch.float64)
    if task.name == "induction":  # its first token, begin, is never the answer, so the best guess leaves it out
        costs = torch.full_like(costs, math.log(len(task.tokens)))
    if task is not MORE_TRIGRAMS:  # some of which do not occur
        torch.testing.assert_close(per_token, costs.expand(2, -1))
    torch.testing.assert_close(losses.mean(), costs[0])


@case
def test_the_mean_of_a_reference_is_that_of_all_answers(task, training):
    """Each answer costs what the reference says of its token."""
    batch = task.train_stream(training).next()
    for reference in task.references:
        costs = torch.tensor(reference.losses, dtype=torch.float64)
        assert costs.shape == (len(task.loss_names),)
        if reference.shares:
            assert sum(reference.shares) == pytest.approx(1)
            rng = torch.Generator().manual_seed(0)
            losses = torch.rand(batch.targets.shape, generator=rng, dtype=torch.float64)
            shares = torch.tensor(reference.shares, dtype=torch.float64)
            torch.testing.assert_close(task.per_token(losses, batch) @ shares, losses.mean())
        else:
            assert reference.mean == pytest.approx(costs.mean().item())


@case
def test_streams_depend_on_the_seed_and_resume_from_their_state(task, training):
    for make in (task.train_stream, task.test_stream):
        one, other = make(training), make(training)
        for _ in range(3):
            assert torch.equal(one.next().tokens, other.next().tokens)
        state = one.state()
        assert state.dtype == torch.uint8
        expected = [one.next() for _ in range(3)]
        later = make(training)
        later.restore(state)
        for batch in expected:
            again = later.next()
            assert torch.equal(again.tokens, batch.tokens)
            assert torch.equal(again.targets, batch.targets)
            assert all(torch.equal(again.extra[name], values) for name, values in batch.extra.items())


@case
def test_test_examples_are_not_in_the_training_data(task, training):
    learnt = task.training_set(training)
    assert task.n_train(training) == (0 if learnt is None else len(learnt.tokens))
    tested = task.test_stream(training).next()
    assert task.n_test(training) == len(tested.tokens)
    if learnt is not None:
        assert not (learnt.tokens[:, None] == tested.tokens[None]).all(-1).any()


def test_shuffled_batches_have_every_example_once_per_pass():
    stream = TRIGRAMS.train_stream(dataclasses.replace(SHUFFLED, batch_size=20))
    assert isinstance(stream, ShuffledStream)
    everything = TRIGRAMS.training_set(SHUFFLED).tokens
    rounds = [torch.cat([stream.next().tokens for _ in range(3)]) for _ in range(2)]
    for seen in rounds:
        assert sorted(map(tuple, seen.tolist())) == sorted(map(tuple, everything.tolist()))
    assert not torch.equal(*rounds)
    with pytest.raises(UserError, match="only 60 training examples"):
        TRIGRAMS.train_stream(dataclasses.replace(SHUFFLED, batch_size=61))


@case
def test_measures_have_the_declared_lines(task, training):
    batch = task.train_stream(training).next()
    logits = torch.nn.functional.one_hot(batch.targets, len(task.answer_tokens)).float()
    pattern = torch.ones(len(batch.tokens), 1, task.n_ctx, task.n_ctx)
    measured = task.measure(logits, batch, dict.fromkeys(task.watched_gradients, pattern))
    assert {name: tuple(values.shape) for name, values in measured.items()} == {
        name: (len(measure.lines),) for name, measure in task.measures.items()
    }
    assert measured["accuracy"].item() == 1
    assert task.measure(torch.zeros_like(logits), batch, {})["accuracy"].item() < 0.5


@each
def test_examples_are_read_and_written(task):
    assert len(task.examples) >= 3
    assert len(set(task.examples.values())) == len(task.examples)
    for text in task.examples.values():
        example = task.encode(text)
        again = task.encode(example.text)
        assert again.text == example.text
        assert torch.equal(again.tokens, example.tokens)
        assert len(example.positions) == len(example.targets) == len(example.places) > 0
        assert example.n_prompt <= len(example.tokens) <= task.n_ctx
        right, wrong = example.targets.tolist(), [(t + 1) % len(task.answer_tokens) for t in example.targets.tolist()]
        assert task.written(example, right) != task.written(example, wrong)
        for sibling in task.siblings(example).values():
            assert task.encode(sibling).text == sibling != example.text


@each
@pytest.mark.parametrize("typed", ["", "   ", "\n", "!?", "9" * 100_000, "![x](y) <b>", "１+２", "💥", "1+2+3", "-1+2"])
def test_invalid_input_gets_one_sentence_that_says_what_to_type(task, typed):
    if task.name == "induction" and typed == "   ":
        assert task.encode(typed).text == typed
        return
    with pytest.raises(UserError, match=r"; (type|use) ") as refused:
        task.encode(typed)
    assert len(str(refused.value)) < 350
    assert "\n" not in str(refused.value)


@case
def test_what_was_trained_on_is_known(task, training):
    learnt = task.training_set(training)
    example = task.encode(next(iter(task.examples.values())))
    if learnt is None:
        assert task.was_trained_on(example, training) is None
        return
    tokens = learnt.tokens[7]
    known = dataclasses.replace(example, tokens=tokens, n_prompt=min(example.n_prompt, task.n_ctx))
    assert task.was_trained_on(known, training) is True
    tested = dataclasses.replace(known, tokens=task.test_stream(training).next().tokens[0], n_prompt=task.n_ctx)
    assert task.was_trained_on(tested, training) is False


@case
def test_rows_of_the_training_data_are_found(task, training):
    learnt, others = task.training_set(training), task.test_stream(training).next()
    if learnt is None:
        assert task.are_in_training_data(others, training) is None
        return
    assert task.are_in_training_data(learnt, training).all()
    assert not task.are_in_training_data(others, training).any()
    mixed = dataclasses.replace(
        others,
        tokens=torch.cat([others.tokens[:3], learnt.tokens[5:7]]),
        positions=torch.cat([others.positions[:3], learnt.positions[5:7]]),
    )
    assert task.are_in_training_data(mixed, training).tolist() == [False] * 3 + [True] * 2


@each
def test_a_cycle_has_all_pairs_and_their_right_answers(task):
    if task.cycle is None:
        assert task.name in ("skip-trigram", "induction")
        return
    n = task.cycle.n
    assert task.answer_tokens[:n] == task.tokens[:n] == tuple(str(number) for number in range(n))
    assert task.cycle.grids
    x, y = (axis.flatten() for axis in torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij"))
    for grid in task.cycle.grids.values():
        batch = grid.batch
        assert batch.tokens.dtype == batch.positions.dtype == batch.targets.dtype == torch.int64
        assert batch.tokens.shape == (n * n, task.n_ctx)
        assert batch.tokens.max() < len(task.tokens)
        assert batch.positions.shape == batch.targets.shape == (n * n, 1)
        assert len(batch.tokens.unique(dim=0)) == n * n
        if grid.sign:
            assert torch.equal(batch.targets[:, 0], (x + grid.sign * y) % n)
        else:
            for sign in (1, -1):  # pairs of one sum, or difference, have several answers
                same = batch.targets[(x + sign * y) % n == 1]
                assert len(same.unique()) > 1
        read = (batch.tokens == x[:, None]).all(0), (batch.tokens == y[:, None]).all(0)
        assert all(places.any() for places in read)


@each
def test_classes_are_balanced_and_drawn_from_the_seed(task):
    every, again, others = task.classes(12, seed=3), task.classes(12, seed=3), task.classes(12, seed=4)
    assert every or task.name == "induction" or task.cycle.grids["answer"].sign == 0
    for by, classes in every.items():
        check_classes(task, classes)
        assert torch.equal(again[by].batch.tokens, classes.batch.tokens)
        assert not torch.equal(others[by].batch.tokens, classes.batch.tokens)


def check_classes(task, classes):
    n = len(classes.names)
    assert n == len(classes.about) >= 2
    assert len(set(classes.names)) == len(set(classes.about)) == n
    assert classes.labels.dtype == torch.int64
    assert classes.labels.bincount().tolist() == [12] * n
    batch = classes.batch
    assert batch.tokens.shape == (12 * n, task.n_ctx)
    assert 0 <= batch.tokens.min() <= batch.tokens.max() < len(task.tokens)
    assert batch.positions.shape == batch.targets.shape
    assert 0 <= batch.targets.min() <= batch.targets.max() < len(task.answer_tokens)
    assert task.per_token(torch.zeros(batch.targets.shape), batch).shape == (len(task.loss_names),)


@pytest.mark.parametrize("kind", TASKS.values(), ids=TASKS)
def test_presets_can_be_built(kind):
    assert {"quick", "notebook"} <= set(kind.presets)
    for preset in kind.presets.values():
        task = kind(**preset.task)
        cfg = task.model_config(**preset.model)
        assert (cfg.n_ctx, cfg.d_vocab, cfg.d_vocab_out) == (task.n_ctx, len(task.tokens), len(task.answer_tokens))
        assert len(task.loss_groups) == len(task.loss_names) == len(task.references[0].losses)
        assert preset.about.endswith(".")
    kinds = {bool(kind(**preset.task).n_train(preset.training)) for preset in kind.presets.values()}
    assert kinds == {True, False}  # finite data and infinite


@pytest.mark.parametrize("kind", TASKS.values(), ids=TASKS)
def test_every_setting_says_what_it_means(kind):
    for one in dataclasses.fields(kind):
        assert one.metadata["about"]


@pytest.mark.parametrize("n_outputs", [5, 50], ids=["few outputs", "many"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_and_their_gradients_are_those_of_torch(n_outputs, dtype):
    """Computed in float64, with axes in front, also where a loss is far below what float32 can tell from nothing."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 2, n_outputs, generator=rng)
    targets = torch.randint(0, n_outputs, (4, 2), generator=rng)
    logits[0].scatter_(-1, targets[..., None], 36.0)
    x, exact = (logits.to(to).requires_grad_() for to in (dtype, torch.float64))
    before = x.detach().clone()
    losses = ADDITION.losses(x, Batch(targets, targets, targets))
    assert torch.equal(x, before)
    expected = cross_entropy(exact.flatten(0, 2), targets.expand(3, 4, 2).flatten(), reduction="none")
    assert losses.shape == (3, 4, 2)
    assert losses.dtype == torch.float64
    assert 0 < losses[0].max() < 1e-12
    torch.testing.assert_close(losses.flatten(), expected, rtol=1e-9, atol=1e-15)
    at = torch.randn(24, generator=rng, dtype=torch.float64)
    (gradient,), (slope,) = torch.autograd.grad(losses.flatten(), x, at), torch.autograd.grad(expected, exact, at)
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-6, atol=1e-15)


@case
def test_batches_and_examples_are_compared_by_value(task, training):
    one, again = (task.train_stream(training).next() for _ in range(2))
    assert one == again
    assert one != task.test_stream(training).next()
    assert one != dataclasses.replace(one, targets=one.targets + 1)
    assert one != dataclasses.replace(one, tokens=one.tokens.int())
    assert one != dataclasses.replace(one, extra={"another": one.tokens})
    assert one != one.tokens
    texts = list(task.examples.values())
    assert task.encode(texts[0]) == task.encode(texts[0]) != task.encode(texts[1])
    assert task.classes(3, seed=1) == task.classes(3, seed=1)
    if task.classes(3, seed=1):
        assert task.classes(3, seed=1) != task.classes(3, seed=2)
    if task.cycle:
        grids = task.cycle.grids
        assert task.cycle == task.cycle
        assert grids == task.cycle.grids
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)
