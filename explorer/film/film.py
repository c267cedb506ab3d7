"""A film: steps, and panels that each have a frame for every step. It is plain data, which the player draws."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from explorer.film.palette import Mode
from explorer.film.panels.panel import GAP, Panel

ID = re.compile(r"[A-Za-z0-9_-]+")

Switch = tuple[str, str, bool | str | list[str]]  # a panel's id, the name of the switch, its value


@dataclass(frozen=True)
class Film:
    """Steps and panels. The player remembers switches by the panel's ``id``, so an id must not depend on the content.

    Raises:
        ValueError: the steps do not ascend; a panel does not have one frame per step, or its labels do not fit its
            values; two panels have the same id; an id has other characters than letters, digits, hyphens, underscores;
            the sentences are neither none nor one per step.
    """

    steps: Sequence[int]  # (frame,) ascending
    panels: Sequence[Panel]
    look: Sequence[str] = ()  # (frame,) what to look at, a sentence or two; empty: nothing is said
    origin: Mapping[str, str] = field(default_factory=dict)  # where the numbers come from: what is told -> in words
    each: str = "snapshot"  # what a frame shows, in one word

    def __post_init__(self) -> None:
        if not self.steps or list(self.steps) != sorted(set(self.steps)):
            raise ValueError("A film needs at least one step, and its steps ascending.")
        ids = [panel.id for panel in self.panels]
        if len(set(ids)) < len(ids) or not all(ID.fullmatch(id) for id in ids):
            raise ValueError(f"Every panel of a film needs a plain id of its own, not {', '.join(map(repr, ids))}.")
        if len(self.look) not in (0, len(self.steps)):
            raise ValueError(f"A film of {len(self.steps)} steps needs as many sentences, not {len(self.look)}.")
        for panel in self.panels:
            panel.check(len(self.steps))

    def with_gaps(self, steps: Iterable[int]) -> "Film":
        """The film with more steps, at which its panels show no values.

        Args:
            steps: of the gaps. Those that the film has already stay as they are.
        """
        new = sorted({*self.steps, *steps})
        if new == list(self.steps):
            return self
        place = {step: i for i, step in enumerate(self.steps)}
        places = np.array([place.get(step, -1) for step in new])
        look = [self.look[i] if i >= 0 else f"There are {GAP}." for i in places.tolist()] if self.look else ()
        return replace(self, steps=new, panels=[panel.framed(places, new) for panel in self.panels], look=look)

    @cached_property
    def packed(self) -> bytes:
        """The film as bytes: the length of a JSON header (4 bytes, little endian), the header, and the panels' arrays.

        In the header, an array is ``{"at": offset, "dtype": "f4" | "i4", "shape": [...]}``; offsets count from the end
        of the header and, like its length, are multiples of 4. A single number that is not finite is null.
        """
        arrays: list[bytes] = []
        offset = 0

        def plain(thing: Any) -> Any:
            nonlocal offset
            if isinstance(thing, np.ndarray):
                dtype = "f4" if thing.dtype.kind == "f" else "i4"
                data = np.ascontiguousarray(thing, dtype=f"<{dtype}").tobytes()
                arrays.append(data)
                offset += len(data)
                return {"at": offset - len(data), "dtype": dtype, "shape": thing.shape}
            if isinstance(thing, Mapping):
                return {name: plain(value) for name, value in thing.items()}
            if isinstance(thing, Sequence) and not isinstance(thing, str):
                return [plain(item) for item in thing]
            if hasattr(thing, "__dataclass_fields__"):
                return plain(vars(thing))
            return None if isinstance(thing, float) and not math.isfinite(thing) else thing

        with np.errstate(over="ignore"):  # what is beyond float32 is infinite
            panels = [{"kind": panel.kind, **plain(panel.packed(self.steps))} for panel in self.panels]
        header = prefixed(
            {
                "steps": list(self.steps),
                "look": list(self.look),
                "panels": panels,
                "origin": dict(self.origin),
                "each": self.each,
            }
        )
        return b"".join([header, *arrays])

    def figures(self) -> dict[str, str]:
        """The panels that have a figure: id -> title."""
        return {panel.id: panel.title for panel in self.panels if panel.has_figure}

    def figure(self, id: str, step: int, mode: Mode = "light") -> Any:
        """A panel at the snapshot nearest to a step, as a plotly figure.

        Args:
            id: of the panel, one of `figures`.
            step: on screen.
            mode: of the page on which the figure is shown.

        Returns:
            A ``plotly.graph_objects.Figure``.

        Raises:
            KeyError: no panel has this id.
        """
        frame = int(np.abs(np.array(self.steps) - step).argmin())
        return {panel.id: panel for panel in self.panels}[id].figure(frame, self.steps, mode)


def message(
    film: Film, start: int, move: int = 0, switches: Sequence[Switch] | None = None, asks: bool = False
) -> bytes:
    """The message to the player: the length of a JSON header (4 bytes, little endian), the header, the packed film.

    Args:
        film: what to play.
        start: the step to open at.
        move: a player that has already opened follows ``start`` and ``switches`` only if this number has changed.
        switches: values of panels' switches; all others are reset to their initial values. None leaves all as they are.
        asks: whether the reader can ask for something else to be shown, such as another view, example or run.
    """
    return prefixed({"start": start, "move": move, "switches": switches, "asks": asks}) + film.packed


def prefixed(header: dict[str, Any]) -> bytes:
    """A header as JSON after its length, padded so that what follows begins at a multiple of 4.

    Args:
        header: its values.
    """
    text = json.dumps(header, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    return len(text).to_bytes(4, "little") + text
