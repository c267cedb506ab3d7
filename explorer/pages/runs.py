"""The runs there are."""

import streamlit as st

from explorer.errors import UserError
from explorer.pages import state as scene
from explorer.pages.plain import plain
from explorer.pages.run_cards import RunCard, card
from explorer.runs import Runs


def page() -> None:
    runs = scene.runs()
    names = runs.names()
    if not names:
        st.info(scene.NO_RUNS)
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
    chosen = run.name == st.session_state.run
    with st.container(border=True):
        about, losses, picture = st.columns([5, 2, 4], vertical_alignment="center")
        about.markdown(f"**{plain(run.name)}** · {plain(run.title)}, {plain(run.data)}")
        about.caption("  \n".join(plain(line) for line in (run.model, run.progress)))
        about.button(
            "Chosen" if chosen else "Choose",
            key=f"choose.{run.name}",
            on_click=scene.choose_run,
            args=(run.name,),
            disabled=chosen,
        )
        losses.caption("final loss, nats")
        losses.markdown("  \n".join(f"{name} **{loss:.4g}**" for name, loss in run.final_losses.items()))
        picture.plotly_chart(run.picture, key=f"picture.{run.name}", config={"displayModeBar": False})
