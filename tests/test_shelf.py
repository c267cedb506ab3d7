"""Renaming, deleting and restoring runs."""

import pytest

from explorer.errors import UserError
from explorer.runs import Run, Runs, recorder, shelf
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
    renamed = shelf.rename(runs.open("one"), "first.run")
    assert runs.names() == ["first.run", "two"]
    assert contents(renamed) == before


@pytest.mark.parametrize("new", ["", "../out", "a/b", ".hidden", "x" * 65, "two"])
def test_a_name_that_cannot_be_given_is_refused_and_nothing_changes(runs, new):
    before = contents(runs.open("one"))
    with pytest.raises(UserError, match=r"cannot be the name of a run; use up to 64|already a file or folder two"):
        shelf.rename(runs.open("one"), new)
    assert contents(runs.open("one")) == before
    assert runs.names() == ["one", "two"]


def test_a_link_that_leads_nowhere_takes_a_name_too(runs):
    (runs.root / "dangling").symlink_to(runs.root / "nowhere")
    with pytest.raises(UserError, match="already a file or folder dangling"):
        shelf.rename(runs.open("one"), "dangling")


def test_a_run_in_training_is_neither_renamed_nor_deleted(runs):
    run = runs.open("one")
    with locked(run.lock_file):
        for change in (lambda: shelf.rename(run, "new"), lambda: shelf.delete(run)):
            with pytest.raises(UserError, match="one is being trained by another process"):
                change()
    assert runs.names() == ["one", "two"]
    assert shelf.deleted(runs) == []


def test_a_deleted_run_comes_back_whole_until_another_is_deleted(runs):
    before = contents(runs.open("one"))
    assert shelf.deleted(runs) == []
    shelf.delete(runs.open("one"))
    assert (runs.names(), runs.others(), shelf.deleted(runs)) == (["two"], [], ["one"])
    assert contents(shelf.restore(runs, "one")) == before
    assert (runs.names(), shelf.deleted(runs)) == (["one", "two"], [])
    shelf.delete(runs.open("one"))
    shelf.delete(runs.open("two"))
    assert shelf.deleted(runs) == ["two"]
    with pytest.raises(UserError, match="'one' is not among the deleted runs any more"):
        shelf.restore(runs, "one")
    assert shelf.restore(runs, "two").name == "two"


def test_a_deleted_run_whose_name_is_taken_meanwhile_is_kept(runs):
    shelf.delete(runs.open("one"))
    shelf.rename(runs.open("two"), "one")
    with pytest.raises(UserError, match=r"There is a file or folder one in .* again"):
        shelf.restore(runs, "one")
    shelf.rename(runs.open("one"), "two")
    assert shelf.restore(runs, "one").name == "one"


def test_what_a_link_leads_to_is_neither_moved_nor_deleted(runs, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "run"
    runs.open("one").folder.rename(elsewhere)
    (runs.root / "linked").symlink_to(elsewhere)
    for change in (lambda run: shelf.rename(run, "new"), shelf.delete):
        with pytest.raises(UserError, match="linked is a link to another folder"):
            change(Run(runs.root / "linked"))
    (runs.root / shelf.DELETED).symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"\.deleted is a link to elsewhere; remove it"):
        shelf.delete(runs.open("two"))
    assert (elsewhere / "run.json").is_file()
    assert contents(runs.open("two"))


def test_a_file_in_place_of_the_shelf_is_one_sentence(runs):
    (runs.root / shelf.DELETED).write_text("")
    with pytest.raises(UserError, match=r"cannot be used: .*; see that it is a folder to write to"):
        shelf.delete(runs.open("one"))
    assert runs.names() == ["one", "two"]
