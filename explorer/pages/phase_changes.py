"""Losses as the timeline, where they fall, one example beside them."""

import pandas as pd
import streamlit as st

from explorer.pages import shared
from explorer.views import phase_changes
from explorer.views.phase_changes import Phase
from explorer.views.subject import SMOOTHING, Subject

SMOOTHINGS = (0.0, 0.5, 0.8, SMOOTHING, 0.95, 0.98, 0.99)


@shared.page
def page(subject: Subject) -> None:
    kinds = f"by kind of {subject.task.noun}"
    forms = ["losses", kinds] if phase_changes.has_classes(subject) else ["losses"]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        form = shared.choice("Show", forms, key="phases.form")
        if form != kinds:
            smoothing = st.select_slider(
                "Smoothing of losses",
                SMOOTHINGS,
                value=SMOOTHING,
                key="phases.smoothing",
                persist_state="session",
                width=360,
                help="Of an exponential average, a step, forwards and backwards. Onsets are those of smoothed losses.",
            )
    if form == kinds:
        shared.show(shared.viewed(phase_changes.class_film))
        return
    text = shared.example_input(subject).text
    shared.show(shared.viewed(phase_changes.film, text, smoothing))
    _table(subject, shared.viewed(phase_changes.phases, smoothing))


def _table(subject: Subject, found: tuple[Phase, ...]) -> None:
    st.markdown("**Phase changes**")
    st.caption(
        "Onset: from this step on a loss stays below half of the way from a uniform guess to the best possible. "
        "Width: the steps between a tenth and nine tenths of that way. None: it never was so high, or gets so low. "
        "Click a heading to sort."
    )
    steps = {
        "onset": [phase.onset for phase in found],
        "steepest": [phase.steepest for phase in found],
        "begins": [phase.begins for phase in found],
        "ends": [phase.ends for phase in found],
        "width": [phase.width for phase in found],
    }
    table = pd.DataFrame(
        {
            subject.task.token_noun: [phase.name for phase in found],
            **{name: pd.array(values, dtype="Int64") for name, values in steps.items()},
            "loss in the end": [phase.last for phase in found],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            **{name: st.column_config.NumberColumn(format="localized", help="step") for name in steps},
            "loss in the end": st.column_config.NumberColumn(format="%.4g", help="nats, smoothed"),
        },
    )
    if all(phase.onset is None for phase in found):
        st.info("No loss gets half of the way from a uniform guess to the best possible and stays there.")
