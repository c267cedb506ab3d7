"""Any hook point."""

import streamlit as st

from explorer.pages import shared
from explorer.views import activations
from explorer.views.subject import Subject


@shared.page
def page(subject: Subject) -> None:
    names = activations.hook_names(subject)
    with st.container(horizontal=True):
        hook = st.selectbox(
            "Hook point",
            names,
            index=names.index("blocks.0.hook_resid_post"),
            key="activations.hook",
            persist_state="session",
            width=360,
        )
        kind = st.segmented_control(
            "Activation or gradient",
            list(activations.KINDS),
            default="activation",
            required=True,
            key="activations.kind",
            persist_state="session",
            help="The gradient is that of the mean loss on the example's answers.",
        )
    text = shared.example_input(subject).text
    shared.show(shared.viewed(activations.film, text, hook, kind))
