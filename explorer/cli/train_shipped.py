"""Train the runs that ship with the project, one after another, and replace each when the new one is done."""

import argparse
import contextlib

from explorer.cli.main import say
from explorer.cli.train import trained
from explorer.errors import UserError, quoted
from explorer.runs import Run, Runs, recorder, shipping
from explorer.tasks import task_named
from explorer.training.plan import Plan
from explorer.training.process import DEVICES, device_named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {', '.join(shipping.SHIPPED)}")
    parser.add_argument("--device", default="cpu", help=f"{', '.join(DEVICES)}; the same losses only on the same one")


def run(options: argparse.Namespace) -> None:
    device_named(options.device)
    runs, names = Runs(options.checkpoints), list(dict.fromkeys(options.names or shipping.SHIPPED))
    if unknown := [name for name in names if name not in shipping.SHIPPED]:
        raise UserError(f"No run {quoted(unknown[0])} ships; there are {', '.join(shipping.SHIPPED)}.")
    for name in names:  # before the first of them takes its time
        shipping.check_not_training(Run(runs.root / name))
    new = shipping.new_runs(runs)
    for name in names:
        run = _begun(new, name)
        if run.info().status != "done" and trained(run, options.device).status != "done":
            say(f"Stopped {name} and saved; the same command goes on with it.")
            return
        shipping.replace(runs, run)
        say(f"Replaced {runs.root / name}")
    with contextlib.suppress(OSError):  # not empty while another command trains there
        new.root.rmdir()


def _begun(new: Runs, name: str) -> Run:
    """The new run, created, or as an earlier command left it.

    Raises:
        UserError: another training is in its place.
    """
    task, preset = shipping.SHIPPED[name]
    plan = Plan.from_preset(task_named(task), preset, {}, {}, {})
    if name not in new.names():
        return recorder.create(new, name, plan.task, plan.model, plan.training, plan.preset)
    run = new.open(name)
    info = run.info()
    if (info.task, info.model, info.training) != (plan.task, plan.model, plan.training):
        raise UserError(f"{run.folder} holds a training with other settings than the preset {preset}; remove it.")
    return run
