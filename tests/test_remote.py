"""Runs at an address: in a bucket, in memory, on a web server, in a zip file."""

import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
import torch

from explorer.cli.main import main
from explorer.errors import UserError
from explorer.runs import Run, Runs, copies, elsewhere, jobs, recorder, shelf
from explorer.runs.files import TEMPORARY
from explorer.runs.lock import request_stop
from explorer.runs.measures import MeasureFiles
from explorer.views.subject import Subject
from tests.conftest import MODEL, TASK, TRAINING
from tests.pages import header, healthy, opening
from tests.remote import BUCKET

FILES = {"run.json", "metrics.safetensors", *(f"snapshots/step-{step:06d}.safetensors" for step in range(0, 50, 10))}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Iterator[Path]:
    """The folder of copies. What other tests have listed is forgotten."""
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "copies"))
    monkeypatch.delenv("EXPLORER_CACHE_GIB", raising=False)
    elsewhere.elsewhere.cache_clear()
    yield tmp_path / "copies"
    elsewhere.elsewhere.cache_clear()


@pytest.fixture
def fresh(monkeypatch) -> None:
    """What is there is listed whenever something is asked."""
    monkeypatch.setattr(elsewhere, "LISTED_FOR", 0.0)


def zipped(root: Path, path: Path, **more: str) -> Path:
    """A zip file, outside a folder, of all files below it, and of some more."""
    assert not path.is_relative_to(root), "a zip file that is put into itself never ends"
    files = [file for file in sorted(root.rglob("*")) if file.is_file()]
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.write(file, str(file.relative_to(root)))
        for name, text in more.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def spoilt(root, tmp_path) -> Run:
    """A copy of the small run that may be spoilt, in a folder of its own."""
    shutil.copytree(root, tmp_path / "above" / "runs")
    return Runs(tmp_path / "above" / "runs").open("small")


@pytest.fixture
def archive(folder, tmp_path) -> Path:
    """A zip file of two runs."""
    return zipped(folder, tmp_path / "runs.zip")


@pytest.fixture(params=["zip", "zip of a chain", "zip in memory", "memory", "bucket", "web"])
def address(request, root, spoilt, tmp_path) -> str:
    """An address of the small run, of each kind in turn."""
    if request.param.startswith("zip"):
        path = zipped(tmp_path / "above" if request.param == "zip of a chain" else root, tmp_path / "small.zip")
        if request.param == "zip":
            return str(path)
        if request.param == "zip of a chain":
            return f"zip://runs::{path}"
        request.getfixturevalue("in_memory")
        fsspec.filesystem("memory").put(str(path), "/kept/small.zip")
        return "memory://kept/small.zip"
    found = request.getfixturevalue({"memory": "in_memory", "bucket": "in_bucket", "web": "on_web"}[request.param])
    return found if isinstance(found, str) else found[0]


def fetched(cache: Path) -> int:
    """How many files have been spoilt."""
    return len(list(cache.iterdir())) if cache.exists() else 0


def same_weights(one: Run, other: Run) -> bool:
    ours, theirs = one.ensemble(), other.ensemble()
    return ours.steps == theirs.steps and all(
        torch.equal(ours.weights[name], theirs.weights[name]) for name in theirs.weights
    )


def refusal(do: Callable[[], object]) -> str:
    """The sentence with which something is refused."""
    with pytest.raises(UserError) as caught:
        do()
    said = str(caught.value)
    assert said.endswith(".")
    assert "\n" not in said
    return said


# --- Reading ---


def test_a_run_is_the_same_from_everywhere(address, small):
    runs = Runs(address)
    assert runs.names() == ["small"]
    assert (runs.read_only, runs.unknown()) == (True, "")
    run = runs.open("small")
    assert (run.info(), run.steps(), run.about()) == (small.info(), small.steps(), small.about())
    metrics, expected = run.metrics(), small.metrics()
    assert metrics.keys() == expected.keys()
    assert all(torch.equal(metrics[name], expected[name]) for name in expected)
    assert same_weights(run, small)
    assert Subject.load(run).frames == small.steps()


