"""Sweeps on a cluster: a real scheduler and real workers, which are processes on this machine."""

from collections.abc import Iterator

import psutil
import pytest

from explorer.cli.main import main
from explorer.runs import Run
from explorer.runs.sweeps import Sweep
from explorer.sweeps.cluster import cluster
from explorer.sweeps.engine import Progress, train_sweep
from explorer.training.workers import processes
from tests.sweeping import Machines, assert_same, begun, command, made, snapshots, tiny, wait_for

STEPS, KEPT = 300, ["keep=all", "snapshot_every=10"]


@pytest.fixture
def machines(tmp_path_factory) -> Iterator[list[Machines]]:
    """Clusters that are added to it end with the test."""
    made: list[Machines] = []
    yield made
    for each in made:
        each.end()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Sweep:
    """The sweep as processes of this machine train it."""
    sweep = made(tmp_path_factory.mktemp("whole"), tiny(STEPS, *KEPT), stacked=2)
    assert train_sweep(sweep, processes(2), 2).done == 6
    return sweep


def test_a_cluster_of_which_a_worker_dies_trains_the_same_sweep(machines, whole, tmp_path):
    one = Machines(tmp_path, 2)
    machines.append(one)
    sweep = made(tmp_path / "runs", tiny(STEPS, *KEPT), stacked=2)
    executors, at_once = cluster(one.address)
    assert at_once == 2

    def kill(progress: Progress) -> None:
        if len(one.started) == 3 and snapshots(sweep) > 20:
            one.workers[0].kill()
            one.worker()

    progress = train_sweep(sweep, executors, at_once, on_progress=kill)
    assert (progress.done, progress.problems) == (6, {})
    assert len(one.started) == 4
    assert_same(sweep, whole)
    for worker in (one.workers[1], one.started[-1]):
        assert worker.poll() is None
        assert psutil.Process(worker.pid).nice() == psutil.Process().nice()


def test_a_sweep_whose_scheduler_dies_goes_on_with_another(machines, whole, tmp_path):
    first = Machines(tmp_path, 2)
    machines.append(first)
    sweep = made(tmp_path / "runs", tiny(STEPS, *KEPT), stacked=2)
    words = command(tmp_path / "runs", STEPS, *KEPT, "--keep=all")
    process = begun([*words, f"--dask={first.address}"])
    wait_for(lambda: snapshots(sweep) > 20 or process.poll() is not None)
    first.scheduler.kill()
    said, errors = process.communicate(timeout=300)
    assert "Traceback" not in errors
    assert process.returncode == 2, said
    assert "The Dask scheduler" in errors or "No Dask scheduler answers" in errors
    assert not sweep.is_training()
    first.end()

    (tmp_path / "second").mkdir()
    second = Machines(tmp_path / "second", 1)
    machines.append(second)
    assert main([*words, f"--dask={second.address}"]) == 0
    assert_same(sweep, whole)


def test_workers_whose_sweep_is_killed_save_what_they_train_and_stop(machines, tmp_path):
    one = Machines(tmp_path, 2)
    machines.append(one)
    sweep = made(tmp_path / "runs", tiny(10**6, "keep=losses"))
    process = begun([*command(tmp_path / "runs", 10**6), f"--dask={one.address}"])

    def created() -> list[Run]:
        return [run for cell in sweep.info().cells if (run := sweep.run(cell.name)).info_file.exists()]

    wait_for(lambda: process.poll() is not None or len([run for run in created() if run.is_training()]) == 2)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(run.is_training() for run in created()))
    assert [run.info().status for run in created()] == ["stopped"] * 2
    assert all(run.info().steps_done > 0 and run.resume_file.exists() for run in created())


def test_where_nobody_answers_and_where_there_are_no_workers_there_is_one_sentence(machines, tmp_path, capsys):
    words = command(tmp_path / "runs", STEPS)
    for address in ("tcp://127.0.0.1:1", "nonsense://x", "tcp://127.0.0.1:notaport", "127.0.0.1:1"):
        assert main([*words, f"--dask={address}"]) == 2
        error = capsys.readouterr().err
        assert f"No Dask scheduler answers at '{address}'" in error
        assert error.count("\n") == 1
    none = Machines(tmp_path, 0)
    machines.append(none)
    assert main([*words, f"--dask={none.address}"]) == 2
    error = capsys.readouterr().err
    assert f"The Dask scheduler at '{none.address}' has no workers; start some with: dask worker" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()
