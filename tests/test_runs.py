"""Reading runs: what they hold, and files that nobody should trust."""

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from explorer.errors import UserError
from explorer.runs import Run, Runs
from tests.conftest import MODEL, TASK, TRAINING

# --- What a run holds ---


def test_a_run_remembers_what_it_is(small):
    info = small.info()
    assert (info.task, info.model, info.training) == (TASK, MODEL, TRAINING)
    assert (info.status, info.steps_done) == ("done", 40)
    assert small.steps() == info.snapshots == (0, 10, 20, 30, 40)
    assert not (small.folder / "resume.safetensors").exists()


def test_metrics_hold_a_row_for_each_update(small):
    metrics = small.metrics()
    assert metrics["train_loss"].dtype == torch.float64
    assert metrics["train_loss"].shape == (40,)
    assert metrics["train_loss_per_token"].shape == (40, 3)
    torch.testing.assert_close(metrics["train_loss_per_token"].double().mean(1), metrics["train_loss"])
    assert "test_loss" not in metrics


def test_a_snapshot_gives_the_losses_that_were_recorded(small):
    """Row i of the metrics belongs to the weights of step i on batch i."""
    stream = TASK.train_stream(TRAINING)
    batches = [stream.next() for _ in range(31)]
    for step in (0, 10, 30):
        loss = (
            TASK.losses(batches[step].at_answers(small.model(step)(batches[step].tokens)), batches[step]).mean().item()
        )
        assert loss == pytest.approx(small.metrics()["train_loss"][step].item(), rel=1e-6)


def test_every_snapshot_is_different(small):
    weights = small.ensemble().weights["embed.W_E"]
    assert all((weights[i] != weights[i + 1]).any() for i in range(4))


def test_a_snapshot_file_describes_itself(small):
    path = small.folder / "snapshots" / "step-000010.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["step"] == "10"
    assert json.loads(metadata["task"]) == {"name": "addition", "n_digits": 2}
    assert json.loads(metadata["model"])["d_model"] == 16
    assert load_file(path).keys() == small.model(10).state_dict().keys()


def test_every_model_is_new_and_the_ensemble_holds_the_same(small, tokens):
    one, other = small.model(20), small.model(20)
    with one.hooks(forward={"hook_embed": lambda x, name: torch.zeros_like(x)}):
        assert not torch.equal(one(tokens), other(tokens))
    stack, _ = small.ensemble().run(tokens)
    torch.testing.assert_close(stack[2], other(tokens), rtol=1e-4, atol=1e-5)


def test_an_unknown_run_is_refused_with_the_names_of_all_runs(root, tmp_path):
    with pytest.raises(UserError, match="there are small"):
        Runs(root).open("nope")
    with pytest.raises(UserError, match="holds none yet"):
        Runs(tmp_path / "nowhere").open("nope")


