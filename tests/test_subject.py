"""A run in memory: read once, and while it is being trained only what is new."""

import dataclasses
import shutil

import pytest
import torch

from explorer.errors import UserError
from explorer.film.panels.curves import BUCKETS
from explorer.runs import Run, Runs, recorder
from explorer.views import panels
from explorer.views.subject import Subject
from tests.conftest import MODEL, TASK, TRAINING


@pytest.fixture
def growing(tmp_path) -> Run:
    """A run with the snapshots 0, 10 and 20, of five."""
    run = recorder.create(Runs(tmp_path), "growing", TASK, MODEL, TRAINING)
    seen = []
    recorder.train(run, on_update=seen.append, should_stop=lambda: len(seen) == 25)
    return run


def test_what_came_since_is_read_and_what_was_there_is_not(growing, small):
    before = Subject.load(growing)
    assert before.steps == (0, 10, 20)
    kept = before.ensemble.weights["embed.W_E"].clone()
    before.ensemble.weights["embed.W_E"][1] += 1  # would be gone if it were read again
    recorder.train(growing)
    after = Subject.load(growing, before)
    assert after.steps == small.steps()
    assert torch.equal(after.ensemble.weights["embed.W_E"][1], kept[1] + 1)
    whole = small.ensemble()
    for name, weight in whole.weights.items():
        assert torch.equal(after.ensemble.weights[name][2:], weight[2:]), name
    assert len(after.metrics["train_loss"]) == 40


def test_a_run_in_memory_needs_its_files_no_more(growing):
    subject = Subject.load(growing)
    shutil.rmtree(growing.folder / "snapshots")
    assert subject.steps == subject.ensemble.steps == (0, 10, 20)
    with pytest.raises(UserError, match=r"step-000000.safetensors is missing.*; the same holds for all 3 snapshots"):
        Subject.load(growing)


def test_nothing_new_is_the_same_memory(growing):
    before = Subject.load(growing)
    weights = before.ensemble.weights
    assert Subject.load(growing, before).ensemble.weights is weights


@pytest.mark.parametrize("how", ["replaced", "removed", "another run"])
def test_what_is_not_as_it_was_is_read_anew(growing, small, how):
    before = Subject.load(growing)
    path = growing.folder / "snapshots" / "step-000010.safetensors"
    before.ensemble.weights["embed.W_E"][1] += 1
    if how == "replaced":
        shutil.copy(small.folder / "snapshots" / path.name, path)
    elif how == "removed":
        path.unlink()
    else:
        shutil.rmtree(growing.folder)
        shutil.copytree(small.folder, growing.folder)
    after = Subject.load(growing, before)
    steps = {"replaced": (0, 10, 20), "removed": (0, 20), "another run": small.steps()}[how]
    assert after.steps == steps
    for i, step in enumerate(steps):
        assert torch.equal(after.ensemble.weights["embed.W_E"][i], small.snapshot(step)["embed.W_E"])
    assert bool(after.problems) == (how == "removed")


@pytest.mark.parametrize(
    ("room", "steps"), [(5, (0, 10, 20, 30, 40)), (4, (0, 20, 40)), (3, (0, 20, 40)), (0, (0, 40))]
)
def test_a_run_too_large_for_memory_is_thinned_and_says_so(small, room, steps):
    """``room`` is that of so many snapshots."""
    thin = Subject.load(small, room=room * small.info().stack_bytes(1))
    assert thin.steps == thin.ensemble.steps == steps
    said = f"only {len(steps)} of them are shown"
    assert [said in problem for problem in thin.problems] == [True] * (len(steps) < 5)
    assert thin.nbytes <= max(room, 2) * small.info().stack_bytes(1) + sum(m.nbytes for m in thin.metrics.values())
    for i, step in enumerate(steps):
        assert torch.equal(thin.ensemble.weights["embed.W_E"][i], small.snapshot(step)["embed.W_E"])


def test_the_size_of_a_run_is_that_of_its_losses_and_weights(small):
    subject = Subject.load(small)
    losses = sum(values.nbytes for values in subject.metrics.values())
    assert subject.nbytes == losses + small.info().stack_bytes(5)


def test_long_curves_are_thinned_to_what_a_screen_can_show_and_keep_their_spikes(small):
    subject = Subject.load(small)
    n = 100_000
    metrics = {
        "train_loss": torch.rand(n, dtype=torch.float64),
        "train_loss_per_token": torch.rand(n, 3),
        "test_step": torch.arange(0, n, 50),
        "test_loss": torch.rand(n // 50, dtype=torch.float64),
        "test_loss_per_token": torch.rand(n // 50, 3),
        "accuracy": torch.rand(n, 1),
        "test_accuracy": torch.rand(n // 50, 1),
    }
    metrics["train_loss_per_token"][77_777, subject.task.loss_names.index("units")] = 99  # for one step
    subject = dataclasses.replace(subject, metrics=metrics)
    sent = panels.losses(subject).packed(subject.steps)["lines"]
    lengths = {line["label"]: len(line["raw"]["values"]) for line in sent}
    assert lengths["units"] == lengths["all, test"] == 2000
    assert 4000 < lengths["units, train"] <= 4 * BUCKETS
    (spiky,) = (line["raw"] for line in sent if line["label"] == "units, train")
    assert spiky["values"].max() == 99
    assert spiky["steps"][spiky["values"].argmax()] == 77_777
    assert all(len(line["smoothed"]["values"]) <= 4 * BUCKETS for line in sent)
    (accuracy,) = panels.measures(subject)
    accuracies = accuracy.packed(subject.steps)["lines"]
    assert [len(line["raw"]["values"]) <= 4 * BUCKETS for line in accuracies] == [True, True]
    assert len(accuracies[1]["raw"]["values"]) == 2000
