"""The page Runs: all runs, with their settings and final losses."""

import streamlit as st

from explorer.errors import UserError
from explorer.pages import places, state
from explorer.pages.cache import caches
from explorer.pages.plain import plain
from explorer.pages.run_cards import RunCard, card
from explorer.runs import Run


def page() -> None:
    places.heading("Which runs are there?", "Each run is one training of a small transformer.")
    runs = state.runs()
    names = runs.names()
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
    is_selected = run.name == st.session_state.run
    with st.container(border=True):
        about, losses, sparkline = st.columns([5, 2, 4], vertical_alignment="center")
        about.markdown(f"**{plain(run.name)}** · {plain(run.title)}, {plain(run.data)}")
        if run.about:
            about.markdown(plain(run.about))
        about.caption("  \n".join(plain(line) for line in (run.model, run.progress)))
        about.button(
            "Selected" if is_selected else "Select",
            key=f"choose.{run.name}",
            on_click=state.choose_run,
            args=(run.name,),
            disabled=is_selected,
        )
        losses.caption("final loss, nats")
        losses.markdown("  \n".join(f"{name} **{loss:.4g}**" for name, loss in run.final_losses.items()))
        sparkline.plotly_chart(run.sparkline, key=f"picture.{run.name}", config={"displayModeBar": False})