def test_concurrent_readers_do_not_count_as_training(copied):
    path = copied.folder / "run.json"
    path.write_text(path.read_text().replace('"status": "done"', '"status": "running"'))
    seen: list[set[str]] = []
    threads = [
        threading.Thread(target=lambda: seen.append({copied.info().status for _ in range(100)})) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [{"failed"}, {"failed"}]


# --- Files that nobody should trust ---


def spoil(path: Path, how: str, small: Run) -> None:
    match how:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(path.read_bytes()[:-100])
        case "no safetensors":
            path.write_bytes(b"PK\x03\x04 a pickle in a zip" * 50)
        case "foreign":
            save_file({"something.else": torch.zeros(3)}, path)
        case "another shape":
            weights = small.snapshot(10)
            save_file({**weights, "embed.W_E": torch.zeros(3, 3)}, path)
        case "other settings":
            weights = small.snapshot(10)
            with safe_open(small.folder / "snapshots" / "step-000010.safetensors", framework="pt") as file:
                metadata = file.metadata()
            metadata["model"] = metadata["model"].replace("relu", "gelu")
            save_file(weights, path, metadata)
        case "no numbers":
            save_file({name: weight.bool() for name, weight in small.snapshot(10).items()}, path)
        case "another step":
            shutil.copy(small.folder / "snapshots" / "step-000020.safetensors", path)


HOW = [
    "missing",
    "empty",
    "truncated",
    "no safetensors",
    "foreign",
    "another shape",
    "other settings",
    "no numbers",
    "another step",
]


@pytest.mark.parametrize("how", HOW)
def test_a_spoilt_snapshot_gets_one_sentence_that_names_it(copied, small, how):
    spoil(copied.folder / "snapshots" / "step-000010.safetensors", how, small)
    with pytest.raises(UserError) as refused:
        copied.model(10)
    assert "small/snapshots/step-000010.safetensors" in str(refused.value)
    assert "\n" not in str(refused.value)
    problems = []
    assert copied.readable(problems) == (0, 20, 30, 40)
    assert len(problems) == 1
    with pytest.raises(UserError, match="step-000010"):
        copied.ensemble()


@pytest.mark.parametrize("how", HOW[:5])
def test_spoilt_metrics_get_one_sentence_that_names_them(copied, small, how):
    spoil(copied.folder / "metrics.safetensors", how, small)
    with pytest.raises(UserError, match=r"small/metrics.safetensors"):
        copied.metrics()


@pytest.mark.parametrize(
    "change",
    [
        {"task": None},
        {"task": {"name": "nope"}},
        {"task": {"name": "addition", "n_digits": 99}},
        {"task": {"name": "addition", "n_digits": 3}},
        {"task": {"name": "addition", "evil": 1}},
        {"model": []},
        {"model": {"d_vocab": 12}},
        {"training": {"steps": "many"}},
        {"training": {"steps": True}},
        {"training": {"lr": float("nan")}},
        {"training": {"lr": 1e999}},
        {"training": {"lr": 10**400}},
        {"model": {"d_vocab": 12, "d_vocab_out": 10, "n_ctx": 9, "d_model": 10**30}},
        {"format": 2},
        {"snapshots": [10**4000]},
        {"status": "fine"},
        {"steps_done": -1},
        {"steps_done": 41},
        {"steps_per_second": -1},
        {"steps_per_second": 1e-320},
        {"threads": "many"},
        {"snapshots": [1.5]},
        {"snapshots": "all"},
    ],
    ids=str,
)
def test_an_invalid_run_json_gets_one_sentence(copied, change):
    path = copied.folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=r"."):
        Runs(copied.folder.parent).open("small")


@pytest.mark.parametrize(("change", "sentence"), [({"status": "fine"}, "status"), ({"steps_done": 41}, "steps_done")])
def test_only_what_is_wrong_in_a_run_json_is_reported(copied, change, sentence):
    path = copied.folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=rf"^small/run.json has no valid {sentence}; it must be"):
        copied.info()


def test_the_version_of_a_run_changes_when_a_file_is_removed(copied):
    versions = {copied.version()}
    copied.metrics_file.unlink()
    versions.add(copied.version())
    shutil.rmtree(copied.snapshots_folder)
    versions.add(copied.version())
    assert len(versions) == 3
    copied.info_file.unlink()
    with pytest.raises(UserError, match=r"small/run.json cannot be read"):
        copied.version()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\x00"])
def test_a_run_json_that_is_not_json_gets_one_sentence(copied, text):
    (copied.folder / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"small/run.json"):
        Runs(copied.folder.parent).open("small")


def test_a_model_that_would_not_fit_is_not_built(copied):
    path = copied.folder / "run.json"
    values = json.loads(path.read_text())
    values["model"]["d_mlp"] = 10**12
    path.write_text(json.dumps(values))
    began = time.monotonic()
    with pytest.raises(UserError):
        Runs(copied.folder.parent).open("small").ensemble()
    assert time.monotonic() - began < 30


def test_reading_a_run_imports_no_training_code(small):
    script = (
        "import sys\n"
        "from explorer.runs import Run, RunInfo, Runs\n"
        "run = Runs(sys.argv[1]).open('small')\n"
        "run.metrics(), run.ensemble(), run.model(40)\n"
        "print([name for name in sys.modules if name.startswith('explorer.training')])"
    )
    command = [sys.executable, "-c", script, str(small.folder.parent)]
    done = subprocess.run(command, capture_output=True, check=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout == "[]\n"
