"""Shared widgets: the run, the example, and the options of a view.

Each displays a value of the session's scene and changes it in a callback, without state of its own. An invalid text
stays in its input with an error message below it, and the film stays as it was.
"""

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from explorer.errors import UserError
from explorer.options import Choice, Context, FreeText, Number, Option, Several, Switch
from explorer.pages import state
from explorer.pages.plain import plain
from explorer.tasks.data import Example
from explorer.views.swept import Seen

SHORT_TEXT = 24  # tokens; text inputs for longer examples are wide


def run_input() -> Seen | None:
    """Select the run or the sweep.

    Returns:
        It, whose snapshot and example are now those of the session; None if it cannot be read, which is said.
    """
    session = st.session_state
    session["choice.run"] = session.run
    names = state.all_names()
    st.selectbox(
        "Run",
        names if session.run in names else [session.run, *names],
        key="choice.run",
        on_change=lambda: state.choose_run(session["choice.run"]),
        label_visibility="collapsed",
    )
    try:
        subject = state.seen()
    except UserError as error:
        st.error(plain(str(error)))
        return None
    state.validate(subject)
    return subject


def guarded(problem: str, action: Callable[..., object], *args: Any) -> None:
    """Call the action of a button.

    Args:
        problem: the name under which the session holds the sentence of its UserError; "" if there is none.
        action: what the button does.
        args: of the action.
    """
    st.session_state[problem] = ""
    try:
        action(*args)
    except UserError as error:
        st.session_state[problem] = str(error)


def rerun_by_itself(show: Callable[..., None], every: float | None, *args: object) -> None:
    """Show a part of a page that runs again by itself, as a fragment in a container of its own.

    Without the container, what follows on the page would lose its place: when a fragment begins again, Streamlit drops
    what it has not sent yet of it, the place on the page included.

    Args:
        show: draws the part.
        every: seconds between two runs; None for none.
        args: of ``show``.
    """
    with st.container():
        st.fragment(show, run_every=every)(*args)


def example_input(subject: Seen, is_used: bool = True) -> Example:
    """Choose or type an example.

    Args:
        subject: the selected run.
        is_used: whether what is shown depends on it; if not, the input stays in its place without effect.

    Returns:
        The example on screen.
    """
    session, task = st.session_state, subject.task
    suggestions = {text: name for name, text in task.examples.items()}
    _text_input(
        "choice.example",
        label=f"Type a {task.noun}",
        value=session.example,
        check=task.encode,
        take=lambda text: session.update(example=text),
        suggestions=suggestions,
        suggested=f"or choose one of these {task.noun}s",
        placeholder=f"Type a {task.noun}, such as {next(iter(suggestions))}",
        is_short=task.n_ctx <= SHORT_TEXT,
        is_used=is_used,
    )
    return task.encode(session.example)


def _text_input(
    key: str,
    label: str,
    value: str,
    check: Callable[[str], object],
    take: Callable[[str], object],
    suggestions: Mapping[str, str],
    suggested: str,
    placeholder: str,
    is_short: bool,
    is_used: bool = True,
) -> None:
    """A text input with suggestions.

    Args:
        key: of the widgets.
        label: for screen readers.
        value: the text that is on screen.
        check: raises UserError for an invalid text.
        take: called with a valid text.
        suggestions: text -> label.
        suggested: the label of all suggestions, for screen readers.
        placeholder: shown in an empty input.
        is_short: use a narrow input.
        is_used: whether the text has an effect; if not, the widgets are disabled.
    """
    session, refused, picked = st.session_state, st.session_state.refused, f"{key}.named"

    def attempt(text: str) -> UserError | None:
        try:
            check(text)
        except UserError as error:
            refused[key] = text
            return error
        refused.pop(key, None)
        session.notices = []
        take(text)
        return None

    def on_typed() -> None:
        attempt(session[key])

    def on_picked() -> None:
        attempt(session[picked] or value)

    refusal = None
    if key in refused:
        refusal = attempt(refused[key])
        if refusal is None:
            st.rerun()  # it is valid by now, beside another example; what is on screen so far was made without it
    session[key] = refused.get(key, value)
    session[picked] = value if value in suggestions else None
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text_input(
            label,
            key=key,
            on_change=on_typed,
            label_visibility="collapsed",
            placeholder=placeholder,
            icon=":material/edit:",
            width=280 if is_short else 560,
            disabled=not is_used,
            help=None if is_used else "What is shown here is measured on many examples.",
        )
        st.pills(
            suggested,
            list(suggestions),
            key=picked,
            format_func=lambda text: plain(suggestions[text]),
            on_change=on_picked,
            label_visibility="collapsed",
            wrap=True,
            disabled=not is_used,
        )
    if refusal:
        st.error(plain(str(refusal)))


