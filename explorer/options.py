"""The options of a view: how they are declared, read from the texts of a link, and written.

A view declares its options as the fields of a frozen dataclass, made with `choice`, `several`, `number`, `switch` and
`free_text`. `resolve` parses the option texts of a scene for one run, since the choices may depend on the run, the
example and the options declared before.
"""

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

from explorer.errors import UserError, quoted
from explorer.scene import COMMON

MAX_LISTED = 12  # choices in an error message


@dataclass(frozen=True)
class Context:
    """What the choices and the default of an option may depend on.

    Attributes:
        subject: the loaded run.
        example: the text of the example.
        chosen: the values of the options declared before this one.
    """

    subject: Any
    example: str
    chosen: Mapping[str, Any]


T = TypeVar("T")
Computed: TypeAlias = T | Callable[[Context], T]  # fixed, or computed for a run


def _computed(value: Computed[T], context: Context) -> T:
    return value(context) if callable(value) else value


@dataclass(frozen=True, kw_only=True)
class Option(ABC):
    """The declaration of one option, stored in the metadata of a dataclass field.

    Attributes:
        label: shown to the user.
        help: a sentence shown on hover.
        note: a sentence shown beside the widget.
        labelled: whether the label is shown above the widget; otherwise it is for screen readers only.
        place: "row" is above the example, "after" is below it, "more" is in an expander, and "end" is below the film,
            at the view's `Choices` item.
        when: whether the option has an effect; if not, it is hidden and has its default.
        per: the name of another option; a session remembers one choice for each of its values.
    """

    label: Computed[str]
    help: str = ""
    note: Computed[str] = ""
    labelled: bool = False
    place: Literal["row", "after", "more", "end"] = "row"
    when: Callable[[Context], bool] | None = None
    per: str = ""

    @abstractmethod
    def default(self, context: Context) -> Any:
        """The default value.

        Args:
            context: what it depends on.
        """

    @abstractmethod
    def read(self, context: Context, text: str) -> tuple[Any, list[str]]:
        """Parse a text.

        Args:
            context: what the choices depend on.
            text: as in a link.

        Returns:
            The value, and error messages; one that starts in lower case continues a sentence that begins with the
            option's name.
        """

    def text_of(self, value: Any) -> str:
        """The text of a value; the inverse of `read`.

        Args:
            value: a value of this option.
        """
        return str(value)

    def has_effect(self, context: Context) -> bool:
        return self.when is None or self.when(context)

    def label_at(self, context: Context) -> str:
        return _computed(self.label, context)

    def note_at(self, context: Context) -> str:
        return _computed(self.note, context)


@dataclass(frozen=True, kw_only=True)
class Choice(Option):
    """One of several values."""

    choices: Computed[Mapping[Any, str]]  # value -> label
    preferred: Callable[[Context], Any] | None = None  # the default if it is a choice; otherwise the first choice is
    widget: Literal["buttons", "list", "slider"] = "buttons"
    width: int = 280  # pixels, of a list or a slider

    def choices_at(self, context: Context) -> Mapping[Any, str]:
        return _computed(self.choices, context)

    def default(self, context: Context) -> Any:
        choices = self.choices_at(context)
        preferred = self.preferred(context) if self.preferred else None
        return preferred if preferred in choices else next(iter(choices), None)

    def read(self, context: Context, text: str) -> tuple[Any, list[str]]:
        choices = self.choices_at(context)
        for value in choices:
            if str(value) == text:
                return value, []
        if not choices:
            return None, [f"is {quoted(text)}; there is nothing to choose from here."]
        return self.default(context), [f"is {quoted(text)}; it can be {_listed(choices)}."]


