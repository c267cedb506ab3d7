"""A typed example, answered at every snapshot."""

import pandas as pd
import streamlit as st

from explorer.pages import shared
from explorer.views import try_it
from explorer.views.panels import brief
from explorer.views.subject import Subject


@shared.page
def page(subject: Subject) -> None:
    task = subject.task
    example = shared.example_input(subject)
    trained_on = task.was_trained_on(example, subject.info.training)
    notes = [example.note]
    if trained_on is not None:
        notes.append(f"This {task.noun} is {'' if trained_on else 'not '}in the training data.")
    if any(notes):
        st.info(shared.plain(" ".join(note for note in notes if note)))
    siblings = task.siblings(example)
    if siblings:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption("Also:", width="content")
            for label, sibling in siblings.items():
                said = shared.plain(f"{label}: {brief(sibling)}")
                st.button(said, on_click=_take, args=(sibling,), key=f"sibling.{label}")
    tried = shared.viewed(try_it.tried, example.text)
    shared.show(tried.film)
    table = pd.DataFrame(
        {
            task.token_noun: [row.place for row in tried.learned],
            "right answer": [row.right for row in tried.learned],
            "right and stays right from": [
                "not yet" if row.since is None else f"step {row.since:,}" for row in tried.learned
            ],
            "probability at the end": [row.probability for row in tried.learned],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "probability at the end": st.column_config.ProgressColumn(min_value=0, max_value=1, format="%.4f")
        },
    )


def _take(text: str) -> None:
    st.session_state.example, st.session_state.refused = text, None
