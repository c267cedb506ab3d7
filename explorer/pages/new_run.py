"""The form for a new run: a preset, and its settings to change."""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from typing import Any

import streamlit as st

from explorer.errors import UserError
from explorer.model.transformer import ModelConfig
from explorer.pages import state
from explorer.pages.plain import plain
from explorer.pages.training_runs import free_name
from explorer.runs import Run, RunInfo, jobs, recorder
from explorer.settings import TrainingConfig
from explorer.tasks import TASKS
from explorer.tasks.task import Preset, Task
from explorer.training.plan import Plan

WIDTH = 184  # pixels, of the input of a setting
NEW, SAME = "new examples at every step", "the same examples again"
OF_TASK = ("d_vocab", "d_vocab_out", "n_ctx")  # settings of a model that follow from the task
KEEP: dict[str, Any] = {"persist_state": "session"}  # inputs keep their values across pages


def start_from(name: str) -> None:
    """Let the inputs begin with the settings of a run.

    Args:
        name: of the run.
    """
    st.session_state["train.from"] = name


def new_run(watch: Callable[[Run], object]) -> None:
    """The form for a new run.

    Args:
        watch: called with the run when it has been started.
    """
    source = _source()
    kind, name, preset, is_finite = _choose_preset(source)
    settings = _settings(kind, name, preset, is_finite, source)
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
                watch(_started(plan, typed.strip() or free))
        except UserError as error:
            st.error(plain(str(error)))
        else:
            st.session_state["train.started"] = True
            st.rerun()


def _started(plan: Plan, name: str) -> Run:
    jobs.check_room(state.runs())
    run = recorder.create(state.runs(), name, plan.task, plan.model, plan.training, plan.preset)
    jobs.start(run)
    return run


def _source() -> tuple[str, RunInfo] | None:
    """The run whose settings the inputs begin with, if one was chosen; it can be given up."""
    session = st.session_state
    name = session.get("train.from")
    if name is None:
        return None
    try:
        info = state.runs().open(name).info()
    except UserError as error:
        del session["train.from"]
        st.error(plain(str(error)))
        return None
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"The settings of {plain(name)}.", width="content")
        st.button("Begin with a preset", on_click=lambda: session.pop("train.from", None), type="tertiary")
    return name, info


def _choose_preset(source: tuple[str, RunInfo] | None) -> tuple[type[Task], str, Preset, bool]:
    """Selectors of task, data and preset; also whether there are so many training examples.

    Args:
        source: the run with which they begin.
    """
    prefix = "train" if source is None else f"train.of.{source[0]}"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        names = sorted(TASKS)
        first = 0 if source is None else names.index(source[1].task.name)
        task = st.selectbox("Task", names, index=first, key=f"{prefix}.task", width=240, **KEEP)
        kind = TASKS[task]
        modes: dict[str, dict[str, Preset]] = {}
        for name, preset in kind.presets.items():
            mode = SAME if kind(**preset.task).n_train(preset.training) else NEW
            modes.setdefault(mode, {})[name] = preset
        own = source[1] if source is not None and source[1].task.name == task else None
        of_run = SAME if own is not None and own.task.n_train(own.training) else NEW
        begin = of_run if own is not None and of_run in modes else next(iter(modes))
        key = f"{prefix}.{task}.data"
        mode = st.segmented_control("Data", list(modes), default=begin, required=True, key=key, **KEEP)
        presets = modes[mode]
        begin = own.preset if own is not None and own.preset in presets else next(iter(presets))
        key = f"{prefix}.{task}.{mode}.preset"
        name = st.segmented_control("Preset", list(presets), default=begin, required=True, key=key, **KEEP)
    st.caption(plain(presets[name].about))
    return kind, name, presets[name], mode == SAME


def _settings(
    kind: type[Task], name: str, preset: Preset, is_finite: bool, source: tuple[str, RunInfo] | None
) -> list[dict[str, Any]]:
    """Inputs for the settings of the task, the model and the training: first those with a plain name, then all others.
    Those that have no effect beside the others are not offered."""
    parts: dict[str, tuple[type, Mapping[str, Any]]] = {
        "Task": (kind, preset.task),
        "Model": (ModelConfig, preset.model),
        "Training": (TrainingConfig, dataclasses.asdict(preset.training)),
    }
    prefix = f"train.{kind.name}.{name}"
    if source is not None and _is_like(source[1], kind, is_finite):
        prefix = f"train.of.{source[0]}.{kind.name}.{name}"
        of_run = (source[1].task, source[1].model, source[1].training)
        parts = {
            title: (cls, {**begun, **{field.name: getattr(one, field.name) for field in dataclasses.fields(cls)}})
            for (title, (cls, begun)), one in zip(parts.items(), of_run, strict=True)
        }
        parts["Model"] = (
            ModelConfig,
            {name: value for name, value in parts["Model"][1].items() if name not in OF_TASK},
        )
    inputs = [
        _Input(f"{prefix}.{title}.{field.name}", title, field, begun.get(field.name, field.default))
        for title, (cls, begun) in parts.items()
        for field in dataclasses.fields(cls)
        if field.name in begun or field.default is not MISSING
    ]
    given = {one.field.name: st.session_state.get(one.key, one.begins) for one in inputs} | {"is_finite": is_finite}
    offered = [one for one in inputs if one.field.metadata["when"](given)]
    values: dict[str, dict[str, Any]] = {title: {} for title in parts}
    for one in inputs:
        values[one.title][one.field.name] = one.begins
    types = {title: typing.get_type_hints(cls) for title, (cls, _) in parts.items()}

    def show(some: list[_Input]) -> None:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            for one in some:
                values[one.title][one.field.name] = _input(one, types[one.title][one.field.name])

    show([one for one in offered if one.field.metadata["label"]])
    with st.expander("Advanced", icon=":material/tune:"):
        for title in parts:
            if some := [one for one in offered if one.title == title and not one.field.metadata["label"]]:
                st.markdown(f"**{title}**")
                show(some)
    return list(values.values())


def _is_like(info: RunInfo, kind: type[Task], is_finite: bool) -> bool:
    """Whether a run is of this task, and with so many training examples or not."""
    return info.task.name == kind.name and (info.task.n_train(info.training) > 0) == is_finite


@dataclass(frozen=True)
class _Input:
    """The input of one setting."""

    key: str
    title: str  # of the group of settings
    field: dataclasses.Field
    begins: Any  # the value with which it begins


def _input(one: _Input, kind: Any) -> Any:
    metadata, value = one.field.metadata, one.begins
    name, about = metadata["label"] or one.field.name, metadata["about"]
    about = about[0].upper() + about[1:]
    common: dict[str, Any] = {"key": one.key, "width": WIDTH, **KEEP}
    if kind is bool:
        return st.toggle(name, value, help=about, **common)
    if choices := typing.get_args(kind):
        return st.selectbox(name, choices, choices.index(value), help=about, **common)
    # The input has no limits: a number out of range is reported, not silently clipped.
    step, form = (1, "%d") if kind is int else ((value or 0.1) / 10, "%g")
    limits = f"{about}. From {metadata['low']:,} to {metadata['high']:,}."
    return st.number_input(name, value=kind(value), step=step, format=form, help=plain(limits), **common)
