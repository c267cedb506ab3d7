"""The page Train: start runs, and watch unfinished ones."""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import Any

import streamlit as st

from explorer.errors import UserError
from explorer.model.transformer import ModelConfig
from explorer.pages import places, state
from explorer.pages.explore import show_film
from explorer.pages.plain import plain
from explorer.pages.training_runs import extendable, free_name, progress, unfinished
from explorer.pages.widgets import example_input
from explorer.runs import Run, jobs, recorder
from explorer.settings import TrainingConfig
from explorer.tasks import TASKS
from explorer.tasks.task import Preset, Task
from explorer.training.plan import Plan
from explorer.views import get_view

REFRESH, IDLE_REFRESH = 2.0, 10.0  # seconds, while a run is training and while none is
WIDTH = 184  # pixels, of the input of a setting
KEEP: dict[str, Any] = {"persist_state": "session"}  # inputs keep their values across pages


def page() -> None:
    places.heading("Which model shall learn what?", "A new run can be watched from its first snapshot on.")
    session = st.session_state
    with st.container(border=True):
        _new_run()
    _more_steps()
    not_done = unfinished(state.runs())
    busy = any(info.status == "running" for _, info in not_done)
    st.fragment(_progress, run_every=REFRESH if busy else IDLE_REFRESH)(busy)
    if session.run is None or session.run not in {session.get("train.last"), *(run.name for run, _ in not_done)}:
        return
    try:
        subject = state.subject()
        state.validate(subject)
        text = example_input(subject).text
    except UserError as error:
        st.error(plain(str(error)))
    else:
        st.fragment(_film, run_every=REFRESH if busy else None)(text)


# --- A new run ---


def _new_run() -> None:
    kind, name, preset = _choose_preset()
    with st.expander("Change settings", icon=":material/tune:"):
        settings = _settings(kind, name, preset)
    plan = None
    try:
        plan = Plan.from_preset(kind, name, *settings)
    except UserError as error:
        st.error(plain(str(error)))
    if st.session_state.pop("train.started", False):
        st.session_state["train.name"] = ""  # the name is used now
    with st.container(horizontal=True, vertical_alignment="bottom"):
        free = "" if plan is None else free_name(state.runs(), plan.task, plan.training)
        typed = st.text_input("Name", placeholder=free, width=280, key="train.name", max_chars=64, **KEEP)
        pressed = st.button("Start training", type="primary", icon=":material/play_arrow:", disabled=plan is None)
        if plan is not None:
            st.caption(plain(f"{plan.about()}; up to {jobs.LIMIT} runs at once"))
    if pressed and plan is not None:
        try:
            with st.spinner("Starting the training process…"):
                _start(plan, typed.strip() or free)
        except UserError as error:
            st.error(plain(str(error)))
        else:
            st.session_state["train.started"] = True
            st.rerun()


def _start(plan: Plan, name: str) -> None:
    jobs.check_room(state.runs())
    run = recorder.create(state.runs(), name, plan.task, plan.model, plan.training, plan.preset)
    jobs.start(run)
    _watch(run)


def _choose_preset() -> tuple[type[Task], str, Preset]:
    """Selectors of task, data and preset."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        task = st.selectbox("Task", sorted(TASKS), key="train.task", width=240, **KEEP)
        kind = TASKS[task]
        modes: dict[str, dict[str, Preset]] = {}
        for name, preset in kind.presets.items():
            mode = "finite data" if kind(**preset.task).n_train(preset.training) else "infinite data"
            modes.setdefault(mode, {})[name] = preset
        first = next(iter(modes))
        mode = st.segmented_control("Data", list(modes), default=first, required=True, key=f"train.{task}.data", **KEEP)
        presets = modes[mode]
        first, key = next(iter(presets)), f"train.{task}.{mode}.preset"
        name = st.segmented_control("Preset", list(presets), default=first, required=True, key=key, **KEEP)
    st.caption(plain(presets[name].about))
    return kind, name, presets[name]


def _settings(kind: type[Task], name: str, preset: Preset) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Inputs for the settings of the task, the model and the training; they start with those of the preset."""
    key = f"train.{kind.name}.{name}"
    return (
        _inputs("Task", kind, preset.task, key),
        _inputs("Model", ModelConfig, preset.model, key),
        _inputs("Training", TrainingConfig, dataclasses.asdict(preset.training), key),
    )


