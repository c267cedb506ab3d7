"""A scene: what is on screen, as one frozen value and as one line of text.

    attention?run=induction&step=980&example=abcd,+abcd&show=heads
    view      run           step     example            the view's own options

The line is a relative link. It is the address in the browser, what *Copy link* copies, and what the command line takes.

A view declares its options as the fields of a frozen dataclass, made with `choice`, `several`, `number`, `switch` and
`words`. `resolve` reads the texts of a scene as such options for one run: what choices there are may depend on the run,
on the example and on the options declared before. Options that have their default are left out of the line.
"""

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, quote_plus, unquote, urlsplit

from explorer.errors import UserError, quoted

LONGEST = 4000  # characters of a line; longer ones are not read
MOST_PARAMETERS = 64
COMMON = ("run", "step", "example", "player")  # parameters that every scene has; no option may have such a name
LARGEST_STEP = 10**9
SWITCH = re.compile(r"[\w-]+\.(log|smooth|rescale|enlarged|hidden)(:[\w%.,~-]*)?")
Values = TypeVar("Values")


# --- The line ---


@dataclass(frozen=True)
class Scene:
    """What is on screen. A part that is None or missing has its default.

    Attributes:
        view: the name of a view.
        run: the name of a run.
        step: of a snapshot.
        example: a text, as somebody types it.
        options: the texts of the view's own options by name, in the order of their names.
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
        """The scene as a line of text, of which `read` makes the same scene again."""
        return f"{self.view}?{self.query}" if self.query else self.view

    @property
    def query(self) -> str:
        """The line after the question mark."""
        common = {"run": self.run, "step": self.step, "example": self.example}
        pairs = [(name, str(value)) for name, value in common.items() if value is not None]
        pairs += self.options
        if self.player:
            pairs.append(("player", self.player))
        return "&".join(f"{quote_plus(name)}={quote_plus(text, safe=',:')}" for name, text in pairs)

    @property
    def switches(self) -> list[tuple[str, str, bool | str | list[str]]]:
        """The player's switches: panel, name, and on or off, the name of a map, or the names of curves."""
        found: list[tuple[str, str, bool | str | list[str]]] = []
        for token in self.player.split():
            place, _, text = token.partition(":")
            panel, _, name = place.rpartition(".")
            if name == "hidden":
                found.append((panel, name, [unquote(part) for part in text.split(",")]))
            else:
                found.append((panel, name, unquote(text) if name == "enlarged" else text != "off"))
        return found


def read(line: str, default_view: str = "") -> tuple[Scene, list[str]]:
    """Read a line, or a whole address that somebody copied from a browser.

    Args:
        line: "VIEW?NAME=VALUE&...".
        default_view: the view of an address that names none.

    Returns:
        The scene, and a sentence on each thing that cannot be read, which then has its default.
    """
    if len(line) > LONGEST:
        return Scene(default_view), [f"The link has {len(line):,} characters; at most {LONGEST:,} are read."]
    try:
        parts = urlsplit(line.strip())
        pairs = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=MOST_PARAMETERS)
    except ValueError:
        return Scene(default_view), [f"{quoted(line)} is no link to a view; write it as VIEW?run=RUN&step=STEP."]
    view = parts.path.rstrip("/").rsplit("/", 1)[-1] or default_view
    return read_pairs(view, pairs)


def read_pairs(view: str, pairs: Sequence[tuple[str, str]]) -> tuple[Scene, list[str]]:
    """`read`, of a view and parameters that have been taken apart already."""
    problems: list[str] = []
    found: dict[str, str] = {}
    for name in dict.fromkeys(name for name, _ in pairs):
        texts = [text for other, text in pairs if other == name]
        if len(texts) == 1:
            found[name] = texts[0]
        else:
            problems.append(f"{quoted(name)} is given {len(texts)} times; give it once.")
    step = found.pop("step", None)
    if step is not None and not (re.fullmatch(r"[0-9]{1,10}", step) and int(step) <= LARGEST_STEP):
        problems.append(f"step is {quoted(step)}; it must be a whole number, such as 0.")
        step = None
    scene = Scene(
        view=view,
        run=found.pop("run", None),
        step=None if step is None else int(step),
        example=found.pop("example", None),
        player=_player(found.pop("player", ""), problems),
        options=tuple(sorted(found.items())),
    )
    return scene, problems


def _player(text: str, problems: list[str]) -> str:
    """The switches in a canonical order; those that are none are left out and named."""
    tokens = set(text.split())
    for token in sorted(token for token in tokens if not SWITCH.fullmatch(token)):
        problems.append(f"{quoted(token)} is no switch of a panel; write it as PANEL.log or PANEL.smooth:off.")
        tokens.discard(token)
    return " ".join(sorted(tokens))


# --- Options ---


