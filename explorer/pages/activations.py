"""Any hook point."""

import streamlit as st

from explorer.pages import shared
from explorer.views import activations
from explorer.views.subject import Subject


@shared.page
def page(subject: Subject) -> None:
    names = activations.hook_names(subject)
    usual = "blocks.0.hook_resid_post"
    if st.session_state.get("activations.hook") not in names:  # another model has other hook points
        st.session_state["activations.hook"] = usual if usual in names else names[-1]
    with st.container(horizontal=True):
        hook = st.selectbox(
            "Hook point",
            names,
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
