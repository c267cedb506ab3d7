"""The figures of a story: what stands in double braces, measured on its run."""

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from explorer.errors import listed, quoted
from explorer.film.film import Film
from explorer.stories.reader import wrong
from explorer.views.losses import Phase, phases
from explorer.views.swept import Seen, Swept

DIGITS = 2  # significant ones
FALL = re.compile(r"fall of (.+?)( begins| ends)?")
VALUE = re.compile(r"(?P<panel>[\w-]+)/(?P<row>.+?)( at (?P<step>[0-9,]+))?( *\| *(?P<form>\w+))?")


@dataclass(frozen=True)
class Measured:
    """What the figures of one beat are taken from.

    Attributes:
        file: of the story.
        subject: the run or the sweep of the beat.
        film: of the beat, on its whole sample.
        step: of the beat.
    """

    file: Path
    subject: Seen
    film: Film
    step: int

    def __call__(self, figure: str, line: int) -> str:
        """The text of a figure.

        Args:
            figure: what stands between the braces.
            line: of the story, from 1, where it stands.

        Raises:
            UserError: there is nothing of that name; the message names file and line.
        """
        try:
            return self._said(figure)
        except LookupError as error:
            raise wrong(self.file, line, f"{quoted(figure, 80)} cannot be filled: {error.args[0]}") from None

    def _said(self, figure: str) -> str:
        if figure == "last step":
            return f"{self.film.steps[-1]:,}"
        if figure == "n snapshots":
            return f"{len(self.film.steps):,}"
        if fall := FALL.fullmatch(figure):
            found = _fall(self.subject, fall[1])
            return f"{({' begins': found.begins, ' ends': found.ends}).get(fall[2], found.steepest):,}"
        named = VALUE.fullmatch(figure)
        if named is None:
            raise LookupError("write it as PANEL/ROW, PANEL/ROW at STEP, fall of LOSS, last step or n snapshots")
        panels = {panel.id: panel for panel in self.film.panels}
        if named["panel"] not in panels:
            raise LookupError(f"the scene has no panel {quoted(named['panel'])}; it has {listed(list(panels))}")
        step = int(named["step"].replace(",", "")) if named["step"] else self.step
        if step not in self.film.steps:
            near = min(self.film.steps, key=lambda one: abs(one - step))
            raise LookupError(f"there is no snapshot at step {step:,}; the nearest is at step {near:,}")
        frame = list(self.film.steps).index(step)
        value = panels[named["panel"]].value(frame, self.film.steps, named["row"].split("/"))
        if not math.isfinite(value):
            raise LookupError("there is no finite value")
        form = _forms(named["form"])
        return form(value)


def _fall(subject: Seen, name: str) -> Phase:
    """The deepest fall of a loss, by its label, or by its name where one loss has it."""
    if isinstance(subject, Swept):
        raise LookupError(f"{subject.name} is a sweep, whose runs fall at different steps")
    falls = [phase for phase in phases(subject) if phase.is_deepest]
    found = [phase for phase in falls if phase.label == name] or [phase for phase in falls if phase.name == name]
    if len(found) != 1:
        how = "several losses have this name" if found else f"no loss {quoted(name)} falls"
        raise LookupError(f"{how}; these fall: {listed([phase.label for phase in falls])}")
    return found[0]


def _forms(name: str | None) -> Callable[[float], str]:
    """How a number is written."""
    if name == "percent":
        return lambda value: f"{rounded(100 * value)}%"
    if name is None or re.fullmatch("[1-7]", name):
        return functools.partial(rounded, digits=DIGITS if name is None else int(name))
    raise LookupError(f"{quoted(name)} is no form; it is percent, or the number of significant digits, 1 to 7")


def rounded(value: float, digits: int = DIGITS) -> str:
    """A number with its significant digits, without an exponent.

    Args:
        value: finite.
        digits: significant ones.

    Returns:
        Such as "0.52", "1,600" or "−3.1"; a half is rounded up, as the player does.
    """
    if value == 0:
        return "0"
    exact = Decimal(value)
    exact = exact.quantize(Decimal(1).scaleb(exact.adjusted() - digits + 1), ROUND_HALF_UP)
    decimals = digits - 1 - exact.adjusted()  # once rounded: 0.996 has its first digit before the point then
    return f"{exact:,.{max(decimals, 0)}f}".replace("-", "−")
