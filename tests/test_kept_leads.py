"""What led the falls in the runs of a sweep, kept beside it: dated once, the same when snapshots are gone, checked."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from explorer.cli import measure as command
from explorer.cli.main import main
from explorer.errors import UserError
from explorer.film.panels.strip import Strip
from explorer.runs import Run, Runs
from explorer.runs.lock import request_stop
from explorer.runs.place import LEADS
from explorer.runs.sweeps import Sweep, forget_runs, open_sweep
from explorer.sweeps.leads import DatedRun, read_leads
from explorer.views import get_view
from explorer.views.leads_over_seeds import Options, date_run, is_dated
from explorer.views.over_training import falls
from explorer.views.swept import Swept
from explorer.views.view import Links, Note, Table
from tests.leading import NAME, known_sweep, trained
from tests.sweeping import assert_close

VIEW, OPTIONS = get_view("leads-over-seeds"), Options(NAME, "seed-0")


@pytest.fixture(scope="module")
def dated(tmp_path_factory) -> Sweep:
    """Three seeds with known falls and one without, dated."""
    sweep = known_sweep(tmp_path_factory.mktemp("dated"), 3)
    measure(sweep)
    return sweep


@pytest.fixture
def copied(dated, tmp_path) -> Sweep:
    """One that may be spoilt."""
    shutil.copytree(dated.folder, tmp_path / "known")
    return open_sweep(Runs(tmp_path), "known")


def measure(sweep: Sweep, *words: str) -> int:
    return main(["measure", "leads", sweep.name, *words, "--checkpoints", str(sweep.among.root)])


def table_of(sweep: Sweep) -> dict[str, list]:
    (table,) = [item for item in VIEW.below(Swept.load(sweep), "", OPTIONS) if isinstance(item, Table)]
    return {name: list(values) for name, values in table.columns.items()}


def strip_of(sweep: Sweep) -> Strip:
    strip = VIEW.whole_film(Swept.load(sweep), "", OPTIONS).panels[1]
    assert isinstance(strip, Strip)
    return strip


def assert_equal(one: Strip, other: Strip) -> None:
    assert (one.rows, one.names) == (other.rows, other.names)
    for name in ("marks", "median", "low", "high"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def leads_of(sweep: Sweep) -> dict[str, DatedRun]:
    return read_leads(sweep, falls(sweep.info().cells[0].plan.task))


def rewritten(sweep: Sweep, **changed) -> None:
    """Spoil the file: what it tells of itself, or a tensor."""
    path = sweep.folder / LEADS
    with safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["leads"])
    tensors = load_file(path)
    tensors |= {name: value for name, value in changed.items() if name in tensors}
    told |= {name: value for name, value in changed.items() if name in told}
    save_file(tensors, path, {"leads": json.dumps(told)})


def test_what_is_kept_is_what_is_found_and_stays_when_snapshots_go(copied):
    kept_strip, kept_table = strip_of(copied), table_of(copied)
    (copied.folder / LEADS).rename(copied.folder.parent / LEADS)
    assert_equal(strip_of(copied), kept_strip)
    assert table_of(copied) == kept_table
    (copied.folder.parent / LEADS).rename(copied.folder / LEADS)
    forget_runs(copied)
    assert {path.name for path in copied.folder.iterdir() if path.is_dir()} == set()
    assert_equal(strip_of(copied), kept_strip)
    assert table_of(copied) == kept_table
    assert len(kept_strip.names[0]) == 3
    assert [item for item in VIEW.below(Swept.load(copied), "", OPTIONS) if isinstance(item, Links)] == []


def test_every_fall_of_every_run_is_kept(copied):
    found = leads_of(copied)
    assert list(found) == [f"seed-{i}" for i in range(4)]
    for name, run in found.items():
        assert list(run.falls) == list(falls(copied.info().cells[0].plan.task))
        again = date_run(copied.run(name))
        assert is_dated(copied.run(name), run)
        for loss, one in again.falls.items():
            assert one.fall == run.falls[loss].fall
            assert [lead for lead in one.table if lead.change] == [x for x in run.falls[loss].table if x.change]
            assert {lead.measure for lead in one.table} == {lead.measure for lead in run.falls[loss].table}
    assert found["seed-3"].falls[NAME].fall is None


def test_a_second_time_only_what_changed_is_dated(copied, capsys):
    before, content = leads_of(copied), load_file(copied.folder / LEADS)
    for name in ("seed-1", "seed-2"):  # cannot be read any more, and need not be
        for path in (copied.run(name).folder / "snapshots").iterdir():
            path.write_bytes(b"nothing")
    assert measure(copied) == 0
    assert_close(load_file(copied.folder / LEADS), content, 0.0)
    run = copied.run("seed-0")
    run.snapshot_file(8).unlink()
    run.info_file.write_text(run.info_file.read_text().replace("    8,\n", "", 1))
    assert len(copied.run("seed-0").info().snapshots) == len(run.steps())
    assert measure(copied) == 0
    after = leads_of(copied)
    assert after["seed-0"].of != before["seed-0"].of
    assert all(after[name].of == before[name].of for name in ("seed-1", "seed-2", "seed-3"))
    assert "Done: 4 runs in" in capsys.readouterr().out


def test_a_measure_that_was_made_since_is_dated_too(copied):
    assert "sharpness" not in table_of(copied)["measure"]
    before = leads_of(copied)
    words = ["sharpness", "known/seed-1", "--workers", "1", "--set", "examples=4"]
    assert main(["measure", *words, "--checkpoints", str(copied.among.root)]) == 0
    assert measure(copied) == 0
    after = leads_of(copied)
    assert [name for name in before if before[name].of != after[name].of] == ["seed-1"]


def test_a_run_that_cannot_be_read_is_named_and_the_others_are_dated(copied, capsys):
    (copied.folder / LEADS).unlink()
    for path in (copied.run("seed-1").folder / "snapshots").iterdir():
        path.write_bytes(b"nothing")
    assert measure(copied) == 2
    said = capsys.readouterr().err
    assert "seed-1: " in said
    assert "1 of 4 runs could not be dated; restore them and go on." in said
    assert list(leads_of(copied)) == ["seed-0", "seed-2", "seed-3"]


def test_what_was_dated_is_not_dated_again_when_snapshots_are_gone(copied, capsys):
    content = load_file(copied.folder / LEADS)
    forget_runs(copied)
    assert measure(copied) == 0
    assert "Done: 4 runs" in capsys.readouterr().out
    assert_close(load_file(copied.folder / LEADS), content, 0.0)


def test_while_a_sweep_is_dated_it_is_nobody_elses_and_a_stop_ends_it_with_all_that_is_there(copied, monkeypatch):
    (copied.folder / LEADS).unlink()

    def then_stop(run: Run) -> DatedRun:
        request_stop(copied)
        with pytest.raises(UserError, match="by another process"), copied.alone():
            pass
        return date_run(run)

    monkeypatch.setattr(command, "date_run", then_stop)
    assert measure(copied) == 0
    assert list(leads_of(copied)) == ["seed-0"]
    assert copied.run("seed-1").steps()


def test_snapshots_that_are_others_than_those_dated_are_dated_by_the_view(copied):
    expected = table_of(copied)
    rewritten(copied, of=["another"] * 4, fall=torch.full_like(load_file(copied.folder / LEADS)["fall"], torch.nan))
    assert table_of(copied) == expected
    forget_runs(copied)  # now nothing tells that they were others
    assert [item for item in VIEW.below(Swept.load(copied), "", OPTIONS) if isinstance(item, Table)] == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"version": 99}, "was written by another version of the explorer"),
        ({"runs": ["seed-0", "seed-1", "seed-2", "other"]}, "does not hold what led the falls of this sweep"),
        ({"runs": ["seed-0", "seed-1", "seed-2", "seed-2"]}, "does not hold what led the falls of this sweep"),
        ({"measures": ["one"]}, "does not hold what led the falls of this sweep"),
        ({"falls": ["one"]}, "does not hold what led the falls of this sweep"),
        ({"fall": torch.zeros(4, 1, 8, dtype=torch.float64)}, "does not hold what led the falls of this sweep"),
        ({"of": 3}, "does not hold what led the falls of this sweep"),
    ],
    ids=["version", "runs", "twice", "measures", "losses", "shape", "identity"],
)
def test_a_file_that_does_not_belong_to_the_sweep_is_told_and_dated_anew(copied, changed, said, capsys):
    expected = table_of(copied)
    rewritten(copied, **changed)
    sentence = f"known/leads.safetensors {said}; while the snapshots are there, date them again with: "
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}"):
        leads_of(copied)
    errors = [x.text for x in VIEW.below(Swept.load(copied), "", OPTIONS) if isinstance(x, Note) and x.is_error]
    assert [text.startswith(sentence) for text in errors] == [True]
    assert table_of(copied) == expected
    assert measure(copied) == 0
    assert capsys.readouterr().err.startswith(sentence)
    assert list(leads_of(copied)) == [f"seed-{i}" for i in range(4)]
    rewritten(copied, **changed)
    forget_runs(copied)
    assert VIEW.unavailable(Swept.load(copied), "", OPTIONS).startswith(sentence)


@pytest.mark.parametrize("content", [b"", b"nothing", bytes(64)])
def test_a_damaged_file_is_named(copied, content):
    forget_runs(copied)
    (copied.folder / LEADS).write_bytes(content)
    assert "known/leads.safetensors" in VIEW.unavailable(Swept.load(copied), "", OPTIONS)


def test_a_dry_run_says_how_long_and_writes_nothing(copied, capsys):
    (copied.folder / LEADS).unlink()
    assert measure(copied, "--dry-run") == 0
    assert capsys.readouterr().out.startswith("Leads of known: 4 runs, about ")
    assert not (copied.folder / LEADS).exists()


def test_what_cannot_be_dated_is_refused(tmp_path, copied, capsys):
    trained(tmp_path, "losses", 20, "losses", "0-1")
    command = ["--checkpoints", str(tmp_path)]
    for words, said in (
        (
            ["measure", "leads", "losses"],
            "No run of losses is done and has snapshots; train the sweep",
        ),
        (["measure", "leads"], "leads takes the name of a sweep, and neither settings nor --workers."),
        (
            ["measure", "leads", "known", "--set", "a=1"],
            "leads takes the name of a sweep, and neither settings nor --workers.",
        ),
        (["measure", "leads", "none"], "There is no sweep 'none'"),
        (["sweep", "skip-trigram", "--leads"], "--leads is dated on snapshots; add --keep all."),
    ):
        assert main([*words, *command]) == 2
        assert said in capsys.readouterr().err.replace("\u201c", "'").replace("\u201d", "'")


def test_one_command_trains_a_sweep_dates_it_and_keeps_only_what_was_found(tmp_path):
    small = ["steps=30", "n_letters=16", "n_triggers=4", "batch_size=8", "test_batch_size=8", "d_model=8", "warmup=0"]
    words = ["sweep", "skip-trigram", "--seeds", "0-1", "--keep", "all", "--leads", "--only-outcomes", "--name", "two"]
    sets = [word for value in small for word in ("--set", value)]
    assert main([*words, *sets, "--workers", "1", "--checkpoints", str(tmp_path)]) == 0
    assert {path.name for path in (tmp_path / "two").iterdir()} >= {"sweep.json", "outcomes.safetensors", LEADS}
    assert not [path for path in (tmp_path / "two").iterdir() if path.is_dir()]
    assert list(leads_of(open_sweep(Runs(tmp_path), "two"))) == ["seed-0", "seed-1"]
