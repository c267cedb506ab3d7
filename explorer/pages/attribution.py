"""Which component brings an answer."""

import streamlit as st

from explorer.pages import shared
from explorer.views import attribution
from explorer.views.subject import Subject


@shared.page
def page(subject: Subject) -> None:
    row = st.container(horizontal=True, vertical_alignment="center")
    with row:
        form = shared.choice("Of", attribution.FORMS, key="attribution.form")
    example = shared.example_input(subject)
    places = range(len(example.places))
    key = "attribution.answer"
    if st.session_state.get(key) not in places:  # another example has other answers
        st.session_state[key] = 0
    answer = row.selectbox(
        "Answer",
        places,
        key=key,
        format_func=lambda place: f"{example.places[place]}: {subject.task.answer_tokens[int(example.targets[place])]}",
        width=280,
        label_visibility="collapsed",
        persist_state="session",
    )
    shared.show(shared.viewed(attribution.film, example.text, answer, form))
