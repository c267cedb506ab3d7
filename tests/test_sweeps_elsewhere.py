"""Sweeps that are written at an address: in a bucket, and in a folder that fsspec is asked for."""

import os
import re
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch

from explorer.cli.main import main
from explorer.errors import UserError
from explorer.options import resolve
from explorer.runs import Runs, elsewhere
from explorer.runs.sweeps import OUTCOMES, Sweep, open_sweep, sweep_names
from explorer.sweeps import engine
from explorer.sweeps.cluster import cluster
from explorer.sweeps.engine import train_sweep
from explorer.sweeps.outcomes import read_outcomes
from explorer.training.workers import processes
from explorer.views.phase_diagram import Options, PhaseDiagram
from explorer.views.swept import Swept, named
from tests.pages import healthy, opening
from tests.remote import BUCKET
from tests.sweeping import Machines, assert_close, begun, command, made, of_session, tiny, wait_for

STEPS, KEPT = 40, ["keep=all", "snapshot_every=20"]


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch) -> Iterator[Path]:
    """Copies of its own; what is there is listed whenever something is asked; scratch folders that can be looked at."""
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "copies"))
    monkeypatch.setattr(elsewhere, "LISTED_FOR", 0.0)
    with tempfile.TemporaryDirectory() as folder:  # a short path: sockets are made there
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


@pytest.fixture(params=["bucket", "files"])
def address(request, tmp_path) -> str:
    """An address at which nothing is yet."""
    if request.param == "bucket":
        request.getfixturevalue("bucket")
        return f"s3://{BUCKET}/shared/runs"
    return f"file://{tmp_path}/shared/runs"


@pytest.fixture(scope="module")
def in_folder(tmp_path_factory) -> Sweep:
    """The sweep in a folder."""
    sweep = made(tmp_path_factory.mktemp("whole"), tiny(STEPS, *KEPT), stacked=2)
    assert train_sweep(sweep, processes(2), 2).done == 6
    return sweep


@pytest.fixture
def machines(tmp_path) -> Iterator[Machines]:
    """A cluster with two workers."""
    (tmp_path / "machines").mkdir()
    cluster = Machines(tmp_path / "machines", 2)
    yield cluster
    cluster.end()


def at(address: str, steps: int = STEPS) -> Sweep:
    """The same sweep at an address, with no runs yet."""
    return made(address, tiny(steps, *KEPT), stacked=2)  # type: ignore[arg-type]


def in_training(scratch: Path) -> int:
    """How many groups are trained, each in a scratch folder."""
    return len({lock.parents[1] for lock in scratch.glob("explorer-*/*/.lock")})


def stamps(address: str) -> dict[str, str]:
    """All files at an address, and when each was written."""
    system, root = fsspec.core.url_to_fs(address)
    system.invalidate_cache()
    found = system.find(root, detail=True) if system.exists(root) else {}
    return {
        path.removeprefix(f"{root}/"): str(about.get("LastModified", about.get("mtime")))
        for path, about in found.items()
    }


def shown(sweep: Sweep) -> tuple[object, ...]:
    """What the phase diagram of a sweep is."""
    swept, view = Swept.load(sweep), PhaseDiagram()
    options, problems = resolve(Options, swept, swept.first_example, {})
    assert not problems
    film = view.film(swept, "", options)
    return film.packed, view.look(swept, film), view.below(swept, "", options)[-1].columns


def assert_same_sweep(ours: Sweep, theirs: Sweep) -> None:
    assert ours.info() == theirs.info()
    assert_close(ours.read(OUTCOMES)[0], theirs.read(OUTCOMES)[0], 0.0)
    for cell in theirs.info().cells:
        one, other = ours.run(cell.name), theirs.run(cell.name)
        assert one.info().status == "done"
        assert one.steps() == other.steps() == (0, 20, 40)
        assert_close(one.metrics(), other.metrics(), 0.0)
        for step in one.steps():
            assert_close(one.snapshot(step), other.snapshot(step), 0.0)