def test_what_takes_minutes_is_read_with_a_run_and_nothing_measures_there(spoilt, tmp_path, monkeypatch):
    assert main(["measure", "parts", "small", "--workers", "1", "--checkpoints", str(spoilt.folder.parent)]) == 0
    address = str(zipped(spoilt.folder.parent, tmp_path / "measured.zip"))
    files, there = (MeasureFiles(Runs(where).open("small"), "parts") for where in (spoilt.folder.parent, address))
    ours, theirs = files.read(), there.read()
    assert theirs is not None
    assert ours.tensors.keys() == theirs.tensors.keys()
    assert all(torch.equal(theirs.tensors[name], values) for name, values in ours.tensors.items())
    assert not there.is_measuring()
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", address)
    app = opening("grafts", run="small")
    assert healthy(app)
    assert [panel["id"] for panel in header(app)["panels"]] == ["losses", "with_final", "final_with"]


def test_only_what_is_needed_is_fetched_and_only_once(in_bucket, cache, caplog):
    caplog.set_level(logging.INFO, "werkzeug")
    run = Runs(in_bucket).open("small")
    assert (run.version(), len(run.stamps())) == (run.version(), 5)
    assert run.readable([]) == run.steps()
    assert fetched(cache) == 1  # run.json
    run.snapshot(20)
    Runs(in_bucket).open("small").snapshot(20)
    assert fetched(cache) == 2
    asked = [record.getMessage() for record in caplog.records if "GET /" in record.getMessage()]
    assert len([line for line in asked if "list-type" in line]) == 1
    assert len(asked) == 3
    Subject.load(run)
    assert fetched(cache) == len(FILES)


def test_a_web_server_is_asked_for_each_folder_once(on_web):
    address, asked = on_web
    version = Runs(address).open("small").version()
    assert sorted(set(asked)) == sorted(asked)
    assert "GET /small/snapshots/step-000000.safetensors" not in asked
    elsewhere.elsewhere.cache_clear()
    assert Runs(address).open("small").version() == version


@pytest.mark.parametrize("where", ["in_memory", "in_bucket"])
def test_a_changed_object_is_read_anew(where, request, small, fresh):
    address = request.getfixturevalue(where)
    run = Runs(address).open("small")
    version, stamps, before = run.version(), run.stamps(), run.snapshot(10)
    system, path = fsspec.core.url_to_fs(f"{address}/small")
    system.pipe(f"{path}/snapshots/step-000010.safetensors", small.snapshot_file(20).read_bytes())
    assert run.version() != version
    assert {step for step, stamp in run.stamps().items() if stamp != stamps[step]} == {10}
    assert "holds step '20'; restore the right file" in refusal(lambda: run.snapshot(10))
    system.pipe(f"{path}/snapshots/step-000010.safetensors", small.snapshot_file(10).read_bytes())
    assert all(torch.equal(before[name], weight) for name, weight in run.snapshot(10).items())
    text = small.info_file.read_text().replace('"status": "done"', '"status": "running"')
    system.pipe(f"{path}/run.json", text.encode())
    assert run.info().status == "running"  # nobody can tell whether it still is
    system.rm(f"{path}/run.json")
    assert Runs(address).names() == []


def test_a_changed_zip_file_is_read_anew(spoilt, tmp_path, fresh):
    path = zipped(spoilt.folder.parent, tmp_path / "one.zip")
    run = Runs(path).open("small")
    version = run.version()
    assert run.version() == version
    spoilt.about_file.write_text("What there is to see.")
    zipped(spoilt.folder.parent, tmp_path / "two.zip").replace(path)
    assert (run.version() != version, run.about()) == (True, "What there is to see.")


def test_copies_take_bounded_room_and_those_used_last_stay(in_memory, small, cache, monkeypatch):
    size = small.snapshot_file(0).stat().st_size
    room = 3 * size + small.info_file.stat().st_size
    monkeypatch.setenv("EXPLORER_CACHE_GIB", str(room / 2**30))
    run = Runs(in_memory).open("small")
    for n, step in enumerate((0, 10, 20, 0, 30)):
        run.info()
        run.snapshot(step)
        for nth, path in enumerate(sorted(cache.iterdir(), key=lambda path: path.stat().st_mtime_ns)):
            os.utime(path, (1e9 + 100 * n + nth,) * 2)  # clocks of file systems may tick slowly
        assert sum(path.stat().st_size for path in cache.iterdir()) <= room
    system = fsspec.filesystem("memory")
    held = {path.read_bytes() for path in cache.iterdir()}
    kept = [
        step for step in run.steps() if system.cat(f"/kept/runs/small/snapshots/step-{step:06d}.safetensors") in held
    ]
    assert kept == [0, 20, 30]
    assert same_weights(run, small)  # also those that do not fit beside each other
    assert sum(path.stat().st_size for path in cache.iterdir()) <= room


