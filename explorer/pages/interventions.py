"""Switch parts of the model off, or exchange activations between two examples."""

import streamlit as st

from explorer.errors import UserError
from explorer.pages import shared
from explorer.views import interventions
from explorer.views.subject import Subject

OFF, EACH, PATCH = "switch off", "each by itself", "patch"


@shared.page
def page(subject: Subject) -> None:
    with st.container(horizontal=True):
        what = shared.choice("Do", [OFF, EACH, PATCH], key="interventions.what")
        if what == PATCH:
            patch = shared.choice("Exchange", interventions.patches(subject), key="interventions.patch")
        else:
            mode = shared.choice("In its place", interventions.MODES, key="interventions.mode")
    if what == PATCH:
        _patch(subject, patch)
    elif what == EACH:
        shared.show(shared.viewed(interventions.each_film, mode))
    else:
        text = shared.example_input(subject).text
        off, problem = _components(subject)
        if problem:
            st.error(shared.plain(problem))
        shared.show(shared.viewed(interventions.off_film, text, off, mode))


def _components(subject: Subject) -> tuple[tuple[str, ...], str]:
    """The components that are to be switched off, and a sentence on those that there are not."""
    names = interventions.names(subject)
    neurons, key = interventions.neuron_example(subject), "interventions.off"
    if key not in st.session_state:
        st.session_state[key] = list(names[:1])
    chosen = st.multiselect(
        "Switch off",
        names,
        key=key,
        placeholder="heads and MLPs" + (f"; type a neuron, {neurons}" if neurons else ""),
        accept_new_options=True,
        persist_state="session",
        label_visibility="collapsed",
    )
    known, problem = [], ""
    for name in chosen:
        try:
            known.append(interventions.check(subject, name))
        except UserError as error:
            problem = str(error)
    return tuple(dict.fromkeys(known)), problem


def _patch(subject: Subject, what: str) -> None:
    state = st.session_state
    text = shared.example_input(subject).text
    partners = interventions.partners(subject, text)
    typed, named = "interventions.second", "interventions.partner"
    if state.get(typed) is None or state.get("interventions.second.of") != subject.task.title:
        state[typed] = next(iter(partners.values()), "")
        state["interventions.second.of"] = subject.task.title
    state[named] = state[typed] if state[typed] in partners.values() else None
    names = {other: name for name, other in partners.items()}
    with st.container(horizontal=True, vertical_alignment="center"):
        second = st.text_input(
            f"Second {subject.task.noun}, into which activations of the first are put",
            key=typed,
            label_visibility="collapsed",
            placeholder=f"A second {subject.task.noun}, of the same form",
            icon=":material/edit:",
            persist_state="session",
            width=280 if subject.task.n_ctx <= 24 else 560,
        )
        st.pills(
            "or take one of these",
            list(names),
            key=named,
            format_func=lambda other: shared.plain(names[other]),
            on_change=lambda: state.update({typed: state[named] or state[typed]}),
            label_visibility="collapsed",
        )
        answers = interventions.telling(subject, text, second)
        key = "interventions.answer"
        if state.get(key) not in answers:
            state[key] = next(iter(answers))
        answer = st.selectbox(
            "Answer",
            list(answers),
            key=key,
            format_func=answers.get,
            label_visibility="collapsed",
            persist_state="session",
            width=280,
        )
    st.caption(
        f"The second {subject.task.noun} is run with activations of the first put into it. 1 brings the first one's "
        "answer back, 0 changes nothing."
    )
    shared.show(shared.viewed(interventions.patch_film, text, second, what, answer))
