"""The other side of `benchmarks.player`: losses, maps and bars behind Streamlit's slider, drawn with plotly."""

import os

import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from explorer.film.film import Film
from explorer.film.panels.bars import Bars
from explorer.film.panels.curves import Curves
from explorer.film.panels.heatmaps import Heatmaps
from explorer.runs import Runs
from explorer.views import overview
from explorer.views.subject import Subject

st.set_page_config(layout="wide")


@st.cache_resource
def made() -> Film:
    subject = Subject.load(Runs(os.environ["EXPLORER_CHECKPOINTS"]).open("addition"))
    return overview.film(subject, next(iter(subject.task.examples.values())))


film = made()


@st.fragment
def scrub() -> None:
    index = st.slider("Snapshot", 0, len(film.steps) - 1, 0)
    for panel in film.panels:
        figure = None
        if isinstance(panel, Curves):
            figure = go.Figure([go.Scatter(x=line.steps, y=line.values, name=line.label) for line in panel.lines])
            figure.add_vline(film.steps[index])
        elif isinstance(panel, Heatmaps):
            figure = make_subplots(1, len(panel.maps), subplot_titles=panel.maps)
            for i in range(len(panel.maps)):
                figure.add_heatmap(z=panel.values[index, i], zmin=panel.low, zmax=panel.high, row=1, col=i + 1)
        elif isinstance(panel, Bars):
            figure = go.Figure([go.Bar(x=panel.categories, y=row) for row in panel.values[index]])
        if figure is not None:
            st.plotly_chart(figure, key=panel.title)
    st.html(f"<span id='shown'>{index}</span>")


scrub()
