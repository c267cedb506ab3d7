"""How many runs an hour: one after another, by processes, as stacks, and on a Dask cluster of this machine.

    python -m benchmarks.sweeps [--tasks NAME ...] [--steps N] [--runs N] [--workers N] [--growth]

Each way trains the same runs, seeds of a quick preset, with losses only, in a folder of its own, from nothing to the
last file: the start of its processes is counted. The ratio is to one after another. Then, with tiny runs of one step,
what the engine costs a run; how time grows from 8 to 64 runs; and how long it takes to read and to show a sweep of
1,000 runs.
"""

import argparse
import contextlib
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path

import torch

from benchmarks.training import machine
from explorer.runs import Runs, recorder
from explorer.runs.sweeps import Sweep, SweepInfo, create_sweep
from explorer.sweeps.cluster import cluster
from explorer.sweeps.engine import train_sweep
from explorer.sweeps.outcomes import Collected, points_of, read_outcomes
from explorer.sweeps.trial import tried
from explorer.tasks import TASKS
from explorer.training.sweep import SweepPlan, parsed
from explorer.training.workers import processes

TINY = ("skip-trigram", "n_letters=16", "d_model=8", "batch_size=32", "steps=1")
NAMES = itertools.count()


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def plan_of(task: str, *settings: str, runs: int, over: tuple[str, ...] = ()) -> SweepPlan:
    kind = TASKS[task]
    return parsed(kind, next(iter(kind.presets)), ["keep=losses", *settings], over, f"0-{runs - 1}")


def sweep_of(folder: Path, plan: SweepPlan, stacked: int = 1) -> Sweep:
    return create_sweep(Runs(folder), f"sweep-{next(NAMES)}", SweepInfo(plan, stacked))


def one_by_one(folder: Path, plan: SweepPlan) -> None:
    """In this process, as the command `train` does it."""
    runs = Runs(sweep_of(folder, plan).folder)
    for cell in plan.cells():
        of = cell.plan
        recorder.train(recorder.create(runs, cell.name, of.task, of.model, of.training, of.preset, threads=1))


def by(folder: Path, plan: SweepPlan, executors: Callable[[], Executor], workers: int, stacked: int) -> None:
    progress = train_sweep(sweep_of(folder, plan, stacked), executors, workers)
    assert progress.done == len(plan), "a sweep was stopped"
    assert not progress.problems, progress.problems


@contextlib.contextmanager
def dask(workers: int) -> Iterator[tuple[Callable[[], Executor], int] | None]:
    """A cluster of this machine; None if the package is missing."""
    try:
        from distributed import LocalCluster
    except ImportError:
        yield None
        return
    settings = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**settings) as made:
        yield cluster(made.scheduler_address)


def ways(folder: Path, task: str, steps: int, runs: int, workers: int) -> None:
    plan = plan_of(task, f"steps={steps}", runs=runs)
    stacked = tried(plan, workers)[0].stacked
    alone = tried(plan, 1)[0].stacked
    found = {"one after another": seconds(lambda: one_by_one(folder, plan))}

    def timed(name: str, executors: Callable[[], Executor], n: int, stack: int) -> None:
        found[name] = seconds(lambda: by(folder, plan, executors, n, stack))

    timed(f"{workers} processes", processes(workers), workers, 1)
    timed(f"stacks of {alone}, 1 process", processes(1), 1, alone)
    timed(f"stacks of {stacked}, {workers} processes", processes(workers), workers, stacked)
    with dask(workers) as at:
        if at is not None:
            timed(f"stacks of {stacked}, Dask", at[0], at[1], stacked)
    slowest = found["one after another"]
    for name, took in found.items():
        rate = 3600 * runs / took
        print(f"{task:<17} {name:<26} {took:7.1f} s  {rate:9,.0f} runs an hour  {slowest / took:5.2f}", flush=True)


