"""The scene of a session: which run, snapshot, example and options are on screen.

The session state holds ``run`` (a name), ``step`` (of the snapshot), ``example`` (a text) and ``options`` (view -> the
texts of its options). Widgets show it and change it; the address in the browser says it.
"""

import os
from collections.abc import Callable, Hashable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from explorer.errors import UserError, quoted
from explorer.film.player import take_stop
from explorer.pages.cache import memory
from explorer.pages.plain import plain
from explorer.runs import Runs
from explorer.scene import Scene, options_of, read_pairs, resolve, texts_of
from explorer.views.opening import fit_to_run
from explorer.views.subject import Subject
from explorer.views.view import View

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
PLAYER = "player"  # every page has one player, under one key
NO_RUNS = "There are no runs yet. Train one on the page Train, or with `python -m explorer train addition`."


def runs() -> Runs:
    """The runs in the folder named by ``EXPLORER_CHECKPOINTS``, or in the project's own ``checkpoints``."""
    return Runs(os.environ.get("EXPLORER_CHECKPOINTS", CHECKPOINTS))


# --- The scene, from the address and into it ---


def begin(view: str) -> None:
    """Take up the address when a session begins or goes back in its history, and what the player says; see that the
    run exists.

    Args:
        view: the name of the page.
    """
    state = st.session_state
    context = get_script_run_ctx()
    if "run" not in state:
        state.run = state.step = state.example = state.player = None
        state.options, state.refused, state.notices, state.opened = {}, {}, [], 0
        _open(view)
    elif context is not None and context.is_history_navigation:
        _open(view)
    follow()
    try:
        there = runs().names()
    except UserError as error:
        st.error(plain(str(error)))
        st.stop()
    first = next(iter(there), None)
    if state.run not in there:
        if state.run is not None and there:
            state.notices.append(f"There is no run {quoted(state.run)}; this is {first}.")
        state.run = first


def _open(view: str) -> None:
    """Take up the scene that the address says."""
    state = st.session_state
    pairs = [(name, text) for name in st.query_params for text in st.query_params.get_all(name)]
    scene, state.notices = read_pairs(view, pairs)
    state.run, state.step, state.example = scene.run, scene.step, scene.example
    state.options[view] = dict(scene.options)
    state.player, state.opened = scene.player, state.opened + 1
    state.is_new = True  # what does not fit is said, not passed over
    state.refused = {}


def follow() -> bool:
    """Take up where people have stopped the player, if they have."""
    stopped = take_stop(PLAYER)
    if stopped is not None:
        st.session_state.step = stopped
    return stopped is not None


def settle(subject: Subject) -> None:
    """See that step and example are ones that this run has. What a link has and does not fit is told."""
    state = st.session_state
    scene, problems = fit_to_run(Scene("", state.run, state.step, state.example), subject)
    state.step, state.example = scene.step, scene.example
    state.has_opened = state.pop("is_new", False)
    if state.has_opened:
        state.notices += problems
    if state.pop("switched", False):  # what one run refuses, another may take
        state.refused = {key: text for key, text in state.refused.items() if _is_example(subject, text)}


def _is_example(subject: Subject, text: object) -> bool:
    try:
        subject.task.encode(str(text))
    except UserError:
        return False
    return True


def show_notices() -> None:
    """What did not fit in a link, until somebody chooses something."""
    if notices := st.session_state.notices:
        st.warning("  \n".join(map(plain, notices)))


def choose_run(name: str) -> None:
    """Look at another run, at the step where its first phase change begins."""
    state = st.session_state
    state.run, state.step, state.switched, state.notices = name, None, True, []


# --- The run and what views give for it ---


def subject(quiet: bool = False) -> Subject:
    """The chosen run, read once for all sessions.

    Args:
        quiet: show no spinner, which would push down what is on screen.

    Raises:
        UserError: it cannot be read.
    """
    with nullcontext() if quiet else st.spinner("Reading snapshots…"):
        return memory().read(runs().open(st.session_state.run))[1]


def viewed(make: Callable[..., Any], *parameters: Hashable, beside: str | None = None, quiet: bool = False) -> Any:
    """What ``make(subject, *parameters)`` gives for the chosen run, computed once for all sessions.

    Args:
        make: a function or a bound method of a view.
        parameters: its further arguments.
        beside: the name of another run, whose subject is the last argument.
        quiet: as for `subject`.

    Raises:
        UserError: a run cannot be read, or ``make`` cannot use the parameters.
    """
    run, other = runs().open(st.session_state.run), None if beside is None else runs().open(beside)
    with nullcontext() if quiet else st.spinner("Asking every snapshot…"):
        return memory().made(run, make, *parameters, beside=other)


# --- The options of a view ---


def chosen(view: View, subject: Subject) -> Any:
    """The options of a view as they are chosen for this run. What a link has and does not fit is told."""
    state = st.session_state
    kept: Mapping[str, str] = state.options.get(view.name, {})
    texts = {name: text for name, text in kept.items() if "@" not in name}
    options, problems = resolve(view.Options, subject, state.example, texts)
    if state.pop("has_opened", False):
        state.notices += problems
        state.options[view.name] = {}
        choose(view, options, dict(texts_of(options, subject, state.example)))
    elif any("@" in name for name in kept):
        own = {name: _key(view, options, name) for name in options_of(view.Options)}
        texts |= {name: kept[key] for name, key in own.items() if key in kept}
        options, _ = resolve(view.Options, subject, state.example, texts)
    return options


def choose(view: View, options: Any, texts: Mapping[str, str]) -> None:
    """Remember texts of options of a view for this session.

    Args:
        view: the view.
        options: its options as they are.
        texts: name -> text.
    """
    kept = st.session_state.options.setdefault(view.name, {})
    kept.update({_key(view, options, name): text for name, text in texts.items()})


def _key(view: View, options: Any, name: str) -> str:
    """Where the text of an option is remembered: of one that depends on another, for each value of that one."""
    per = options_of(view.Options)[name].per
    return f"{name}@{getattr(options, per)}" if per else name
