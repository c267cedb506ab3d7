"""Helpers of the tests that run pages with Streamlit's AppTest, without a browser."""

import json
from collections.abc import Iterator

from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from explorer.scene import Scene, read
from tests.conftest import SHIPPED

APP = str(SHIPPED.parent / "streamlit_app.py")
PAGES = {"Watch": "", "Phase changes": "phase-changes", "Attention": "attention", "Activations": "activations"}
PAGES |= {"Try it": "try"}
INSIDE = ("attribution", "circuits", "weights", "interventions", "fourier", "compare")
EXAMPLES = ("choice.example.named", "interventions.second.named")  # what is chosen there is not how something is shown


def opening(page: str = "", **query: str) -> AppTest:
    """Opens a page as a new session: ``opening("attention", run="small")``."""
    app = AppTest.from_file(APP, default_timeout=120)
    for name, value in query.items():
        app.query_params[name] = value
    return go_to(app, page)


def go_to(app: AppTest, page: str) -> AppTest:
    """Change to the page at this place of the URL."""
    app._page_hash = calc_hash(page)
    return app.run()


def header(app: AppTest) -> dict:
    """What the player was given: the JSON headers of its message and of its film."""
    (player,) = [one for one in app.get("bidi_component") if one.proto.component_name.endswith(".player")]
    message, found = player.proto.bytes, {}
    for _ in range(2):  # where the player should stand, then the film
        end = 4 + int.from_bytes(message[:4], "little")
        found |= json.loads(message[4:end])
        message = message[end:]
    return found


def stop_at(app: AppTest, step: int) -> AppTest:
    """What happens when somebody lets go of the player at a step."""
    app.session_state["player"] = {"stopped": {"step": step, "at": step}}
    return app.run()


def address(app: AppTest) -> Scene:
    """The scene that the address in the browser says after this run of the script."""
    (component,) = [one for one in app.get("bidi_component") if one.proto.component_name.endswith(".address")]
    data = json.loads(component.proto.json)
    scene, problems = read(f"{data['view']}?{data['query']}")
    assert problems == []
    return scene


def warnings(app: AppTest) -> str:
    """What the page warns of, without what keeps it from being markdown."""
    return "\n".join(warning.value for warning in app.warning).replace("\\", "").replace("\u2060", "")


def healthy(app: AppTest) -> bool:
    return not app.exception and not app.error


def every_choice(app: AppTest, above: int = 0) -> Iterator[None]:
    """Choose everything that there is to choose between, one after another; what there is may depend on it."""
    groups = [group for group in app.get("button_group") if group.key not in EXAMPLES][above:]
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
    """What the one progress bar says, without what keeps it from being markdown."""
    (bar,) = app.get("progress")
    return bar.proto.text.replace("\\", "").replace("\u2060", "")
