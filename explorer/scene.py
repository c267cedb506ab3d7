"""A scene: what is on screen, as one frozen value and as one line of text.

    heads?run=induction&step=980&example=abcd,+abcd&show=heads
    view      run           step     example            the view's own options

The line is a relative link. It is the URL in the browser, what *Copy link* copies, and what the command line takes.
Options that have their default are left out of the line.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote_plus, unquote, urlsplit

from explorer.errors import quoted

MAX_LENGTH = 65_536  # characters of a line; longer ones are rejected
MAX_PARAMETERS = 64
COMMON = ("run", "step", "example", "player")  # parameters of every scene; no option may have one of these names
MAX_STEP = 10**9
SWITCH = re.compile(r"[A-Za-z0-9][\w-]*\.((log|smooth|rescale)(:off)?|(cell|enlarged|hidden):[\w%.,~-]+)", re.ASCII)


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
        """The player's switches: (panel, name, value). The value of "enlarged" is the name of a map, that of "cell"
        the row and column of a plane, that of "hidden" the names of curves, that of all others on or off."""
        switches: list[tuple[str, str, bool | str | list[str]]] = []
        for token in self.player.split():
            switch, _, text = token.partition(":")
            panel, _, name = switch.rpartition(".")
            if name == "hidden":
                switches.append((panel, name, [unquote(part) for part in text.split(",")]))
            else:
                switches.append((panel, name, unquote(text) if name in ("cell", "enlarged") else text != "off"))
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
    except ValueError:
        return Scene(default_view), [f"{quoted(line)} is no link to a view; write it as VIEW?run=RUN&step=STEP."]
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    view = parts.path.rstrip("/").rsplit("/", 1)[-1] or default_view
    return read_pairs(view, pairs)


def read_pairs(view: str, pairs: Sequence[tuple[str, str]]) -> tuple[Scene, list[str]]:
    """As `read`, for parameters that are split already.

    Args:
        view: the name of a view.
        pairs: (name, text) of the parameters.
    """
    if len(pairs) > MAX_PARAMETERS:
        return Scene(view), [f"The link has {len(pairs):,} parameters; at most {MAX_PARAMETERS} are read."]
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
    valid: dict[str, str] = {}
    for token in sorted(set(text.split())):
        name = token.partition(":")[0]
        if not SWITCH.fullmatch(token):
            problems.append(f"{quoted(token)} is no switch of a panel; write it as PANEL.log or PANEL.smooth:off.")
        elif name in valid:
            problems.append(f"The switch {quoted(name)} is given twice; give it once.")
        else:
            valid[name] = token
    return " ".join(valid.values())
