"""Two runs under one cursor."""

import streamlit as st

from explorer.pages import shared
from explorer.views import compare
from explorer.views.subject import Subject


@shared.page
def page(subject: Subject) -> None:
    others, key = [name for name in shared.runs().names() if name != subject.name], "compare.other"
    if st.session_state.get(key) not in others:
        st.session_state[key] = compare.partner(subject, shared.runs())
    if st.session_state[key] is None:
        st.info("There is no second run to compare with. Train one on the page Train.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        other = st.selectbox(
            "Beside it", others, key=key, width=360, persist_state="session", label_visibility="collapsed"
        )
        align = shared.choice("Aligned", compare.ALIGNMENTS, key="compare.align")
    text = shared.example_input(subject).text
    shared.show(shared.viewed(compare.film, text, align, beside=other))