def test_a_sweep_at_an_address_is_the_one_in_a_folder(address, in_folder, scratch, capsys):
    progress = train_sweep(at(address), processes(2), 2)
    assert (progress.done, progress.problems) == (6, {})
    runs = Runs(address)
    assert (runs.names(), sweep_names(runs), runs.others()) == ([], ["sweep"], [])
    sweep = named(runs, "sweep")
    assert isinstance(sweep, Sweep)
    assert not sweep.is_training()
    assert_same_sweep(sweep, in_folder)
    assert shown(sweep) == shown(in_folder)
    first = sweep.info().cells[0].name
    assert runs.open(f"sweep/{first}").info().snapshots == in_folder.run(first).info().snapshots
    assert main(["runs", "--checkpoints", address]) == 0
    assert capsys.readouterr().out == "sweep  a sweep  skip trigrams · 3 values of learning rate · 2 seeds · 6 runs\n"
    files = {"run.json", "metrics.safetensors", *(f"snapshots/step-{step:06d}.safetensors" for step in (0, 20, 40))}
    there = {f"sweep/{cell.name}/{file}" for cell in sweep.info().cells for file in files}
    assert stamps(address).keys() == {"sweep/sweep.json", "sweep/outcomes.safetensors", *there}
    assert list(scratch.glob("explorer-*")) == []


def test_what_is_done_there_is_not_trained_again_and_what_is_half_there_is(address, in_folder, capsys):
    words = command(address, STEPS, *KEPT, "--keep=all", "--workers=1")
    train_sweep(at(address), processes(1), 1)
    before = stamps(address)
    system, root = fsspec.core.url_to_fs(address)
    half = in_folder.info().cells[3].name
    system.rm([f"{root}/sweep/{half}/run.json", f"{root}/sweep/outcomes.safetensors"])
    assert main(words) == 0
    assert "sweep: 0 of 6 runs are done.\nDone: 6 runs, in " in capsys.readouterr().out
    assert_same_sweep(open_sweep(Runs(address), "sweep"), in_folder)
    after = stamps(address)
    assert after.keys() == before.keys()
    changed = {name for name in after if after[name] != before[name]}
    again = {f"sweep/{half}/run.json", "sweep/outcomes.safetensors"}
    assert again <= changed <= {name for name in after if name.startswith(f"sweep/{half}/")} | again
    assert main(words) == 0
    assert capsys.readouterr().out == "sweep: 6 of 6 runs are done.\n"
    assert stamps(address) == after


def test_ctrl_c_leaves_what_is_done_and_the_same_command_goes_on(bucket, scratch):
    address = f"s3://{BUCKET}/shared/runs"
    words = command(address, 10**6, "--workers=2")
    process = begun(words)
    wait_for(lambda: process.poll() is not None or in_training(scratch) == 2)
    os.killpg(process.pid, signal.SIGINT)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "Stopped with 0 of 6 runs; the same command goes on." in said
    assert "Traceback" not in errors
    wait_for(lambda: not of_session(process.pid))
    assert stamps(address).keys() == {"sweep/sweep.json", "sweep/outcomes.safetensors"}
    assert read_outcomes(open_sweep(Runs(address), "sweep")).ended.sum() == 0


def test_a_cluster_trains_a_sweep_there(machines, in_folder, tmp_path):
    address = f"file://{tmp_path}/shared/runs"
    executors, at_once = cluster(machines.address)
    progress = train_sweep(at(address), executors, at_once)
    assert (progress.done, progress.problems) == (6, {})
    assert_same_sweep(open_sweep(Runs(address), "sweep"), in_folder)


def test_workers_of_a_cluster_drop_what_they_train_when_the_sweep_is_stopped(machines, tmp_path, scratch):
    address = f"file://{tmp_path}/shared/runs"
    process = begun([*command(address, 10**6), f"--dask={machines.address}"])
    wait_for(lambda: process.poll() is not None or in_training(scratch) == 2)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "Stopped with 0 of 6 runs; the same command goes on." in said
    assert "Traceback" not in errors
    wait_for(lambda: in_training(scratch) == 0)
    assert stamps(address).keys() == {"sweep/sweep.json", "sweep/outcomes.safetensors"}


def test_only_outcomes_can_be_left_there(address, in_folder, capsys):
    words = command(address, STEPS, "--workers=2", "--only-outcomes")
    assert main(words) == 0
    assert stamps(address).keys() == {"sweep/sweep.json", "sweep/outcomes.safetensors"}
    ours, theirs = open_sweep(Runs(address), "sweep").read(OUTCOMES)[0], in_folder.read(OUTCOMES)[0]
    assert ours["ended"].all()
    assert_close({"loss": ours["train_loss"]}, {"loss": theirs["train_loss"]}, 1e-4)  # stacks of other sizes
    assert main(words) == 0
    assert "6 of 6 runs are done" in capsys.readouterr().out


