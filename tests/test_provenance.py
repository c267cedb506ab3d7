"""What a run was made with, and where the numbers on screen come from."""

import json
from dataclasses import replace

import torch

from explorer.runs import Run, Runs, recorder
from explorer.training.process import made_with
from explorer.views.opening import open_scene
from tests.conftest import MODEL, TASK, TRAINING


def trained(runs: Runs, name: str) -> Run:
    run = recorder.create(runs, name, TASK, MODEL, TRAINING, threads=1)
    recorder.train(run, device="cpu")
    return run


def test_one_seed_gives_the_same_bits_twice(tmp_path):
    one, other = (trained(Runs(tmp_path), name) for name in ("one", "other"))
    assert one.steps() == other.steps()
    for step in one.steps():
        first, second = one.snapshot(step), other.snapshot(step)
        assert all(torch.equal(first[name], second[name]) for name in first)
    for name, values in one.metrics().items():
        assert torch.equal(values.nan_to_num(), other.metrics()[name].nan_to_num())


def test_a_run_says_what_it_was_made_with(tmp_path):
    run = trained(Runs(tmp_path), "run")
    held = json.loads(run.info_file.read_text())["made_with"]
    assert held == made_with(torch.device("cpu"), 1)
    assert set(held) == {"torch", "Python", "code", "device", "threads"}
    assert (held["torch"], held["threads"], held["device"][:4]) == (torch.__version__, "1", "cpu ")
    assert run.info().made_with == held


def test_an_older_run_says_what_it_knows(small):
    values = json.loads(small.info_file.read_text())
    del values["made_with"]
    info = type(small.info()).from_json({**values, "versions": {"torch": "2.0"}}, "run.json")
    assert info.made_with == {"torch": "2.0"}
    assert type(info).from_json({**values, "versions": ["2.0"]}, "run.json").made_with == {}
    assert replace(info, made_with={}) == type(info).from_json(values, "run.json")


def test_a_film_says_where_its_numbers_come_from(small):
    film = open_scene(f"overview?run={small.name}", Runs(small.folder.parent)).film()
    origin = film.origin
    info = small.info()
    assert origin["Run"] == f"small: {info.task.title}, new examples at every step, seed {info.training.seed}"
    assert origin["Snapshots"] == "5, from step 0 to 40, in float32"
    assert f"torch {torch.__version__}" in origin["Made with"]
    assert origin["Model"].startswith(info.shape)
