"""The player as Streamlit components: one is sent a film and reports the step at which the reader stops, the other is
sent a deck and reports the slide."""

from collections.abc import Callable, Sequence
from functools import cache

import streamlit as st

from explorer.film.deck import Deck, deck_message
from explorer.film.film import Film, Switch, message
from explorer.film.script import joined, style


@cache
def _component() -> Callable:
    return st.components.v2.component(
        "phase_change_explorer.player",
        html='<div class="film" tabindex="-1"></div>',
        css=style(),
        js=joined("component.js"),
    )


def play(film: Film, key: str, step: int, switches: Sequence[Switch] = (), opened: int = 0, asks: bool = False) -> None:
    """Show a film.

    Args:
        film: what to show.
        key: identifies the player; a new film under the same key keeps the position and the switches.
        step: to show. The player moves only if it is not at this step already.
        switches: values of panels' switches from a link; all others are reset to their initial values.
        opened: how many links were opened. Only when it changes are ``switches`` applied, because the reader may have
            changed them since.
        asks: whether the page shows what the reader asks for, such as another view or another run: see `take_ask`.
    """
    state = st.session_state
    start, here, move = f"{key}.start", f"{key}.here", f"{key}.move"
    links, applied = f"{key}.links", f"{key}.applied"
    # Start, move and applied are part of the message, and Streamlit sends the whole message again if any part changes.
    # So they must not change while only the player moves, but only when it is new on the page or Python moves it.
    if key not in state:
        state[start] = step
    is_opened = state.get(links) != opened
    if is_opened or state.get(here) != step:
        state[start] = state[here] = step
        state[move] = state.get(move, 0) + 1
        state[applied] = list(switches) if is_opened else None
        state[links] = opened
    data = message(film, state[start], state[move], state[applied], asks)
    _component()(key=key, data=data, on_stopped_change=lambda: None, on_asked_change=lambda: None)


def take_stop(key: str) -> int | None:
    """The step at which the reader has stopped the player since the last call.

    The player reports stops only, because every report costs a rerun. Call this at the top of the script, before
    anything is shown.

    Args:
        key: of the player.

    Returns:
        The step; None if there was no stop.
    """
    state = st.session_state
    seen = f"{key}.seen"
    stop = (state.get(key) or {}).get("stopped")
    if stop is None or stop == state.get(seen):
        return None
    state[seen], state[f"{key}.here"] = stop, int(stop["step"])
    return state[f"{key}.here"]


def take_ask(key: str) -> str | None:
    """What the reader has asked for since the last call. Call this at the top of the script, like `take_stop`.

    Args:
        key: of the player.

    Returns:
        "next view", "previous view", "next example" or "previous example", by a key; "ablate PART" in a diagram;
        "open RUN" in a plane. None if the reader asked for nothing. It comes from the browser, so it may be anything.
    """
    state = st.session_state
    seen = f"{key}.heard"
    ask = (state.get(key) or {}).get("asked")
    if ask is None or ask == state.get(seen):
        return None
    state[seen] = ask
    return str(ask["what"])


@cache
def _deck_component() -> Callable:
    return st.components.v2.component(
        "phase_change_explorer.deck",
        html='<div class="deck"></div>',
        css=style(),
        js=joined("deckcomponent.js"),
    )


def play_deck(deck: Deck, key: str, move: str, slide: int) -> None:
    """Show a deck.

    Args:
        deck: what to show.
        key: identifies the player.
        move: a deck on screen follows ``slide`` only if this text has changed.
        slide: the one to open at, from 0.
    """
    state, moved, start = st.session_state, f"{key}.move", f"{key}.start"
    # Streamlit sends the whole message again if any part changes, so the slide in it is the one that Python chose last.
    if key not in state or state.get(moved) != move:
        state[moved], state[start] = move, slide
    _deck_component()(key=key, data=deck_message(deck, move, state[start]), on_slide_change=lambda: None)


def take_slide(key: str) -> int | None:
    """The slide to which the reader has gone.

    Args:
        key: of the player.

    Returns:
        Its place, from 0; None if the reader has not moved.
    """
    slide = (st.session_state.get(key) or {}).get("slide")
    return None if slide is None else int(slide)
