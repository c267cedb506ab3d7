"""The page Runs: all runs, with their settings and final losses."""

from collections.abc import Callable

import streamlit as st

from explorer.errors import UserError
from explorer.pages import places, state
from explorer.pages.cache import caches
from explorer.pages.new_run import start_from
from explorer.pages.plain import plain
from explorer.pages.run_cards import RunCard, card
from explorer.runs import Run, shelf


def page() -> None:
    session = st.session_state
    if (to := session.pop("runs.leads_to", None)) is not None:
        st.switch_page(session.pages[to])
    places.heading("Which runs are there?", "Each run is one training of a small transformer.")
    runs = state.runs()
    names = runs.names()
    if problem := session.pop("runs.problem", None):
        st.error(plain(problem))
    if not state.is_read_only():
        _offer_undo(shelf.deleted(runs))
    if unknown := runs.unknown():
        st.warning(plain(unknown))
    if not names:
        st.info(state.no_runs())
    for name in names:
        try:
            run = runs.open(name)
            _show(_card(run))
        except UserError as error:
            st.error(plain(str(error)))


def _card(run: Run) -> RunCard:
    """The summary of the run as it is now, from the cache where it can be.

    Raises:
        UserError: run.json or the metrics cannot be read.
    """
    return caches().results.get((card, run.folder), run.version(), lambda _: card(run))


def _show(run: RunCard) -> None:
    with st.container(border=True):
        about, losses, sparkline = st.columns([5, 2, 4], vertical_alignment="center")
        about.markdown(f"**{plain(run.name)}** · {plain(run.title)}, {plain(run.data)}")
        if run.about:
            about.markdown(plain(run.about))
        about.caption("  \n".join(plain(line) for line in (run.model, run.progress)))
        with about.container(horizontal=True):
            st.button(
                "Explore",
                key=f"choose.{run.name}",
                icon=":material/travel_explore:",
                on_click=_explore,
                args=(run.name,),
            )
            if not state.is_read_only():
                _more(run.name)
        losses.caption("final loss, nats")
        losses.markdown("  \n".join(f"{name} **{loss:.4g}**" for name, loss in run.final_losses.items()))
        sparkline.plotly_chart(run.sparkline, key=f"picture.{run.name}", config={"displayModeBar": False})


def _more(name: str) -> None:
    """What else can be done with a run."""
    with st.popover("More", icon=":material/more_horiz:"):
        new = st.text_input("New name", value=name, key=f"rename.to.{name}", max_chars=64).strip()
        st.button(
            "Rename",
            key=f"rename.{name}",
            icon=":material/edit:",
            disabled=new == name,
            on_click=_rename,
            args=(name, new),
        )
        st.button(
            "Train another with these settings",
            key=f"duplicate.{name}",
            icon=":material/content_copy:",
            on_click=_duplicate,
            args=(name,),
        )
        st.button("Delete", key=f"delete.{name}", icon=":material/delete:", on_click=_delete, args=(name,))


def _offer_undo(name: str | None) -> None:
    """Offer to bring back the run that was deleted last."""
    if name is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(plain(f"{name} is deleted. It is kept until another run is deleted."), width="content")
        st.button("Undo", key="undo", icon=":material/undo:", on_click=_restore)


def _done(action: Callable[[], object]) -> bool:
    """Whether an action on the folder of runs could be done; why not is shown on the page."""
    try:
        action()
    except UserError as error:
        st.session_state["runs.problem"] = str(error)
        return False
    return True


def _delete(name: str) -> None:
    _done(lambda: shelf.delete(state.runs(), name))


def _restore() -> None:
    _done(lambda: shelf.restore(state.runs()))


def _rename(name: str, new: str) -> None:
    session = st.session_state
    if _done(lambda: shelf.rename(state.runs(), name, new)):
        for key in ("run", "train.last"):
            if session.get(key) == name:
                session[key] = new


def _explore(name: str) -> None:
    state.choose_run(name)
    st.session_state["runs.leads_to"] = "overview"


def _duplicate(name: str) -> None:
    start_from(name)
    st.session_state["runs.leads_to"] = "train"
