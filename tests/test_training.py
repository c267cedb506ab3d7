"""The training loop: golden losses, snapshots where it moves, bit-for-bit resuming."""

import os
import platform
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from explorer.errors import UserError
from explorer.model.architectures import new_model
from explorer.model.fast_forward import logits_at
from explorer.runs import Runs, recorder
from explorer.settings import TrainingConfig
from explorer.tasks import TASKS
from explorer.tasks.addition import Addition
from explorer.tasks.modular_addition import ModularAddition
from explorer.tasks.skip_trigram import SkipTrigram
from explorer.training.loop import Training
from explorer.training.measuring import measured_on
from explorer.training.memory import check_memory, memory_needed
from explorer.training.process import run_apart, threads_for
from explorer.training.schedule import SnapshotSchedule, learning_rate

ROOT = Path(__file__).parents[1]
TASK = Addition(2)
MODEL = TASK.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32)
MODULAR = ModularAddition(p=13)
INFINITE = TrainingConfig(steps=30, batch_size=8, seed=1)
FINITE = TrainingConfig(steps=30, finite=40, test_batch_size=8, seed=1, weight_decay=1.0, cooldown=0.5)
MOMENTUM = replace(FINITE, optimiser="sgd", momentum=0.9, lr=0.1)


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
    losses = TASK.losses(logits_at(replay.model, batch.tokens, batch.positions), batch)
    assert losses.mean().item() == expected.loss
    assert torch.equal(TASK.per_token(losses, batch), expected.per_token)
    assert int(state["step"]) == 6


@pytest.mark.parametrize("config", [INFINITE, FINITE, MOMENTUM], ids=["infinite", "finite", "momentum"])
def test_a_resumed_training_equals_the_uninterrupted_one(config):
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


@pytest.mark.parametrize("kind", TASKS.values(), ids=TASKS)
def test_weights_equal_those_of_torch_optim_adamw(kind):
    preset = next(iter(kind.presets.values()))
    task = kind(**preset.task)
    settings = replace(preset.training, steps=6, batch_size=16, warmup=2, weight_decay=0.5)
    training = Training(task, task.model_config(**preset.model), settings)
    model, stream = new_model(training.model.cfg, settings.seed), task.train_stream(settings)
    optimiser = torch.optim.AdamW(
        model.parameters(), betas=(settings.beta1, settings.beta2), weight_decay=settings.weight_decay
    )
    for step, (measured, _) in enumerate(training.updates()):
        optimiser.param_groups[0]["lr"] = learning_rate(settings, step)
        batch = stream.next()
        loss = task.losses(batch.at_answers(model(batch.tokens)), batch).mean()
        assert measured.loss == pytest.approx(loss.item(), rel=1e-4)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for name, weight in training.weights().items():
        expected = model.state_dict()[name]
        assert (weight - expected).norm() <= 1e-3 * (
            expected - new_model(model.cfg, settings.seed).state_dict()[name]
        ).norm(), name


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weights_equal_those_of_torch_optim_sgd(momentum):
    """With weight decay, which is coupled: it is part of the gradient that enters the momentum."""
    settings = replace(INFINITE, optimiser="sgd", momentum=momentum, lr=0.5, weight_decay=0.05, warmup=3)
    training = Training(TASK, MODEL, settings)
    model, stream = new_model(MODEL, settings.seed), TASK.train_stream(settings)
    optimiser = torch.optim.SGD(model.parameters(), momentum=momentum, weight_decay=settings.weight_decay)
    for step, (measured, _) in enumerate(training.updates()):
        optimiser.param_groups[0]["lr"] = learning_rate(settings, step)
        batch = stream.next()
        loss = TASK.losses(batch.at_answers(model(batch.tokens)), batch).mean()
        assert measured.loss == pytest.approx(loss.item(), rel=1e-4)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    first = new_model(MODEL, settings.seed).state_dict()
    for name, weight in training.weights().items():
        assert not torch.equal(weight, first[name])
        torch.testing.assert_close(weight, model.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_a_state_of_another_optimiser_is_refused():
    settings = replace(INFINITE, optimiser="sgd", momentum=0.9)
    training, other = Training(TASK, MODEL, settings), Training(TASK, MODEL, INFINITE)
    for one in (training, other):
        next(one.updates())
    with pytest.raises(UserError, match=r"lacks 'optimiser.exp_avg"):
        other.restore(training.state())
    with pytest.raises(UserError, match=r"lacks 'optimiser.momentum"):
        training.restore(other.state())
    plain = Training(TASK, MODEL, replace(settings, momentum=0.0))
    next(plain.updates())
    assert not any(name.startswith("optimiser.") for name in plain.state())


def test_finite_data_are_memorised():
    training = Training(TASK, MODEL, TrainingConfig(steps=150, finite=20, test_batch_size=8, lr=1e-2, weight_decay=0))
    rows = [measured for measured, _ in training.updates()]
    assert rows[-1].loss < 0.5
    assert rows[-1].test_loss > 2
    assert rows[-1].test_per_token.shape == (3,)


@pytest.mark.parametrize("task", [SkipTrigram(), MODULAR], ids=["skip trigrams", "modular addition"])
def test_what_a_task_measures_is_recorded_for_training_and_for_tests(task):
    cfg = task.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32)
    training = Training(task, cfg, TrainingConfig(steps=7, finite=0 if task is MODULAR else 20, test_every=3))
    rows = [measured for measured, _ in training.updates()]
    assert [row.step for row in rows if row.test_loss is not None] == [0, 3, 6]
    for row in rows:
        expected = set(task.measures) | ({"test_accuracy"} if row.test_loss is not None else set())
        assert set(row.measures) == expected


