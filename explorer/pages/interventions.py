"""Ablate parts of the model, or exchange activations between two examples."""

import streamlit as st

from explorer.errors import UserError
from explorer.pages import shared
from explorer.views import interventions
from explorer.views.subject import Subject

ABLATE, EACH, PATCH = "ablate", "each by itself", "patch"


@shared.page
def page(subject: Subject) -> None:
    with st.container(horizontal=True):
        what = shared.choice("Do", [ABLATE, EACH, PATCH], key="interventions.what")
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
        off, problems = _components(subject)
        for problem in problems:
            st.error(shared.plain(problem))
        shared.show(shared.viewed(interventions.off_film, text, off, mode))


def _components(subject: Subject) -> tuple[tuple[str, ...], list[str]]:
    """The components that are to be ablated, and a sentence on each that there is not."""
    names = interventions.names(subject)
    neurons, key = interventions.neuron_example(subject), "interventions.off"
    if key not in st.session_state:
        st.session_state[key] = list(names[:1])
    chosen = st.multiselect(
        "Ablate",
        names,
        key=key,
        placeholder="heads and MLPs" + (f"; type a neuron, {neurons}" if neurons else ""),
        accept_new_options=True,
        persist_state="session",
        label_visibility="collapsed",
    )
    known, problems = [], []
    for name in filter(str.strip, chosen):
        try:
            known.append(interventions.check(subject, name))
        except UserError as error:
            problems.append(str(error))
    return tuple(dict.fromkeys(known)), problems


def _patch(subject: Subject, what: str) -> None:
    state, noun = st.session_state, subject.task.noun
    text = shared.example_input(subject).text
    partners = interventions.partners(subject, text)
    typed, named = "interventions.second", "interventions.partner"
    before = state.get("interventions.first")
    if (subject.name, text) != before:  # what was second to another may not do for this one
        state["interventions.first"] = (subject.name, text)
        if before is None or not _fits(subject, text, state.get(typed) or ""):
            state[typed] = next(iter(partners.values()), "")
    state.setdefault(typed, "")
    state[named] = state[typed] if state[typed] in partners.values() else None
    names = {other: name for name, other in partners.items()}
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text_input(
            f"Second {noun}, into which activations of the first are put",
            key=typed,
            label_visibility="collapsed",
            placeholder=f"A second {noun}, of the same form",
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
            wrap=True,
        )
    second = state[typed]
    if not second.strip():
        st.info(f"Type a second {noun} that asks at the same places as the first and has other right answers.")
        return
    try:
        answers = interventions.telling(subject, text, second)
        state["interventions.fitting"] = second
    except UserError as error:
        st.error(shared.plain(str(error)))
        second = state.get("interventions.fitting", "")  # what was there stays
        if not _fits(subject, text, second):
            return
        answers = interventions.telling(subject, text, second)
    key = "interventions.answer"
    if state.get(key) not in answers:
        state[key] = next(iter(answers))
    with st.container(horizontal=True, vertical_alignment="center"):
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
            f"The second {noun} is run with activations of the first put into it: 1 brings the first one's answer "
            "back, 0 changes nothing.",
            width="content",
        )
    shared.show(shared.viewed(interventions.patch_film, text, second, what, answer))


def _fits(subject: Subject, text: str, second: str) -> bool:
    """Whether a second example can be compared with the first."""
    try:
        return bool(interventions.telling(subject, text, second))
    except UserError:
        return False
