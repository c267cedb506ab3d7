"""The page Runs, run by Streamlit without a browser."""

import shutil

from explorer.runs import Runs
from tests.pages import address, healthy, opening


def test_runs_are_listed_and_can_be_selected(opened):
    app = opened("runs", run="small")
    assert not app.exception
    text = " ".join(element.value for element in [*app.markdown, *app.caption])
    for expected in (
        "small",
        "finite",
        "2\\-digit addition",
        "the same 40 examples",
        "new examples at every step",
        "5 snapshots",
    ):
        assert expected in text
    app.button(key="choose.finite").click().run()
    assert app.session_state.run == "finite"
    assert address(app).view == "overview"


def test_runs_are_renamed_duplicated_deleted_and_restored_on_their_page(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "runs")
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path / "runs"))
    runs, app = Runs(tmp_path / "runs"), opening("runs", run="small")
    app.text_input(key="name.small").set_value("finite").run()
    app.button(key="rename.small").click().run()
    assert "already a file or folder finite" in app.error[0].value
    app.text_input(key="name.small").set_value("tiny").run()
    app.button(key="rename.small").click().run()
    assert healthy(app)
    assert app.session_state.run == "tiny"
    assert runs.names() == ["finite", "tiny"]

    app.button(key="delete.tiny").click().run()
    assert healthy(app)
    assert (runs.names(), app.session_state.run) == (["finite"], "finite")
    assert not app.warning
    app.button(key="undo.tiny").click().run()
    assert runs.names() == ["finite", "tiny"]
    assert not [button for button in app.button if button.label == "Undo"]

    app.button(key="duplicate.finite").click().run()
    assert healthy(app)
    assert address(app).view == "train"
    group = "train.addition.quick-finite"
    inputs = {one.key.rpartition(".")[2]: one.value for one in app.number_input if one.key.startswith(group)}
    assert (inputs["finite"], inputs["steps"], inputs["seed"], inputs["n_digits"]) == (40, 30, 1, 2)
    assert "momentum" not in inputs  # it has no effect on AdamW
    assert "batch_size" not in inputs  # nor has this where each update is on all examples
    assert "test_batch_size" in inputs


def test_a_server_that_is_read_only_changes_no_runs(opened, monkeypatch):
    monkeypatch.setenv("EXPLORER_READ_ONLY", "1")
    app = opened("runs", run="small")
    assert healthy(app)
    assert [button.label for button in app.button] == ["Explore", "Explore"]