def test_training_ends_below_the_threshold_and_a_state_remembers_it():
    settings = TrainingConfig(steps=500, finite=200, lr=1e-2, stop_below=1.0, snapshot_every=1000)
    task = SkipTrigram()
    training = Training(task, task.model_config(**task.presets["quick"].model), settings)
    rows = list(training.updates())
    assert len(rows) < 500
    assert [measured.test_loss < 1 for measured, _ in rows] == [False] * (len(rows) - 1) + [True]
    assert rows[-1][1]  # its weights are kept
    later = Training(task, training.model.cfg, settings)
    later.restore(training.state())
    assert later.over
    assert not list(later.updates())


def test_a_loss_that_was_not_measured_causes_no_snapshot():
    schedule = SnapshotSchedule(TrainingConfig(steps=1000, snapshot_moved=0.2, snapshot_share=1.0))
    nan = float("nan")
    assert not schedule.wants(1, torch.tensor([nan, 2.0]).double())
    assert not schedule.wants(2, torch.tensor([3.0, nan]).double())  # the first of its kind is where it starts
    assert not any(schedule.wants(step, torch.tensor([nan, nan]).double()) for step in range(3, 100))
    assert any(schedule.wants(step, torch.tensor([nan, 1.0]).double()) for step in range(100, 110))
    assert any(schedule.wants(step, torch.tensor([0.0, nan]).double()) for step in range(110, 120))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux, which says how much was used")
@pytest.mark.parametrize(
    ("model", "changed"),
    [
        ({"d_model": 1024, "d_mlp": 4096}, {}),  # mostly weights
        ({}, {"batch_size": 5000}),  # mostly activations
        ({}, {"finite": 400_000, "full_batch": False, "snapshot_dtype": "float16"}),  # mostly data
    ],
    ids=["weights", "activations", "data"],
)
def test_memory_is_estimated_near_what_a_run_takes(tmp_path, model, changed):
    """Measured on a process that trains three steps, beyond what one of three small steps takes."""
    task, small = Addition(5), TrainingConfig(steps=3, batch_size=4)
    script = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from explorer.runs import Runs, recorder\n"
        "def peak():\n"
        "    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "recorder.train(Runs(sys.argv[1]).open('small'))\n"
        "before = peak()\n"
        "recorder.train(Runs(sys.argv[1]).open('large'))\n"
        "print((peak() - before) * 1024)"
    )
    cfg, settings = task.model_config(**model), replace(small, **changed)
    recorder.create(Runs(tmp_path), "small", task, task.model_config(), small)
    recorder.create(Runs(tmp_path), "large", task, cfg, settings)
    command = [sys.executable, "-c", script, str(tmp_path)]
    taken = int(subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT).stdout)
    assert 0.5 * taken < memory_needed(task, cfg, settings) < 2 * taken


def test_only_long_updates_use_several_threads():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert threads_for(TASK, MODEL, INFINITE) == 1
        assert threads_for(TASK, MODEL, replace(INFINITE, batch_size=50_000)) == 2
        assert threads_for(TASK, MODEL, replace(INFINITE, finite=4_000)) == 2
        assert threads_for(TASK, MODEL, replace(INFINITE, finite=4_000, full_batch=False)) == 1
        torch.set_num_threads(1)
        assert threads_for(TASK, MODEL, replace(INFINITE, batch_size=50_000)) == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("config", [INFINITE, FINITE], ids=["infinite", "finite"])
def test_a_gpu_gives_the_same_losses(config):
    runs = [Training(TASK, MODEL, config, device) for device in ("cpu", "cuda")]
    for (on_cpu, _), (on_gpu, _) in zip(*(run.updates() for run in runs), strict=True):
        assert on_gpu.loss == pytest.approx(on_cpu.loss, rel=1e-4)
        torch.testing.assert_close(on_gpu.per_token, on_cpu.per_token, rtol=1e-3, atol=1e-5)
    resumed = Training(TASK, MODEL, config, "cpu")
    resumed.restore(runs[1].state())
    assert resumed.over


