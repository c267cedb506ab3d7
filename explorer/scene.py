"""A scene: what is on screen, as one frozen value and as one line of text.

    attention?run=induction&step=980&example=abcd,+abcd&show=heads
    view      run           step     example            the view's own options

The line is a relative link. It is the URL in the browser, what *Copy link* copies, and what the command line takes.

A view declares its options as the fields of a frozen dataclass, made with `choice`, `several`, `number`, `switch` and
`free_text`. `resolve` parses the option texts of a scene for one run, since the choices may depend on the run, the
example and the options declared before. Options that have their default are left out of the line.
"""

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import parse_qsl, quote_plus, unquote, urlsplit

from explorer.errors import UserError, quoted

MAX_LENGTH = 4000  # characters of a line; longer ones are rejected
MAX_PARAMETERS = 64
COMMON = ("run", "step", "example", "player")  # parameters of every scene; no option may have one of these names
MAX_STEP = 10**9
MAX_LISTED = 12  # choices in an error message
SWITCH = re.compile(r"[\w-]+\.(log|smooth|rescale|enlarged|hidden)(:[\w%.,~-]*)?")


# --- The line ---


@dataclass(frozen=True)
class Scene:
    """What is on screen. A part that is None or missing has its default.

    Attributes:
        view: the name of a view.
        run: the name of a run.
        step: the step of a snapshot.
        example: the text of an example, as typed.
        options: (name, text) of the view's own options, sorted by name.
        player: the switches of the player's panels that differ from their defaults, as the player writes them:
            "losses.log patterns.enlarged:L1H0".
    """

    view: str
    run: str | None = None
    step: int | None = None
    example: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    player: str = ""

    def __str__(self) -> str:
        """The scene as one line of text; `read` is its inverse."""
        return f"{self.view}?{self.query}" if self.query else self.view

    @property
    def query(self) -> str:
        """The part of the line after the question mark."""
        common = {"run": self.run, "step": self.step, "example": self.example}
        pairs = [(name, str(value)) for name, value in common.items() if value is not None]
        pairs += self.options
        if self.player:
            pairs.append(("player", self.player))
        return "&".join(f"{quote_plus(name)}={quote_plus(text, safe=',:')}" for name, text in pairs)

    @property
    def switches(self) -> list[tuple[str, str, bool | str | list[str]]]:
        """The player's switches: (panel, name, value). The value of "enlarged" is the name of a map, that of "hidden"
        the names of curves, that of all others on or off."""
        switches: list[tuple[str, str, bool | str | list[str]]] = []
        for token in self.player.split():
            switch, _, text = token.partition(":")
            panel, _, name = switch.rpartition(".")
            if name == "hidden":
                switches.append((panel, name, [unquote(part) for part in text.split(",")]))
            else:
                switches.append((panel, name, unquote(text) if name == "enlarged" else text != "off"))
        return switches


def read(line: str, default_view: str = "") -> tuple[Scene, list[str]]:
    """Parse a line, or a complete URL copied from a browser.

    Args:
        line: "VIEW?NAME=VALUE&...".
        default_view: the view of a URL without one.

    Returns:
        The scene, and one error message per part that cannot be parsed; such a part has its default.
    """
    if len(line) > MAX_LENGTH:
        return Scene(default_view), [f"The link has {len(line):,} characters; at most {MAX_LENGTH:,} are read."]
    try:
        parts = urlsplit(line.strip())
        pairs = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        return Scene(default_view), [f"{quoted(line)} is no link to a view; write it as VIEW?run=RUN&step=STEP."]
    view = parts.path.rstrip("/").rsplit("/", 1)[-1] or default_view
    return read_pairs(view, pairs)


def read_pairs(view: str, pairs: Sequence[tuple[str, str]]) -> tuple[Scene, list[str]]:
    """As `read`, for parameters that are split already.

    Args:
        view: the name of a view.
        pairs: (name, text) of the parameters.
    """
    problems: list[str] = []
    parameters: dict[str, str] = {}
    for name in dict.fromkeys(name for name, _ in pairs):
        texts = [text for other, text in pairs if other == name]
        if len(texts) == 1:
            parameters[name] = texts[0]
        else:
            problems.append(f"{quoted(name)} is given {len(texts)} times; give it once.")
    step = parameters.pop("step", None)
    if step is not None and not (re.fullmatch(r"[0-9]{1,10}", step) and int(step) <= MAX_STEP):
        problems.append(f"step is {quoted(step)}; it must be a whole number, such as 0.")
        step = None
    scene = Scene(
        view=view,
        run=parameters.pop("run", None),
        step=None if step is None else int(step),
        example=parameters.pop("example", None),
        player=_player(parameters.pop("player", ""), problems),
        options=tuple(sorted(parameters.items())),
    )
    return scene, problems


def _player(text: str, problems: list[str]) -> str:
    """The valid switches, sorted. An error message on each invalid one is appended to ``problems``."""
    tokens = set(text.split())
    for token in sorted(token for token in tokens if not SWITCH.fullmatch(token)):
        problems.append(f"{quoted(token)} is no switch of a panel; write it as PANEL.log or PANEL.smooth:off.")
        tokens.discard(token)
    return " ".join(sorted(tokens))


# --- Options ---


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
    note: str = ""
    labelled: bool = False
    place: Literal["row", "after", "more", "end"] = "row"
    when: Callable[[Context], bool] | None = None
    per: str = ""

    @abstractmethod
    def default(self, context: Context) -> Any:
        """The default value."""

    @abstractmethod
    def read(self, context: Context, text: str) -> tuple[Any, list[str]]:
        """Parse ``text``.

        Returns:
            The value, and error messages; one that starts in lower case continues a sentence that begins with the
            option's name.
        """

    def text_of(self, value: Any) -> str:
        """The text of a value; the inverse of `read`."""
        return str(value)

    def has_effect(self, context: Context) -> bool:
        return self.when is None or self.when(context)

    def label_at(self, context: Context) -> str:
        return _computed(self.label, context)


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
        return self.read_each(context, text.split(","))

    def read_each(self, context: Context, texts: Sequence[str]) -> tuple[tuple[Any, ...], list[str]]:
        """As `read`, for texts that are split already."""
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
        return ",".join(map(str, value))


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
    """A field with one of several values; ``settings`` are those of `Choice`."""
    return _field(Choice(label=label, choices=choices, **settings))


def several(label: Computed[str], choices: Computed[Mapping[Any, str]], **settings: Any) -> Any:
    """A field with any number of several values; ``settings`` are those of `Several`."""
    return _field(Several(label=label, choices=choices, **settings))


def number(label: Computed[str], low: Computed[int], high: Computed[int], **settings: Any) -> Any:
    """A field with a whole number; ``settings`` are those of `Number`."""
    return _field(Number(label=label, low=low, high=high, **settings))


def switch(label: Computed[str], **settings: Any) -> Any:
    """A field that is on or off; ``settings`` are those of `Switch`."""
    return _field(Switch(label=label, **settings))


def free_text(label: Computed[str], check: Callable[[Context, str], object], **settings: Any) -> Any:
    """A field with a text; ``settings`` are those of `FreeText`."""
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
        if name not in texts or not option.has_effect(context):
            values[name] = option.default(context)
            continue
        values[name], errors = option.read(context, texts[name])
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


def _listed(choices: Mapping[Any, str]) -> str:
    """The first `MAX_LISTED` choices, for an error message."""
    texts = [str(value) for value in choices]
    return ", ".join(texts[:MAX_LISTED]) + (f", … ({len(texts)} in all)" if len(texts) > MAX_LISTED else "")
