"""The explorer. Start it with: streamlit run streamlit_app.py"""

from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from explorer.pages import address, runs, state, train
from explorer.pages.explore import page_of
from explorer.pages.widgets import sidebar
from explorer.scene import Scene
from explorer.views import all_views

ICON = str(Path(__file__).parent / "explorer" / "pages" / "icon.svg")

st.set_page_config(page_title="Phase-change explorer", page_icon=ICON, layout="wide")
st.logo(ICON, size="large")
# Keep the page below Streamlit's header, which would cover the player's controls when scrolling. Do not fade the player
# while a training run updates it.
st.html(
    "<style>.stMainBlockContainer { padding-top: 4rem; padding-bottom: 3rem; }"
    "[data-testid=stHeader] { background: transparent; pointer-events: none; }"
    "[data-testid=stHeader] * { pointer-events: auto; }"
    ".st-key-player[data-stale=true] { opacity: 1 !important; }</style>"
)
opening = next(iter(all_views()))
pages: dict[str, list[StreamlitPage]] = {"Explore": [], "Runs": []}
for name, view in all_views().items():
    icon = f":material/{view.icon}:"
    page = st.Page(page_of(view), title=view.title, icon=icon, url_path=name, default=name == opening)
    pages["Explore"].append(page)
pages["Runs"] = [st.Page(runs.page, title="Runs", icon=":material/folder_open:", url_path="runs")]
if not state.is_read_only():
    training = st.Page(train.page, title="Train", icon=":material/model_training:", url_path="train")
    pages["Runs"].insert(0, training)
current = st.navigation(pages, expanded=True)
name = current.url_path or opening
state.begin(name)
sidebar()
st.session_state.scene = Scene(name, st.session_state.run, st.session_state.step, st.session_state.example)
if name not in all_views():
    state.show_notices()
current.run()
address.write(st.session_state.scene, st.session_state.opened)
