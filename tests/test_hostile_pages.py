"""Text from files and addresses on the pages: shown as it is, never as HTML, markdown, icons or marks of direction."""

import json
import re
import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from explorer.runs import Run
from tests.pages import header, opening
from tests.test_files import flip

HTML, ICON, LINK = "<img src=x onerror=alert(1)>", ":material/home:", "[x](javascript:alert(1))"
HOSTILE = f"{HTML} {ICON} {LINK} **b** `c` $x$ \u202eabc\u2066 \x1b[31m www.example.org"
KINDS = ("markdown", "caption", "warning", "error", "info", "success")


@pytest.fixture
def folder(copied, monkeypatch) -> Run:
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(copied.folder.parent))
    return copied


def shown(app: AppTest) -> str:
    """Everything on the page that is rendered as markdown."""
    return "\n".join(element.value for kind in KINDS for element in getattr(app, kind))


def assert_literal(app: AppTest) -> None:
    assert not app.exception
    text = shown(app).replace("\\\\", "")
    assert not re.search(r"(?<!\\)<(?!br)", text)
    assert not re.search(r"(?<!\\):material", text)
    assert not re.search(r"(?<!\\)\]\(", text)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b]", text)


def test_what_files_say_is_shown_literally(folder):
    folder.about_file.write_text(HOSTILE)
    folder.log.write_text(HOSTILE)
    values = json.loads(folder.info_file.read_text())
    folder.info_file.write_text(json.dumps({**values, "status": "failed", "message": HOSTILE, "preset": HOSTILE}))
    for name in (f"{HTML} {ICON}".replace("/", "_"), "\u202ezip.x"):
        (folder.folder.parent / name).write_text("")
    app = opening("runs")
    assert_literal(app)
    text = shown(app).replace("\\", "").replace("\u2060", "")
    assert text.count("<img src=x onerror=alert(1)> :material/home: [x](javascript:alert(1)) **b** `c` $x$ abc") == 2
    assert "are no runs: a run is a folder with a run.json" in text
    assert_literal(opening("train", run="small"))


@pytest.mark.parametrize("page", ["overview", "activations", "runs"])
def test_what_an_address_says_is_shown_literally(folder, page):
    other = HOSTILE * 200
    app = opening(page, run=f"../{HOSTILE}", step=HOSTILE, example=other, player=HOSTILE, show=other, **{HOSTILE: "x"})
    assert_literal(app)
    assert len(shown(app)) < 6000
    assert app.session_state.run == "small"
    if page != "runs":
        assert header(app)["steps"] == [0, 10, 20, 30, 40]


def test_all_pages_say_which_folder_has_no_runs(tmp_path, monkeypatch):
    for name, said in (("empty *folder*", "holds no runs yet"), ("nowhere", "does not exist")):
        monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path / name))
        if "empty" in name:
            (tmp_path / name).mkdir()
        for page in ("", "runs"):
            app = opening(page)
            (info,) = app.info
            text = info.value.replace("\\", "").replace("\u2060", "")
            assert text.startswith(
                f"The folder {tmp_path / name} {said}. Train one on the page Train, or with `python -m"
            )
            assert str(tmp_path / name) in text.split("--checkpoints ")[1]


def test_a_tilde_is_the_home_folder(folder, monkeypatch):
    root = folder.folder.parent
    monkeypatch.setenv("HOME", str(root.parent))
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", f"~/{root.name}")
    assert opening("runs").session_state.run == "small"
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", "~nobody-of-this-name/runs")
    app = opening("runs")
    assert not app.exception
    assert "begins with a home folder that is not known" in app.error[0].value


def test_a_snapshot_restored_in_its_place_is_shown_after_a_reload(folder):
    path = folder.snapshot_file(10)
    good = path.read_bytes()
    flip(path)
    app = opening("overview", run="small")
    assert header(app)["steps"] == [0, 20, 30, 40]
    assert "step\\-000010\\.safetensors does not hold the numbers that were written" in app.warning[0].value
    with path.open("r+b") as file:
        file.write(good)
    app.run()
    assert header(app)["steps"] == [0, 10, 20, 30, 40]
    assert not app.warning


def test_a_run_without_losses_yet_has_every_page(folder, tmp_path):
    shutil.copytree(folder.folder, folder.folder.parent / "other")
    folder.metrics_file.unlink()
    values = json.loads(folder.info_file.read_text())
    folder.info_file.write_text(json.dumps({**values, "status": "stopped", "steps_done": 0}))
    for page, more in (("losses", {}), ("compare", {"align": "loss"}), ("compare", {}), ("runs", {})):
        app = opening(page, run="small", **more)
        assert not app.exception
        assert not app.error
        assert not app.warning


def test_the_reason_is_told_where_no_snapshot_can_be_read(folder):
    for step in folder.steps():
        Path(folder.snapshot_file(step)).write_bytes(b"")
    app = opening("overview", run="small")
    assert not app.exception
    assert all("the same holds for all 5 snapshots" in error.value for error in app.error)
    assert app.error
