"""Compute a measure that takes minutes, at every snapshot of a run; without arguments, list the measures."""

import argparse
import contextlib
from typing import Any

import torch
from tqdm import tqdm

from explorer.cli.main import n_workers, say, warn
from explorer.cli.train import terminated
from explorer.errors import UserError, duration
from explorer.measures import all_measures, get_measure
from explorer.measures.engine import measure_run
from explorer.measures.measure import Measure, Measured, files_of
from explorer.runs import Runs
from explorer.settings import parse_assignments
from explorer.views.subject import Subject


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="of the measure")
    parser.add_argument("run_name", metavar="run", nargs="?")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the measure")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default: as many as cores")
    parser.add_argument("--dry-run", action="store_true", help="only say what it would take")


def run(options: argparse.Namespace) -> None:
    if options.name is None:
        say("\n".join(all_measures()))
        return
    measure = get_measure(options.name)
    if options.run_name is None:
        raise UserError(f"Of which run? Give its name after {measure.name}.")
    workers = n_workers(options.workers)
    (values,) = parse_assignments(options.set, [measure.settings_type])
    settings = measure.settings_type(**values)
    torch.set_num_threads(1)  # pieces are many small passes, in which threads wait for each other
    subject = Subject.load(Runs(options.checkpoints).open(options.run_name))
    if not measure.offered(subject.info):
        raise UserError(f"{measure.title} cannot be measured of {subject.name}; choose another run.")
    of = Measured(subject.info, subject.ensemble)
    warn(subject.problems)
    if options.dry_run:
        n, seconds = measure.n_pieces(of, settings), measure.seconds(of, settings)
        say(f"{measure.title} of {subject.name}: {n:,} pieces, about {duration(seconds)} on one core.")
        return
    _measure(subject, of, measure, settings, workers)


def _measure(subject: Subject, of: Measured, measure: Measure[Any], settings: Any, workers: int) -> None:
    bar = tqdm(unit="piece", desc=f"{measure.name} {subject.name}", delay=0.2, dynamic_ncols=True)

    def show(done: int, n: int) -> None:
        with contextlib.suppress(OSError):  # the terminal may be closed; what is measured is kept
            if bar.total is None:
                bar.initial = done - 1
            bar.total = n
            bar.update(done - bar.n)

    try:
        with terminated(interrupt=True) as ended:
            kept = measure_run(subject.run, of, measure, settings, show, lambda: bool(ended), workers)
    finally:
        with contextlib.suppress(OSError):
            bar.close()
    if kept is None or kept.share < 1:
        say(f"Stopped with {0 if kept is None else kept.done:,} pieces done; the same command goes on.")
    else:
        say(f"Done: {kept.n_pieces:,} pieces in {files_of(subject.run, measure, settings).file}")
