"""The command line, as people run it."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from explorer import cli
from explorer.cli.main import main
from explorer.runs import Runs
from explorer.tasks import TASKS
from tests.conftest import SHIPPED

HERE = Path(__file__).parents[1]
TINY = ["--set", "d_model=16", "--set", "n_heads=2", "--set", "d_head=8", "--set", "d_mlp=32", "--set", "n_digits=2"]


def test_golden_losses_of_the_notebook(tmp_path):
    command = ["train", "addition", "--preset", "notebook", "--steps", "101", "--checkpoints", str(tmp_path)]
    assert main(command) == 0
    loss = Runs(tmp_path).open("addition").metrics()["train_loss"]
    assert loss[0].item() == pytest.approx(2.5933517134842354, rel=1e-6)
    assert loss[100].item() == pytest.approx(1.9987422520571709, rel=1e-3)


def test_golden_losses_of_skip_trigrams(tmp_path):
    assert (
        main(["train", "skip-trigram", "--preset", "notebook", "--steps", "1801", "--checkpoints", str(tmp_path)]) == 0
    )
    loss = Runs(tmp_path).open("skip-trigram").metrics()["train_loss"]
    assert loss[0].item() == pytest.approx(2.3461269241836282, rel=1e-6)
    assert loss[100].item() == pytest.approx(2.248627353300792, rel=1e-5)
    assert loss[200].item() == pytest.approx(0.2549234119546281, rel=1e-4)
    assert loss[1800].item() < 1e-8


def test_golden_losses_of_induction(tmp_path):
    """The logged losses count 85 positions where 84 are asked for. The run that ships shows what comes later."""
    assert main(["train", "induction", "--preset", "notebook", "--steps", "51", "--checkpoints", str(tmp_path)]) == 0
    loss = Runs(tmp_path).open("induction").metrics()["train_loss"]
    assert loss[0].item() * 85 / 84 == pytest.approx(5.070853039892095, rel=1e-5)
    assert loss[50].item() * 85 / 84 == pytest.approx(5.017400270183791, rel=1e-5)


def test_golden_first_loss_of_induction_with_seed_1(tmp_path):
    """That of a run which its author saved, 5.0507694149, to a relative error of 4e-9."""
    command = ["train", "induction", "--preset", "notebook", "--seed", "1", "--steps", "1"]
    assert main([*command, "--checkpoints", str(tmp_path)]) == 0
    loss = Runs(tmp_path).open("induction").metrics()["train_loss"][0].item()
    assert loss * 85 / 84 == pytest.approx(5.0507693988, rel=1e-8)
    assert loss * 85 / 84 == pytest.approx(5.0507694149, rel=1e-8)


@pytest.mark.parametrize(
    ("settings", "train", "test"),
    [([], 4.774210666917728, 4.776787891584596), (["equals_output=false"], 4.755991395998489, 4.764196322127469)],
    ids=["with = among the outputs", "numbers alone"],
)
def test_golden_losses_of_modular_addition(tmp_path, settings, train, test):
    command = ["train", "modular-addition", "--preset", "notebook", "--steps", "1", "--checkpoints", str(tmp_path)]
    assert main([*command, *(word for one in settings for word in ("--set", one))]) == 0
    metrics = Runs(tmp_path).open("modular-addition").metrics()
    assert metrics["train_loss"][0].item() == pytest.approx(train, rel=1e-7)
    assert metrics["test_loss"][0].item() == pytest.approx(test, rel=1e-7)


@pytest.mark.parametrize(
    ("run", "text", "answer"),
    [
        ("addition", "12345+67890=", "080235"),
        ("skip-trigram", "abcHdef", "7"),
        ("modular-addition", "37+29", "7"),
        ("induction", TASKS["induction"]().examples["a stretch, copied twice"], 2 * "lacksmith␣forge"),
    ],
)
def test_every_task_answers_typed_text(run, text, answer, capsys):
    command = ["predict", run, text, "--checkpoints", str(SHIPPED)]
    assert main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["answer"], said["correct"]) == (answer, True)
    assert main([*command, "--all-steps"]) == 0
    rows = capsys.readouterr().out.strip().split("\n")
    assert len(rows) == len(Runs(SHIPPED).open(run).steps())
    assert "wrong" in rows[0]
    assert "right" in rows[-1]


def test_phases_tell_every_fall_and_rise(capsys):
    command = ["phases", "addition-finite", "--checkpoints", str(SHIPPED)]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (deepest,) = (row for row in told if (row["token"], row["losses"], row["deepest"]) == ("hundreds", "test", True))
    assert deepest["what"] == "fall"
    assert 1450 < deepest["steepest"] < 1650
    assert deepest["width"] == deepest["ends"] - deepest["begins"]
    assert deepest["depth"] == pytest.approx(deepest["before"] - deepest["after"])
    assert deepest["share"] == pytest.approx(deepest["depth"] / 2.302585)
    assert {(row["losses"], row["what"]) for row in told} == {("test", "fall"), ("test", "rise"), ("train", "fall")}
    assert main(command) == 0
    head, *rows, note = capsys.readouterr().out.strip().split("\n")
    assert head.split()[:4] == ["loss", "what", "begins", "steepest"]
    assert len(rows) == len(told)
    assert sum("deepest fall" in row for row in rows) == 12
    assert f"{deepest['steepest']:,}" in next(row for row in rows if re.match("hundreds, test +deepest fall", row))
    assert "nats" in note


def test_phases_of_a_run_whose_losses_do_not_move(tmp_path, capsys):
    root = ["--checkpoints", str(tmp_path)]
    assert main(["train", "addition", "--steps", "1", "--name", "still", *TINY, *root]) == 0
    capsys.readouterr()
    assert main(["phases", "still", *root]) == 0
    assert capsys.readouterr().out == "No loss falls or rises by more than its noise.\n"
    assert main(["phases", "nope", *root]) == 2
    assert "There is no run 'nope'" in capsys.readouterr().err


def test_a_preset_brings_its_task_settings(tmp_path):
    root = ["--checkpoints", str(tmp_path)]
    assert main(["train", "modular-addition", "--steps", "1", "--set", "d_mlp=8", *root]) == 0
    assert main(["train", "modular-addition", "--steps", "1", "--set", "p=7", "--name", "seven", *root]) == 0
    ps = {name: Runs(tmp_path).open(name).info().task.p for name in ("modular-addition", "seven")}
    assert ps == {"modular-addition": 59, "seven": 7}


def test_induction_with_more_copies_and_tokens_is_trained_and_asked(tmp_path, capsys):
    settings = ["vocabulary=129", "copies=4", "answers=all", "d_model=16", "batch_size=8"]
    command = ["train", "induction", "--steps", "2", *(word for one in settings for word in ("--set", one))]
    assert main([*command, "--checkpoints", str(tmp_path)]) == 0
    info = Runs(tmp_path).open("induction").info()
    assert (info.model.d_vocab, info.model.n_ctx) == (129, 141)
    assert Runs(tmp_path).open("induction").metrics()["train_loss_per_token"].shape == (2, 61)
    capsys.readouterr()
    assert main(["predict", "induction", "àbcàb", "--json", "--checkpoints", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 2


def test_a_finished_run_goes_on_to_more_steps(tmp_path, capsys):
    train = ["train", "addition", "--checkpoints", str(tmp_path)]
    assert main([*train, "--steps", "4", *TINY]) == 0
    assert main([*train, "--resume", "--steps", "9"]) == 0
    assert "Done: 9 steps" in capsys.readouterr().out
    assert len(Runs(tmp_path).open("addition").metrics()["train_loss"]) == 9


def test_train_list_and_ask(tmp_path, capsys):
    root = ["--checkpoints", str(tmp_path)]
    assert main(["train", "addition", "--steps", "12", "--seed", "5", "--finite", "30", *TINY, *root]) == 0
    assert "Done: 12 steps" in capsys.readouterr().out
    info = Runs(tmp_path).open("addition-finite").info()
    assert (info.training.seed, info.training.finite, info.model.d_model) == (5, 30, 16)

    assert main(["runs", "--json", *root]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["name"] == "addition-finite"
    assert row["status"] == "done"
    assert main(["runs", *root]) == 0
    assert "addition-finite  2-digit addition  the same 30 examples  done" in capsys.readouterr().out


def test_predict_prints_what_is_promised(small, root, capsys):
    command = ["predict", "small", "12+34=", "--json", "--checkpoints", str(root)]
    assert main(command) == 0
    last = json.loads(capsys.readouterr().out)
    assert list(last) == ["step", "answer", "correct", "digits"]
    assert last["step"] == 40
    assert len(last["answer"]) == 3
    assert last["correct"] is (last["answer"] == "046")
    assert all(set(digit) == {"token", "probability"} for digit in last["digits"])
    assert "".join(digit["token"] for digit in last["digits"]) == last["answer"]

    assert main([*command, "--all-steps"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["step"] for row in rows] == [0, 10, 20, 30, 40]
    assert rows[-1] == last
    assert main([*command, "--step", "10"]) == 0
    assert json.loads(capsys.readouterr().out) == rows[1]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([], "--help"),
        (["fly"], "'fly'"),
        (["train", "subtraction"], "no task 'subtraction'"),
        (["train", "addition", "--preset", "huge"], "no preset 'huge'"),
        (["train", "addition", "--steps", "0"], "steps is 0"),
        (["train", "addition", "--steps", "many"], "'many'"),
        (["train", "addition", "--seed", "-1"], "seed is -1"),
        (["train", "addition", "--set", "lr"], "no '='"),
        (["train", "addition", "--set", "lr=fast"], "lr is 'fast'"),
        (["train", "addition", "--set", "lr=nan"], "lr is nan"),
        (["train", "addition", "--set", "colour=red"], "no setting 'colour'"),
        (["train", "addition", "--set", "attn_only=perhaps"], "true or false"),
        (["train", "addition", "--set", "n_digits=11"], "n_digits is 11"),
        (["train", "addition", "--set", "d_vocab=13"], "for 5-digit addition it is 12"),
        (["train", "addition", "--set", "noun=x"], "no setting 'noun'"),
        (["train", "addition", "--set", "d_model=99999999999"], "between 1 and 65,536"),
        (["train", "addition", "--step", "3"], "--step"),
        (["train", "addition", "--name", "../x"], "cannot be the name"),
        (["train", "addition", "--resume", "--name", "nope"], "no run 'nope'"),
        (["train", "addition", "--resume", "--name", "small", "--seed", "5"], "leave out --seed"),
        (["train", "addition", "--resume", "--name", "small", "--steps", "5"], "has done 40 steps; give it more"),
        (["train", "addition", "--resume", "--name", "small"], "is done"),
        (["train", "addition", "--name", "small"], "choose another name"),
        (["train", "modular-addition", "--set", "p=15"], "which is no prime; take 17"),
        (["train", "modular-addition", "--finite", "100"], "set train_share"),
        (["train", "skip-trigram", "--set", "architecture=tree"], "one of transformer, table"),
        (["train", "induction", "--set", "full_batch=false", "--finite", "30"], "only 30 training examples"),
        (["train", "addition", "--set", "batch_size=1000000", "--set", "d_mlp=60000"], "GiB are free"),
        (["predict", "nope", "1+2"], "no run 'nope'"),
        (["predict", "small", "a+b"], "is not a sum"),
        (["predict", "small", "123+1"], "more than the 2 digits"),
        (["predict", "small", "1+2", "--step", "11"], "the nearest is at 10"),
        (["predict", "small", "1+2", "--step", "1", "--all-steps"], "not allowed with"),
        (["train", "addition", "--name", "new", "--device", "tpu"], "There is no device 'tpu'; known are auto, cpu"),
        pytest.param(
            ["train", "addition", "--name", "new", "--device", "cuda"],
            "torch sees no GPU on this machine",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
    ids=lambda of: " ".join(of) if isinstance(of, list) else "",
)
def test_mistakes_get_one_line_and_status_2(command, said, root, capsys):
    there = ["--checkpoints", str(root)] if command and command[0] in ("train", "predict") else []
    assert main([*command, *there]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err
    assert Runs(root).names() == ["small"]


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    """In a process of its own: stopped by the signal, resumed by the command that it prints."""
    train = [sys.executable, "-m", "explorer", "train", "addition", "--steps", "3000", "--set", "batch_size=8", *TINY]
    root = ["--checkpoints", str(tmp_path)]
    process = subprocess.Popen(
        [*train, *root], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE, bufsize=0
    )
    progress = ""
    while "loss=" not in progress:
        progress += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "--resume" in out
    run = Runs(tmp_path).open("addition")
    done = run.info().steps_done
    assert run.info().status == "stopped"
    assert 0 < done < 3000
    assert main(out.strip().split("python -m explorer ")[1].split()) == 0
    assert run.info().status == "done"


def test_runs_are_where_the_environment_says_unless_the_command_does(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EXPLORER_CHECKPOINTS", raising=False)
    assert main(["runs"]) == 0
    assert capsys.readouterr().out.startswith("No runs in checkpoints yet")
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(root))
    assert main(["runs"]) == 0
    assert capsys.readouterr().out.startswith("small  ")
    assert main(["runs", "--checkpoints", "checkpoints"]) == 0
    assert capsys.readouterr().out.startswith("No runs in checkpoints yet")


def test_a_command_is_one_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "greet.py").write_text(
        '"""Greet somebody."""\n\n'
        "def add_arguments(parser):\n    parser.add_argument('name')\n\n"
        "def run(options):\n    print(f'Hello {options.name}, runs are in {options.checkpoints}')\n"
    )
    monkeypatch.setattr(cli, "__path__", [*cli.__path__, str(tmp_path)])
    assert main(["greet", "Ada", "--checkpoints", "here"]) == 0
    assert capsys.readouterr().out == "Hello Ada, runs are in here\n"
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    listed = capsys.readouterr().out
    assert "Greet somebody." in listed
    assert "Let a run answer an example." in listed
