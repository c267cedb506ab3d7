"""The page Runs: all runs, with their settings and final losses."""

import streamlit as st

from explorer.errors import UserError
from explorer.pages import state
from explorer.pages.plain import plain
from explorer.pages.run_cards import RunCard, card
from explorer.runs import Runs


def page() -> None:
    runs = state.runs()
    names = runs.names()
    if not names:
        st.info(state.NO_RUNS)
    for name in names:
        try:
            run = runs.open(name)
            _show(_card(str(runs.root), name, run.version()))
        except UserError as error:
            st.error(plain(str(error)))


@st.cache_resource(max_entries=64, show_spinner=False)
def _card(root: str, name: str, version: tuple[object, ...]) -> RunCard:
    return card(Runs(root).open(name))


def _show(run: RunCard) -> None:
    is_selected = run.name == st.session_state.run
    with st.container(border=True):
        about, losses, sparkline = st.columns([5, 2, 4], vertical_alignment="center")
        about.markdown(f"**{plain(run.name)}** · {plain(run.title)}, {plain(run.data)}")
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
