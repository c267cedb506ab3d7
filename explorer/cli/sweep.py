"""Train many runs: some settings take several values, each with several seeds; a sweep that was ended goes on."""

import argparse
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor

from tqdm import tqdm

from explorer.cli.main import n_workers, say, warn
from explorer.cli.measure import date_leads
from explorer.cli.train import terminated
from explorer.errors import UserError, quoted
from explorer.runs import Runs
from explorer.runs.sweeps import Sweep, check_free, create_sweep, forget_runs, open_sweep, sweep_names
from explorer.sweeps.cluster import cluster
from explorer.sweeps.engine import Progress, train_sweep
from explorer.sweeps.outcomes import Collected
from explorer.sweeps.trial import tried
from explorer.tasks import TASKS, task_named
from explorer.training.process import DEVICES, device_named
from explorer.training.sweep import SweepPlan, default_name, parsed
from explorer.training.workers import processes

KEEP = ("losses", "ends", "all")
MOST_SHOWN = 4  # runs in the line of progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", help=", ".join(sorted(TASKS)))
    parser.add_argument("--preset", help="settings to start from; default: the task's first preset")
    parser.add_argument(
        "--over", action="append", default=[], metavar="KEY=V1,V2", help="a setting and its values; may be repeated"
    )
    parser.add_argument("--seeds", default="", metavar="0-9", help="seeds of each combination; default: the preset's")
    parser.add_argument("--name", help="of the sweep; default: from the task and the settings")
    parser.add_argument("--steps", type=int, help="updates of each run")
    parser.add_argument("--finite", type=int, metavar="N", help="train on N examples, drawn once")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting")
    parser.add_argument(
        "--keep",
        choices=KEEP,
        help="of each run: losses only, the first and last snapshot too, or all; default: losses",
    )
    parser.add_argument("--leads", action="store_true", help="when all are done, date what led the falls of each run")
    parser.add_argument("--only-outcomes", action="store_true", help="remove the folders of the runs when all are done")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default: as many as cores")
    parser.add_argument("--dask", metavar="ADDRESS", help="train on the workers of this Dask scheduler instead")
    parser.add_argument("--device", default="cpu", help=", ".join(DEVICES))
    parser.add_argument("--dry-run", action="store_true", help="only say what it would take")


def run(options: argparse.Namespace) -> None:
    device_named(options.device)
    workers = n_workers(options.workers)
    plan = _plan(options)
    if options.leads and plan.given.get("keep") != "all":
        raise UserError("--leads is dated on snapshots; add --keep all.")
    name = options.name or default_name(plan)
    runs = Runs(options.checkpoints)
    executors = processes(workers)
    if options.dask:
        executors, workers = cluster(options.dask)
    if name in sweep_names(runs):
        sweep = open_sweep(runs, name)
        if sweep.info().plan != plan:
            raise UserError(f"There is a sweep {quoted(name)} with other settings; choose another --name.")
        missing = len(Collected(sweep).missing)
        say(f"{name}: {len(plan) - missing:,} of {len(plan):,} runs are done.")
        if options.dry_run:
            return
        if not missing:
            _end(sweep, options, is_whole=True)
            return
    else:
        check_free(runs, name)
        info, estimate = tried(plan, workers, options.device, is_here=not options.dask)
        say(f"{name}: {estimate}.")
        if options.dry_run:
            return
        sweep = create_sweep(runs, name, info)
    _train(sweep, options, executors, workers)


def _plan(options: argparse.Namespace) -> SweepPlan:
    kind = task_named(options.task)
    given = [f"{key}={getattr(options, key)}" for key in ("steps", "finite") if getattr(options, key) is not None]
    given += [f"keep={options.keep}"] if options.keep else []
    assignments = ["keep=losses", *options.set, *given]
    return parsed(kind, options.preset or next(iter(kind.presets)), assignments, options.over, options.seeds)


def _train(sweep: Sweep, options: argparse.Namespace, executors: Callable[[], Executor], workers: int) -> None:
    bar = tqdm(unit="step", desc=sweep.name, delay=0.2, dynamic_ncols=True)

    def show(progress: Progress) -> None:
        running = [f"{name} {done / of:.0%}" for name, (done, of) in list(progress.running.items())[:MOST_SHOWN]]
        more = len(progress.running) - len(running)
        running += [f"{more} more"] if more > 0 else []
        with contextlib.suppress(OSError):  # the terminal may be closed; training goes on
            bar.total, bar.initial = progress.n_steps, progress.begun_at
            bar.set_postfix_str(f"{progress.done} of {progress.n_runs} runs; {', '.join(running)}", refresh=False)
            bar.update(progress.steps - bar.n)

    try:
        with terminated(interrupt=True) as ended:
            progress = train_sweep(
                sweep, executors, workers, options.device, on_progress=show, should_stop=lambda: bool(ended)
            )
    finally:
        with contextlib.suppress(OSError):
            bar.close()
    warn(f"{name}: {problem}" for name, problem in progress.problems.items())
    if progress.done < progress.n_runs:
        say(f"Stopped with {progress.done:,} of {progress.n_runs:,} runs; the same command goes on.")
    else:
        failed = f", {len(progress.problems):,} of which failed" if progress.problems else ""
        say(f"Done: {progress.n_runs:,} runs{failed}, in {sweep.address}")
        _end(sweep, options, is_whole=not progress.problems)


def _end(sweep: Sweep, options: argparse.Namespace, is_whole: bool) -> None:
    """What is asked for when all runs are over; ``is_whole`` if none failed."""
    if options.leads and not date_leads(sweep):
        return
    if options.only_outcomes and is_whole:
        forget_runs(sweep)
