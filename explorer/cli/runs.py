"""List all runs and sweeps."""

import argparse
import math
from typing import Any

from explorer.cli.main import program, say, say_json, warn, where
from explorer.errors import UserError
from explorer.runs import Run, Runs
from explorer.runs.sweeps import open_sweep, sweep_names
from explorer.views.swept import Swept


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="of the runs only")


def run(options: argparse.Namespace) -> None:
    runs = Runs(options.checkpoints)
    rows, broken = [], [unknown] if (unknown := runs.unknown()) else []
    for name in runs.names():
        try:
            rows.append(_row(runs.open(name)))
        except UserError as error:
            broken.append(str(error))
    if options.json:
        say_json(rows)
    else:
        for row in rows:
            loss = "" if row["final_loss"] is None else f"  loss {row['final_loss']:.4g}"
            say(
                f"{row['name']}  {row['title']}  {row['data']}  {row['status']}  "
                f"{row['steps_done']:,} of {row['steps']:,} steps  {row['snapshots']} snapshots{loss}"
            )
        for name in sweep_names(runs):
            try:
                say(f"{name}  a sweep  {Swept.load(open_sweep(runs, name)).facts}")
            except UserError as error:
                broken.append(str(error))
        if not runs.names() and not sweep_names(runs):
            no_runs, train = runs.emptiness(), f"{program()} train addition{where(options.checkpoints)}"
            remedy = runs.remedy(f"train one with: {train}")
            say(f"No runs in {options.checkpoints} yet: {no_runs[0].lower()}{no_runs[1:]}; {remedy}")
    warn(broken)


def _row(run: Run) -> dict[str, Any]:
    info = run.info()
    metrics = run.metrics() if info.steps_done else {}
    measured = metrics.get("test_loss" if info.origin else "train_loss")
    loss = [] if measured is None else measured.tolist()
    return {
        "name": run.name,
        "task": info.task.name,
        "title": info.task.title,
        "data": info.data,
        "status": info.status,
        "steps_done": info.steps_done,
        "steps": info.training.steps,
        "snapshots": len(run.steps()),
        "final_loss": loss[-1] if loss and math.isfinite(loss[-1]) else None,
    }
