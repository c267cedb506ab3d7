"""The URL in the browser, which mirrors the scene."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import streamlit as st

from explorer.scene import Scene

JS = Path(__file__).with_name("address.js")


@cache
def _component() -> Callable[..., object]:
    return st.components.v2.component(
        "phase_change_explorer.address", html="<span></span>", js=JS.read_text(encoding="utf-8")
    )


def write(scene: Scene, opened: int) -> None:
    """Write the scene to the URL. Called once at the end of each run of the script.

    Streamlit's `st.query_params` would add an entry to the browser's history for each snapshot. Widgets that Streamlit
    binds to query parameters drop a value that does not fit without a word, and do not know the player's switches.

    Args:
        scene: what is on screen.
        opened: how many links this session has opened.
    """
    _component()(key="address", data={"query": scene.query, "view": scene.view, "opened": opened})
