"""What heads read and write, from the weights alone."""

import streamlit as st

from explorer.pages import shared
from explorer.views import circuits
from explorer.views.subject import Subject


@shared.page
def page(subject: Subject) -> None:
    layer = 0
    with st.container(horizontal=True):
        what = shared.choice("Show", circuits.possible(subject), key="circuits.what")
        if what in circuits.BY_LAYER:
            layers = [f"layer {layer}" for layer in range(subject.info.model.n_layers)]
            layer = layers.index(shared.choice("Layer", layers, key="circuits.layer"))
    text = shared.example_input(subject).text if what in circuits.BY_EXAMPLE else ""
    shared.show(shared.viewed(circuits.film, what, layer, text))
