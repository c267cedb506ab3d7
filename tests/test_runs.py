"""Reading runs: what they hold, and files that nobody should trust."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from explorer.errors import UserError
from explorer.runs import Run, Runs
from explorer.runs.sentences import named_steps
from tests.conftest import MODEL, TASK, TRAINING

# --- What a run holds ---


def test_a_run_remembers_what_it_is(small):
    info = small.info()
    assert (info.task, info.model, info.training) == (TASK, MODEL, TRAINING)
    assert (info.status, info.steps_done) == ("done", 40)
    assert small.steps() == info.snapshots == (0, 10, 20, 30, 40)
    assert (small.folder / "resume.safetensors").exists()


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


def test_snapshots_with_the_same_problem_get_one_sentence(copied, small):
    for step in (0, 10, 40):
        spoil(copied.snapshot_file(step), "truncated", small)
    spoil(copied.snapshot_file(20), "missing", small)
    problems: list[str] = []
    assert copied.readable(problems) == (30,)
    assert problems == [
        "small/snapshots/step-000000.safetensors is damaged or is not a safetensors file; restore it; the same holds "
        "at steps 10 and 40.",
        "small/snapshots/step-000020.safetensors is missing; restore the file, or train the run again.",
    ]


def test_a_problem_of_all_snapshots_is_told(copied):
    for step in copied.steps():
        weights = {f"module.{name}": weight for name, weight in copied.snapshot(step).items()}
        save_file(weights, copied.snapshot_file(step))
    with pytest.raises(UserError, match=r"unexpected: 'module\..*; the same holds for all 5 snapshots\.$") as refused:
        copied.readable([])
    assert str(refused.value).startswith("small/snapshots/step-000000.safetensors does not belong to this run")


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((1000,), "step 1,000"),
        ((0, 20), "steps 0 and 20"),
        ((0, 20, 40, 60), "steps 0, 20, 40 and 60"),
        (range(0, 1200, 100), "12 steps from 0 to 1,100"),
    ],
)
def test_steps_in_words(steps, words):
    assert named_steps(steps) == words


def with_header(path: Path, change: Callable[[str], str]) -> None:
    """Replace the header of a safetensors file."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = change(data[8:end].decode()).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[end:])


def test_a_file_that_names_a_tensor_twice_is_refused(copied):
    def twice(header: str) -> str:
        entry = json.dumps(json.loads(header)["unembed.W_U"])
        return f'{header.rstrip()[:-1]},"unembed.W_U":{entry}}}'

    with_header(copied.snapshot_file(10), twice)
    with pytest.raises(UserError, match=r"^small/snapshots/step-000010.safetensors names 'unembed.W_U' twice; restore"):
        copied.snapshot(10)
    problems: list[str] = []
    assert copied.readable(problems) == (0, 20, 30, 40)
    assert len(problems) == 1


@pytest.mark.parametrize("length", [2**40, 2**24 + 1, 2**63])
def test_a_header_of_absurd_length_is_not_read(copied, length):
    path = copied.snapshot_file(10)
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(UserError, match=r"step-000010.safetensors is damaged"):
        copied.snapshot(10)


@pytest.mark.parametrize("change", [("{", '{"status": "done", '), ('"steps": 40', '"steps": 40, "steps": 41')])
def test_a_run_json_that_says_something_twice_is_refused(copied, change):
    copied.info_file.write_text(copied.info_file.read_text().replace(*change, 1))
    with pytest.raises(UserError, match=r"^small/run.json names '(status|steps)' twice; restore the file\.$"):
        copied.info()


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
        {"ended_at": [40]},
        {"ended_at": "never"},
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


def test_about_is_one_line_without_comments(copied):
    assert copied.about() == ""
    before = copied.version()
    copied.about_file.write_bytes("  Digits <!--a.b-->9 %<!---->\n are\x1b[31m learnt.\xff".encode("latin-1"))
    assert copied.about() == "Digits 9 % are[31m learnt.\ufffd"
    assert copied.version() != before
    copied.about_file.write_text("x" * 10_000)
    assert copied.about() == "x" * 500


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
