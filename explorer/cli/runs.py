"""List all runs."""

import argparse
import json
import sys
from typing import Any

from explorer.cli.main import program
from explorer.errors import UserError
from explorer.runs import Run, Runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> None:
    rows, broken = [], []
    runs = Runs(options.checkpoints)
    for name in runs.names():
        try:
            rows.append(_row(runs.open(name)))
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
            print(f"No runs in {options.checkpoints} yet; train one with: {program()} train addition")
    for sentence in broken:
        print(sentence, file=sys.stderr)


def _row(run: Run) -> dict[str, Any]:
    info = run.info()
    loss = run.metrics()["train_loss"].tolist() if info.steps_done else []
    return {
        "name": run.name,
        "task": info.task.name,
        "title": info.task.title,
        "data": info.data,
        "status": info.status,
        "steps_done": info.steps_done,
        "steps": info.training.steps,
        "snapshots": len(run.steps()),
        "final_loss": loss[-1] if loss else None,
    }
