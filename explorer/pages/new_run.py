"""The form for the settings of a new run."""

import dataclasses
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass
from typing import Any

import streamlit as st

from explorer.errors import UserError
from explorer.model.transformer import ModelConfig
from explorer.pages import state
from explorer.pages.new_sweep import offer_sweep
from explorer.pages.plain import plain
from explorer.pages.training_runs import free_name
from explorer.runs import RunInfo, jobs
from explorer.settings import TrainingConfig
from explorer.tasks import TASKS
from explorer.tasks.task import Preset, Task
from explorer.training.plan import Plan

WIDTH, KNOB_WIDTH = 184, 144  # pixels, of the input of a setting, and of one with a plain name
KEEP: dict[str, Any] = {"persist_state": "session"}  # inputs keep their values across pages
NEW, SAME = "new examples at every step", "the same N examples"
GROUPS = ("Task", "Model", "Training")


def form(start: Callable[[Plan, str], None]) -> None:
    """The form.

    Args:
        start: called with the settings and the name of the run when the button is pressed; what it raises as UserError
            is shown.
    """
    session = st.session_state
    kind, mode, name = _choose_preset()
    settings = _choose_settings(kind, name, mode == SAME)
    plan = None
    try:
        plan = Plan.from_preset(kind, name, *settings)
        if bool(plan.task.n_train(plan.training)) != (mode == SAME):
            raise UserError(f"No examples stay the same with these settings; enter how many, or choose {NEW!r} above.")
    except UserError as error:
        st.error(plain(str(error)))
        plan = None
    if session.pop("train.started", False):
        session["train.name"] = ""  # the name is used now
    if plan is not None:
        chosen = dict(zip(GROUPS, settings, strict=True))
        changed = {one.name: chosen[one.group][one.name] for one in _settings(kind, name)}
        presets = {one.name: one.preset for one in _settings(kind, name)}
        offer_sweep(kind, name, {key: value for key, value in changed.items() if value != presets[key]}, KEEP)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        free = "" if plan is None else free_name(state.runs(), plan.task, plan.training)
        typed = st.text_input("Name", placeholder=free, width=280, key="train.name", max_chars=64, **KEEP)
        pressed = st.button("Start training", type="primary", icon=":material/play_arrow:", disabled=plan is None)
        if plan is not None:
            st.caption(plain(f"{plan.about()}; up to {jobs.LIMIT} runs at once"))
    if pressed and plan is not None:
        try:
            with st.spinner("Starting the training process…"):
                start(plan, typed.strip() or free)
        except UserError as error:
            st.error(plain(str(error)))
        else:
            session["train.started"], session["train.filled_in"] = True, False
            st.rerun()


def fill_in(info: RunInfo) -> None:
    """Enter the settings of a run, to be called before the form is shown.

    They are changes of the run's preset or, if they come from none, of the first one of its task and kind of data.

    Args:
        info: of the run.
    """
    session, kind = st.session_state, type(info.task)
    mode = _mode(info.task, info.training)
    presets = _presets(kind)[mode]
    name = info.preset if info.preset in presets else next(iter(presets))
    session["train.task"], session[_data_key(kind)], session[_preset_key(kind, mode)] = kind.name, mode, name
    values = {group: vars(part) for group, part in zip(GROUPS, (info.task, info.model, info.training), strict=True)}
    for setting in _settings(kind, name):
        session[setting.key] = values[setting.group][setting.name]
    session["train.filled_in"] = True


# --- Task, data and preset ---


def _mode(task: Task, training: TrainingConfig) -> str:
    return SAME if task.n_train(training) else NEW


def _presets(kind: type[Task]) -> dict[str, dict[str, Preset]]:
    """The presets of a task, by their data."""
    modes: dict[str, dict[str, Preset]] = {}
    for name, preset in kind.presets.items():
        modes.setdefault(_mode(kind(**preset.task), preset.training), {})[name] = preset
    return modes


