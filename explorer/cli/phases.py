"""Tell when the losses of a run fall and rise."""

import argparse
import math
from typing import Any

from explorer.cli.main import say, say_json, warn
from explorer.runs import Runs
from explorer.views.losses import Phase, phases
from explorer.views.subject import Subject

NUMBERS = ("begins", "steepest", "ends", "width", "depth", "share", "before", "after")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_name", metavar="run")
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> None:
    subject = Subject.load(Runs(options.checkpoints).open(options.run_name))
    found = phases(subject)
    if options.json:
        say_json([_fields(phase) for phase in found])
    elif found:
        say(_table(found))
    else:
        say("No loss falls or rises by more than its noise.")
    warn(subject.problems)


def _fields(phase: Phase) -> dict[str, Any]:
    return {
        "token": phase.name,
        "losses": phase.kind or "train",
        "what": "fall" if phase.is_fall else "rise",
        "deepest": phase.is_deepest,
        **{name: getattr(phase, name) for name in NUMBERS},
    }


def _table(found: tuple[Phase, ...]) -> str:
    heads = ("loss", "what", "begins", "steepest", "ends", "width", "depth", "share", "before", "after")
    rows: list[tuple[str, ...]] = [heads]
    for phase in found:
        steps = (f"{step:,}" for step in (phase.begins, phase.steepest, phase.ends, phase.width))
        share = "" if math.isnan(phase.share) else f"{phase.share:.0%}"
        nats = (f"{phase.depth:.3f}", share, f"{phase.before:.3f}", f"{phase.after:.3f}")
        rows.append((phase.label, phase.what, *steps, *nats))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        words = (cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False))
        numbers = (cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True))
        lines.append("  ".join([*words, *numbers]))
    return "\n".join(
        [*lines, "Steps; depth, before and after in nats; share of U - O, from a uniform guess to the best."]
    )