def test_a_name_that_is_taken_there_and_other_settings_are_refused(address, capsys):
    at(address)
    with pytest.raises(UserError, match="There is already a file or folder sweep in "):
        at(address)
    before = stamps(address)
    assert main(command(address, STEPS + 1, *KEPT, "--keep=all")) == 2
    assert "There is a sweep 'sweep' with other settings; choose another --name." in capsys.readouterr().err
    assert stamps(address) == before


def test_where_nothing_can_be_written_there_is_one_sentence(bucket, on_web, tmp_path, capsys):
    (tmp_path / "zipped.zip").write_bytes(b"PK\5\6" + bytes(18))
    for address, said in (
        ("s3://no-such-bucket/runs", r"s3://no-such-bucket/runs cannot be written: \w+.*; check the address, the netw"),
        (on_web[0], rf"{on_web[0]} cannot be written: \w+.*; check the address"),
        (str(tmp_path / "zipped.zip"), r"zipped.zip is a zip file, which is only read; name a folder or the address"),
        (f"zip://{tmp_path}/zipped.zip", r"zipped.zip is a zip file, which is only read"),
        (f"file://{tmp_path}/zipped.zip/runs", r"zipped.zip/runs cannot be (read|written): "),
    ):
        assert main(command(address, STEPS, "--workers=1")) == 2, address
        error = capsys.readouterr().err
        assert re.search(said, error), error
        assert error.count("\n") == 1
    assert [each["Name"] for each in bucket.meta.client.list_buckets()["Buckets"]] == [BUCKET]


def in_a_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))


def test_a_run_that_cannot_be_put_there_is_told_and_is_trained_again(in_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "PAUSES", (0.0, 0.0))
    address = f"file://{tmp_path}/shared/runs"
    sweep = at(address)
    name = in_folder.info().cells[2].name
    in_its_place = tmp_path / "shared" / "runs" / "sweep" / name
    in_its_place.write_text("no folder")
    progress = train_sweep(sweep, in_a_thread, 1)
    assert (progress.done, list(progress.problems)) == (6, [name])
    assert np.isfinite(read_outcomes(sweep).of["train"].loss).all()  # what it learnt is known all the same
    assert f"{address} cannot be written: " in progress.problems[name]
    assert read_outcomes(sweep).ended.sum() == 5
    in_its_place.unlink()
    assert train_sweep(sweep, processes(1), 1).problems == {}
    assert_same_sweep(sweep, in_folder)


def test_what_cannot_be_put_there_for_a_while_is_put_there_later(in_folder, tmp_path, monkeypatch):
    sweep = at(f"file://{tmp_path}/shared/runs")
    in_its_place = tmp_path / "shared" / "runs" / "sweep" / in_folder.info().cells[2].name
    in_its_place.write_text("no folder")

    class Outage:
        """Pauses, the second of which ends what is wrong."""

        def __iter__(self) -> Iterator[float]:
            yield 0.0
            in_its_place.unlink()
            yield 0.0

    monkeypatch.setattr(engine, "PAUSES", Outage())
    assert train_sweep(sweep, in_a_thread, 1).problems == {}
    assert not in_its_place.is_file()
    assert_same_sweep(sweep, in_folder)


def test_a_sweep_that_cannot_be_read_by_its_workers_says_so_and_goes_on_later(in_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "PAUSES", (0.0, 0.0))
    sweep = at(f"file://{tmp_path}/shared/runs")
    settings = tmp_path / "shared" / "runs" / "sweep" / "sweep.json"
    text = settings.read_text()

    def broken() -> ThreadPoolExecutor:
        settings.write_text("{")
        return in_a_thread()

    progress = train_sweep(sweep, broken, 1)
    assert set(progress.problems) == {cell.name for cell in in_folder.info().cells}
    (problem,) = set(progress.problems.values())
    assert problem == "sweep/sweep.json cannot be read; restore the file or remove the folder."
    settings.write_text(text)
    assert train_sweep(sweep, in_a_thread, 1).problems == {}
    assert_same_sweep(sweep, in_folder)


def test_the_page_shows_a_sweep_at_an_address_and_changes_nothing(tmp_path, monkeypatch):
    address = f"file://{tmp_path}/shared/runs"
    train_sweep(at(address), processes(2), 2)
    before = stamps(address)
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", address)
    app = opening("runs", run="sweep")
    assert healthy(app)
    assert [button.label for button in app.button] == ["Explore"]
    assert healthy(opening("phase-diagram", run="sweep"))
    assert healthy(opening("overview", run="sweep/lr-0.01_seed-0"))
    assert stamps(address) == before
