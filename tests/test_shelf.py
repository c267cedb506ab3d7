"""Renaming, deleting and restoring runs."""

import pytest

from explorer.errors import UserError
from explorer.runs import Runs, recorder, shelf
from explorer.runs.lock import locked
from tests.conftest import MODEL, TASK, TRAINING


@pytest.fixture
def runs(tmp_path):
    runs = Runs(tmp_path)
    for name in ("one", "two"):
        recorder.train(recorder.create(runs, name, TASK, MODEL, TRAINING))
    return runs


def contents(run) -> dict[str, bytes]:
    paths = sorted(path for path in run.folder.rglob("*") if path.is_file() and path != run.lock_file)
    return {str(path.relative_to(run.folder)): path.read_bytes() for path in paths}


def test_a_renamed_run_is_the_same_run(runs):
    before = contents(runs.open("one"))
    renamed = shelf.rename(runs, "one", "first.run")
    assert runs.names() == ["first.run", "two"]
    assert contents(renamed) == before
    assert shelf.rename(runs, "two", "two").name == "two"
    assert runs.names() == ["first.run", "two"]


@pytest.mark.parametrize("new", ["", "../out", "a/b", ".hidden", "x" * 65, "two"])
def test_a_name_that_cannot_be_given_is_refused_and_nothing_changes(runs, new):
    before = contents(runs.open("one"))
    with pytest.raises(UserError, match=r"cannot be the name of a run; use up to 64|already a file or folder two"):
        shelf.rename(runs, "one", new)
    assert contents(runs.open("one")) == before
    assert runs.names() == ["one", "two"]


def test_a_link_that_leads_nowhere_takes_a_name_too(runs):
    (runs.root / "dangling").symlink_to(runs.root / "nowhere")
    with pytest.raises(UserError, match="already a file or folder dangling"):
        shelf.rename(runs, "one", "dangling")


def test_a_run_that_is_not_there_is_named(runs):
    for change in (lambda: shelf.rename(runs, "none", "new"), lambda: shelf.delete(runs, "none")):
        with pytest.raises(UserError, match="There is no run 'none'; there are one and two"):
            change()


def test_a_run_in_training_is_neither_renamed_nor_deleted(runs):
    with locked(runs.open("one").lock_file):
        for change in (lambda: shelf.rename(runs, "one", "new"), lambda: shelf.delete(runs, "one")):
            with pytest.raises(UserError, match="one is being trained by another process"):
                change()
    assert runs.names() == ["one", "two"]
    assert shelf.deleted(runs) is None


def test_a_deleted_run_comes_back_whole_until_another_is_deleted(runs):
    before = contents(runs.open("one"))
    assert shelf.deleted(runs) is None
    shelf.delete(runs, "one")
    assert (runs.names(), runs.others(), shelf.deleted(runs)) == (["two"], [], "one")
    assert contents(shelf.restore(runs)) == before
    assert (runs.names(), shelf.deleted(runs)) == (["one", "two"], None)
    shelf.delete(runs, "one")
    shelf.delete(runs, "two")
    assert shelf.deleted(runs) == "two"
    assert shelf.restore(runs).name == "two"
    with pytest.raises(UserError, match="No run that was deleted is kept"):
        shelf.restore(runs)


def test_a_deleted_run_whose_name_is_taken_meanwhile_is_kept(runs):
    shelf.delete(runs, "one")
    shelf.rename(runs, "two", "one")
    with pytest.raises(UserError, match="already a file or folder one"):
        shelf.restore(runs)
    shelf.rename(runs, "one", "two")
    assert shelf.restore(runs).name == "one"


def test_what_a_link_leads_to_is_never_deleted(runs, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "run"
    runs.open("one").folder.rename(elsewhere)
    (runs.root / "linked").symlink_to(elsewhere)
    shelf.delete(runs, "linked")
    shelf.delete(runs, "two")
    assert (elsewhere / "run.json").is_file()
    assert shelf.deleted(runs) == "two"


def test_a_folder_that_cannot_be_emptied_is_one_sentence(runs):
    kept = runs.root / shelf.DELETED
    kept.write_text("a file in its place is replaced")
    shelf.delete(runs, "one")
    assert shelf.deleted(runs) == "one"
