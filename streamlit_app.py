"""The explorer. Start it with: streamlit run streamlit_app.py"""

from pathlib import Path

import streamlit as st

from explorer.pages import activations, attention, phase_changes, runs, shared, train, try_it, watch

ICON = str(Path(__file__).parent / "explorer" / "pages" / "icon.svg")

st.set_page_config(page_title="Phase-change explorer", page_icon=ICON, layout="wide")
st.logo(ICON, size="large")
# The page begins below Streamlit's own bar, which must not hide the player's when people scroll. The player does not
# fade while a run that is being trained brings it more.
st.html(
    "<style>.stMainBlockContainer { padding-top: 4rem; padding-bottom: 3rem; }"
    "[data-testid=stHeader] { background: transparent; pointer-events: none; }"
    "[data-testid=stHeader] * { pointer-events: auto; }"
    ".st-key-player[data-stale=true] { opacity: 1 !important; }</style>"
)
shared.begin()
chosen = st.navigation(
    [
        st.Page(watch.page, title="Watch", icon=":material/play_circle:", default=True),
        st.Page(phase_changes.page, title="Phase changes", icon=":material/show_chart:", url_path="phase-changes"),
        st.Page(attention.page, title="Attention", icon=":material/grid_on:", url_path="attention"),
        st.Page(activations.page, title="Activations", icon=":material/blur_on:", url_path="activations"),
        st.Page(try_it.page, title="Try it", icon=":material/edit:", url_path="try"),
        st.Page(train.page, title="Train", icon=":material/model_training:", url_path="train"),
        st.Page(runs.page, title="Runs", icon=":material/folder_open:", url_path="runs"),
    ]
)
shared.sidebar()
chosen.run()
shared.to_url()
