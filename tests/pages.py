"""Helpers and fixtures of the tests that run pages with Streamlit's AppTest, without a browser."""

import functools
import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from explorer.runs import Runs, recorder
from explorer.scene import Scene, read
from tests.conftest import FINITE, MODEL, SHIPPED, TASK
from tests.films import unpacked

# AppTest looks through all installed packages for components at every run of a page, which takes half a second.
manifest_scanner.scan_component_manifests = functools.cache(manifest_scanner.scan_component_manifests)

APP = str(SHIPPED.parent / "streamlit_app.py")
PAGES = {"Overview": "overview", "Losses": "losses", "Heads": "heads", "Activations": "activations"}
PAGES |= {"Answers": "answers"}
INSIDE = ("components", "circuits", "weights", "cut", "fourier", "compare")
EXAMPLES = ("choice.example.named", "cut.second.named")  # they select an example, not a way of showing it


@pytest.fixture(scope="session")
def folder(root, tmp_path_factory):
    """The small run and one on finite data. Not to be changed."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(root / "small", folder / "small")
    recorder.train(recorder.create(Runs(folder), "finite", TASK, MODEL, FINITE))
    return folder


@pytest.fixture
def opened(folder, monkeypatch):
    """`opening`, on these runs."""
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(folder))
    return opening


def opening(page: str = "", **query: str) -> AppTest:
    """Opens a page as a new session: ``opening("heads", run="small")``."""
    app = AppTest.from_file(APP, default_timeout=120)
    for name, value in query.items():
        app.query_params[name] = value
    return go_to(app, page)


def go_to(app: AppTest, page: str) -> AppTest:
    """Open another page by its URL path."""
    app._page_hash = calc_hash(page)
    return app.run()


def grown(app: AppTest) -> AppTest:
    """Run a page again until its film has everything in it."""
    while app.get("progress") and not app.exception:
        app.run()
    return app


def header(app: AppTest) -> dict:
    """The JSON headers of the message and the film that the player received."""
    (player,) = [one for one in app.get("bidi_component") if one.proto.component_name.endswith(".player")]
    return unpacked(player.proto.bytes)


def stop_at(app: AppTest, step: int) -> AppTest:
    """Simulate releasing the player at a step."""
    app.session_state["player"] = {"stopped": {"step": step, "at": step}}
    return app.run()


def address(app: AppTest) -> Scene:
    """The scene in the browser's URL after this run of the script."""
    (component,) = [one for one in app.get("bidi_component") if one.proto.component_name.endswith(".address")]
    data = json.loads(component.proto.json)
    scene, problems = read(f"{data['view']}?{data['query']}")
    assert problems == []
    return scene


def warnings(app: AppTest) -> str:
    """The warnings on the page, without the escapes for markdown."""
    return "\n".join(warning.value for warning in app.warning).replace("\\", "").replace("\u2060", "")


def healthy(app: AppTest) -> bool:
    return not app.exception and not app.error


def controls(app: AppTest) -> list[Any]:
    """The controls with which a way of showing something is chosen."""
    return [group for group in app.get("button_group") if group.key not in EXAMPLES]


def every_choice(app: AppTest, above: int = 0) -> Iterator[None]:
    """Try every option of every control in turn; options may depend on each other."""
    groups = controls(app)[above:]
    if not groups:
        yield
        return
    for option in groups[0].options:
        (group,) = [group for group in app.get("button_group") if group.key == groups[0].key]
        if group.value != option:
            group.set_value(option).run()
        yield from every_choice(app, above + 1)


def press(app: AppTest, label: str) -> None:
    next(button for button in app.button if button.label == label).click()
    app.run()


def progress(app: AppTest) -> str:
    """The text of the only progress bar, without the escapes for markdown."""
    (bar,) = app.get("progress")
    return bar.proto.text.replace("\\", "").replace("\u2060", "")
