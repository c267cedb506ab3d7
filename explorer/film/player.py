"""The player as a Streamlit component: a Film goes in once, the step at which people stop comes out."""

from collections.abc import Callable, Sequence
from functools import cache

import streamlit as st

from explorer.film.film import Film, Switch, message
from explorer.film.script import STYLE, joined


@cache
def _component() -> Callable:
    return st.components.v2.component(
        "phase_change_explorer.player",
        html='<div class="film" tabindex="-1"></div>',
        css=STYLE.read_text(encoding="utf-8"),
        js=joined("component.js"),
    )


def play(film: Film, key: str, step: int, switches: Sequence[Switch] = (), opened: int = 0) -> None:
    """Show a film.

    Args:
        film: what to show.
        key: tells this player from others; a new film under the same key keeps the position and the switches.
        step: where the player should stand. It moves only if that is not where it stands already.
        switches: how a link says that panels are set, all others as they are to begin with.
        opened: how many links were opened: ``switches`` are taken up only when it changes, for people change them.
    """
    state = st.session_state
    start, stands, move = f"{key}.start", f"{key}.stands", f"{key}.move"
    links, taken = f"{key}.links", f"{key}.taken"
    # Start, move and taken are part of the message, and a message that changed is sent whole. So they stay as they were
    # while only the player moves, and change when the player is new on the page or is set from outside.
    if key not in state:
        state[start] = step
    is_opened = state.get(links) != opened
    if is_opened or state.get(stands) != step:
        state[start] = state[stands] = step
        state[move] = state.get(move, 0) + 1
        state[taken] = list(switches) if is_opened else None
        state[links] = opened
    data = message(film, state[start], state[move], state[taken])
    _component()(key=key, data=data, on_stopped_change=lambda: None)


def take_stop(key: str) -> int | None:
    """The step at which people have just stopped the player, once; None if they have not.

    The player tells of stops only, not of what it passes on the way, or every frame would cost a rerun. Ask at the
    top of the script, before anything is shown.

    Args:
        key: of the player.
    """
    state = st.session_state
    seen = f"{key}.seen"
    stop = (state.get(key) or {}).get("stopped")
    if stop is None or stop == state.get(seen):
        return None
    state[seen], state[f"{key}.stands"] = stop, int(stop["step"])
    return state[f"{key}.stands"]
