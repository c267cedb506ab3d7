"""The page Runs: all runs, with their settings and final losses."""

import streamlit as st

from explorer.errors import UserError
from explorer.pages import new_run, places, state
from explorer.pages.cache import caches
from explorer.pages.drop_zone import drop_zone
from explorer.pages.plain import plain
from explorer.pages.run_cards import RunCard, card
from explorer.pages.sweep_cards import show_sweep
from explorer.pages.widgets import guarded
from explorer.runs import Run, shelf
from explorer.runs.sweeps import sweep_names

PROBLEM = "runs.problem"  # of the session: why the action of a button failed


def page() -> None:
    places.heading("Which runs are there?", "Each run is one training of a small transformer.")
    runs = state.runs()
    names = runs.names()
    if problem := st.session_state.pop(PROBLEM, ""):
        st.error(plain(problem))
    if not state.is_read_only():
        for name in shelf.deleted(runs):
            _offer_undo(name)
        drop_zone()
    if unknown := runs.unknown():
        st.warning(plain(unknown))
    if not names and not sweep_names(runs):
        st.info(state.no_runs())
    for name in names:
        try:
            run = runs.open(name)
            _show(run, _card(run))
        except UserError as error:
            st.error(plain(str(error)))
    for name in sweep_names(runs):
        show_sweep(name)


def _card(run: Run) -> RunCard:
    """The summary of the run as it is now, from the cache where it can be.

    Raises:
        UserError: run.json or the metrics cannot be read.
    """
    return caches().results.get((card, run.address), run.version(), lambda _: card(run))


def _show(run: Run, about: RunCard) -> None:
    with st.container(border=True):
        words, losses, sparkline = st.columns([5, 2, 4], vertical_alignment="center")
        words.markdown(f"**{plain(about.name)}** · {plain(about.title)}, {plain(about.data)}")
        if about.about:
            words.markdown(plain(about.about))
        words.caption("  \n".join(plain(line) for line in (about.model, about.progress)))
        with words.container(horizontal=True, vertical_alignment="center"):
            if st.button("Explore", key=f"choose.{run.name}", icon=":material/travel_explore:"):
                _explore(run)
            if not state.is_read_only():
                _menu(run)
        losses.caption("final loss, nats")
        losses.markdown("  \n".join(f"{name} **{loss:.4g}**" for name, loss in about.final_losses.items()))
        sparkline.plotly_chart(about.sparkline, key=f"picture.{run.name}", config={"displayModeBar": False})


def _explore(run: Run) -> None:
    if run.name != st.session_state.run:
        state.choose_run(run.name)
    st.switch_page(st.session_state.pages["overview"])


# --- What can be done with a run, where the server is not read-only ---


def _menu(run: Run) -> None:
    with st.popover("More", icon=":material/more_horiz:", type="tertiary", key=f"more.{run.name}"):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            key = f"name.{run.name}"
            st.text_input("New name", run.name, key=key, max_chars=64, width=240)
            st.button("Rename", key=f"rename.{run.name}", on_click=guarded, args=(PROBLEM, _rename, run, key))
        info = run.info()
        is_known = not info.origin  # how a run from elsewhere was trained is not
        if is_known and st.button("Duplicate settings", key=f"duplicate.{run.name}", icon=":material/content_copy:"):
            new_run.fill_in(info)
            st.switch_page(st.session_state.pages["train"])
        st.button(
            "Delete", key=f"delete.{run.name}", icon=":material/delete:", on_click=guarded, args=(PROBLEM, _delete, run)
        )
        st.caption("Can be undone until another run is deleted.")


def _offer_undo(name: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", border=True):
        st.markdown(f"**{plain(name)}** was deleted. It can be restored until another run is deleted.")
        st.button("Undo", key=f"undo.{name}", icon=":material/undo:", on_click=guarded, args=(PROBLEM, _restore, name))


def _rename(run: Run, key: str) -> None:
    session = st.session_state
    renamed = shelf.rename(run, session[key].strip())
    for holder in ("run", "train.last"):
        if session.get(holder) == run.name:
            session[holder] = renamed.name


def _delete(run: Run) -> None:
    session = st.session_state
    shelf.delete(run)
    if session.get("train.last") == run.name:
        del session["train.last"]
    if session.run == run.name:
        state.choose_run(next(iter(state.runs().names()), None))


def _restore(name: str) -> None:
    shelf.restore(state.runs(), name)
