"""What the command line prints where nobody reads it, where it cannot be written, and where runs are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer.cli.main import PIPE_CLOSED, main, say_json
from explorer.runs import Runs
from tests.conftest import SHIPPED
from tests.spoilt import rewrite
from tests.test_files import with_tests_at

HERE = Path(__file__).parents[1]
TINY = [word for one in ("d_model=16", "n_heads=2", "d_head=8", "d_mlp=8", "n_digits=1") for word in ("--set", one)]


def explorer(*arguments: str, stdout: int | None = subprocess.PIPE, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "explorer", *arguments, "--checkpoints", str(SHIPPED)]
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, cwd=HERE, env={**os.environ, **environment}, timeout=120
    )


@pytest.mark.parametrize(
    "arguments", [("phases", "addition"), ("runs",), ("predict", "addition", "1+2", "--all-steps")]
)
def test_a_pipe_that_nobody_reads_ends_a_command_without_a_word(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = explorer(*arguments, stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (PIPE_CLOSED, b"")


def test_help_into_a_pipe_that_nobody_reads():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "explorer", "--help"], stdout=closed, stderr=subprocess.PIPE, cwd=HERE, timeout=120
        )
    assert (done.returncode, done.stderr) == (PIPE_CLOSED, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("arguments", [("runs", "--json"), ("scene", "overview?run=addition")])
def test_a_full_disk_gets_one_sentence(arguments):
    with Path("/dev/full").open("wb") as full:
        done = explorer(*arguments, stdout=full.fileno())
    sentence = b"The output cannot be written: No space left on device; write it elsewhere.\n"
    assert (done.returncode, done.stderr) == (2, sentence)


def test_a_terminal_that_knows_only_ascii_is_sent_only_ascii():
    for arguments in (
        ("predict", "addition", "1+2"),
        ("predict", "addition", "1×2"),
        ("runs",),
        ("phases", "addition"),
    ):
        done = explorer(*arguments, LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
        assert b"Traceback" not in done.stderr
        assert done.returncode == (2 if "1×2" in arguments else 0)
        assert (done.stdout + done.stderr).isascii()
    assert rb"\xd7" in explorer("predict", "addition", "1×2", PYTHONIOENCODING="ascii").stderr


def test_json_has_null_for_what_is_not_finite(capsys):
    say_json({"a": [float("nan"), (1.5, float("inf"))], "b": {"c": -float("inf")}, "d": "NaN", "e": True})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "a": [None, [1.5, None]],
        "b": {"c": None},
        "d": "NaN",
        "e": True,
    }


def test_arguments_of_any_length_and_writing_get_one_short_line(capsys):
    for arguments in (["runs", "\u202e\x1b[31m", "x" * 10_000], ["\u202e" * 3], ["predict", "x" * 10_000, "1+2"]):
        assert main([*arguments, "--checkpoints", str(SHIPPED)] if arguments[0] != "\u202e" * 3 else arguments) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert said.strip().isprintable()
        assert len(said) < 800


# --- Where runs are ---


def test_a_tilde_is_the_home_folder_for_all_commands(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(root.parent))
    for option in ([], ["--checkpoints", f"~/{root.name}"]):
        monkeypatch.setenv("EXPLORER_CHECKPOINTS", f"~/{root.name}" if not option else str(tmp_path))
        assert main(["runs", *option]) == 0
        assert capsys.readouterr().out.startswith("small  ")
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", "~nobody-of-this-name/runs")
    assert main(["runs"]) == 2
    assert capsys.readouterr().err == (
        "'~nobody-of-this-name/runs' begins with a home folder that is not known; write it in full.\n"
    )
    assert main(["runs", "--checkpoints", str(root)]) == 0


def test_a_folder_without_runs_or_that_does_not_exist_is_named_in_full(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name, said in (("empty", "holds no runs yet"), ("nowhere", "does not exist")):
        monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path / name))
        assert main(["runs", "--checkpoints", name]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(
            f"No runs in {name} yet: the folder {tmp_path / name} {said}; train one with: python -m"
        )
        assert main(["scene", "overview"]) == 2
        assert capsys.readouterr().err.startswith(f"The folder {tmp_path / name} {said}; train one with:")


def test_what_is_advised_trains_a_run_that_is_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path / "new"))
    assert main(["scene", "overview"]) == 2
    advised = capsys.readouterr().err.split("python -m explorer ")[1].split()
    assert main([*advised, "--steps", "1", *TINY]) == 0
    assert Runs(tmp_path / "new").names() == ["addition"]


def test_what_is_no_run_is_named_once_and_on_the_standard_error(copied, capsys):
    root = copied.folder.parent
    for name in ("Ångström + run …", "x" * 65):
        (root / name).mkdir()
        (root / name / "run.json").write_text("{}")
    (root / "empty").mkdir()
    (root / ".DS_Store").write_text("")
    assert main(["runs", "--json", "--checkpoints", str(root)]) == 0
    printed = capsys.readouterr()
    assert [row["name"] for row in json.loads(printed.out)] == ["small"]
    others = f"'empty', '{'x' * 40}…' and 'Ångström + run …'"
    assert printed.err == (
        f"In {root}, {others} are no runs: a run is a folder with a run.json, whose "
        "name has up to 64 letters, digits, dots, dashes and underscores, beginning with a letter or a digit.\n"
    )
    for place in range(5):
        (root / f"{place}\u202e.zip").write_text("")
    sentence = Runs(root).unknown()
    assert sentence.isprintable()
    assert r"'0\u202e.zip', '1\u202e.zip', '2\u202e.zip' and 5 others are no runs" in sentence


def test_problems_of_a_run_are_told_on_the_standard_error(copied, capsys, tmp_path):
    root = ["--checkpoints", str(copied.folder.parent)]
    rewrite(copied.snapshot_file(10), lambda name, weight: weight * torch.nan)
    copied.snapshot_file(20).write_bytes(b"")
    told = ["small/snapshots/step-000020.safetensors is damaged", "small has a gap at step 10"]
    for command in (["phases", "small", "--json"], ["scene", "overview?run=small"]):
        assert main([*command, *root]) == 0
        printed = capsys.readouterr()
        assert [line.startswith(start) for line, start in zip(printed.err.splitlines(), told, strict=True)] == [
            True
        ] * 2
    assert main(["predict", "small", "1+2", "--all-steps", "--json", *root]) == 0
    printed = capsys.readouterr()
    assert [row["step"] for row in json.loads(printed.out, parse_constant=pytest.fail)] == [0, 10, 30, 40]
    assert printed.err.splitlines()[0].startswith(told[0])
    save_file({**load_file(copied.metrics_file), **with_tests_at(10, 0)}, copied.metrics_file)
    assert main(["phases", "small", *root]) == 0
    assert "The test_step of small/metrics.safetensors does not ascend" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["phases", "small"], ["predict", "small", "1+2", "--all-steps"], ["scene", "overview"]]
)
def test_what_all_snapshots_have_in_common_is_told(copied, capsys, command):
    for step in copied.steps():
        weights = {f"module.{name}": weight for name, weight in copied.snapshot(step).items()}
        save_file(weights, copied.snapshot_file(step))
    assert main([*command, "--checkpoints", str(copied.folder.parent)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "unexpected: 'module.blocks" in said
    assert "the same holds for all 5 snapshots" in said