def _data_key(kind: type[Task]) -> str:
    return f"train.{kind.name}.data"


def _preset_key(kind: type[Task], mode: str) -> str:
    return f"train.{kind.name}.{mode}.preset"


def _choose_preset() -> tuple[type[Task], str, str]:
    """Selectors of task, data and preset."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = TASKS[st.selectbox("Task", sorted(TASKS), key="train.task", width=240, **KEEP)]
        modes = _presets(kind)
        mode = _segmented("Data", list(modes), _data_key(kind))
        name = _segmented("Preset", list(modes[mode]), _preset_key(kind, mode))
    st.caption(plain(modes[mode][name].about))
    return kind, mode, name


def _segmented(label: str, choices: list[str], key: str) -> str:
    st.session_state.setdefault(key, choices[0])
    return str(st.segmented_control(label, choices, required=True, key=key, **KEEP))


# --- The settings ---


@dataclass(frozen=True)
class _Setting:
    """A setting that the form may offer."""

    group: str  # one of GROUPS
    field: dataclasses.Field
    kind: Any  # its type
    preset: Any  # its value in the preset
    key: str  # of its input

    @property
    def name(self) -> str:
        return self.field.name

    @property
    def label(self) -> str:
        """In plain words; "" if it is not among the few that matter most."""
        return str(self.field.metadata["label"])


def _settings(kind: type[Task], name: str) -> Iterator[_Setting]:
    """All settings of a preset, without those that follow from the task."""
    preset = kind.presets[name]
    given: tuple[Mapping[str, Any], ...] = (preset.task, preset.model, dataclasses.asdict(preset.training))
    classes: tuple[type, ...] = (kind, ModelConfig, TrainingConfig)
    for group, cls, values in zip(GROUPS, classes, given, strict=True):
        types = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            if field.name in values or field.default is not MISSING:
                value, key = values.get(field.name, field.default), f"train.{kind.name}.{name}.{group}.{field.name}"
                yield _Setting(group, field, types[field.name], value, key)


def _choose_settings(kind: type[Task], name: str, same_examples: bool) -> list[dict[str, Any]]:
    """Inputs for the settings that have an effect; the others are those of the preset.

    Returns:
        The settings of each of `GROUPS`.
    """
    settings, session = list(_settings(kind, name)), st.session_state
    now = {setting.name: session.get(setting.key, setting.preset) for setting in settings}
    now["same_examples"] = same_examples
    offered = [one for one in settings if kind.uses(one.name, same_examples) and one.field.metadata["when"](now)]
    values: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    for setting in settings:
        values[setting.group][setting.name] = setting.preset

    def ask(some: list[_Setting]) -> None:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            for setting in some:
                values[setting.group][setting.name] = _input(setting)

    ask([setting for setting in offered if setting.label])
    with st.expander("Advanced", icon=":material/tune:"):
        for group in GROUPS:
            if others := [setting for setting in offered if setting.group == group and not setting.label]:
                st.markdown(f"**{group}**")
                ask(others)
    return list(values.values())


def _input(setting: _Setting) -> Any:
    about, low, high = (setting.field.metadata[what] for what in ("about", "low", "high"))
    about = f"{setting.name}: {about}." if setting.label else f"{about[0].upper()}{about[1:]}."
    label = setting.label or setting.name
    st.session_state.setdefault(setting.key, setting.preset)
    common: dict[str, Any] = {"key": setting.key, "width": KNOB_WIDTH if setting.label else WIDTH, **KEEP}
    if setting.kind is bool:
        return st.toggle(label, help=plain(about), **common)
    if choices := typing.get_args(setting.kind):
        return st.selectbox(label, choices, help=plain(about), **common)
    # The input has no limits: a number out of range is reported, not silently clipped.
    step, form = (1, "%d") if setting.kind is int else ((setting.preset or 0.1) / 10, "%g")
    limits = f"{about} From {low:,} to {high:,}."
    return st.number_input(label, step=step, format=form, help=plain(limits), **common)
