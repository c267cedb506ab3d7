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


def play(film: Film, key: str, step: int, on_stop: Callable[[int], None]) -> None:
    """Show a film.

    Args:
        film: what to show.
        key: tells this player from others; a new film under the same key keeps the position and the switches.
        step: where the player should stand. It moves only if that is not where it stands already.
        on_stop: told the step when people stop at one: not on the way, or every frame would cost a rerun.
    """
    state = st.session_state
    start, stands = f"{key}.start", f"{key}.stands"

    def stopped() -> None:
        state[stands] = int(state[key]["stopped"]["step"])
        on_stop(state[stands])

    # The step to start at is part of the message, and a message that changed is sent whole. So it stays what it was
    # while only the player moves, and changes when the player is new on the page or is moved from outside.
    if key not in state or state.get(stands) != step:
        state[start] = state[stands] = step
    _component()(key=key, data=film.pack(start=state[start]), on_stopped_change=stopped)
