"""Every head's pattern."""

import streamlit as st

from explorer.pages import shared
from explorer.views import attention
from explorer.views.subject import Subject


@shared.page
def page(subject: Subject) -> None:
    one, mean = f"one {subject.task.noun}", "mean over a batch"
    over = st.segmented_control(
        "Show",
        [one, mean],
        default=one,
        required=True,
        key="attention.over",
        persist_state="session",
        label_visibility="collapsed",
    )
    if over == mean:
        shared.show(shared.viewed(attention.mean_film))
    else:
        text = shared.example_input(subject).text
        shared.show(shared.viewed(attention.example_film, text))
