"""The scene of a session: which run, snapshot, example and options are on screen.

The session state holds ``run`` (a name), ``step`` (of the snapshot), ``example`` (a text) and ``options`` (view -> the
texts of its options). Widgets display and change it; the URL in the browser mirrors it.
"""

import os
import shlex
import sys
from collections.abc import Callable, Hashable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from explorer.errors import UserError, printable, quoted
from explorer.film.player import take_stop
from explorer.options import options_of, resolve, texts_of
from explorer.pages.cache import Growing, caches
from explorer.pages.plain import code, plain
from explorer.runs import Runs
from explorer.runs.place import default_folder
from explorer.runs.sweeps import sweep_names
from explorer.scene import Scene, read_pairs
from explorer.views.opening import TRAIN, fit_to_run
from explorer.views.subject import Subject
from explorer.views.swept import Seen, named
from explorer.views.view import View

PROJECT = Path(__file__).parents[2]
PLAYER = "player"  # every page has one player, under one key
READ_ONLY = "--read-only"
Value = TypeVar("Value")
OptionKey = str | tuple[str, str]  # the name of an option; if it depends on another one, also the value of that one


def runs() -> Runs:
    """The runs in the place named by ``EXPLORER_CHECKPOINTS``, or in the project's own ``checkpoints``.

    Raises:
        UserError: the place can never be read, such as one that needs a package that is missing.
    """
    return Runs(default_folder(beside=PROJECT))


def is_read_only() -> bool:
    """Whether this server shows runs without training any: it was started with ``-- --read-only``, or with the
    environment variable ``EXPLORER_READ_ONLY`` set to anything but 0, or its runs are where they can only be read."""
    if READ_ONLY in sys.argv[1:] or os.environ.get("EXPLORER_READ_ONLY", "0") not in ("", "0"):
        return True
    try:
        return runs().read_only
    except UserError:
        return False  # `begin` reports it


def no_runs() -> str:
    """Says, as markdown, that there are no runs, where they would be, and how to train one."""
    folder = runs()
    if folder.read_only:
        remedy = folder.remedy("")
        return f"{plain(folder.emptiness())}. {plain(remedy[0].upper() + remedy[1:])}."
    command = code(f"{TRAIN} {shlex.quote(printable(folder.root.absolute()))}")
    page = "" if is_read_only() else "on the page Train, or "
    return f"{plain(folder.emptiness())}. Train one {page}with {command}."


# --- The scene ---


def begin(view: str) -> None:
    """Load the scene from the URL when a session starts or navigates its history, set the step to the player's
    position, and check that the run exists.

    Args:
        view: the name of the page.
    """
    session = st.session_state
    context = get_script_run_ctx()
    sync_step()  # before the URL is loaded, which has a step of its own
    if "run" not in session:
        session.options, session.refused, session.opened = {}, {}, 0
        _load_url(view)
    elif context is not None and context.is_history_navigation:
        _load_url(view)
    try:
        names = all_names()
        is_known = session.run in names or (session.run is not None and _is_in_a_sweep(session.run))
    except UserError as error:
        st.error(plain(str(error)))
        st.stop()
    if not is_known:
        first = next(iter(names), None)
        if session.run is not None and names:
            session.notices.append(f"There is no run {quoted(session.run)}; showing {first} instead.")
        session.run = first


def all_names() -> list[str]:
    """The names of all runs, and then those of all sweeps.

    Raises:
        UserError: they cannot be looked up.
    """
    return [*runs().names(), *sweep_names(runs())]


def _is_in_a_sweep(name: str) -> bool:
    try:
        runs().open(name)
    except UserError:
        return False
    return True


def _load_url(view: str) -> None:
    """Load the scene from the URL."""
    session = st.session_state
    pairs = [(name, text) for name in st.query_params for text in st.query_params.get_all(name)]
    scene, session.notices = read_pairs(view, pairs)
    session.run, session.step, session.example = scene.run, scene.step, scene.example
    session.options[view] = dict(scene.options)
    session.switches, session.opened = scene.switches, session.opened + 1
    session.is_new = True  # what the run does not have is reported
    session.refused = {}


def sync_step() -> bool:
    """Set the step to the one at which the user stopped the player. Returns whether the player was stopped."""
    stopped = take_stop(PLAYER)
    if stopped is not None and "switched" not in st.session_state:  # it was a step of the run before
        st.session_state.step = stopped
    return stopped is not None