@dataclass(frozen=True, kw_only=True)
class Several(Option):
    """Any number of several values, as a tuple."""

    choices: Computed[Mapping[Any, str]]  # value -> label
    preferred: Callable[[Context], tuple[Any, ...]] | None = None  # the default; if None, no value
    placeholder: Computed[str] = "all"
    parse_other: Callable[[Context, str], str] | None = None  # parses a value that is no choice; raises UserError

    def choices_at(self, context: Context) -> Mapping[Any, str]:
        return _computed(self.choices, context)

    def placeholder_at(self, context: Context) -> str:
        return _computed(self.placeholder, context)

    def default(self, context: Context) -> tuple[Any, ...]:
        return self.preferred(context) if self.preferred else ()

    def read(self, context: Context, text: str) -> tuple[tuple[Any, ...], list[str]]:
        listed = {str(value) for value in self.choices_at(context)}
        return self.read_each(context, [one for part in text.split(",") for one in _spread(part, listed)])

    def read_each(self, context: Context, texts: Sequence[str]) -> tuple[tuple[Any, ...], list[str]]:
        """As `read`, for texts that are split already.

        Args:
            context: what the choices depend on.
            texts: one per value.
        """
        choices = self.choices_at(context)
        by_text = {str(value): value for value in choices}
        values, problems = [], []
        for text in filter(str.strip, texts):
            if text in by_text:
                values.append(by_text[text])
            elif self.parse_other is None:
                problems.append(f"has {quoted(text)}; it can have {_listed(choices)}.")
            else:
                try:
                    values.append(self.parse_other(context, text))
                except UserError as error:
                    problems.append(str(error))
        return tuple(dict.fromkeys(values)), problems

    def text_of(self, value: tuple[Any, ...]) -> str:
        return ",".join(_joined(value))


@dataclass(frozen=True, kw_only=True)
class Number(Option):
    """A whole number from ``low`` to ``high``, both included."""

    low: Computed[int]
    high: Computed[int]

    def limits(self, context: Context) -> tuple[int, int]:
        return _computed(self.low, context), _computed(self.high, context)

    def default(self, context: Context) -> int:
        return self.limits(context)[0]

    def read(self, context: Context, text: str) -> tuple[int, list[str]]:
        low, high = self.limits(context)
        if re.fullmatch(r"-?[0-9]{1,9}", text) and low <= int(text) <= high:
            return int(text), []
        return low, [f"is {quoted(text)}; it must be a whole number from {low:,} to {high:,}."]


@dataclass(frozen=True, kw_only=True)
class Switch(Option):
    """On or off; off by default."""

    def default(self, context: Context) -> bool:
        return False

    def read(self, context: Context, text: str) -> tuple[bool, list[str]]:
        known = {"on": True, "off": False}
        return known.get(text, False), [] if text in known else [f"is {quoted(text)}; it can be on or off."]

    def text_of(self, value: bool) -> str:
        return "on" if value else "off"


@dataclass(frozen=True, kw_only=True)
class FreeText(Option):
    """A text, typed or taken from suggestions."""

    check: Callable[[Context, str], object]  # raises UserError for an invalid text
    suggestions: Computed[Mapping[str, str]]  # text -> label; the first is the default
    placeholder: Computed[str] = ""

    def suggestions_at(self, context: Context) -> Mapping[str, str]:
        return _computed(self.suggestions, context)

    def placeholder_at(self, context: Context) -> str:
        return _computed(self.placeholder, context)

    def default(self, context: Context) -> str:
        return next(iter(self.suggestions_at(context)), "")

    def read(self, context: Context, text: str) -> tuple[str, list[str]]:
        try:
            self.check(context, text)
        except UserError as error:
            return self.default(context), [str(error)]
        return text, []


def choice(label: Computed[str], choices: Computed[Mapping[Any, str]], **settings: Any) -> Any:
    """A field with one of several values.

    Args:
        label: shown to the user.
        choices: value -> label.
        settings: further attributes of `Choice`.
    """
    return _field(Choice(label=label, choices=choices, **settings))


def several(label: Computed[str], choices: Computed[Mapping[Any, str]], **settings: Any) -> Any:
    """A field with any number of several values.

    Args:
        label: shown to the user.
        choices: value -> label.
        settings: further attributes of `Several`.
    """
    return _field(Several(label=label, choices=choices, **settings))


def number(label: Computed[str], low: Computed[int], high: Computed[int], **settings: Any) -> Any:
    """A field with a whole number.

    Args:
        label: shown to the user.
        low: the smallest value, which is the default.
        high: the largest value.
        settings: further attributes of `Number`.
    """
    return _field(Number(label=label, low=low, high=high, **settings))