def _inputs(title: str, cls: type, preset: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An input for each field of a dataclass that has a default or is set by the preset."""
    values, types = {}, typing.get_type_hints(cls)
    if fields := [field for field in dataclasses.fields(cls) if field.name in preset or field.default is not MISSING]:
        st.markdown(f"**{title}**")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for field in fields:
            value, key_of_field = preset.get(field.name, field.default), f"{key}.{title}.{field.name}"
            values[field.name] = _input(field.name, value, types[field.name], field.metadata, key_of_field)
    return values


def _input(name: str, value: Any, kind: Any, metadata: Mapping[str, Any], key: str) -> Any:
    about, low, high = metadata["about"], metadata["low"], metadata["high"]
    about = about[0].upper() + about[1:]
    common: dict[str, Any] = {"key": key, "width": WIDTH, **KEEP}
    if kind is bool:
        return st.toggle(name, value, help=about, **common)
    if choices := typing.get_args(kind):
        return st.selectbox(name, choices, choices.index(value), help=about, **common)
    # The input has no limits: a number out of range is reported, not silently clipped.
    step, form = (1, "%d") if kind is int else ((value or 0.1) / 10, "%g")
    limits = f"{about}. From {low:,} to {high:,}."
    return st.number_input(name, value=kind(value), step=step, format=form, help=plain(limits), **common)


# --- More steps for a run that is done ---


def _more_steps() -> None:
    """A run that is done, how many steps it shall have, and a button. Nothing if no run can go on."""
    found = {run.name: (run, info) for run, info in extendable(state.runs())}
    if not found:
        return
    with st.expander("Go on with a finished run", icon=":material/more_time:"):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            name = st.selectbox("Run", list(found), key="train.finished", width=280)
            run, info = found[name]
            steps = st.number_input("steps in all", value=2 * info.steps_done, width=WIDTH, key=f"train.more.{name}")
            pressed = st.button("Go on", icon=":material/play_arrow:")
        said = f"{name} has done {info.steps_done:,} steps."
        if info.training.cooldown:
            said += " Its learning rate has cooled down; it returns to that of a longer run, and cools down at the end."
        st.caption(plain(said))
        if pressed:
            try:
                with st.spinner("Starting the training process…"):
                    jobs.check_room(state.runs())
                    recorder.extend(run, steps)
                    _resume(run)
            except UserError as error:
                st.error(plain(str(error)))
            else:
                st.rerun()


# --- Unfinished runs ---


def _progress(busy: bool) -> None:
    """Progress bars and buttons of the unfinished runs."""
    not_done = unfinished(state.runs())
    for run, info in not_done:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.progress(info.steps_done / info.training.steps, plain(progress(run.name, info)))
            if info.status == "running":
                _button("Stop", "stop", run, recorder.request_stop)
            else:
                _button("Resume", "play_arrow", run, _resume)
            if run.name != st.session_state.run:
                _button("Watch", "visibility", run, _watch)
    last = st.session_state.get("train.last")
    if last is not None and last not in state.runs().names():
        del st.session_state["train.last"]
        st.session_state["train.problem"] = f"The folder of {last} was removed, so it trains no more; train it again."
    if problem := st.session_state.get("train.problem"):
        st.error(plain(problem))
    pressed = st.session_state.pop("train.pressed", False)
    if pressed or busy != any(info.status == "running" for _, info in not_done):
        st.rerun()


def _film(text: str) -> None:
    """The film of the watched run, updated with new snapshots."""
    stopped = state.sync_step()
    try:
        subject = state.subject(quiet=True)
        state.validate(subject)
        if st.session_state.pop("train.newest", False):  # at the newest step, the player follows the run
            st.session_state.step = subject.frames[-1]
        view = get_view("overview")
        options = state.current_options(view, subject)
        show_film(state.cached(view.whole_film, text, options, quiet=True), figures=False)
    except UserError as error:
        st.error(plain(str(error)))
    if stopped:  # updates the sidebar and the URL; last, since elements not drawn before a rerun vanish
        st.rerun()


def _button(label: str, icon: str, run: Run, action: Callable[[Run], object]) -> None:
    key = f"{label}.{run.name}"
    st.button(label, key=key, icon=f":material/{icon}:", on_click=_guarded, args=(action, run))


def _guarded(action: Callable[[Run], object], run: Run) -> None:
    """Call an action; a UserError stays on the page until the next action."""
    st.session_state["train.problem"], st.session_state["train.pressed"] = None, True
    try:
        action(run)
    except UserError as error:
        st.session_state["train.problem"] = str(error)


def _resume(run: Run) -> None:
    jobs.start(run)
    _watch(run)


def _watch(run: Run) -> None:
    st.session_state["train.last"], st.session_state["train.newest"] = run.name, True
    state.choose_run(run.name)