@dataclass(frozen=True)
class At:
    """Where an option is asked for its choices.

    Attributes:
        subject: the run that the view looks at, as views know it.
        example: the text of the example.
        chosen: the values of the options declared before it.
    """

    subject: Any
    example: str
    chosen: Mapping[str, Any]


Fixed = TypeVar("Fixed")
Computed = Fixed | Callable[[At], Fixed]  # fixed, or computed from the run


def _computed(value: Any, at: At) -> Any:
    return value(at) if callable(value) else value


@dataclass(frozen=True, kw_only=True)
class Option(ABC):
    """How one option is chosen: the metadata of a field.

    Attributes:
        label: for people.
        help: a sentence that is shown on hover.
        note: a sentence that stands beside the widget.
        labelled: whether the label stands above the widget; if not, it is for screen readers only.
        place: "row" is above the example, "after" is below it, "more" is behind an expander, and "end" is below the
            film, where the view says.
        when: whether the option has an effect; where it has none it is not shown and keeps its default.
        per: the name of an option that it depends on: a session remembers one choice for each value of that one.
    """

    label: Computed[str]
    help: str = ""
    note: str = ""
    labelled: bool = False
    place: Literal["row", "after", "more", "end"] = "row"
    when: Callable[[At], bool] | None = None
    per: str = ""

    @abstractmethod
    def default(self, at: At) -> Any:
        """The value where nobody has chosen one."""

    @abstractmethod
    def read(self, at: At, text: str) -> tuple[Any, list[str]]:
        """A value, and what of ``text`` does not fit, as ends of sentences that begin with the option's name."""

    def written(self, value: Any) -> str:
        """The text of a value, of which `read` makes the same value again."""
        return str(value)

    def has_effect(self, at: At) -> bool:
        return self.when is None or self.when(at)

    def label_at(self, at: At) -> str:
        return _computed(self.label, at)


@dataclass(frozen=True, kw_only=True)
class Choice(Option):
    """One of several values."""

    choices: Computed[Mapping[Any, str]]  # value -> label
    usual: Callable[[At], Any] | None = None  # the default; if None, or if it is not there, the first
    widget: Literal["buttons", "list", "slider"] = "buttons"
    width: int = 280  # pixels, of a list or a slider

    def choices_at(self, at: At) -> Mapping[Any, str]:
        return _computed(self.choices, at)

    def default(self, at: At) -> Any:
        choices = self.choices_at(at)
        usual = self.usual(at) if self.usual else None
        return usual if usual in choices else next(iter(choices), None)

    def read(self, at: At, text: str) -> tuple[Any, list[str]]:
        choices = self.choices_at(at)
        for value in choices:
            if str(value) == text:
                return value, []
        if not choices:
            return None, [f"is {quoted(text)}; there is nothing to choose from here."]
        return self.default(at), [f"is {quoted(text)}; it can be {_listed(choices)}."]


@dataclass(frozen=True, kw_only=True)
class Several(Option):
    """Some of several values, as a tuple."""

    choices: Computed[Mapping[Any, str]]  # value -> label
    usual: Callable[[At], tuple[Any, ...]] | None = None  # the default; if None, none
    placeholder: Computed[str] = "all"
    spelled: Callable[[At, str], str] | None = None  # values that are not listed: text -> value, or UserError

    def choices_at(self, at: At) -> Mapping[Any, str]:
        return _computed(self.choices, at)

    def placeholder_at(self, at: At) -> str:
        return _computed(self.placeholder, at)

    def default(self, at: At) -> tuple[Any, ...]:
        return self.usual(at) if self.usual else ()

    def read(self, at: At, text: str) -> tuple[tuple[Any, ...], list[str]]:
        return self.read_each(at, text.split(","))

    def read_each(self, at: At, texts: Sequence[str]) -> tuple[tuple[Any, ...], list[str]]:
        """As `read`, of texts that stand apart."""
        choices = self.choices_at(at)
        by_text = {str(value): value for value in choices}
        values, problems = [], []
        for text in filter(str.strip, texts):
            if text in by_text:
                values.append(by_text[text])
            elif self.spelled is None:
                problems.append(f"has {quoted(text)}; it can have {_listed(choices)}.")
            else:
                try:
                    values.append(self.spelled(at, text))
                except UserError as error:
                    problems.append(str(error))
        return tuple(dict.fromkeys(values)), problems

    def written(self, value: tuple[Any, ...]) -> str:
        return ",".join(map(str, value))


@dataclass(frozen=True, kw_only=True)
class Number(Option):
    """A whole number from ``low`` to ``high``, both included."""

    low: Computed[int]
    high: Computed[int]

    def limits(self, at: At) -> tuple[int, int]:
        return _computed(self.low, at), _computed(self.high, at)

    def default(self, at: At) -> int:
        return self.limits(at)[0]

    def read(self, at: At, text: str) -> tuple[int, list[str]]:
        low, high = self.limits(at)
        if re.fullmatch(r"-?[0-9]{1,9}", text) and low <= int(text) <= high:
            return int(text), []
        return low, [f"is {quoted(text)}; it must be a whole number from {low:,} to {high:,}."]


