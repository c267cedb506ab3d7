"""The command line: ``python -m explorer train | runs | predict``."""

import argparse
import dataclasses
import json
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from explorer.analysis.answers import own_answers
from explorer.errors import UserError
from explorer.model.transformer import ModelConfig
from explorer.runs import Run, Runs, recorder
from explorer.settings import TrainingConfig, parse_assignments
from explorer.tasks import TASKS, task_named
from explorer.training.loop import Measured
from explorer.training.process import DEVICES, device_named


class _Parser(argparse.ArgumentParser):
    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **{**options, "allow_abbrev": False})

    def error(self, message: str) -> None:
        raise UserError(f"{message}; {self.prog} --help shows what there is.")


def parser() -> argparse.ArgumentParser:
    top = _Parser(prog="python -m explorer", description="Train small transformers and ask them, snapshot by snapshot.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about)
        sub.set_defaults(command=globals()[f"_{name}"])
        sub.add_argument("--checkpoints", default="checkpoints", metavar="DIR", help="where runs are kept")
        return sub

    train = command("train", "Train a run, or go on with one.")
    train.add_argument("task", help=", ".join(sorted(TASKS)))
    train.add_argument("--preset", default=None, help="settings to begin with; the task's first if not given")
    train.add_argument("--name", help="of the run; the task's name if not given")
    train.add_argument("--steps", type=int, help="updates")
    train.add_argument("--seed", type=int, help="of weights and data")
    train.add_argument("--finite", type=int, metavar="N", help="train on N examples, drawn once")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting")
    train.add_argument("--device", default="auto", help=f"{', '.join(DEVICES)}; auto is the GPU if there is one")
    train.add_argument("--resume", action="store_true", help="go on with a run that was stopped")

    runs = command("runs", "List the runs there are.")
    runs.add_argument("--json", action="store_true")

    predict = command("predict", "Let a run answer an example.")
    predict.add_argument("run")
    predict.add_argument("text", help='such as "12345+67890="')
    which = predict.add_mutually_exclusive_group()
    which.add_argument("--step", type=int, help="of the snapshot; the last if not given")
    which.add_argument("--all-steps", action="store_true")
    predict.add_argument("--json", action="store_true")
    return top


def main(arguments: list[str] | None = None) -> int:
    try:
        options = parser().parse_args(arguments)
        options.command(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nEnded at once; what was saved last is kept.", file=sys.stderr)
        return 130
    return 0


# --- train ---


def _train(options: argparse.Namespace) -> None:
    device_named(options.device)  # before a run is made that it could not train
    runs = Runs(options.checkpoints)
    run = _to_resume(runs, options) if options.resume else _created(runs, options)
    info = run.info()
    with (
        _stop_on_interrupt() as stopped,
        tqdm(
            total=info.training.steps,
            initial=info.steps_done,
            unit="step",
            desc=run.name,
            delay=0.2,
            dynamic_ncols=True,
        ) as bar,
    ):

        def show(measured: Measured) -> None:
            losses = {"loss": f"{measured.loss:.4f}"}
            if measured.test_loss is not None:
                losses["test"] = f"{measured.test_loss:.4f}"
            bar.set_postfix(losses, refresh=False)
            bar.update(measured.step + 1 - bar.n)

        info = recorder.train(run, on_update=show, should_stop=lambda: bool(stopped), device=options.device)
    if info.status == "stopped":
        where = "" if options.checkpoints == "checkpoints" else f" --checkpoints {shlex.quote(options.checkpoints)}"
        print(
            f"Stopped at step {info.steps_done:,} and saved. Go on with: "
            f"python -m explorer train {options.task} --name {run.name} --resume{where}"
        )
    else:
        print(f"Done: {info.steps_done:,} steps, {len(info.snapshots)} snapshots in {run.folder}")


def _created(runs: Runs, options: argparse.Namespace) -> Run:
    kind = task_named(options.task)
    preset_name = options.preset or next(iter(kind.presets))
    preset = kind.preset(preset_name)
    task_set, model_set, training_set = parse_assignments(options.set, (kind, ModelConfig, TrainingConfig))
    training_set |= {
        key: getattr(options, key) for key in ("steps", "seed", "finite") if getattr(options, key) is not None
    }
    task = kind(**{**preset.task, **task_set})
    training = dataclasses.replace(preset.training, **training_set)
    model = task.model_config(**{**preset.model, **model_set})
    name = options.name or task.run_name(training)
    own = bool(task_set or model_set or training_set)
    return recorder.create(runs, name, task, model, training, "" if own else preset_name)


def _to_resume(runs: Runs, options: argparse.Namespace) -> Run:
    given = [key for key in ("preset", "steps", "seed", "finite") if getattr(options, key) is not None]
    if given or options.set:
        raise UserError(f"--resume goes on with the run's own settings; leave out --{given[0] if given else 'set'}.")
    run = runs.open(options.name or options.task)
    if run.info().task.name != task_named(options.task).name:
        raise UserError(f"{run.name} is a run of {run.info().task.name}, not of {options.task}.")
    return run


@contextmanager
def _stop_on_interrupt() -> Iterator[list[int]]:
    """Collect Ctrl-C and a polite kill instead of dying in the middle of an update; a second one dies."""
    received: list[int] = []

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, before[number])

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- runs ---


def _runs(options: argparse.Namespace) -> None:
    rows, broken = [], []
    runs = Runs(options.checkpoints)
    for name in runs.names():
        try:
            rows.append(_described(runs.open(name)))
        except UserError as error:
            broken.append(str(error))
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            loss = "" if row["final_loss"] is None else f"  loss {row['final_loss']:.4g}"
            print(
                f"{row['name']}  {row['title']}  {row['data']}  {row['status']}  "
                f"{row['steps_done']:,} of {row['steps']:,} steps  {row['snapshots']} snapshots{loss}"
            )
        if not rows and not broken:
            print(f"No runs in {options.checkpoints} yet; train one with: python -m explorer train addition")
    for sentence in broken:
        print(sentence, file=sys.stderr)


def _described(run: Run) -> dict[str, Any]:
    info = run.info()
    loss = run.metrics()["train_loss"] if info.steps_done else []
    return {
        "name": run.name,
        "task": info.task.name,
        "title": info.task.title,
        "data": info.data,
        "status": info.status,
        "steps_done": info.steps_done,
        "steps": info.training.steps,
        "snapshots": len(run.steps()),
        "final_loss": float(loss[-1]) if len(loss) else None,
    }


# --- predict ---


def _predict(options: argparse.Namespace) -> None:
    run = Runs(options.checkpoints).open(options.run)
    task = run.info().task
    example = task.encode(options.text)
    steps = run.steps()
    if options.all_steps:
        ensemble = run.ensemble()
    else:
        step = steps[-1] if options.step is None and steps else options.step
        ensemble = run.ensemble(steps=None if step is None else [step])
    answers = own_answers(ensemble, example)
    rows = []
    for step, tokens, probabilities, right in zip(
        ensemble.steps, answers.tokens, answers.probabilities, answers.all_right, strict=True
    ):
        digits = [
            {"token": task.answer_tokens[token], "probability": round(float(p[token]), 6)}
            for token, p in zip(tokens.tolist(), probabilities, strict=True)
        ]
        answer = "".join(digit["token"] for digit in digits)
        rows.append({"step": step, "answer": answer, "correct": bool(right), "digits": digits})
    if example.note:
        print(example.note, file=sys.stderr)
    if options.json:
        print(json.dumps(rows if options.all_steps else rows[0], indent=2))
        return
    for row in rows:
        mark = "right" if row["correct"] else "wrong"
        sure = min(digit["probability"] for digit in row["digits"])
        print(f"step {row['step']:>6}  {example.text} → {row['answer']}  {mark}, least sure {sure:.1%}")
