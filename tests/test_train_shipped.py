"""Training the runs that ship, with small ones in their place."""

import shutil
from dataclasses import replace

import pytest
from filelock import FileLock

from explorer.cli.main import main
from explorer.errors import UserError
from explorer.runs import Runs, recorder, shipping
from explorer.tasks import TASKS
from explorer.tasks.addition import Addition
from explorer.tasks.task import Preset
from explorer.training.plan import Plan
from tests.conftest import MODEL, TASK, TRAINING, same

TINY = Preset(
    "A tiny run.", {"d_model": 16, "n_heads": 2, "d_head": 8, "d_mlp": 32, "n_layers": 2}, TRAINING, {"n_digits": 2}
)


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Runs:
    """A folder of runs; two tiny ones ship."""
    monkeypatch.setitem(Addition.presets, "tiny", TINY)
    monkeypatch.setattr(shipping, "SHIPPED", {"one": ("addition", "tiny"), "two": ("addition", "tiny")})
    return Runs(tmp_path)


def train(runs: Runs, *names: str) -> int:
    return main(["train-shipped", *names, "--checkpoints", str(runs.root)])


def test_what_ships_has_a_task_and_a_preset():
    for name, (task, preset) in shipping.SHIPPED.items():
        plan = Plan.from_preset(TASKS[task], preset, {}, {}, {})
        assert plan.task.run_name(plan.training) == name
        assert plan.training.snapshot_dtype == "float16"


def test_runs_are_trained_and_hold_only_what_ships(runs, capsys):
    assert train(runs) == 0
    assert capsys.readouterr().out.count("Replaced") == 2
    assert runs.names() == ["one", "two"]
    assert sorted(path.name for path in runs.root.iterdir()) == ["one", "two"]
    for name in runs.names():
        run = runs.open(name)
        assert (run.info().status, run.info().preset) == ("done", "tiny")
        assert {path.name for path in run.folder.iterdir()} == {"run.json", "metrics.safetensors", "snapshots"}
    assert same(runs.open("one"), runs.open("two"))


def test_only_the_named_runs_are_replaced(runs):
    for name in ("one", "two"):
        recorder.train(recorder.create(runs, name, TASK, MODEL, replace(TRAINING, seed=8, steps=20)))
    runs.open("two").about_file.write_text("What there is to see.")
    assert train(runs, "two", "two") == 0
    assert runs.open("two").about() == "What there is to see."
    assert [runs.open(name).info().steps_done for name in ("one", "two")] == [20, 40]
    assert runs.open("one").resume_file.exists()
    assert not list(runs.root.glob(".[no]*"))


def test_an_interrupted_command_goes_on_where_it_stopped(runs):
    straight = recorder.create(runs, "straight", TASK, MODEL, TRAINING)
    recorder.train(straight)
    begun = recorder.create(shipping.new_runs(runs), "one", TASK, MODEL, TRAINING, "tiny")
    recorder.train(begun, should_stop=iter([False] * 14 + [True]).__next__)
    done = recorder.create(shipping.new_runs(runs), "two", TASK, MODEL, TRAINING, "tiny")
    recorder.train(done)
    assert train(runs) == 0
    assert all(same(runs.open(name), straight) for name in ("one", "two"))


def test_what_a_killed_command_set_aside_is_removed(runs):
    """It was killed between the two moves."""
    recorder.train(recorder.create(shipping.new_runs(runs), "one", TASK, MODEL, TRAINING, "tiny"))
    (runs.root / ".old-one").mkdir()
    assert train(runs, "one") == 0
    assert [path.name for path in runs.root.iterdir()] == ["one"]


def test_a_run_that_is_too_large_replaces_nothing(runs, monkeypatch, capsys):
    recorder.train(recorder.create(runs, "one", TASK, MODEL, replace(TRAINING, steps=20)))
    for limit, said in (("MAX_FILE", "a file that ships has at most 999"), ("MAX_ALL", "they may have 999: keep")):
        with monkeypatch.context() as patch:
            patch.setattr(shipping, limit, 999)
            assert train(runs, "one") == 2
        assert said in capsys.readouterr().err
        assert runs.open("one").info().steps_done == 20
    assert train(runs, "one") == 0  # with what was trained before
    assert runs.open("one").info().steps_done == 40


def test_mistakes_are_refused_before_anything_is_trained(runs, capsys):
    assert train(runs, "one", "three") == 2
    assert "No run 'three' ships; there are one, two." in capsys.readouterr().err
    two = recorder.create(runs, "two", TASK, MODEL, TRAINING)
    with FileLock(two.lock_file):
        assert train(runs) == 2
    assert "two is being trained, so it cannot be replaced" in capsys.readouterr().err
    assert runs.names() == ["two"]
    recorder.create(shipping.new_runs(runs), "one", TASK, MODEL, replace(TRAINING, seed=9))
    assert train(runs, "one") == 2
    assert "other settings than the preset tiny; remove it" in capsys.readouterr().err
    shutil.rmtree(runs.root / ".new")
    begun = recorder.create(shipping.new_runs(runs), "one", TASK, MODEL, TRAINING, "tiny")
    with pytest.raises(UserError, match="is not done, so it does not replace"):
        shipping.replace(runs, begun)
