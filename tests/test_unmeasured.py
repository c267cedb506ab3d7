"""A run that is looked at before its first losses are on disk: every view shows what there is, or says one sentence."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer.cli.main import main
from explorer.errors import UserError
from explorer.runs import Run, Runs, recorder
from explorer.settings import TrainingConfig
from explorer.tasks.addition import Addition
from explorer.tasks.induction import Induction
from explorer.tasks.modular_addition import ModularAddition
from explorer.views import compare, losses
from explorer.views.subject import Subject
from tests.conftest import FINITE, TRAINING
from tests.spoilt import every_way

CASES = {
    "addition": (Addition(n_digits=2), TRAINING),
    "induction, finite": (Induction(stretch=5, interval=8), FINITE),
    "modular addition": (ModularAddition(p=13), replace(TRAINING, test_every=7)),
}


def killed_at_once(folder, name: str, task, training: TrainingConfig) -> Run:
    """A run whose process died after the first snapshot, before any loss was written."""
    model = task.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32, n_layers=2)
    run = recorder.create(Runs(folder), name, task, model, training)

    def die(measured):
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        recorder.train(run, on_update=die)
    assert run.steps() == (0,)
    return run


def look_at_all(subject: Subject, second: Subject) -> None:
    for view, options in every_way(subject):
        text = subject.first_example
        if view.unavailable(subject, text, options):
            continue
        film = view.whole_film(subject, text, options, second if view.second_run(options) else None)
        assert film.steps == subject.frames
        assert film.packed
        view.above(subject, text, options)
        view.below(subject, text, options)


@pytest.mark.parametrize("case", CASES)
def test_every_view_of_a_run_without_losses(tmp_path, small, case):
    run = killed_at_once(tmp_path, "fresh", *CASES[case])
    killed_at_once(tmp_path, "other", *CASES[case])
    subject = Subject.load(run)
    assert subject.problems == ()
    look_at_all(subject, Subject.load(small))
    run.metrics_file.unlink()
    without = Subject.load(run)
    assert without.problems == ()  # no step is done
    assert without.metrics.keys() == subject.metrics.keys()
    assert all(torch.equal(without.metrics[name].isnan(), values.isnan()) for name, values in subject.metrics.items())


def test_tests_without_rows_are_left_out(tmp_path):
    """As somebody's own recorder might write them before the first test."""
    run = killed_at_once(tmp_path, "fresh", Addition(n_digits=2), FINITE)
    recorder.train(run)
    metrics = load_file(run.metrics_file)
    save_file({name: values[:0] if "test" in name else values for name, values in metrics.items()}, run.metrics_file)
    subject = Subject.load(run)
    assert [losses.kind for losses in subject.losses()] == [""]
    assert losses.film(subject, subject.first_example).packed
    assert compare.film(subject, subject, subject.first_example, "loss").packed


def test_a_run_that_was_only_created_says_that_it_has_no_snapshot(tmp_path, capsys):
    task, training = CASES["addition"]
    run = recorder.create(Runs(tmp_path), "new", task, task.model_config(), training)
    with pytest.raises(UserError, match="No snapshot of new can be read; train it"):
        Subject.load(run)
    for command in (["phases", "new"], ["predict", "new", "1+1"], ["scene", "compare?run=new"]):
        assert main([*command, "--checkpoints", str(tmp_path)]) == 2
        assert "No snapshot of new can be read; train it" in capsys.readouterr().err
    assert main(["runs", "--checkpoints", str(tmp_path)]) == 0
    assert (
        "new  2-digit addition  new examples at every step  stopped  0 of 40 steps  0 snapshots"
        in capsys.readouterr().out
    )


def test_the_command_line_reads_a_run_without_losses(tmp_path, capsys):
    run = killed_at_once(tmp_path, "fresh", *CASES["addition"])
    for command in (["phases", "fresh"], ["phases", "fresh", "--json"], ["predict", "fresh", "1+1"], ["runs"]):
        assert main([*command, "--checkpoints", str(tmp_path)]) == 0
    assert "No loss falls or rises" in capsys.readouterr().out
    assert torch.equal(run.metrics()["train_loss"], torch.empty(0, dtype=torch.float64))
