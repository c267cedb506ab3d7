"""Any hook point."""

import streamlit as st

from explorer.errors import UserError
from explorer.pages import shared
from explorer.views import activations
from explorer.views.subject import Subject


@shared.page
def page(subject: Subject) -> None:
    names = activations.hook_names(subject)
    usual = "blocks.0.hook_resid_post"
    if st.session_state.get("activations.hook") not in names:  # another model has other hook points
        st.session_state["activations.hook"] = usual if usual in names else names[-1]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        hook = st.selectbox(
            "Hook point",
            names,
            key="activations.hook",
            persist_state="session",
            width=360,
        )
        kind = st.segmented_control(
            "Activation or gradient",
            list(activations.KINDS),
            default="activation",
            required=True,
            key="activations.kind",
            persist_state="session",
            help="The gradient is that of the mean loss on the example's answers.",
        )
        form = shared.choice("As", activations.FORMS, key="activations.form")
    text = shared.example_input(subject).text
    axes = shared.viewed(activations.axes, text, hook)
    with st.expander(f"Choose {'heads, ' * bool(axes.heads)}positions and {axes.unit_axis}", icon=":material/tune:"):
        heads = _some("heads", axes.heads)
        positions = _some("positions", axes.positions)
        units = _some("keys" if axes.unit_axis == "key" else f"of {axes.unit_axis}", axes.units)
    shared.show(shared.viewed(activations.film, text, hook, kind, form, heads, positions, units))
    if axes.unit_axis != "key":
        _most_changed(subject, hook)


def _some(what: str, labels: tuple[str, ...]) -> tuple[int, ...]:
    """Some of the places on an axis; none means all."""
    key = f"activations.{what}"
    if not labels:
        return ()
    # Another hook point, or another example, has other places.
    st.session_state[key] = [i for i in st.session_state.get(key, []) if i < len(labels)]
    chosen = st.multiselect(
        what.capitalize(),
        range(len(labels)),
        key=key,
        format_func=lambda i: labels[i],
        placeholder="all",
        persist_state="session",
    )
    return tuple(chosen)


def _most_changed(subject: Subject, hook: str) -> None:
    """What differs most between two snapshots, and a way to look at it."""
    st.markdown("**Changed most between two snapshots**")
    steps = subject.steps
    if len(steps) < 2:
        st.caption("This run has one snapshot yet.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ends = []
        for label, usual in (("from", subject.opening_step()), ("to", steps[-1])):
            key = f"activations.{label}"
            if st.session_state.get(key) not in steps:
                st.session_state[key] = usual if label == "to" or usual != steps[-1] else steps[0]
            ends.append(
                st.selectbox(
                    label,
                    steps,
                    key=key,
                    format_func=lambda step: f"step {step:,}",
                    width=184,
                    persist_state="session",
                )
            )
    try:
        found = shared.viewed(activations.most_changed, hook, *ends)
    except UserError as error:
        st.error(shared.plain(str(error)))
        return
    with st.container(horizontal=True):
        for head, unit, change in found:
            st.button(
                shared.plain(f"{head} {unit}".strip()) + f" · {change:.3g}",
                key=f"unit.{head}.{unit}",
                on_click=_look_at,
                args=(head, unit),
                help="Mean absolute difference on unseen examples. Click to see this one alone, over training.",
            )


def _look_at(head: str, unit: int) -> None:
    state = st.session_state
    state["activations.form"] = activations.FORMS[-1]
    for key in [key for key in state if key.startswith("activations.of ")]:
        state[key] = [unit]
    if head:
        state["activations.heads"] = [int(head.rsplit("H", 1)[1])]
