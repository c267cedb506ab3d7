"""Every head: where it looks, and what it does."""

import streamlit as st

from explorer.pages import shared
from explorer.views import attention
from explorer.views.subject import Subject


@shared.page
def page(subject: Subject) -> None:
    one, mean, heads = f"one {subject.task.noun}", "mean over a batch", "what heads do"
    with st.container(horizontal=True):
        over = shared.choice("Show", [one, mean, heads], key="attention.over")
        if over == heads:
            probe = shared.choice("Measured on", attention.probes(subject), key="attention.probe")
        else:
            kind = shared.choice("Of attention", list(attention.KINDS), key="attention.kind")
    if over == heads:
        shared.show(shared.viewed(attention.scores_film, probe))
    elif over == mean:
        shared.show(shared.viewed(attention.mean_film, kind))
    else:
        text = shared.example_input(subject).text
        shared.show(shared.viewed(attention.example_film, text, kind))
