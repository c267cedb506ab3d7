"""The page Train: start runs, and watch unfinished ones."""

from collections.abc import Callable

import streamlit as st

from explorer.errors import UserError
from explorer.pages import places, state
from explorer.pages.explore import play_film
from explorer.pages.new_run import WIDTH, form
from explorer.pages.plain import plain
from explorer.pages.training_runs import extendable, progress, unfinished
from explorer.pages.widgets import example_input, guarded, rerun_by_itself
from explorer.runs import Run, jobs, recorder
from explorer.runs.lock import request_stop
from explorer.training.plan import Plan
from explorer.views import get_view

REFRESH, IDLE_REFRESH = 2.0, 10.0  # seconds, while a run is training and while none is


def page() -> None:
    places.heading("Which model shall learn what?", "A new run can be watched from its first snapshot on.")
    session = st.session_state
    not_done, last = unfinished(state.runs()), session.get("train.last")
    running = {run.name for run, info in not_done if info.status == "running"}
    busy, is_watched = bool(running), session.run in {last, *(run.name for run, _ in not_done)} - {None}
    # A film at another place on the page is another player to the browser: it does not follow the run, and Python does
    # not hear where the reader stopped it. So what stands above has its place whether there is something in it or not.
    with st.container():
        _new_run(is_folded=is_watched or last in running)
    with st.container():
        _more_steps()
    rerun_by_itself(_progress, REFRESH if busy else IDLE_REFRESH, busy)
    if not is_watched:
        return
    above = st.container()
    try:
        subject = state.subject()
        state.validate(subject)
        with above:
            text = example_input(subject).text
    except UserError as error:
        st.error(plain(str(error)))
    else:
        rerun_by_itself(_film, REFRESH if busy else None, text)


# --- A new run ---


def _new_run(is_folded: bool) -> None:
    if is_folded:
        is_filled_in = st.session_state.get("train.filled_in", False)
        with st.expander("Train another run", icon=":material/add:", expanded=is_filled_in):
            form(_start)
    else:
        with st.container(border=True):
            form(_start)


def _start(plan: Plan, name: str) -> None:
    jobs.check_room(state.runs())
    run = recorder.create(state.runs(), name, plan.task, plan.model, plan.training, plan.preset)
    jobs.start(run)
    _watch(run)


# --- More steps for a run that is done ---


def _more_steps() -> None:
    """A run that is done, how many steps it shall have, and a button. Nothing if no run can go on."""
    found = {run.name: (run, info) for run, info in extendable(state.runs())}
    if not found:
        return
    with st.expander("Go on with a finished run", icon=":material/more_time:"):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            name = st.selectbox("Run", list(found), key="train.finished", width=280)
            run, info = found[name]
            steps = st.number_input("steps in all", value=2 * info.steps_done, width=WIDTH, key=f"train.more.{name}")
            pressed = st.button("Go on", icon=":material/play_arrow:")
        said = f"{name} has done {info.steps_done:,} steps."
        if info.training.cooldown:
            said += " Its learning rate has cooled down; it returns to that of a longer run, and cools down at the end."
        st.caption(plain(said))
        if pressed:
            try:
                with st.spinner("Starting the training process…"):
                    jobs.check_room(state.runs())
                    recorder.extend(run, steps)
                    _resume(run)
            except UserError as error:
                st.error(plain(str(error)))
            else:
                st.rerun()


# --- Unfinished runs ---


def _progress(busy: bool) -> None:
    """Progress bars and buttons of the unfinished runs."""
    not_done = unfinished(state.runs())
    for run, info in not_done:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.progress(info.steps_done / info.training.steps, plain(progress(run.name, info)))
            if info.status == "running":
                _button("Stop", "stop", run, request_stop)
            else:
                _button("Resume", "play_arrow", run, _resume)
            if run.name != st.session_state.run:
                _button("Watch", "visibility", run, _watch)
    last = st.session_state.get("train.last")
    if last is not None and last not in state.runs().names():
        del st.session_state["train.last"]
        st.session_state["train.problem"] = f"The folder of {last} was removed, so it trains no more; train it again."
    if problem := st.session_state.get("train.problem"):
        st.error(plain(problem))
    pressed = st.session_state.pop("train.pressed", False)
    if pressed or busy != any(info.status == "running" for _, info in not_done):
        st.rerun()


def _film(text: str) -> None:
    """The film of the watched run, updated with new snapshots."""
    stopped = state.sync_step()
    try:
        subject = state.subject(quiet=True)
        state.validate(subject)
        view = get_view("overview")
        options = state.current_options(view, subject)
        film = state.cached(view.whole_film, text, options, quiet=True)  # its run may have grown since
        if st.session_state.pop("train.newest", False):  # at the newest step, the player follows the run
            st.session_state.step = film.steps[-1]
        play_film(film, asks=False)
    except UserError as error:
        st.error(plain(str(error)))
    if stopped:  # updates the sidebar and the URL; last, since elements not drawn before a rerun vanish
        st.rerun()


def _button(label: str, icon: str, run: Run, action: Callable[[Run], object]) -> None:
    key = f"{label}.{run.name}"
    st.button(label, key=key, icon=f":material/{icon}:", on_click=_pressed, args=(action, run))


def _pressed(action: Callable[[Run], object], run: Run) -> None:
    """Call an action; a UserError stays on the page until the next action."""
    st.session_state["train.pressed"] = True
    guarded("train.problem", action, run)


def _resume(run: Run) -> None:
    jobs.start(run)
    _watch(run)


def _watch(run: Run) -> None:
    st.session_state["train.last"], st.session_state["train.newest"] = run.name, True
    state.choose_run(run.name)
