"""A Film: a list of steps and a few panels, each with the frames of all of them. Plain data, drawn by one player.

Axes
    frame    one per snapshot, first axis of everything that moves
    point    measurements along the training, for curves
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np

ID = re.compile(r"[A-Za-z0-9_-]+")
LEVELS = 65535  # heatmaps travel as 16-bit levels between ``low`` and ``high``


@dataclass(frozen=True)
class Line:
    """One curve. ``colour`` is a place in the player's palette; ``dashed`` tells a pair apart, as test from train.

    Curves of one ``group`` stand in the legend as one, by its name and with their mean.
    """

    label: str
    steps: np.ndarray  # (point,) ascending
    values: np.ndarray  # (point,)
    colour: int
    dashed: bool = False
    strong: bool = False  # drawn in the text colour and wider: the overall curve among its parts
    group: str = ""  # if it is one of several


@dataclass(frozen=True)
class Mark:
    """A step to be seen on a timeline, in the colour of the line that it belongs to."""

    label: str
    step: int
    colour: int
    group: str  # of the lines that it belongs to


@dataclass(frozen=True)
class Curves:
    """Curves over the steps; the panel is a timeline to drag on."""

    kind: ClassVar[str] = "curves"
    id: str
    title: str
    lines: Sequence[Line]
    unit: str = "nats"
    references: Sequence[tuple[str, float]] = ()  # horizontal lines
    marks: Sequence[Mark] = ()
    smoothing: float = 0.9  # a step, of the exponential average behind the switch "smooth"; 0: no such switch
    at: np.ndarray | None = None  # (frame,) ascending: the steps at which a panel stands that shows another run
    log: bool = False  # whether the scale is logarithmic to begin with
    span: int = 12  # of the 12 columns of the page
    height: int = 320  # pixels


@dataclass(frozen=True)
class Raster:
    """Rows of values over the steps, drawn as one picture; a timeline too."""

    kind: ClassVar[str] = "raster"
    id: str
    title: str
    rows: Sequence[str]
    steps: np.ndarray  # (point,) ascending
    values: np.ndarray  # (row point); nan is drawn as nothing
    low: float
    high: float
    unit: str
    onsets: np.ndarray | None = None  # (row,) a step to be marked in each row; nan: none
    scale: Literal["sequential", "diverging"] = "sequential"
    span: int = 12


@dataclass(frozen=True)
class Heatmaps:
    """A grid of maps that share labels and one colour scale, which stays fixed over all frames."""

    kind: ClassVar[str] = "heatmaps"
    id: str
    title: str
    maps: Sequence[str]
    values: np.ndarray  # (frame map row column); nan is drawn as nothing
    rows: Sequence[str]
    columns: Sequence[str]
    row_axis: str
    column_axis: str
    low: float
    high: float
    scale: Literal["sequential", "diverging"] = "sequential"
    most: float | None = None  # values of this size have the full colour, as larger ones do; if not given, ``high``
    outlines: Sequence[tuple[int, int, int, int]] = ()  # row, column, height and width of cells to frame, in each map
    span: int = 12


@dataclass(frozen=True)
class Columns:
    """A value for each category of one or several series, as columns on an axis that stays fixed over all frames."""

    kind: ClassVar[str] = "columns"
    id: str
    title: str
    categories: Sequence[str]
    series: Sequence[str]  # one name, or several that are drawn beside each other
    values: np.ndarray  # (frame series category)
    unit: str
    category_axis: str
    marked: Sequence[int] = ()  # categories whose labels stand out
    span: int = 12
    height: int = 280  # pixels


@dataclass(frozen=True)
class Scatter:
    """Points that move, on axes that stay fixed over all frames and have one scale."""

    kind: ClassVar[str] = "scatter"
    id: str
    title: str
    labels: Sequence[str]  # (point,)
    x: np.ndarray  # (frame point)
    y: np.ndarray  # (frame point)
    x_axis: str
    y_axis: str
    trail: bool = False  # each point draws its path through all frames
    ring: bool = False  # a line joins the points, the last with the first
    span: int = 6


@dataclass(frozen=True)
class Bars:
    """A probability for each category in each group, with the right category marked."""

    kind: ClassVar[str] = "bars"
    id: str
    title: str
    values: np.ndarray  # (frame group category) between 0 and 1
    groups: Sequence[str]
    categories: Sequence[str] | Sequence[Sequence[str]]  # the same for all groups, or each group's own
    targets: Sequence[int]  # the right category of each group
    said: Sequence[Sequence[str]] = ()  # (frame group) the likeliest of all, where not all categories are shown
    span: int = 12


@dataclass(frozen=True)
class Tokens:
    """A row of tokens: those of the prompt, then those that the model answers in each frame.

    An answer may be to what stands in the prompt already; it is then marked there.
    """

    kind: ClassVar[str] = "tokens"
    id: str
    title: str
    prompt: Sequence[str]
    answers: np.ndarray  # (frame answer) places in ``vocabulary``
    probabilities: np.ndarray  # (frame answer)
    targets: Sequence[int]  # (answer,) places in ``vocabulary``
    places: Sequence[int]  # (answer,) places in the row, those after the prompt in order
    vocabulary: Sequence[str]
    span: int = 12


@dataclass(frozen=True)
class Text:
    """Lines of monospaced text, one block for each frame, or one for all."""

    kind: ClassVar[str] = "text"
    id: str
    title: str
    blocks: Sequence[str]
    span: int = 12


Panel = Curves | Raster | Heatmaps | Columns | Scatter | Bars | Tokens | Text


@dataclass(frozen=True)
class Film:
    """Steps and panels. A panel keeps its ``id`` whatever its title says: the player remembers its switches by it.

    Raises:
        ValueError: a panel has not one frame for each step, or labels that do not fit its values; two panels have one
            id, or an id has other characters than letters, digits, hyphens and underscores.
    """

    steps: Sequence[int]
    panels: Sequence[Panel]

    def __post_init__(self):
        if not self.steps or list(self.steps) != sorted(set(self.steps)):
            raise ValueError("A film needs at least one step, and its steps ascending.")
        ids = [panel.id for panel in self.panels]
        if len(set(ids)) < len(ids) or not all(ID.fullmatch(id) for id in ids):
            raise ValueError(f"Every panel of a film needs a plain id of its own, not {', '.join(map(repr, ids))}.")
        n = len(self.steps)
        for panel in self.panels:
            match panel:
                case Curves():
                    fits = bool(panel.lines) and all(line.steps.shape == line.values.shape for line in panel.lines)
                    fits = fits and (panel.at is None or panel.at.shape == (n,))
                case Raster():
                    fits = panel.values.shape == (len(panel.rows), len(panel.steps))
                    fits = fits and (panel.onsets is None or panel.onsets.shape == (len(panel.rows),))
                case Columns():
                    fits = panel.values.shape == (n, len(panel.series), len(panel.categories))
                case Scatter():
                    fits = panel.x.shape == panel.y.shape == (n, len(panel.labels))
                case Heatmaps():
                    fits = panel.values.shape == (n, len(panel.maps), len(panel.rows), len(panel.columns))
                case Bars():
                    own = panel.categories and not isinstance(panel.categories[0], str)
                    lists = panel.categories if own else [panel.categories] * len(panel.groups)
                    fits = {len(labels) for labels in lists} == {panel.values.shape[-1]}
                    fits = fits and panel.values.shape[:2] == (n, len(panel.groups))
                    fits = fits and len(panel.targets) == len(panel.groups) == len(lists) and len(panel.said) in (0, n)
                case Tokens():
                    fits = panel.answers.shape == panel.probabilities.shape == (n, len(panel.targets))
                    after = [place for place in panel.places if place >= len(panel.prompt)]
                    fits = fits and len(panel.places) == len(panel.targets)
                    fits = fits and after == list(range(len(panel.prompt), len(panel.prompt) + len(after)))
                case Text():
                    fits = len(panel.blocks) in (1, n)
            if not fits:
                raise ValueError(f"The panel {panel.title!r} does not fit the film's {n} steps or its own labels.")

    def pack(self, start: int, move: int = 0) -> bytes:
        """The film as one message: the length of a JSON header (4 bytes), the header, the arrays it points into.

        In the header an array is ``{"at": offset, "dtype": "f4" | "u2", "shape": [...]}``; offsets count from the
        end of the header and are multiples of 4.

        Args:
            start: the step to open at.
            move: changes when a player that already shows a film should go to ``start`` all the same.
        """
        arrays: list[bytes] = []
        offset = 0

        def place(array: np.ndarray, dtype: str) -> dict[str, Any]:
            nonlocal offset
            data = np.ascontiguousarray(array, dtype=f"<{dtype}").tobytes()
            data += bytes(-len(data) % 4)
            arrays.append(data)
            offset += len(data)
            return {"at": offset - len(data), "dtype": dtype, "shape": array.shape}

        def plain(thing: Any) -> Any:
            if isinstance(thing, np.ndarray):
                return place(thing, "f4")
            if isinstance(thing, Panel | Line | Mark):
                values = {field.name: getattr(thing, field.name) for field in fields(thing)}
                if isinstance(thing, Heatmaps):
                    values["values"] = place(_levels(thing), "u2")
                else:
                    values = {name: plain(value) for name, value in values.items()}
                return {"kind": thing.kind, **values} if isinstance(thing, Panel) else values
            if isinstance(thing, list | tuple):
                return [plain(item) for item in thing]
            return thing

        panels = [plain(panel) for panel in self.panels]
        whole = {"start": start, "move": move, "steps": list(self.steps), "panels": panels}
        header = json.dumps(whole, allow_nan=False).encode()
        header += b" " * (-len(header) % 4)
        return len(header).to_bytes(4, "little") + header + b"".join(arrays)


def _levels(panel: Heatmaps) -> np.ndarray:
    """Values as levels 1..65535 from low to high; what is not finite is level 0, drawn as nothing."""
    share = (panel.values - panel.low) / ((panel.high - panel.low) or 1.0)
    with np.errstate(invalid="ignore"):
        levels = 1 + np.rint(np.clip(share, 0, 1) * (LEVELS - 1))
    return np.where(np.isfinite(panel.values), levels, 0).astype(np.uint16)
