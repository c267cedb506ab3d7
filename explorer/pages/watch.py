"""The landing page."""

import streamlit as st

from explorer.pages import shared
from explorer.views import watch
from explorer.views.subject import Subject


@shared.page
def page(subject: Subject) -> None:
    text = shared.example_input(subject).text
    shared.show(shared.viewed(watch.film, text))
    st.caption("Drag on the losses, or use ← → Home End. Click a map to enlarge it. F fills the screen, for a talk.")
