"""Numbers that go around, in the Fourier basis."""

import streamlit as st

from explorer.pages import shared
from explorer.views import fourier
from explorer.views.subject import Subject


@shared.page
def page(subject: Subject) -> None:
    forms = fourier.possible(subject)
    if not forms:
        st.info(
            "The tokens of this run are no numbers that go around, so there is nothing to transform. Choose a run of "
            "addition or modular addition in the sidebar."
        )
        return
    answers = fourier.answers(subject)
    answer = answers[0]
    with st.container(horizontal=True):
        what = shared.choice("Show", forms, key="fourier.what")
        if what in fourier.BY_ANSWER:
            answer = shared.choice("Answer", answers, key="fourier.answer")
        neurons, neuron, key = fourier.n_neurons(subject), 0, "fourier.neuron"
        if what in fourier.BY_NEURON and neurons:
            st.session_state[key] = min(st.session_state.get(key, 0), neurons - 1)
            neuron = st.number_input(
                "Neuron", 0, neurons - 1, key=key, width=140, label_visibility="collapsed", persist_state="session"
            )
    shared.show(shared.viewed(fourier.film, what, answer, neuron))
    if st.toggle("The basis, and its Gram matrix", key="fourier.basis"):
        for i, (figure, column) in enumerate(zip(fourier.basis_figures(subject), st.columns(2), strict=True)):
            with column:
                shared.picture(figure, key=f"fourier.basis.{i}")