def test_a_training_that_does_not_fit_in_memory_is_refused_with_the_estimate():
    cfg = TASK.model_config(d_model=65_536, d_mlp=65_536, n_heads=64, d_head=65_536)
    with pytest.raises(UserError, match=r"about [\d,.]+ GiB of memory, and [\d,.]+ GiB are free"):
        check_memory(TASK, cfg, INFINITE)
    wide = TASK.model_config(d_model=4096, d_mlp=16_384)
    check_memory(TASK, wide, INFINITE)
    for settings in (TrainingConfig(batch_size=1_000_000), TrainingConfig(finite=1_000_000)):
        with pytest.raises(UserError, match="test_batch_size or the training data smaller"):
            check_memory(TASK, wide, settings)
    check_memory(TASK, MODEL, FINITE)


@pytest.mark.parametrize("name", TASKS)
def test_losses_are_the_same_measured_in_parts(name, monkeypatch):
    task = TASKS[name]()
    batch = task.endless_stream(10, 0).next()
    model = new_model(task.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32, n_layers=2), 0)
    whole = measured_on(model, task, batch)
    monkeypatch.setattr("explorer.training.measuring.PART", 3 * batch.tokens.shape[1])
    for part, expected in zip(measured_on(model, task, batch), whole, strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-6)


def test_a_huge_test_takes_little_more_memory_than_its_data_and_logits():
    few, many = (replace(FINITE, test_batch_size=n, snapshot_dtype="float16") for n in (20_000, 1_000_000))
    growth = memory_needed(TASK, MODEL, many) - memory_needed(TASK, MODEL, few)
    assert growth < 980_000 * 2000  # bytes: 12 tokens and 3 answers of ten logits each
    infinite = [replace(settings, finite=0) for settings in (few, many)]
    assert memory_needed(TASK, MODEL, infinite[0]) == memory_needed(TASK, MODEL, infinite[1])


def test_returned_weights_are_copies():
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


def test_a_schedule_that_does_not_follow_losses_needs_no_state_of_its_own():
    training = Training(TASK, MODEL, replace(INFINITE, keep="ends"))
    next(training.updates())
    state = training.state()
    for schedule in (torch.zeros(3, 6).double(), torch.zeros(7)):
        again = Training(TASK, MODEL, replace(INFINITE, keep="ends"))
        again.restore(state | {"schedule": schedule})
        assert again.step == 1
        assert not again.state()["schedule"].numel()


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


def test_no_snapshot_has_weights_that_are_not_finite():
    """The loss is finite still, but its gradient is not: the weights after that update are no snapshot."""
    task = Addition(n_digits=2)
    cfg = task.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32, layer_norm=True)
    training = Training(task, cfg, TrainingConfig(steps=50, lr=100.0, warmup=0, snapshot_every=1))
    kept = []
    with pytest.raises(UserError, match="this training diverged; a smaller lr than 100"):
        kept.extend(training.weights() for _ in training.updates())
    assert len(kept) > 1
    assert all(weight.isfinite().all() for weights in kept for weight in weights.values())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a matter of glibc")
def test_a_process_that_trains_keeps_freed_memory():
    """Each page of memory that comes from the system is a page fault: up to 2,048 of 4 KiB in each round below."""
    program = """
import resource, torch
from explorer.training.process import run_apart

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        first, second = torch.zeros(2**20), torch.zeros(2**20)
        del first, second
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(run_apart(lambda: (pages(), pages())[1], 1))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2 * 2048


def test_subnormals_are_flushed_on_every_thread_of_a_warmed_up_process():
    """Two threads share a product whose every element is subnormal."""
    program = """
import torch
from explorer.training.process import run_apart

def products():
    return int((torch.full((2**20,), 1e-30) * 1e-10).count_nonzero())

torch.set_num_threads(2)
print(products(), run_apart(products, 2), products())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == [str(2**20), "0", str(2**20)]


def test_an_error_in_the_training_thread_is_raised_in_the_calling_thread():
    def fail():
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        run_apart(fail, 1)
    assert run_apart(torch.get_num_threads, 2) == 2
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("interruptible")
def test_a_second_ctrl_c_is_raised_at_once():
    handled, go_on, ended = (threading.Event() for _ in range(3))

    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        handled.wait()
        os.kill(os.getpid(), signal.SIGINT)
        go_on.wait()
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        run_apart(work, 1, handled.set)
    assert not ended.is_set()
    go_on.set()
    ended.wait()


def test_training_on_several_threads_is_deterministic():
    """The table gathers its rows by token, whose gradient adds up the many occurrences of each token."""
    task = SkipTrigram()
    settings = TrainingConfig(steps=10, batch_size=512, lr=1e-2)

    def trained() -> dict[str, torch.Tensor]:
        training = Training(task, task.model_config(n_heads=1, architecture="table"), settings)
        for _ in training.updates():
            pass
        return training.weights()

    first, *others = (run_apart(trained, 2) for _ in range(3))
    for weights in others:
        assert all(torch.equal(weights[name], weight) for name, weight in first.items())