def test_what_others_have_in_the_folder_of_copies_stays(in_memory, cache, monkeypatch):
    cache.mkdir()
    (cache / "notes.txt").write_text("x" * 100)
    abandoned = cache / f"{TEMPORARY[0]}abc"
    abandoned.write_text("")
    os.utime(abandoned, (0, 0))
    run = Runs(in_memory).open("small")
    monkeypatch.setenv("EXPLORER_CACHE_GIB", "1e-9")
    assert "snapshots/step-000010.safetensors of memory://kept/runs has" in refusal(lambda: run.snapshot(10))
    assert (cache / "notes.txt").exists()
    assert not abandoned.exists()


# --- What is hostile or damaged ---


def test_hostile_names_are_passed_over_and_become_no_paths(root, tmp_path, cache):
    names = ("../../x", "/x", "small/../../x", "small/snapshots/../../../x", "C:/x")
    more = dict.fromkeys((*names, "..\\x", "a" * 200 + "/run.json", "\u202eb/run.json", ".x/run.json"), "hostile")
    runs = Runs(zipped(root, tmp_path / "hostile.zip", **more))
    assert runs.names() == ["small"]
    assert "'C:'" in runs.unknown()
    assert "\u202e" not in runs.unknown()
    Subject.load(runs.open("small"))
    assert all(copies.COPY.fullmatch(path.name) for path in cache.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"copies", "hostile.zip"}
    assert [name for name in more if runs.place.stamp("small", name.removeprefix("small/"))] == []


def test_a_damaged_snapshot_is_one_sentence_and_the_others_are_read(spoilt, tmp_path):
    file = spoilt.snapshot_file(10)
    file.write_bytes(file.read_bytes()[:-4])
    spoilt.snapshot_file(30).unlink()
    run = Runs(zipped(spoilt.folder.parent, tmp_path / "runs.zip")).open("small")
    subject = Subject.load(run)
    assert subject.frames == (0, 20, 40)
    assert sorted(subject.problems) == [
        "small/snapshots/step-000010.safetensors is damaged or is not a safetensors file; restore it.",
        "small/snapshots/step-000030.safetensors is missing; restore the file, or train the run again.",
    ]


def test_a_zip_file_that_claims_less_than_it_holds_fills_no_disk(root, tmp_path):
    path = zipped(root, tmp_path / "runs.zip", **{"small/about.md": "x" * 1000})
    data = path.read_bytes()
    path.write_bytes(data.replace((1000).to_bytes(4, "little") * 2, (10).to_bytes(4, "little") * 2))
    run = Runs(path).open("small")
    assert str(path) in refusal(run.about)


# --- What cannot be reached ---


def test_what_is_not_there_is_a_sentence(bucket, tmp_path):
    gone = tmp_path / "gone.zip"
    for address in (str(gone), f"zip://{gone}", "memory://nowhere", f"s3://{BUCKET}/nowhere", "s3://no-such-bucket/x"):
        assert refusal(Runs(address).names) == f"There is nothing to read at {address}; check the address."


def test_a_broken_zip_file_is_a_sentence(tmp_path):
    path = tmp_path / "broken.zip"
    path.write_text("no zip file")
    assert refusal(Runs(path).names) == f"{path} is damaged or is not a zip file; restore it."