@dataclass(frozen=True, kw_only=True)
class Switch(Option):
    """On or off; off if nobody says."""

    def default(self, at: At) -> bool:
        return False

    def read(self, at: At, text: str) -> tuple[bool, list[str]]:
        known = {"on": True, "off": False}
        return known.get(text, False), [] if text in known else [f"is {quoted(text)}; it can be on or off."]

    def written(self, value: bool) -> str:
        return "on" if value else "off"


@dataclass(frozen=True, kw_only=True)
class Words(Option):
    """A text that somebody types, or one of some that are suggested."""

    check: Callable[[At, str], object]  # raises UserError where the text cannot be used
    suggestions: Computed[Mapping[str, str]]  # text -> label; the first is the default
    placeholder: Computed[str] = ""

    def suggestions_at(self, at: At) -> Mapping[str, str]:
        return _computed(self.suggestions, at)

    def placeholder_at(self, at: At) -> str:
        return _computed(self.placeholder, at)

    def default(self, at: At) -> str:
        return next(iter(self.suggestions_at(at)), "")

    def read(self, at: At, text: str) -> tuple[str, list[str]]:
        try:
            self.check(at, text)
        except UserError as error:
            return self.default(at), [str(error)]
        return text, []


def choice(label: Computed[str], choices: Computed[Mapping[Any, str]], **settings: Any) -> Any:
    """A field with one of several values; ``settings`` are those of `Choice`."""
    return _field(Choice(label=label, choices=choices, **settings))


def several(label: Computed[str], choices: Computed[Mapping[Any, str]], **settings: Any) -> Any:
    """A field with some of several values; ``settings`` are those of `Several`."""
    return _field(Several(label=label, choices=choices, **settings))


def number(label: Computed[str], low: Computed[int], high: Computed[int], **settings: Any) -> Any:
    """A field with a whole number; ``settings`` are those of `Number`."""
    return _field(Number(label=label, low=low, high=high, **settings))


def switch(label: Computed[str], **settings: Any) -> Any:
    """A field that is on or off; ``settings`` are those of `Switch`."""
    return _field(Switch(label=label, **settings))


def words(label: Computed[str], check: Callable[[At, str], object], **settings: Any) -> Any:
    """A field with a text; ``settings`` are those of `Words`."""
    return _field(Words(label=label, check=check, **settings))


def _field(option: Option) -> Any:
    return field(metadata={"option": option})


@dataclass(frozen=True)
class NoOptions:
    """The options of a view that has none."""


def options_of(kind: type) -> dict[str, Option]:
    """The options that a dataclass declares, by name.

    Raises:
        ValueError: an option has a name that belongs to every scene.
    """
    found = {one.name: one.metadata["option"] for one in dataclasses.fields(kind)}
    if taken := found.keys() & set(COMMON):
        raise ValueError(f"No option may be called {', '.join(sorted(taken))}; choose another name.")
    return found


def resolve(kind: type[Values], subject: Any, example: str, texts: Mapping[str, str]) -> tuple[Values, list[str]]:
    """Read texts as the options of a view for one run.

    Args:
        kind: the dataclass that declares the options.
        subject: the run.
        example: the text of the example.
        texts: by the names of options.

    Returns:
        The options, and a sentence on each text that does not fit, whose option then has its default.
    """
    declared = options_of(kind)
    values: dict[str, Any] = {}
    problems = []
    for name in texts.keys() - declared.keys():
        there_are = f"there are {', '.join(declared)}" if declared else "this view has none"
        problems.append(f"There is no option {quoted(name)}; {there_are}.")
    for name, option in declared.items():
        at = At(subject, example, values)
        if name not in texts or not option.has_effect(at):
            values[name] = option.default(at)
            continue
        values[name], wrong = option.read(at, texts[name])
        problems += [end if end[0].isupper() or end[0] in "'\"" else f"{name} {end}" for end in wrong]
    return kind(**values), sorted(problems)


def texts_of(options: Any, subject: Any, example: str) -> tuple[tuple[str, str], ...]:
    """The texts of those options that have an effect and are not the default, in the order of their names."""
    found = {}
    values: dict[str, Hashable] = {}
    for name, option in options_of(type(options)).items():
        at, value = At(subject, example, values), getattr(options, name)
        if option.has_effect(at) and value != option.default(at):
            found[name] = option.written(value)
        values = {**values, name: value}
    return tuple(sorted(found.items()))


def _listed(choices: Mapping[Any, str], most: int = 12) -> str:
    """The first few of several choices, as one reads them out."""
    texts = [str(value) for value in choices]
    return ", ".join(texts[:most]) + (f", … ({len(texts)} in all)" if len(texts) > most else "")
