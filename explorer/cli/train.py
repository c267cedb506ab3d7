"""Train a new run, resume one, or give a finished one more steps."""

import argparse
import contextlib
import signal
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from explorer.cli.main import program, say, where
from explorer.errors import UserError
from explorer.model.transformer import ModelConfig
from explorer.runs import Run, RunInfo, Runs, recorder
from explorer.runs.recorder import ENDINGS
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
    parser.add_argument(
        "--resume",
        action="store_true",
        help="resume a run that was stopped; with --steps N, go on to N steps with a run that is done, whose learning "
        "rate then follows the schedule of N steps",
    )


def run(options: argparse.Namespace) -> None:
    device_named(options.device)  # an unknown device is refused before the run is created
    runs = Runs(options.checkpoints)
    run = _to_resume(runs, options) if options.resume else _created(runs, options)
    info = trained(run, options.device)
    if info.status == "stopped":
        say(
            f"Stopped at step {info.steps_done:,} and saved. Resume it with: "
            f"{program()} train {options.task} --name {run.name} --resume{where(options.checkpoints)}"
        )
    else:
        say(f"Done: {info.steps_done:,} steps, {len(info.snapshots)} snapshots in {run.folder}")


def trained(run: Run, device: str) -> RunInfo:
    """Train with a progress bar, to the last step or until Ctrl-C, SIGTERM, or SIGHUP from a closed terminal.

    Args:
        run: to train.
        device: one of `DEVICES`.

    Returns:
        What run.json holds at the end.

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
        with contextlib.suppress(OSError):  # the terminal may be closed; training goes on to where it is saved
            bar.set_postfix(losses, refresh=False)
            bar.update(measured.step + 1 - bar.n)

    try:
        with terminated() as ended:
            return recorder.train(run, on_update=show, should_stop=lambda: bool(ended), device=device)
    except KeyboardInterrupt:
        if run.is_training():
            raise
        return run.info()
    finally:
        with contextlib.suppress(OSError):
            bar.close()


def _created(runs: Runs, options: argparse.Namespace) -> Run:
    kind = task_named(options.task)
    task, model, training = parse_assignments(options.set, (kind, ModelConfig, TrainingConfig))
    training |= {key: getattr(options, key) for key in ("steps", "seed", "finite") if getattr(options, key) is not None}
    plan = Plan.from_preset(kind, options.preset or next(iter(kind.presets)), task, model, training)
    name = options.name or plan.task.run_name(plan.training)
    return recorder.create(runs, name, plan.task, plan.model, plan.training, plan.preset)


def _to_resume(runs: Runs, options: argparse.Namespace) -> Run:
    given = [key for key in ("preset", "seed", "finite") if getattr(options, key) is not None]
    if given or options.set:
        raise UserError(f"--resume uses the settings that the run has; leave out --{given[0] if given else 'set'}.")
    run = runs.open(options.name or options.task)
    if run.info().task.name != task_named(options.task).name:
        raise UserError(f"{run.name} is a run of {run.info().task.name}, not of {options.task}; name its task.")
    if options.steps is not None:
        recorder.extend(run, options.steps)
    return run


@contextlib.contextmanager
def terminated(interrupt: bool = False) -> Iterator[list[int]]:
    """A list to which the first signal of `ENDINGS` is added, so that training can stop; a second one ends the process.
    Those that are ignored, as by nohup, stay so. Ctrl-C raises KeyboardInterrupt, also in a process that was started in
    the background, where shells have it ignored.

    Args:
        interrupt: Ctrl-C is noted like the others, and raises KeyboardInterrupt the second time.
    """
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (*ENDINGS, signal.SIGINT)}

    def note(number: int, frame: Any) -> None:
        received.append(number)
        for ending in ENDINGS:
            signal.signal(ending, before[ending])
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for ending in ENDINGS:
        if before[ending] is not signal.SIG_IGN:
            signal.signal(ending, note)
    signal.signal(signal.SIGINT, note if interrupt else signal.default_int_handler)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
