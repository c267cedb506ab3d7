"""A sweep on the page Runs, as one thing."""

from collections.abc import Callable

import streamlit as st

from explorer.errors import UserError
from explorer.pages import state
from explorer.pages.plain import plain
from explorer.pages.widgets import guarded, rerun_by_itself
from explorer.runs import shelf
from explorer.runs.lock import request_stop
from explorer.runs.sweeps import Sweep, open_sweep
from explorer.sweeps import jobs
from explorer.views import all_views
from explorer.views.swept import Swept

REFRESH = 5.0  # seconds, while a sweep is being trained


def show_sweep(name: str) -> None:
    """What a sweep is, how far it has got, and what can be done with it.

    Args:
        name: of the sweep.
    """
    sweep = Sweep(state.runs(), name)
    rerun_by_itself(_card, REFRESH if sweep.is_training() else None, name)


def _card(name: str) -> None:
    with st.container(border=True):
        if problem := st.session_state.pop(_problem(name), ""):
            st.error(plain(problem))
        try:
            sweep = open_sweep(state.runs(), name)
            subject = state.seen(name, quiet=True)
        except UserError as error:
            st.error(plain(str(error)))
            return
        if not isinstance(subject, Swept):
            return
        total = sum(cell.plan.training.steps for cell in subject.cells)
        known = subject.outcomes
        done = 0 if known is None else int(known.steps_done.sum())
        is_done = known is not None and bool(known.ended.all())
        st.markdown(f"**{plain(name)}** · a sweep · {plain(subject.facts)}")
        if about := sweep.about():
            st.markdown(plain(about))
        if not is_done:
            st.progress(min(done / total, 1.0), plain(f"{done:,} of {total:,} updates of all runs"))
        for problem in subject.problems:
            st.warning(plain(problem))
        with st.container(horizontal=True, vertical_alignment="center"):
            _button("Explore", "travel_explore", _explore, sweep)
            if not state.is_read_only():
                _buttons(sweep, is_done)
    if st.session_state.pop("sweep.opened", None) == name:
        view = next(view for view in all_views().values() if view.fits(subject))
        st.switch_page(st.session_state.pages[view.name])


def _explore(sweep: Sweep) -> None:
    state.choose_run(sweep.name)
    st.session_state["sweep.opened"] = sweep.name


def _buttons(sweep: Sweep, is_done: bool) -> None:
    if sweep.is_training():
        _button("Stop", "stop", request_stop, sweep)
        return
    if not is_done:
        _button("Go on", "play_arrow", jobs.start, sweep)
    _button("Delete", "delete", _delete, sweep)


def _button(label: str, icon: str, action: Callable[[Sweep], None], sweep: Sweep) -> None:
    key = f"{label}.{sweep.name}"
    st.button(label, key=key, icon=f":material/{icon}:", on_click=guarded, args=(_problem(sweep.name), action, sweep))


def _problem(name: str) -> str:
    """Where the session holds why the action of a button failed."""
    return f"sweep.problem.{name}"


def _delete(sweep: Sweep) -> None:
    shelf.delete(sweep)
    if st.session_state.run == sweep.name:
        state.choose_run(next(iter(state.all_names()), None))