def switch(label: Computed[str], **settings: Any) -> Any:
    """A field that is on or off.

    Args:
        label: shown to the user.
        settings: further attributes of `Switch`.
    """
    return _field(Switch(label=label, **settings))


def free_text(label: Computed[str], check: Callable[[Context, str], object], **settings: Any) -> Any:
    """A field with a text.

    Args:
        label: shown to the user.
        check: raises UserError for an invalid text.
        settings: further attributes of `FreeText`.
    """
    return _field(FreeText(label=label, check=check, **settings))


def _field(option: Option) -> Any:
    return field(metadata={"option": option})


@dataclass(frozen=True)
class NoOptions:
    """The options of a view without options."""


def options_of(options_type: type) -> dict[str, Option]:
    """The options that a dataclass declares, by name.

    Args:
        options_type: a dataclass whose fields are made with `choice`, `several`, `number`, `switch` or `free_text`.

    Raises:
        ValueError: an option has the name of a parameter of every scene.
    """
    declared = {field.name: field.metadata["option"] for field in dataclasses.fields(options_type)}
    if taken := declared.keys() & set(COMMON):
        raise ValueError(f"No option may be called {', '.join(sorted(taken))}; choose another name.")
    return declared


def resolve(options_type: type[T], subject: Any, example: str, texts: Mapping[str, str]) -> tuple[T, list[str]]:
    """Parse texts as the options of a view for one run.

    Args:
        options_type: the dataclass that declares the options.
        subject: the loaded run.
        example: the text of the example.
        texts: option name -> text.

    Returns:
        The options, and error messages; an option whose text is invalid has its default.
    """
    declared = options_of(options_type)
    values: dict[str, Any] = {}
    problems = []
    for name in texts.keys() - declared.keys():
        available = f"there are {', '.join(declared)}" if declared else "this view has none"
        problems.append(f"There is no option {quoted(name)}; {available}.")
    for name, option in declared.items():
        context = Context(subject, example, values)
        is_read = name in texts and option.has_effect(context)
        value, errors = option.read(context, texts[name]) if is_read else (option.default(context), [])
        values = {**values, name: value}
        problems += [f"{name} {error}" if error[0].islower() else error for error in errors]
    return options_type(**values), sorted(problems)


def texts_of(options: Any, subject: Any, example: str) -> tuple[tuple[str, str], ...]:
    """The (name, text) of all options that have an effect and differ from their defaults, sorted by name.

    Args:
        options: an instance of the dataclass that declares the options.
        subject: the loaded run.
        example: the text of the example.
    """
    texts: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, option in options_of(type(options)).items():
        context, value = Context(subject, example, values), getattr(options, name)
        if option.has_effect(context) and value != option.default(context):
            texts[name] = option.text_of(value)
        values = {**values, name: value}
    return tuple(sorted(texts.items()))


def _spread(text: str, listed: Collection[str]) -> list[str]:
    """The whole numbers of a range such as "3-7" if both ends are ``listed``; any other text by itself."""
    match = re.fullmatch(r"([0-9]+)-([0-9]+)", text)
    if match and {match[1], match[2]} <= set(listed):
        return [str(number) for number in range(int(match[1]), int(match[2]) + 1)]
    return [text]


def _joined(values: Sequence[Any]) -> list[str]:
    """Texts of values, three or more whole numbers in succession as a range."""
    texts: list[str] = []
    start = 0
    for end in range(1, len(values) + 1):
        if end < len(values) and type(values[end]) is int and values[end] == values[end - 1] + 1:
            continue
        run = values[start:end]
        texts += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(value) for value in run]
        start = end
    return texts


def _listed(choices: Mapping[Any, str]) -> str:
    """The first `MAX_LISTED` choices, for an error message."""
    texts = [str(value) for value in choices]
    return ", ".join(texts[:MAX_LISTED]) + (f", … ({len(texts)} in all)" if len(texts) > MAX_LISTED else "")
