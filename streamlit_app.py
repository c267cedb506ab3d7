"""The explorer. Start it with: streamlit run streamlit_app.py"""

from pathlib import Path

import streamlit as st

from explorer.pages import (
    activations,
    attention,
    attribution,
    circuits,
    compare,
    fourier,
    interventions,
    phase_changes,
    runs,
    shared,
    train,
    try_it,
    watch,
    weights,
)

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
    {
        "Look": [
            st.Page(watch.page, title="Watch", icon=":material/play_circle:", default=True),
            st.Page(phase_changes.page, title="Phase changes", icon=":material/show_chart:", url_path="phase-changes"),
            st.Page(try_it.page, title="Try it", icon=":material/edit:", url_path="try"),
            st.Page(compare.page, title="Compare", icon=":material/compare_arrows:", url_path="compare"),
        ],
        "Look inside": [
            st.Page(attention.page, title="Attention", icon=":material/grid_on:", url_path="attention"),
            st.Page(activations.page, title="Activations", icon=":material/blur_on:", url_path="activations"),
            st.Page(attribution.page, title="Attribution", icon=":material/bar_chart:", url_path="attribution"),
            st.Page(circuits.page, title="Circuits", icon=":material/schema:", url_path="circuits"),
            st.Page(fourier.page, title="Fourier", icon=":material/waves:", url_path="fourier"),
            st.Page(weights.page, title="Weights", icon=":material/timeline:", url_path="weights"),
            st.Page(interventions.page, title="Interventions", icon=":material/content_cut:", url_path="interventions"),
        ],
        "Runs": [
            st.Page(train.page, title="Train", icon=":material/model_training:", url_path="train"),
            st.Page(runs.page, title="Runs", icon=":material/folder_open:", url_path="runs"),
        ],
    },
    expanded=True,
)
shared.sidebar()
chosen.run()
shared.to_url()
