"""Train a run and watch it learn."""

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

import streamlit as st

from explorer.errors import UserError
from explorer.model.transformer import ModelConfig
from explorer.pages import state as scene
from explorer.pages.explore import show_film
from explorer.pages.plain import plain
from explorer.pages.training_runs import free_name, progress, unfinished
from explorer.pages.widgets import example_input
from explorer.runs import Run, jobs, recorder
from explorer.settings import TrainingConfig
from explorer.tasks import TASKS
from explorer.tasks.task import Preset, Task
from explorer.training.plan import Plan
from explorer.views import watch

REFRESH, IDLE_REFRESH = 2.0, 10.0  # seconds, while something is trained and while nothing is
WIDTH = 184  # pixels, of a setting
KEEP: dict[str, Any] = {"persist_state": "session"}  # what was chosen outlives a look at another page


def page() -> None:
    state = st.session_state
    with st.container(border=True):
        _new_run()
    not_done = unfinished(scene.runs())
    busy = any(info.status == "running" for _, info in not_done)
    st.fragment(_progress, run_every=REFRESH if busy else IDLE_REFRESH)(busy)
    if state.run is None or state.run not in {state.get("train.last"), *(run.name for run, _ in not_done)}:
        return
    try:
        text = example_input(scene.subject()).text
    except UserError as error:
        st.error(plain(str(error)))
    else:
        st.fragment(_film, run_every=REFRESH if busy else None)(text)


# --- A new run ---


def _new_run() -> None:
    kind, name, preset = _choice()
    plan = None
    with st.expander("Change settings", icon=":material/tune:"):
        settings = _settings(kind, name, preset)
    try:
        plan = Plan.from_preset(kind, name, *settings)
    except UserError as error:
        st.error(plain(str(error)))
    if st.session_state.pop("train.started", False):
        st.session_state["train.name"] = ""  # that one is taken now
    with st.container(horizontal=True, vertical_alignment="bottom"):
        free = "" if plan is None else free_name(scene.runs(), plan.task, plan.training)
        typed = st.text_input("Name", placeholder=free, width=280, key="train.name", max_chars=64, **KEEP)
        pressed = st.button("Start training", type="primary", icon=":material/play_arrow:", disabled=plan is None)
        if plan is not None:
            st.caption(plain(f"{plan.about()}; up to {jobs.LIMIT} runs at once"))
    if pressed:
        try:
            with st.spinner("Starting a process for it…"):
                _start(plan, typed.strip() or free)
        except UserError as error:
            st.error(plain(str(error)))
        else:
            st.session_state["train.started"] = True
            st.rerun()


def _start(plan: Plan, name: str) -> None:
    jobs.check_room(scene.runs())
    run = recorder.create(scene.runs(), name, plan.task, plan.model, plan.training, plan.preset)
    jobs.start(run)
    _watch(name)


def _choice() -> tuple[type[Task], str, Preset]:
    """The task, the kind of data and the preset that people have chosen."""
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


def _settings(kind: type[Task], name: str, preset: Preset) -> tuple[dict, dict, dict]:
    """Settings of the task, the model and the training, changed or as in the preset."""
    key = f"train.{kind.name}.{name}"
    task = {one.name: one.default for one in dataclasses.fields(kind)} | dict(preset.task)
    shape = {one.name: one.default for one in dataclasses.fields(ModelConfig) if one.default is not dataclasses.MISSING}
    groups = {
        "Task": (kind, task),
        "Model": (ModelConfig, shape | dict(preset.model)),
        "Training": (TrainingConfig, dataclasses.asdict(preset.training)),
    }
    changed = []
    for title, (cls, values) in groups.items():
        if values:
            st.markdown(f"**{title}**")
        kinds = typing.get_type_hints(cls)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            for field, value in values.items():
                metadata = cls.__dataclass_fields__[field].metadata
                values[field] = _widget(field, value, kinds[field], metadata, f"{key}.{title}.{field}")
        changed.append(values)
    return tuple(changed)


def _widget(name: str, value: Any, kind: Any, metadata: typing.Mapping[str, Any], key: str) -> Any:
    about, low, high = metadata["about"], metadata["low"], metadata["high"]
    about = about[0].upper() + about[1:]
    look: dict[str, Any] = {"key": key, "width": WIDTH, **KEEP}
    if kind is bool:
        return st.toggle(name, value, help=about, **look)
    if choices := typing.get_args(kind):
        return st.selectbox(name, choices, choices.index(value), help=about, **look)
    # Without limits of its own: a number outside is refused in a sentence, not passed over.
    step, form = (1, "%d") if kind is int else ((value or 0.1) / 10, "%g")
    limits = f"{about}. From {low:,} to {high:,}."
    return st.number_input(name, value=kind(value), step=step, format=form, help=plain(limits), **look)


# --- Runs that are not done ---


def _progress(busy: bool) -> None:
    """How far every run is that is not done."""
    not_done = unfinished(scene.runs())
    for run, info in not_done:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.progress(info.steps_done / info.training.steps, plain(progress(run.name, info)))
            if info.status == "running":
                _button("Stop", "stop", run, recorder.request_stop, run)
            else:
                _button("Resume", "play_arrow", run, _resume, run)
            if run.name != st.session_state.run:
                _button("Watch", "visibility", run, _watch, run.name)
    if problem := st.session_state.get("train.problem"):
        st.error(plain(problem))
    pressed = st.session_state.pop("train.pressed", False)
    if pressed or busy != any(info.status == "running" for _, info in not_done):
        st.rerun()


def _film(text: str) -> None:
    """The film of the run that is watched, with the snapshots that have come since."""
    stopped = scene.follow()
    try:
        subject = scene.subject(quiet=True)
        scene.settle(subject)
        if st.session_state.pop("train.newest", False):  # from where the player goes on with the run
            st.session_state.step = subject.steps[-1]
        show_film(scene.viewed(watch.film, text, quiet=True), figures=False)
    except UserError as error:
        st.error(plain(str(error)))
    if stopped:  # so that the sidebar and the URL follow; at the end, since what is not drawn again by then vanishes
        st.rerun()


def _button(label: str, icon: str, run: Run, act: Callable, *of: Any) -> None:
    key = f"{label}.{run.name}"
    st.button(label, key=key, icon=f":material/{icon}:", on_click=_tried, args=(act, *of))


def _tried(act: Callable, *of: Any) -> None:
    """Do something; what keeps it from being done is said on the page until something else is done."""
    st.session_state["train.problem"], st.session_state["train.pressed"] = None, True
    try:
        act(*of)
    except UserError as error:
        st.session_state["train.problem"] = str(error)


def _resume(run: Run) -> None:
    jobs.start(run)
    _watch(run.name)


def _watch(name: str) -> None:
    st.session_state["train.last"], st.session_state["train.newest"] = name, True
    scene.choose_run(name)