def validate(subject: Seen) -> None:
    """Replace a step or an example that the run does not have; if it came from a link, report it.

    Args:
        subject: the selected run.
    """
    session = st.session_state
    scene, problems = fit_to_run(Scene("", session.run, session.step, session.example), subject)
    session.step, session.example = scene.step, scene.example
    session.has_opened = session.pop("is_new", False)
    if session.has_opened:
        session.notices += problems
    if session.pop("switched", False):
        refused, session.refused = session.refused.get("choice.example"), {}
        if refused is not None and _is_example(subject, refused):  # a text refused for one run may be valid for another
            session.example = refused


def _is_example(subject: Seen, text: str) -> bool:
    try:
        subject.task.encode(text)
    except UserError:
        return False
    return True


def show_notices() -> None:
    """Show what was invalid in a link, until the user changes something."""
    if notices := st.session_state.notices:
        st.warning("  \n".join(map(plain, notices)))


def choose_run(name: str | None) -> None:
    """Select another run, at the step where its first phase change begins.

    Args:
        name: of the run; None if there is none.
    """
    session = st.session_state
    session.run, session.step, session.switched, session.notices = name, None, True, []


# --- The run, and cached results of views ---


def seen(name: str | None = None, quiet: bool = False) -> Seen:
    """A run or a sweep, cached across sessions.

    Args:
        name: its name; None for the selected one.
        quiet: show no spinner, which would push down what is on screen.

    Raises:
        UserError: it cannot be read.
    """
    with nullcontext() if quiet else st.spinner("Reading snapshots…"):
        return caches().load(named(runs(), st.session_state.run if name is None else name))[1]


def subject(name: str | None = None, quiet: bool = False) -> Subject:
    """A run, as `seen`.

    Args:
        name, quiet: as for `seen`.

    Raises:
        UserError: it cannot be read, or is a sweep.
    """
    found = seen(name, quiet)
    if not isinstance(found, Subject):
        raise UserError(f"{found.name} is a sweep; choose one of its runs.")
    return found


def cached(
    make: Callable[..., Value], *parameters: Hashable, second_run: str | None = None, quiet: bool = False
) -> Value:
    """The result of ``make(subject, *parameters)`` for the selected run, cached across sessions.

    Args:
        make: a function or a bound method of a view.
        parameters: its further arguments.
        second_run: the name of a second run, which is the last argument.
        quiet: as for `subject`.

    Raises:
        UserError: a run cannot be read, or as ``make``.
    """
    run, second = named(runs(), st.session_state.run), None if second_run is None else named(runs(), second_run)
    with nullcontext() if quiet else st.spinner("Computing all snapshots…"):
        return caches().result(run, make, *parameters, second=second)


def growing(view: View[Any, Any], options: Any) -> Growing:
    """The film of a view of the selected run, cached across sessions.

    Args:
        view: the view.
        options: its options.

    Raises:
        UserError: a run cannot be read, or as `View.film`.
    """
    return cached(_begun, view, st.session_state.example, options, second_run=view.second_run(options))


def _begun(subject: Seen, view: View[Any, Any], example: str, options: Any, second: Seen | None = None) -> Growing:
    return Growing.begun(view.whole_films(subject, example, options, second))


# --- The options of a view ---


def current_options(view: View[Any, Any], subject: Seen) -> Any:
    """The current options of a view. Invalid options of a link are reported.

    Args:
        view: the view.
        subject: the selected run.

    Returns:
        An instance of the view's ``options_type``.
    """
    session = st.session_state
    stored: Mapping[OptionKey, str] = session.options.get(view.name, {})
    texts = {name: text for name, text in stored.items() if isinstance(name, str)}
    options, problems = resolve(view.options_type, subject, session.example, texts)
    if session.pop("has_opened", False):
        session.notices += problems
        session.options[view.name] = {}
        set_options(view, options, dict(texts_of(options, subject, session.example)))
    elif len(texts) < len(stored):
        keys = {name: _option_key(view, options, name) for name in options_of(view.options_type)}
        texts |= {name: stored[key] for name, key in keys.items() if key in stored}
        options, _ = resolve(view.options_type, subject, session.example, texts)
    return options


def set_options(view: View[Any, Any], options: Any, texts: Mapping[str, str]) -> None:
    """Store texts of options of a view in the session.

    Args:
        view: the view.
        options: its current options.
        texts: option name -> text.
    """
    stored = st.session_state.options.setdefault(view.name, {})
    stored.update({_option_key(view, options, name): text for name, text in texts.items()})


def _option_key(view: View[Any, Any], options: Any, name: str) -> OptionKey:
    """The key of an option's text; it includes the value of the option that it is stored per, if there is one."""
    per = options_of(view.options_type)[name].per
    return (name, str(getattr(options, per))) if per else name