def option_input(key: str, option: Option, context: Context, value: Any, take: Callable[[str], object]) -> None:
    """The widget of one option.

    Args:
        key: of the widget.
        option: the option.
        context: what its choices depend on.
        value: the value that is on screen.
        take: called with the text of the chosen value.
    """
    session = st.session_state

    def on_change() -> None:
        session.notices = []
        take(option.text_of(session[key]))

    common: dict[str, Any] = {
        "key": key,
        "on_change": on_change,
        "label_visibility": "visible" if option.labelled else "collapsed",
        "help": option.help if option.labelled and option.help else None,
    }
    match option:
        case FreeText():
            suggestions = option.suggestions_at(context)
            _text_input(
                key,
                label=option.label_at(context),
                value=value,
                check=lambda text: option.check(context, text),
                take=lambda text: take(option.text_of(text)),
                suggestions=suggestions,
                suggested="or choose one of these",
                placeholder=option.placeholder_at(context),
                is_short=context.subject.task.n_ctx <= SHORT_TEXT,
            )
        case Several():
            _several(key, option, context, value, take, common)
        case Number():
            low, high = option.limits(context)
            session[key] = value
            st.number_input(option.label_at(context), low, high, width=140, **common)
        case Switch():
            session[key] = value
            st.toggle(option.label_at(context), **{**common, "label_visibility": "visible"})
        case Choice():
            _choice(option, context, value, common)
    if note := option.note_at(context):
        st.caption(note, width="content")


def _choice(option: Choice, context: Context, value: Any, common: dict[str, Any]) -> None:
    choices, label = option.choices_at(context), option.label_at(context)
    if len(choices) < 2 and option.widget == "buttons":
        return
    st.session_state[common["key"]] = value
    values = list(choices)
    if option.widget == "slider":
        st.select_slider(label, values, format_func=choices.__getitem__, width=option.width, **common)
    elif option.widget == "list":
        st.selectbox(label, values, format_func=choices.__getitem__, width=option.width, **common)
    else:
        st.segmented_control(
            label, values, required=True, wrap=True, format_func=lambda value: plain(choices[value]), **common
        )


def _several(
    key: str,
    option: Several,
    context: Context,
    value: tuple[Any, ...],
    take: Callable[[str], object],
    common: dict[str, Any],
) -> None:
    """A multi-select. Invalid entries stay in the input, with an error message each."""
    session, refused, choices = st.session_state, st.session_state.refused, option.choices_at(context)

    def on_change() -> None:
        values, problems = option.read_each(context, [str(value) for value in session[key]])
        if problems:
            refused[key] = list(session[key])
        else:
            refused.pop(key, None)
        session.notices = []
        take(option.text_of(values))

    session[key] = refused.get(key, list(value))
    st.multiselect(
        option.label_at(context),
        list(dict.fromkeys([*choices, *session[key]])),
        format_func=lambda value: choices.get(value, str(value)),
        placeholder=option.placeholder_at(context),
        select_all=False,
        filter_mode="prefix",
        accept_new_options=option.parse_other is not None,
        **{
            **common,
            "on_change": on_change,
            "label_visibility": "visible" if option.place == "more" else "collapsed",
        },
    )
    if key in refused:
        for problem in option.read_each(context, [str(value) for value in refused[key]])[1]:
            st.error(plain(problem))
