"""Sweeps that are really trained: by processes, as stacks, stopped, killed, and gone on with."""

import os
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from explorer.analysis.outcomes import COMPREHENSION, CONFUSION, GROKKING, MEMORISATION
from explorer.cli.main import main
from explorer.errors import UserError
from explorer.options import resolve
from explorer.runs import Runs
from explorer.runs.lock import locked
from explorer.runs.sweeps import OUTCOMES, Sweep, SweepInfo, create_sweep, forget_runs, open_sweep
from explorer.sweeps import trial
from explorer.sweeps.engine import groups_of, train_sweep
from explorer.sweeps.outcomes import Collected, measured, points_of, read_outcomes
from explorer.tasks.skip_trigram import SkipTrigram
from explorer.training.sweep import parsed
from explorer.training.workers import processes
from explorer.views.phase_diagram import Options, PhaseDiagram
from explorer.views.swept import Swept
from tests.conftest import same
from tests.films import panels_of
from tests.sweeping import (
    TINY,
    assert_close,
    assert_same,
    begun,
    command,
    exact,
    made,
    of_session,
    snapshots,
    tiny,
    trained_alone,
    wait_for,
    workers_of,
)

STEPS = 60
KEPT = ["keep=all", "snapshot_every=20"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Sweep:
    """Six runs, trained by processes."""
    sweep = made(tmp_path_factory.mktemp("straight"), tiny(STEPS, *KEPT))
    progress = train_sweep(sweep, processes(2), 2)
    assert (progress.done, progress.n_runs, progress.problems) == (6, 6, {})
    assert progress.steps == progress.n_steps == 6 * STEPS
    return sweep


@pytest.fixture(scope="module")
def stacked(tmp_path_factory) -> Sweep:
    """The same, trained in stacks of four, of which one has two runs."""
    sweep = made(tmp_path_factory.mktemp("stacked"), tiny(STEPS, *KEPT), stacked=4)
    assert train_sweep(sweep, processes(2), 2).done == 6
    return sweep


@pytest.fixture
def copied(straight, tmp_path) -> Path:
    """A folder with a copy of the sweep that may be spoilt."""
    shutil.copytree(straight.folder, tmp_path / "sweep")
    return tmp_path


def test_runs_trained_by_processes_are_those_trained_one_by_one(straight, tmp_path):
    alone = trained_alone(tmp_path, straight.info().plan)
    outcomes, points = straight.read(OUTCOMES)[0], points_of(straight.info())
    for i, cell in enumerate(straight.info().cells):
        ours, theirs = straight.run(cell.name), alone.open(cell.name)
        assert same(ours, theirs)
        for name in ("task", "model", "training", "preset", "status", "steps_done", "snapshots", "threads"):
            assert getattr(ours.info(), name) == getattr(theirs.info(), name)
        found = measured(theirs, points)
        assert outcomes.keys() == found.keys() | {"points"}
        assert all(torch.equal(outcomes[name][i].nan_to_num(-1), x.nan_to_num(-1)) for name, x in found.items())


def test_runs_trained_in_stacks_are_those_trained_one_by_one_up_to_rounding(straight, stacked):
    assert [len(group) for group in groups_of(stacked.info(), Collected(straight).names)] == [4, 2]
    for cell in straight.info().cells:
        ours, theirs = stacked.run(cell.name), straight.run(cell.name)
        assert ours.steps() == theirs.steps() == (0, 20, 40, 60)
        ours_first, theirs_first = ({name: x[:20] for name, x in run.metrics().items()} for run in (ours, theirs))
        assert_close(ours_first, theirs_first, 1e-4)  # later on, updates have made more of rounding
        for step in (0, 20):
            assert_close(ours.snapshot(step), theirs.snapshot(step), 1e-3)
    assert stacked.read(OUTCOMES)[0]["ended"].all()


@pytest.mark.parametrize("n", [1, 4], ids=["one by one", "stacks"])
def test_a_sweep_stopped_and_gone_on_with_is_the_one_that_was_not(n, straight, stacked, tmp_path):
    sweep = made(tmp_path, tiny(STEPS, *KEPT), stacked=n)
    progress = train_sweep(sweep, processes(1), 1, should_stop=lambda: snapshots(sweep) > 0)
    assert progress.done < 6  # at least one group has not been begun
    assert sweep.stop_file.exists()
    assert not progress.problems
    assert train_sweep(sweep, processes(2), 2).done == 6
    assert_same(sweep, stacked if n > 1 else straight)


def test_a_stop_that_another_process_asks_for_ends_the_sweep_before_more_is_begun(tmp_path):
    sweep = made(tmp_path, tiny(100_000, "keep=losses"))

    def ask(progress) -> None:
        if progress.running:
            sweep.stop_file.touch()

    progress = train_sweep(sweep, processes(1), 1, on_progress=ask)
    assert progress.done == 0
    assert [run.name for run in sweep.folder.iterdir() if run.is_dir()] == [sweep.info().cells[0].name]
    assert sweep.run(sweep.info().cells[0].name).info().status == "stopped"


def test_what_is_done_is_not_trained_again(copied, straight):
    sweep = open_sweep(Runs(copied), "sweep")
    stamps = {path: path.stat().st_mtime_ns for path in copied.rglob("metrics.safetensors")}
    (sweep.folder / OUTCOMES).unlink()  # as after a kill before it was written
    assert train_sweep(sweep, processes(1), 1).done == 6
    assert stamps == {path: path.stat().st_mtime_ns for path in copied.rglob("metrics.safetensors")}
    assert_close(sweep.read(OUTCOMES)[0], straight.read(OUTCOMES)[0], 0.0)


# --- Killed ---


@pytest.mark.timeout(1200)  # it starts some thirty processes
def test_a_sweep_whose_processes_are_killed_again_and_again_is_the_one_that_was_not(tmp_path):
    """Ten times, at random moments: a worker, or the process of the sweep, after which the same command goes on."""
    steps, kept, rng = 400, ["keep=all", "snapshot_every=10"], random.Random(4)
    whole = made(tmp_path / "whole", tiny(steps, *kept), stacked=2)
    assert train_sweep(whole, processes(2), 2).done == 6
    sweep = made(tmp_path / "killed", tiny(steps, *kept), stacked=2)
    words = command(tmp_path / "killed", steps, *kept, "--keep=all", "--workers=2")
    process = begun(words)
    leaders, workers_killed = [process.pid], 0
    for _ in range(10):
        target = snapshots(sweep) + rng.randint(1, 12)
        wait_for(lambda target=target, now=process: snapshots(sweep) >= target or now.poll() is not None)
        assert process.poll() is None, process.communicate()
        workers = workers_of(process.pid)
        if workers and rng.random() < 0.5:
            rng.choice(workers).kill()
            workers_killed += 1
        else:
            process.kill()
            process.communicate()
            process = begun(words)
            leaders.append(process.pid)
    said, errors = process.communicate()
    assert (process.returncode, "Done: 6 runs, in" in said) == (0, True), errors
    assert workers_killed >= 2
    assert len(leaders) >= 3
    assert_same(sweep, whole)
    assert not list(sweep.folder.rglob(".writing-*"))
    wait_for(lambda: not any(of_session(leader) for leader in leaders))


def test_a_group_whose_worker_always_dies_is_given_up(tmp_path):
    sweep = made(tmp_path, tiny(10**6, "keep=losses", over=[], seeds="5"))
    killed = []

    def kill(progress) -> None:
        if progress.running:
            for worker in workers_of(os.getpid()):
                worker.kill()
                killed.append(worker.pid)

    progress = train_sweep(sweep, processes(1), 1, on_progress=kill)
    assert len(set(killed)) == 3
    assert (progress.done, progress.n_runs) == (1, 1)
    assert "The process that trained it ended 3 times before it got any further" in progress.problems["seed-5"]
    assert dict(read_outcomes(sweep).problems) == progress.problems


def test_a_group_that_breaks_the_pool_takes_no_other_with_it(tmp_path):
    sweep = made(tmp_path, parsed(SkipTrigram, "quick", [*TINY, "keep=losses"], ["steps=1000000,60"], "5"))
    breaks, ends = (cell.name for cell in sweep.info().cells)

    def kill(progress) -> None:
        if breaks in progress.running:
            for worker in workers_of(os.getpid()):
                worker.kill()

    progress = train_sweep(sweep, processes(2), 2, on_progress=kill)
    assert (progress.done, list(progress.problems)) == (2, [breaks])
    assert sweep.run(ends).info().status == "done"


# --- From the command line ---


def test_ctrl_c_leaves_a_sweep_that_goes_on_and_a_second_process_is_refused_meanwhile(tmp_path, capsys):
    words = command(tmp_path, 10**6, "--workers=2")
    sweep = made(tmp_path, tiny(10**6, "keep=losses"), stacked=2)
    process = begun(words)
    wait_for(lambda: len(list(sweep.folder.glob("*/run.json"))) >= 4)
    assert main(words) == 2
    assert "sweep is being trained by another process; wait for it or stop it." in capsys.readouterr().err
    os.killpg(process.pid, signal.SIGINT)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "Stopped with 0 of 6 runs; the same command goes on." in said
    assert "Traceback" not in errors
    wait_for(lambda: not of_session(process.pid))
    runs = [sweep.run(cell.name) for cell in sweep.info().cells if sweep.run(cell.name).info_file.exists()]
    assert {run.info().status for run in runs} == {"stopped"}
    before = {run.name: run.info().steps_done for run in runs}
    assert any(before.values())

    process = begun(words)  # it goes on; and when it is killed, nothing is left running
    wait_for(lambda: all(run.is_training() for run in runs))
    assert len(workers_of(process.pid)) == 2
    process.kill()
    process.communicate()
    wait_for(lambda: not of_session(process.pid))
    assert not any(run.is_training() for run in runs)
    assert not sweep.is_training()
    assert all(run.info().steps_done >= before[run.name] for run in runs)


def test_a_run_that_diverges_is_told_and_does_not_stop_the_others(tmp_path, capfd):
    diverging = ["optimiser=sgd", "momentum=0.99", "keep=losses"]
    plan = tiny(STEPS, *diverging, over=["lr=0.01,100"], seeds="0-1")
    sweep = made(tmp_path, plan, stacked=4)
    progress = train_sweep(sweep, processes(1), 1)
    bad = ["lr-100.0_seed-0", "lr-100.0_seed-1"]
    assert progress.done == 4
    assert sorted(progress.problems) == bad
    assert all("this training diverged; a smaller lr than 100.0 may help" in progress.problems[name] for name in bad)
    known = read_outcomes(sweep)
    assert dict(known.problems) == progress.problems
    assert known.ended.tolist() == [True, True, False, False]
    loss = known.of["train"].loss
    assert np.isfinite(loss[:2]).all()
    assert np.isnan(loss[2:, -1]).all()
    assert {sweep.run(name).info().status for name in bad} == {"failed"}
    good = exact(sweep.run("lr-0.01_seed-0").metrics_file)
    assert train_sweep(sweep, processes(1), 1).problems == progress.problems  # tried again, to the same end
    assert exact(sweep.run("lr-0.01_seed-0").metrics_file) == good


def test_more_processes_than_the_memory_holds_are_refused_here_and_not_on_a_cluster(monkeypatch):
    monkeypatch.setattr(trial, "PROCESS", 2**60)
    with pytest.raises(UserError, match=r"2 processes need about .* GiB of memory, .* take fewer, with --workers"):
        trial.tried(tiny(STEPS), 2)
    assert trial.tried(tiny(STEPS), 2, is_here=False)[1].runs == 6


def test_a_dry_run_says_what_it_would_take_and_leaves_nothing(tmp_path, capsys):
    assert main([*command(tmp_path, STEPS), "--dry-run", "--workers=2"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("sweep: 6 runs")
    assert all(unit in said for unit in (" of memory, ", " of disk."))
    assert list(tmp_path.iterdir()) == []


def test_the_same_command_trains_no_run_twice_and_other_settings_are_refused(copied, capsys):
    words = command(copied, STEPS, *KEPT, "--keep=all")
    before = sorted((path, path.stat().st_mtime_ns) for path in copied.rglob("*"))
    assert main(words) == 0
    assert capsys.readouterr().out == "sweep: 6 of 6 runs are done.\n"
    assert main(command(copied, STEPS + 1, *KEPT, "--keep=all")) == 2
    assert "There is a sweep 'sweep' with other settings; choose another --name." in capsys.readouterr().err
    assert sorted((path, path.stat().st_mtime_ns) for path in copied.rglob("*")) == before


def test_a_setting_that_is_set_is_not_overruled_by_a_default(tmp_path, capsys):
    for keep in (["--set", "keep=all"], ["--keep=all"], []):
        assert main([*command(tmp_path, STEPS), *keep, "--dry-run", "--workers=1"]) == 0
    first, second, losses = (line.rpartition(",")[2] for line in capsys.readouterr().out.splitlines())
    assert first == second
    assert first != losses


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--workers=0"], "--workers is 0; it must lie between 1 and 1,024"),
        (["--device=abacus"], "There is no device 'abacus'"),
        (["--name=a/b"], "'a/b' cannot be the name"),
        (["--over=seed=1,2"], "Seeds are swept with --seeds"),
        (["--over=lr=0.5"], "lr is given twice"),
        (["--preset=nope"], "skip-trigram has no preset 'nope'"),
        (["--set=attn_only=false", "--set=d_model=65536", "--set=d_mlp=65536"], "GiB of memory"),
    ],
)
def test_a_mistake_in_the_command_gets_one_line_and_leaves_nothing(more, said, tmp_path, capsys):
    assert main([*command(tmp_path, STEPS), *more]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# --- Many runs ---


def test_a_thousand_runs_come_out_right_in_the_phase_diagram(tmp_path):
    plan = parsed(
        SkipTrigram,
        "quick",
        ["n_letters=16", "steps=4000", "finite=50"],
        [f"lr={','.join(f'0.0{i}' for i in range(1, 10))},0.1", f"weight_decay={','.join(map(str, range(10)))}"],
        "0-9",
    )
    sweep = create_sweep(Runs(tmp_path), "many", SweepInfo(plan))
    cells, points, n_tokens = sweep.info().cells, points_of(sweep.info()), 10
    assert len(cells) == 1000
    assert len(points) == 201
    # Each column of weight decays learns later; in each row, seeds 0-6 agree, and the other three learn nothing.
    learnt = {0: (200, 400), 1: (200, 1200), 2: (200, None), 3: (None, None)}
    expected = {0: COMPREHENSION, 1: GROKKING, 2: MEMORISATION, 3: CONFUSION}
    collected = Collected(sweep)
    for cell in cells:
        at = learnt[int(cell.values[1]) % 4] if cell.seed < 7 else (None, None)
        found = {"steps_done": torch.tensor(4000), "ended": torch.tensor(True)}
        for kind, step in zip(("train", "test"), at, strict=True):
            right = torch.from_numpy(points) >= (10**9 if step is None else step)
            found[f"{kind}_right"] = right.float()
            found[f"{kind}_loss"] = 2.3 * (~right).float() + 0.01
            found[f"{kind}_per_token"] = (2.3 * (~right).half() + 0.01)[:, None].expand(-1, n_tokens).half()
            found[f"{kind}_fall"] = torch.full((n_tokens,), torch.nan if step is None else float(step))
        collected.add(cell.name, found)
    collected.problems = {cells[3].name: "It was \x1b[31mred."}
    with sweep.alone() as check:
        collected.write(check)
    known = read_outcomes(sweep)
    assert known.ended.all()
    assert known.problems == {cells[3].name: "It was [31mred."}
    assert known.of["test"].right.shape == (1000, 201)

    swept = Swept.load(sweep)
    options, problems = resolve(Options, swept, swept.first_example, {"across": "lr", "up": "weight_decay"})
    assert not problems
    view = PhaseDiagram()
    assert not view.unavailable(swept, "", options)
    film = view.film(swept, "", options)
    (panel,) = film.panels
    assert panel.values.shape == (201, 10, 10)
    assert panel.columns.labels == [str(i / 100) for i in range(1, 11)]
    for row in range(10):
        then, agree = expected[row % 4], 10 if row % 4 == 3 else 7
        assert (panel.values[-1, row] == then).all()
        assert (panel.agree[-1, row] == agree).all()
        assert (panel.values[0, row] == CONFUSION).all()
    packed = panels_of(film.packed)["plane"]
    np.testing.assert_array_equal(packed["values"][packed["frames"][-1]], panel.values[-1])
    assert packed["runs"][2][0] == "many/lr-0.01_weight_decay-2.0_seed-0"
    assert "of 100 cells" in view.look(swept, film)[-1].lower()
    table = view.below(swept, "", options)[-1].columns
    assert len(table["seed"]) == 1000
    assert table["delay"][:8] == [200] * 7 + [None]
    assert table["phase at the end"][10] == "grokking"


def test_a_sweep_that_is_locked_is_refused(copied):
    sweep = open_sweep(Runs(copied), "sweep")
    with locked(sweep.lock_file), pytest.raises(UserError, match="sweep is being trained by another process"):
        train_sweep(sweep, processes(1), 1)


def test_a_short_run_is_not_said_to_have_more_snapshots_than_updates():
    by_loss, each = (trial.tried(tiny(12, "keep=all", *more), 1)[1].disk for more in ([], ["snapshot_every=1"]))
    assert by_loss == each


def test_a_sweep_whose_folder_was_moved_writes_nothing_into_another(copied):
    sweep, folder = open_sweep(Runs(copied), "sweep"), copied / "sweep"
    tensors, metadata = sweep.read(OUTCOMES)
    with sweep.alone() as check:
        sweep.write(OUTCOMES, tensors, metadata, check)
        folder.rename(copied / "moved")
        shutil.copytree(copied / "moved", folder)
        (folder / OUTCOMES).write_bytes(b"of another")
        with pytest.raises(UserError, match="was removed or replaced"):
            sweep.write(OUTCOMES, tensors, metadata, check)
    assert (folder / OUTCOMES).read_bytes() == b"of another"


def test_runs_that_cannot_be_removed_are_named_and_links_lead_to_nothing_that_is(copied, tmp_path):
    sweep = open_sweep(Runs(copied), "sweep")
    first, second, *_ = (sweep.run(cell.name).folder for cell in sweep.info().cells)
    second.rename(tmp_path / "elsewhere")
    second.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(UserError, match=rf"^{second} cannot be removed: .*symbolic link; remove it by hand\.$"):
        forget_runs(sweep)
    assert not first.exists()
    assert (tmp_path / "elsewhere" / "run.json").exists()