def overhead(folder: Path, workers: int, runs: int = 48) -> None:
    """What a run costs besides its updates, from the first that is done to the last: without the start of processes."""
    plan = plan_of(*TINY, runs=runs)
    sweep = sweep_of(folder, plan)
    took = seconds(lambda: train_sweep(sweep, processes(workers), workers))
    done = sorted(sweep.run(cell.name).info_file.stat().st_mtime for cell in plan.cells())
    each = workers * (done[-1] - done[0]) / (runs - 1)
    print(f"overhead of a run: {1000 * each:.0f} ms of a worker; {took:.1f} s for {runs} runs of one step", flush=True)


def growth(folder: Path, task: str, steps: int, workers: int) -> None:
    sizes = (8, 16, 32, 64)
    plans = {n: plan_of(task, f"steps={steps}", runs=n) for n in sizes}
    stacked = {n: tried(plan, workers)[0].stacked for n, plan in plans.items()}
    times = {n: seconds(lambda n=n: by(folder, plans[n], processes(workers), workers, stacked[n])) for n in sizes}
    for n, took in times.items():
        print(f"{task}: {n:3} runs, stacks of {stacked[n]:2}: {took:6.1f} s, {took / n:.2f} s a run", flush=True)


def thousand(folder: Path) -> None:
    """Reading and showing 1,000 runs, whose outcomes are made up."""
    # Imported here, since every worker imports this module.
    from explorer.options import resolve
    from explorer.views.phase_diagram import Options, PhaseDiagram
    from explorer.views.swept import Swept

    over = (f"lr={','.join(f'0.0{i}' for i in range(1, 10))},0.1", f"weight_decay={','.join(map(str, range(10)))}")
    sweep = sweep_of(folder, plan_of("skip-trigram", "steps=4000", "finite=50", runs=10, over=over))
    cells, n_points, rng = sweep.info().cells, len(points_of(sweep.info())), torch.Generator().manual_seed(0)
    collected = Collected(sweep)
    for cell in cells:
        n_tokens = len(cell.plan.task.loss_names)
        found = {"steps_done": torch.tensor(4000), "ended": torch.tensor(True)}
        for kind in ("train", "test"):
            found |= {f"{kind}_{name}": torch.rand(n_points, generator=rng) for name in ("loss", "right")}
            found[f"{kind}_per_token"] = torch.rand(n_points, n_tokens, generator=rng).half()
            found[f"{kind}_fall"] = 4000 * torch.rand(n_tokens, generator=rng)
        collected.add(cell.name, found)
    with sweep.alone() as check:
        writes = seconds(lambda: collected.write(check))
    reads = statistics.median(seconds(lambda: read_outcomes(sweep)) for _ in range(5))
    swept = Swept.load(sweep)
    options, _ = resolve(Options, swept, swept.first_example, {})

    def show() -> None:
        _ = PhaseDiagram().film(swept, "", options).packed

    shows = statistics.median(seconds(show) for _ in range(5))
    print(f"1,000 runs: {1000 * writes:.0f} ms to write, {1000 * reads:.0f} ms to read, {1000 * shows:.0f} ms to pack")


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--tasks", nargs="+", choices=sorted(TASKS), default=sorted(TASKS))
    options.add_argument("--steps", type=int, default=100, help="of each run")
    options.add_argument("--runs", type=int, default=16)
    options.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options.add_argument("--growth", action="store_true", help="also from 8 to 64 runs of the first task")
    given = options.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, torch {torch.__version__}; {given.runs} runs of {given.steps} steps, {given.workers} workers")
    with tempfile.TemporaryDirectory() as folder:
        for task in given.tasks:
            ways(Path(folder), task, given.steps, given.runs, given.workers)
        overhead(Path(folder), given.workers)
        if given.growth:
            growth(Path(folder), given.tasks[0], given.steps, given.workers)
        thousand(Path(folder))


if __name__ == "__main__":
    main()
