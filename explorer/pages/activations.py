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
    kinds = {"heads": axes.heads, "positions": axes.positions, axes.unit_axis: axes.units}
    kinds = {what: labels for what, labels in kinds.items() if labels}
    keys = {what: _key(hook, what) for what in kinds}
    for what, key in keys.items():  # another example, or another run, has other places
        st.session_state[key] = [i for i in st.session_state.get(key, []) if i < len(kinds[what])]
    chosen = {what: tuple(st.session_state[key]) for what, key in keys.items()}
    said = ", ".join(f"{len(some) or 'all'} {what}" for what, some in chosen.items())
    with st.expander(f"Shown: {said}", icon=":material/tune:"):
        for what, labels in kinds.items():
            st.multiselect(
                what.capitalize() if what != axes.unit_axis else what,
                range(len(labels)),
                key=keys[what],
                format_func=labels.__getitem__,
                placeholder="all",
                select_all=False,
                filter_mode="prefix",
                persist_state="session",
            )
    places = (chosen.get(what, ()) for what in ("heads", "positions", axes.unit_axis))
    shared.show(shared.viewed(activations.film, text, hook, kind, form, *places))
    if axes.unit_axis != "key":
        _most_changed(subject, hook, axes.unit_axis)


def _key(hook: str, what: str) -> str:
    """Where it is kept which heads, positions or units of a hook point are shown."""
    return f"activations.{hook}.{what}"


def _most_changed(subject: Subject, hook: str, unit_axis: str) -> None:
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
                args=(hook, head, unit_axis, unit),
                help="Mean absolute difference on unseen examples. Click to see this one alone, over training.",
            )


def _look_at(hook: str, head: str, unit_axis: str, unit: int) -> None:
    state = st.session_state
    state["activations.form"] = activations.FORMS[-1]
    state[_key(hook, unit_axis)] = [unit]
    if head:
        state[_key(hook, "heads")] = [int(head.rsplit("H", 1)[1])]
