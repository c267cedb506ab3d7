"""The widgets that several pages have: the run and the snapshot, the example, and those of a view's options.

Each shows a value of the session's scene and changes it in a callback; none has a state of its own. A text that cannot
be used stays in its box with a sentence below it, and what was on screen stays as well.
"""

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from explorer.errors import UserError
from explorer.pages import state as scene
from explorer.pages.plain import plain
from explorer.scene import At, Choice, Number, Option, Several, Switch, Words
from explorer.tasks.data import Example
from explorer.views.subject import Subject

SHORT_TEXT = 24  # tokens up to which a text box is narrow


def sidebar() -> None:
    """The run and the snapshot, for every page."""
    state = st.session_state
    with st.sidebar:
        names = scene.runs().names()
        if not names:
            return
        state["choice.run"] = state.run
        st.selectbox("Run", names, key="choice.run", on_change=lambda: scene.choose_run(state["choice.run"]))
        try:
            subject = scene.subject()
        except UserError as error:
            st.error(plain(str(error)))
            return
        scene.settle(subject)
        state["choice.step"] = state.step
        st.selectbox(
            "Snapshot",
            subject.steps,
            key="choice.step",
            format_func=lambda step: f"step {step:,}",
            on_change=lambda: state.update(step=state["choice.step"]),
        )
        st.caption(plain(facts(subject)))
        for problem in subject.problems:
            st.warning(plain(problem))


def facts(subject: Subject) -> str:
    """A run in a line."""
    info = subject.info
    done = f"{info.steps_done:,} steps, {len(subject.steps)} snapshots in {info.training.snapshot_dtype}"
    progress = "being trained" if info.status == "running" else done
    return f"{info.task.title} · {info.data} · {info.shape} · {progress}"


def example_input(subject: Subject) -> Example:
    """Choose or type an example."""
    state, task = st.session_state, subject.task
    suggestions = {text: name for name, text in task.examples.items()}
    _typed(
        "choice.example",
        label=f"Type a {task.noun}",
        value=state.example,
        check=task.encode,
        take=lambda text: state.update(example=text),
        suggestions=suggestions,
        suggested=f"or take one of these {task.noun}s",
        placeholder=f"Type a {task.noun}, such as {next(iter(suggestions))}",
        is_short=task.n_ctx <= SHORT_TEXT,
    )
    return task.encode(state.example)


def _typed(
    key: str,
    label: str,
    value: str,
    check: Callable[[str], object],
    take: Callable[[str], object],
    suggestions: Mapping[str, str],
    suggested: str,
    placeholder: str,
    is_short: bool,
) -> None:
    """A box to type a text into, and texts to take.

    Args:
        key: of the widgets.
        label: for screen readers.
        value: the text that is on screen.
        check: raises UserError for a text that cannot be used.
        take: called with a text that can.
        suggestions: text -> label.
        suggested: the label of all of them, for screen readers.
        placeholder: shown in an empty box.
        is_short: whether texts are.
    """
    state, refused, picked = st.session_state, st.session_state.refused, f"{key}.named"

    def attempt(text: str) -> UserError | None:
        try:
            check(text)
        except UserError as error:
            refused[key] = text
            return error
        refused.pop(key, None)
        state.notices = []
        take(text)
        return None

    refusal = None if key not in refused else attempt(refused[key])  # what one run refuses, another may take
    state[key] = refused.get(key, value)
    state[picked] = value if value in suggestions else None
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text_input(
            label,
            key=key,
            on_change=lambda: attempt(state[key]),
            label_visibility="collapsed",
            placeholder=placeholder,
            icon=":material/edit:",
            width=280 if is_short else 560,
        )
        st.pills(
            suggested,
            list(suggestions),
            key=picked,
            format_func=lambda text: plain(suggestions[text]),
            on_change=lambda: attempt(state[picked] or value),
            label_visibility="collapsed",
            wrap=True,
        )
    if refusal:
        st.error(plain(str(refusal)))


def option_input(key: str, option: Option, at: At, value: Any, take: Callable[[str], object]) -> None:
    """The widget of one option.

    Args:
        key: of the widget.
        option: the option.
        at: where it is asked for its choices.
        value: the value that is on screen.
        take: called with the text of the value that somebody chooses.
    """
    state = st.session_state

    def taken() -> None:
        state.notices = []
        take(option.written(state[key]))

    look: dict[str, Any] = {
        "key": key,
        "on_change": taken,
        "label_visibility": "visible" if option.labelled else "collapsed",
        "help": option.help if option.labelled and option.help else None,
    }
    match option:
        case Words():
            suggestions = option.suggestions_at(at)
            _typed(
                key,
                label=option.label_at(at),
                value=value,
                check=lambda text: option.check(at, text),
                take=lambda text: take(option.written(text)),
                suggestions=suggestions,
                suggested="or take one of these",
                placeholder=option.placeholder_at(at),
                is_short=at.subject.task.n_ctx <= SHORT_TEXT,
            )
        case Several():
            _several(key, option, at, value, take, look)
        case Number():
            low, high = option.limits(at)
            state[key] = value
            st.number_input(option.label_at(at), low, high, width=140, **look)
        case Switch():
            state[key] = value
            st.toggle(option.label_at(at), **{**look, "label_visibility": "visible"})
        case Choice():
            _choice(option, at, value, look)
    if option.note:
        st.caption(option.note, width="content")


def _choice(option: Choice, at: At, value: Any, look: dict[str, Any]) -> None:
    choices, label = option.choices_at(at), option.label_at(at)
    if len(choices) < 2 and option.widget == "buttons":
        return
    st.session_state[look["key"]] = value
    values = list(choices)
    if option.widget == "slider":
        st.select_slider(label, values, format_func=choices.__getitem__, width=option.width, **look)
    elif option.widget == "list":
        st.selectbox(label, values, format_func=choices.__getitem__, width=option.width, **look)
    else:
        st.segmented_control(
            label, values, required=True, wrap=True, format_func=lambda value: plain(choices[value]), **look
        )


def _several(
    key: str, option: Several, at: At, value: tuple[Any, ...], take: Callable[[str], object], look: dict[str, Any]
) -> None:
    """Some of several. What is typed and cannot be used stays in the box and is explained."""
    state, refused, choices = st.session_state, st.session_state.refused, option.choices_at(at)

    def taken() -> None:
        values, problems = option.read_each(at, [str(one) for one in state[key]])
        if problems:
            refused[key] = list(state[key])
        else:
            refused.pop(key, None)
        state.notices = []
        take(option.written(values))

    state[key] = refused.get(key, list(value))
    free = {} if option.spelled is None else {"accept_new_options": True}
    st.multiselect(
        option.label_at(at).capitalize() if option.place == "more" else option.label_at(at),
        list(dict.fromkeys([*choices, *state[key]])),
        format_func=lambda one: choices.get(one, str(one)),
        placeholder=option.placeholder_at(at),
        select_all=False,
        filter_mode="prefix",
        **{
            **look,
            **free,
            "on_change": taken,
            "label_visibility": "visible" if option.place == "more" else "collapsed",
        },
    )
    if key in refused:
        for problem in option.read_each(at, [str(one) for one in refused[key]])[1]:
            st.error(plain(problem))
