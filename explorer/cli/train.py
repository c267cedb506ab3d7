"""Train a new run, or resume one."""

import argparse
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from explorer.cli.main import program
from explorer.errors import UserError
from explorer.model.transformer import ModelConfig
from explorer.runs import Run, RunInfo, Runs, recorder
from explorer.runs.store import default_folder
from explorer.settings import TrainingConfig, parse_assignments
from explorer.tasks import TASKS, task_named
from explorer.training.loop import Measured
from explorer.training.plan import Plan
from explorer.training.process import DEVICES, device_named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", help=", ".join(sorted(TASKS)))
    parser.add_argument("--preset", default=None, help="settings to start from; default: the task's first preset")
    parser.add_argument("--name", help="of the run; default: the task's name")
    parser.add_argument("--steps", type=int, help="updates")
    parser.add_argument("--seed", type=int, help="of weights and data")
    parser.add_argument("--finite", type=int, metavar="N", help="train on N examples, drawn once")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting")
    parser.add_argument("--device", default="auto", help=f"{', '.join(DEVICES)}; auto is the GPU if there is one")
    parser.add_argument("--resume", action="store_true", help="resume a run that was stopped")


def run(options: argparse.Namespace) -> None:
    device_named(options.device)  # an unknown device is refused before the run is created
    runs = Runs(options.checkpoints)
    run = _to_resume(runs, options) if options.resume else _created(runs, options)
    info = _trained(run, options.device)
    if info.status == "stopped":
        where = "" if options.checkpoints == default_folder() else f" --checkpoints {shlex.quote(str(runs.root))}"
        print(
            f"Stopped at step {info.steps_done:,} and saved. Resume it with: "
            f"{program()} train {options.task} --name {run.name} --resume{where}"
        )
    else:
        print(f"Done: {info.steps_done:,} steps, {len(info.snapshots)} snapshots in {run.folder}")


def _trained(run: Run, device: str) -> RunInfo:
    """Train with a progress bar, to the last step or until training is stopped.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed twice.
    """
    info = run.info()
    bar = tqdm(
        total=info.training.steps, initial=info.steps_done, unit="step", desc=run.name, delay=0.2, dynamic_ncols=True
    )

    def show(measured: Measured) -> None:
        losses = {"loss": f"{measured.loss:.4f}"}
        if measured.test_loss is not None:
            losses["test"] = f"{measured.test_loss:.4f}"
        bar.set_postfix(losses, refresh=False)
        bar.update(measured.step + 1 - bar.n)

    with bar, _terminated() as terminated:
        try:
            return recorder.train(run, on_update=show, should_stop=lambda: bool(terminated), device=device)
        except KeyboardInterrupt:
            if run.is_training():
                raise
            return run.info()


def _created(runs: Runs, options: argparse.Namespace) -> Run:
    kind = task_named(options.task)
    task, model, training = parse_assignments(options.set, (kind, ModelConfig, TrainingConfig))
    training |= {key: getattr(options, key) for key in ("steps", "seed", "finite") if getattr(options, key) is not None}
    plan = Plan.from_preset(kind, options.preset or next(iter(kind.presets)), task, model, training)
    name = options.name or plan.task.run_name(plan.training)
    return recorder.create(runs, name, plan.task, plan.model, plan.training, plan.preset)


def _to_resume(runs: Runs, options: argparse.Namespace) -> Run:
    given = [key for key in ("preset", "steps", "seed", "finite") if getattr(options, key) is not None]
    if given or options.set:
        raise UserError(f"--resume uses the settings that the run has; leave out --{given[0] if given else 'set'}.")
    run = runs.open(options.name or options.task)
    if run.info().task.name != task_named(options.task).name:
        raise UserError(f"{run.name} is a run of {run.info().task.name}, not of {options.task}; name its task.")
    return run


@contextmanager
def _terminated() -> Iterator[list[int]]:
    """A list to which the first SIGTERM is added, so that training can stop; a second one ends the process. Ctrl-C
    raises KeyboardInterrupt, also in a process that was started in the background, where shells have it ignored."""
    received: list[int] = []

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, before)

    before = signal.signal(signal.SIGTERM, note)
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)