def test_a_server_that_is_not_there_is_a_sentence(bucket, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        for address in (f"s3://{BUCKET}/runs", f"http://user:secret@127.0.0.1:{port}/runs"):
            said = refusal(Runs(address).names)
            assert re.search(r"(s3|http)://.* cannot be read: .*check the address, the network and the cred", said)
            assert "secret" not in said
            assert refusal(Runs(address).names) == said  # at once, for a while
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_a_server_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(elsewhere, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert "has not answered for 0.5 s" in refusal(Runs(address).names)


def test_a_copy_that_fails_is_no_problem_of_the_run(in_bucket, bucket):
    run = Runs(in_bucket).open("small")
    bucket.Object("shared/runs/small/snapshots/step-000010.safetensors").delete()
    assert "There is nothing to read at s3://" in refusal(lambda: Subject.load(run))
    bucket.Object("shared/runs/small/metrics.safetensors").delete()
    assert "There is nothing to read at s3://" in refusal(run.metrics)


def test_a_protocol_that_nobody_knows_is_a_sentence():
    assert "nonsense://x cannot be read: ValueError" in refusal(Runs("nonsense://x").names)


@pytest.mark.parametrize("missing", ["fsspec", "s3fs"])
def test_a_package_that_is_missing_is_named_with_its_remedy(missing):
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from explorer.cli.main import main\n"
        "sys.exit(main(['runs', '--checkpoints', 's3://bucket/runs']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert missing in done.stderr
    assert "pip install -r requirements-optional.txt" in done.stderr


def test_a_folder_is_read_without_fsspec(root):
    program = (
        "import sys; from explorer.runs import Runs\n"
        f"Runs({str(root)!r}).open('small').ensemble()\n"
        "assert 'explorer.runs.elsewhere' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("size", ["much", "0", "-1", "nan", "inf"])
def test_room_that_is_no_size_is_a_sentence(size, in_memory, monkeypatch):
    monkeypatch.setenv("EXPLORER_CACHE_GIB", size)
    assert f"EXPLORER_CACHE_GIB is '{size}'" in refusal(lambda: Runs(in_memory).open("small"))


def test_a_folder_of_copies_that_cannot_be_used_is_a_sentence(in_memory, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "file"))
    assert "set EXPLORER_CACHE to a folder to write to" in refusal(lambda: Runs(in_memory).open("small"))


# --- Nothing is written ---


def test_nothing_is_written_there(in_memory):
    runs = Runs(in_memory)
    run = runs.open("small")
    sentence = f"{in_memory} is no folder; train, rename and delete single runs in a folder of this machine."
    for change in (
        lambda: recorder.create(runs, "new", TASK, MODEL, TRAINING),
        lambda: recorder.train(run),
        lambda: recorder.extend(run, 80),
        lambda: request_stop(run),
        lambda: jobs.start(run),
        lambda: jobs.check_room(runs),
        lambda: shelf.rename(run, "other"),
        lambda: shelf.delete(run),
        lambda: shelf.restore(runs, "small"),
    ):
        assert refusal(change) == sentence
    assert len(fsspec.filesystem("memory").find("/kept/runs")) >= len(FILES)


# --- The command line and the pages ---


def test_commands_read_a_zip_file(archive, folder, capsys):
    for command in (["runs", "--json"], ["phases", "finite"], ["predict", "small", "12+34=", "--all-steps"]):
        printed = []
        for place in (archive, folder):
            assert main([*command, "--checkpoints", str(place)]) == 0
            printed.append(capsys.readouterr())
        assert printed[0] == printed[1]
    assert main(["predict", "small", "12+34=", "--checkpoints", f"zip://{archive}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 40


def test_commands_that_write_are_refused_with_a_sentence(archive, capsys):
    for command in (["train", "addition"], ["train", "addition", "--name", "small", "--resume"], ["train-shipped"]):
        assert main([*command, "--checkpoints", str(archive)]) == 2
        assert capsys.readouterr().err.startswith(f"{archive} is no folder; train, ")


def test_a_zip_file_without_runs_is_said_to_have_none(tmp_path, monkeypatch, capsys):
    path = zipped(tmp_path / "no-folder", tmp_path / "empty.zip", **{"notes.txt": ""})
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(path))
    assert main(["runs"]) == 0
    printed = capsys.readouterr()
    assert "holds no runs; name the place of others with EXPLORER_CHECKPOINTS" in printed.out
    assert "'notes.txt' is no run" in printed.err
    assert main(["scene", "overview"]) == 2
    assert capsys.readouterr().err.startswith(f"{path} holds no runs; name")
    app = opening("runs")
    assert healthy(app)
    assert "holds no runs. Name the place of others with EXPLORER" in app.info[0].value.replace("\\", "")


def test_pages_show_runs_of_a_zip_file_and_change_nothing(archive, monkeypatch):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(archive))
    app = opening("runs", run="small")
    assert healthy(app)
    assert [button.label for button in app.button] == ["Explore", "Explore"]
    assert "train" not in app.session_state.pages
    app.button(key="choose.finite").click().run()
    assert healthy(app)
    assert app.session_state.run == "finite"
    assert healthy(opening("heads", run="small"))
    assert healthy(opening("compare", run="small"))


def test_a_page_says_what_cannot_be_reached(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path / "gone.zip"))
    app = opening("runs")
    assert not app.exception
    assert "There is nothing to read at" in app.error[0].value


def test_a_folder_whose_name_ends_like_that_of_a_zip_file_is_a_folder(spoilt, tmp_path):
    shutil.move(spoilt.folder.parent, tmp_path / "runs.zip")
    assert Runs(tmp_path / "runs.zip").names() == ["small"]
