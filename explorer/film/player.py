"""The player as a Streamlit component: a Film goes in once, the step at which people stop comes out."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import streamlit as st

from explorer.film.film import Film

HERE = Path(__file__).parent


@cache
def _component() -> Callable:
    return st.components.v2.component(
        "phase_change_explorer.player",
        html='<div class="film" tabindex="-1"></div>',
        css=(HERE / "player.css").read_text(encoding="utf-8"),
        js=(HERE / "player.js").read_text(encoding="utf-8"),
    )


def play(film: Film, key: str, step: int) -> None:
    """Show a film.

    Args:
        film: what to show.
        key: tells this player from others; a new film under the same key keeps the position and the switches.
        step: where the player should stand. It moves only if that is not where it stands already.
    """
    state = st.session_state
    start, stands, move = f"{key}.start", f"{key}.stands", f"{key}.move"
    # Both are part of the message, and a message that changed is sent whole. So they stay as they were while only the
    # player moves, and change when the player is new on the page or is moved from outside.
    if key not in state:
        state[start] = step
    if state.get(stands) != step:
        state[start] = state[stands] = step
        state[move] = state.get(move, 0) + 1
    _component()(key=key, data=film.pack(state[start], state[move]), on_stopped_change=lambda: None)


def take_stop(key: str) -> int | None:
    """The step at which people have just stopped the player, once; None if they have not.

    The player tells of stops only, not of what it passes on the way, or every frame would cost a rerun. Ask at the
    top of the script, before anything is shown.
    """
    state = st.session_state
    seen = f"{key}.seen"
    stop = (state.get(key) or {}).get("stopped")
    if stop is None or stop == state.get(seen):
        return None
    state[seen], state[f"{key}.stands"] = stop, int(stop["step"])
    return state[f"{key}.stands"]
