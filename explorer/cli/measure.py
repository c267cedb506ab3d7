"""Compute a measure that takes minutes, at every snapshot of a run; without arguments, list the measures.

The measure *leads* is of a sweep: what led the falls of each of its runs.
"""

import argparse
import contextlib
import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import torch
from tqdm import tqdm

from explorer.cli.main import n_workers, say, warn
from explorer.cli.train import terminated
from explorer.errors import UserError, duration
from explorer.measures import all_measures, get_measure
from explorer.measures.engine import measure_run
from explorer.measures.measure import Measure, Measured, files_of
from explorer.measures.shipping import SHIPPED
from explorer.runs import Run, Runs
from explorer.runs.files import WriteError
from explorer.runs.place import LEADS
from explorer.runs.sweeps import Sweep, open_sweep
from explorer.settings import parse_assignments
from explorer.sweeps.leads import DatedRun, read_leads, write_leads
from explorer.views.leads_over_seeds import date_run, is_dated, with_snapshots
from explorer.views.over_training import falls
from explorer.views.subject import Subject
from explorer.views.swept import Swept

OF_SWEEPS = "leads"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="of the measure")
    parser.add_argument("run_name", metavar="run", nargs="?", help=f"or a sweep, of which {OF_SWEEPS} are measured")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the measure")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default: as many as cores")
    parser.add_argument("--shipped", action="store_true", help="all measures that ship, of the runs that ship")
    parser.add_argument("--dry-run", action="store_true", help="only say what it would take")


def run(options: argparse.Namespace) -> None:
    workers = n_workers(options.workers)
    torch.set_num_threads(1)  # pieces are many small passes, in which threads wait for each other
    runs = Runs(options.checkpoints)
    if options.shipped:
        for run_name, measures in SHIPPED.items():
            for name, values in measures:
                if not _measure(runs.open(run_name), get_measure(name), values, workers, options.dry_run):
                    return
        return
    if options.name is None:
        say("\n".join([*all_measures(), OF_SWEEPS]))
        return
    if options.name == OF_SWEEPS:
        if options.run_name is None or options.set or options.workers:
            raise UserError(f"{OF_SWEEPS} takes the name of a sweep, and neither settings nor --workers.")
        date_leads(open_sweep(runs, options.run_name), options.dry_run)
        return
    measure = get_measure(options.name)
    if options.run_name is None:
        raise UserError(f"Of which run? Give its name after {measure.name}.")
    (values,) = parse_assignments(options.set, [measure.settings_type])
    _measure(runs.open(options.run_name), measure, values, workers, options.dry_run)


def _measure(run: Run, measure: Measure[Any], values: Mapping[str, Any], workers: int, is_dry: bool) -> bool:
    """Measure a run, with some settings other than those that suit it; whether that was done to the end."""
    subject = Subject.load(run)
    if not measure.offered(subject.info):
        raise UserError(f"{measure.title} cannot be measured of {subject.name}; choose another run.")
    of = Measured(subject.info, subject.ensemble)
    settings = dataclasses.replace(measure.chosen(run, of), **values)
    warn(subject.problems)
    if is_dry:
        n, seconds = measure.n_pieces(of, settings), measure.seconds(of, settings)
        say(f"{measure.title} of {subject.name}: {n:,} pieces, about {duration(seconds)} on one core.")
        return True
    bar = tqdm(unit="piece", desc=f"{measure.name} {subject.name}", delay=0.2, dynamic_ncols=True)

    def show(done: int, n: int) -> None:
        with contextlib.suppress(OSError):  # the terminal may be closed; what is measured is kept
            if bar.total is None:
                bar.initial = done - 1
            bar.total = n
            bar.update(done - bar.n)

    try:
        with terminated(interrupt=True) as ended:
            kept = measure_run(run, of, measure, settings, show, lambda: bool(ended), workers)
    finally:
        with contextlib.suppress(OSError):
            bar.close()
    if kept is None or kept.share < 1:
        say(f"Stopped with {0 if kept is None else kept.done:,} pieces done; the same command goes on.")
        return False
    say(f"Done: {kept.n_pieces:,} pieces in {files_of(run, measure, settings).file}")
    return True


def date_leads(sweep: Sweep, is_dry: bool = False) -> bool:
    """Keep what led the falls of the runs of a sweep that have snapshots, run by run.

    Args:
        sweep: which nobody is training.
        is_dry: only say what it would take.

    Returns:
        False if it was stopped.

    Raises:
        UserError: there is nothing to date, a run cannot be dated, or nothing can be written.
    """
    subject = Swept.load(sweep)
    found = dict[str, DatedRun]()
    try:
        found = read_leads(sweep, falls(subject.task))
    except UserError as error:
        warn(str(error))
    there = {cell.name: with_snapshots(subject, place) for place, cell in enumerate(subject.cells)}
    runs = {name: run for name, run in there.items() if run}
    if not runs and not found:
        raise UserError(f"No run of {sweep.name} is done and has snapshots; train the sweep with --keep all.")
    left = {name: run for name, run in runs.items() if not is_dated(run, found.get(name))}
    if is_dry:
        begun = time.perf_counter()
        for run in list(left.values())[:1]:
            date_run(run)
        say(f"Leads of {sweep.name}: {len(left):,} runs, about {duration(len(left) * (time.perf_counter() - begun))}.")
        return True
    problems = []
    try:
        with sweep.alone() as check, terminated(interrupt=True) as ended:
            for name, run in tqdm(left.items(), unit="run", desc=f"{OF_SWEEPS} {sweep.name}", dynamic_ncols=True):
                if ended or sweep.asks_to_stop():
                    say("Stopped; the same command goes on.")
                    return False
                try:
                    found[name] = date_run(run)
                except UserError as error:
                    problems.append(f"{name}: {error}")
                else:
                    write_leads(sweep, found, check)
    except WriteError as error:
        raise UserError(error.sentence("give the command again")) from error
    warn(problems)
    if problems:
        raise UserError(f"{len(problems):,} of {len(left):,} runs could not be dated; restore them and go on.")
    say(f"Done: {len(found):,} runs in {sweep.address}/{LEADS}")
    return True
