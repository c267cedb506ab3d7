"""The part of the form of a new run in which it becomes many runs."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from explorer.errors import UserError
from explorer.pages import state
from explorer.pages.plain import plain
from explorer.pages.training_runs import unused
from explorer.runs.sweeps import check_free, create_sweep
from explorer.sweeps import jobs
from explorer.sweeps.trial import tried
from explorer.tasks.task import Task
from explorer.training.sweep import SweepPlan, default_name, parsed, written

KEPT = {
    "losses": "the losses of each run",
    "ends": "and its first and last weights",
    "all": "and all of its snapshots",
}


def offer_sweep(kind: type[Task], preset: str, changed: Mapping[str, Any], keep: Mapping[str, Any]) -> None:
    """Inputs for a sweep, what it would take, and a button that starts it.

    Args:
        kind: the task.
        preset: the name of the preset.
        changed: settings that differ from it, by name.
        keep: settings of widgets that keep their values.
    """
    with st.expander("Train it many times", icon=":material/grid_on:"):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            over = st.text_input(
                "Vary", placeholder="weight_decay=0.3,1,3 lr=0.001,0.003", width=360, key="train.sweep.over", **keep
            )
            seeds = st.text_input("Seeds", placeholder="0-9", width=120, key="train.sweep.seeds", **keep)
            kept = st.selectbox(
                "Keep", list(KEPT), format_func=KEPT.__getitem__, key="train.sweep.keep", width=260, **keep
            )
        if not over.strip() and not seeds.strip():
            st.caption("Give a setting several values, or several seeds: each combination becomes a run.")
            return
        try:
            assignments = [f"{name}={written(value)}" for name, value in changed.items() if name != "keep"]
            plan = parsed(kind, preset, [*assignments, f"keep={kept}"], over.split(), seeds.strip())
            plan.cells()
        except UserError as error:
            st.error(plain(str(error).replace("--over ", "Vary: ").replace("--seeds", "Seeds")))
            return
        _offer(plan)


def _offer(plan: SweepPlan) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        free = unused(default_name(plan), state.runs().place.entries())
        typed = st.text_input("Name of the sweep", placeholder=free, width=320, key="train.sweep.name", max_chars=64)
        asked = st.button("What would it take?", icon=":material/timer:")
        pressed = st.button(f"Start {len(plan):,} runs", icon=":material/play_arrow:")
    if not asked and not pressed:
        return
    try:
        name = typed.strip() or free
        check_free(state.runs(), name)
        with st.spinner("Training a few updates to see what it takes…"):
            info, estimate = tried(plan, jobs.WORKERS)
        if asked:
            st.info(plain(f"{str(estimate)[0].upper()}{str(estimate)[1:]}."))
            return
        with st.spinner("Starting the training processes…"):
            sweep = create_sweep(state.runs(), name, info)
            jobs.start(sweep)
    except UserError as error:
        st.error(plain(str(error)))
        return
    state.choose_run(sweep.name)
    st.switch_page(st.session_state.pages["runs"])
