"""The training loop: golden losses, snapshots where it moves, bit-for-bit resuming."""

from itertools import islice

import pytest
import torch

from explorer.errors import UserError
from explorer.settings import TrainingConfig
from explorer.tasks.addition import Addition
from explorer.training import SnapshotSchedule, Training, learning_rate

TASK = Addition(2)
MODEL = TASK.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32)
INFINITE = TrainingConfig(steps=30, batch_size=8, seed=1)
FINITE = TrainingConfig(steps=30, finite=40, test_batch_size=8, seed=1, weight_decay=1.0, cooldown=0.5)


def test_learning_rate_warms_up_stays_and_cools_down():
    training = TrainingConfig(steps=100, lr=1.0, warmup=10, cooldown=0.2)
    rates = [learning_rate(training, step) for step in range(100)]
    assert rates[0] == 0
    assert rates[5] == 0.5
    assert rates[10:81] == [1.0] * 71
    assert rates[90] == 0.5
    assert rates[99] == pytest.approx(0.05)
    assert learning_rate(TrainingConfig(warmup=0, lr=1.0), 0) == 1.0


def test_first_update_has_no_learning_rate():
    training = Training(TASK, MODEL, INFINITE)
    before = training.weights()
    next(training.updates())
    assert all(torch.equal(before[name], weight) for name, weight in training.weights().items())


def test_rows_are_measured_before_their_update():
    training = Training(TASK, MODEL, INFINITE)
    stream = TASK.train_stream(INFINITE)
    for measured, _ in training.updates():
        assert measured.step == training.step - 1
        batch = stream.next()
        if measured.step == 5:
            state = training.state()
            expected = measured
            break
    replay = Training(TASK, MODEL, INFINITE)
    for _ in range(5):
        next(replay.updates())
    losses = TASK.losses(replay.model(batch.tokens), batch)
    assert losses.mean().item() == expected.loss
    assert torch.equal(TASK.per_token(losses, batch), expected.per_token)
    assert int(state["step"]) == 6


@pytest.mark.parametrize("config", [INFINITE, FINITE], ids=["infinite", "finite"])
def test_a_resumed_training_is_the_one_that_was_never_interrupted(config):
    straight = Training(TASK, MODEL, config)
    expected = list(straight.updates())
    for stop in (1, 13):
        first = Training(TASK, MODEL, config)
        rows = list(islice(first.updates(), stop))
        second = Training(TASK, MODEL, config)
        second.restore(first.state())
        rows += list(second.updates())
        assert len(rows) == len(expected)
        for (row, due), (expected_row, expected_due) in zip(rows, expected, strict=True):
            assert due == expected_due
            assert (row.step, row.loss, row.test_loss) == (expected_row.step, expected_row.loss, expected_row.test_loss)
            assert torch.equal(row.per_token, expected_row.per_token)
        for name, weight in straight.weights().items():
            assert torch.equal(second.weights()[name], weight), name


def test_finite_data_are_memorised():
    training = Training(TASK, MODEL, TrainingConfig(steps=150, finite=20, test_batch_size=8, lr=1e-2, weight_decay=0))
    rows = [measured for measured, _ in training.updates()]
    assert rows[-1].loss < 0.5
    assert rows[-1].test_loss > 2
    assert rows[-1].test_per_token.shape == (3,)


def test_kept_weights_do_not_follow_the_live_ones():
    training = Training(TASK, MODEL, INFINITE)
    updates = training.updates()
    next(updates)
    kept = training.weights()
    copy = {name: weight.clone() for name, weight in kept.items()}
    for _ in range(5):
        next(updates)
    assert all(torch.equal(kept[name], copy[name]) for name in kept)
    assert not torch.equal(training.weights()["embed.W_E"], kept["embed.W_E"])


def test_snapshots_are_taken_where_a_loss_moves():
    schedule = SnapshotSchedule(TrainingConfig(steps=1000, snapshot_moved=0.2, snapshot_share=0.1))
    taken = []
    for step in range(1, 1001):
        falling = max(0.0, min(1.0, (step - 400) / 50))  # one token falls from 2.3 to 0 between 400 and 450
        if schedule.wants(step, torch.tensor([0.5, 2.3 * (1 - falling)]).double()):
            taken.append(step)
    assert sum(400 <= step <= 480 for step in taken) >= 8
    assert sum(step < 400 for step in taken) == 3
    assert taken[-1] == 1000


def test_snapshots_at_a_fixed_interval():
    schedule = SnapshotSchedule(TrainingConfig(steps=25, snapshot_every=10))
    losses = torch.zeros(2).double()
    assert [step for step in range(1, 26) if schedule.wants(step, losses)] == [10, 20, 25]


def test_a_training_that_diverges_says_so():
    training = Training(TASK, MODEL, TrainingConfig(steps=50, lr=100.0, warmup=0))
    training.model.embed.W_E.data.fill_(float("inf"))
    with pytest.raises(UserError, match="smaller lr"):
        list(training.updates())


def test_a_state_of_another_training_is_refused():
    training = Training(TASK, MODEL, INFINITE)
    next(training.updates())
    state = training.state()
    other = Training(TASK, TASK.model_config(d_model=8, n_heads=2, d_head=8, d_mlp=32), INFINITE)
    with pytest.raises(UserError, match="has shape"):
        other.restore(state)
    for name, spoilt in (
        ("step", torch.tensor(-5)),
        ("step", torch.tensor([1])),
        ("schedule", torch.zeros(3, 99).double()),
        ("train_stream", torch.zeros(3, dtype=torch.uint8)),
        ("optimiser.exp_avg.embed.W_E", torch.zeros(2)),
        ("weights.embed.W_E", torch.zeros(12, 16, dtype=torch.int32)),
    ):
        with pytest.raises(UserError):
            Training(TASK, MODEL, INFINITE).restore({**state, name: spoilt})
    del state["train_stream"]
    with pytest.raises(UserError, match="lacks 'train_stream'"):
        training.restore(state)
