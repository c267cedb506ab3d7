"""What a panel is expected to show at three snapshots, and the comparison with what it shows.

Numbers agree if they differ by less than a share of the largest expected number of the frame, which is what the
rounding of the app's float32 amounts to. Printed digits agree if the number rounds to them.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from explorer.film.panels.bars import Bars
from explorer.film.panels.columns import Columns
from explorer.film.panels.curves import Curves
from explorer.film.panels.graph import Graph
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.pairs import Pairs
from explorer.film.panels.panel import Panel
from explorer.film.panels.raster import Raster
from explorer.film.panels.scatter import Scatter
from explorer.film.panels.text import Text
from explorer.film.panels.tokens import Tokens

RTOL = 2e-5  # float32 has 6e-8; sums over some hundred terms and the exponential of a softmax lose two digits
NO_NUMBER = re.compile(r"L\d+H\d+|L\d+N\d+|L\d+ MLP|blocks\.\d+|\d-D")  # names that have digits
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


def same(shown: np.ndarray, expected: np.ndarray, rtol: float = RTOL, atol: float = 1e-12) -> None:
    """Both (frame ...), nan where the other is; the scale is that of each frame."""
    shown, expected = (np.asarray(values, np.float64) for values in (shown, expected))
    assert shown.shape == expected.shape, f"{shown.shape} shown, {expected.shape} expected"
    shown = np.where(np.isneginf(shown), np.nan, shown)
    expected = np.where(np.isneginf(expected), np.nan, expected)
    assert (np.isnan(shown) == np.isnan(expected)).all(), "a value is missing where it is expected, or the reverse"
    for frame, (one, other) in enumerate(zip(shown, expected, strict=True)):
        scale = np.nanmax(np.abs(other), initial=0) if np.isfinite(other).any() else 0
        error = np.nanmax(np.abs(one - other), initial=0) if np.isfinite(other).any() else 0
        if error > rtol * scale + atol:
            place = np.unravel_index(np.nanargmax(np.abs(one - other)), one.shape) if np.ndim(one) else ()
            raise AssertionError(
                f"in frame {frame} of the three at {[int(i) for i in place]}: {one[place]:.9g} is shown, "
                f"{other[place]:.9g} is right; the error is {error / (scale or 1):.1e} of the scale"
            )


def rounds_to(text: str, value: float, error: float = 0.0) -> None:
    """The value, written with as many digits as the text has, is the text; it may be wrong by ``error``."""
    match = re.fullmatch(r"(-?[\d,]*)(?:\.(\d*))?(?:e([+-]?\d+))?(%?)", text)
    assert match, f"{text!r} is no number"
    unit = 10.0 ** (int(match[3] or 0) - len(match[2] or ""))
    shown = float(text.rstrip("%").replace(",", ""))
    value = 100 * value if match[4] else value
    assert abs(shown - value) <= unit / 2 + RTOL * abs(value) + 1e-12 + error, f"{text} is printed for {value!r}"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The contents of a panel at three frames."""

    rtol: float = RTOL
    atol: float = 1e-12
    numbers: Sequence[float] = ()  # in the title
    title: str | None = None  # what the title contains


@dataclass(frozen=True)
class Maps(Expected):
    maps: Sequence[str]
    values: np.ndarray  # (frame map row column)
    rows: Sequence[str] | None = None
    columns: Sequence[str] | None = None
    framed: Sequence[tuple[int, int, int, int]] | None = None

    def compare(self, panel: Panel, frames: Sequence[int]) -> None:
        assert isinstance(panel, Heatmaps)
        assert list(panel.maps) == list(self.maps)
        for labels, expected in ((panel.rows, self.rows), (panel.columns, self.columns)):
            assert expected is None or list(labels) == list(expected)
        assert self.framed is None or list(panel.outlines) == list(self.framed)
        same(panel.values[frames], self.values, self.rtol)


@dataclass(frozen=True)
class OfPairs(Expected):
    """A map of pairs of snapshots."""

    axes: tuple[str, str]
    values: np.ndarray  # (frame frame)

    def compare(self, panel: Panel, frames: Sequence[int]) -> None:
        assert isinstance(panel, Pairs)
        assert (panel.row_axis, panel.column_axis) == self.axes
        same(panel.values[np.ix_(frames, frames)], self.values, self.rtol, self.atol)


@dataclass(frozen=True)
class Series(Expected):
    """Columns."""

    series: Sequence[str]
    categories: Sequence[str | float]  # numbers are printed
    values: np.ndarray  # (frame series category)
    marked: Sequence[int] = ()

    def compare(self, panel: Panel, frames: Sequence[int]) -> None:
        assert isinstance(panel, Columns)
        assert list(panel.series) == list(self.series)
        numbers = [abs(value) for value in self.categories if not isinstance(value, str)]
        cells(list(panel.categories), self.categories, error=RTOL * max(numbers, default=0))
        assert list(panel.marked) == list(self.marked)
        same(panel.values[frames], self.values, self.rtol, self.atol)


@dataclass(frozen=True)
class Lines(Expected):
    """Curves of values at each snapshot."""

    steps: Sequence[int]  # of all snapshots
    values: Mapping[str, Sequence[float]]  # label -> (frame,)
    intervals: Mapping[str, Sequence[float]] | None = None  # label -> (frame,) how far a value may be from the truth
    references: Mapping[str, float] = field(default_factory=dict)

    def compare(self, panel: Panel, frames: Sequence[int]) -> None:
        assert isinstance(panel, Curves)
        assert not panel.marks
        assert dict(panel.references) == dict(self.references)
        assert not panel.smoothing
        shown = {line.label: line for line in panel.lines}
        assert list(shown) == list(self.values)
        for line in panel.lines:
            assert list(line.steps) == list(self.steps)
        values = np.array(list(self.values.values())).T  # (frame, line)
        same(np.array([line.values[frames] for line in panel.lines]).T, values, self.rtol, self.atol)
        assert [line.interval is not None for line in panel.lines] == [self.intervals is not None] * len(panel.lines)
        if self.intervals is not None:
            around = np.array([line.interval[frames] for line in panel.lines if line.interval is not None]).T
            # A standard error is made of differences of float32 numbers.
            atol = 1e-7 * np.nanmax(np.abs(values))
            same(around, np.array([self.intervals[label] for label in shown]).T, 10 * self.rtol, atol)


@dataclass(frozen=True)
class Recorded(Expected):
    """Curves of what was measured while training, at all steps."""

    values: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]  # label -> steps, values, smoothed
    references: Mapping[str, float]
    marks: Sequence[tuple[str, int]]
    beta: float

    def compare(self, panel: Panel, frames: Sequence[int]) -> None:
        assert isinstance(panel, Curves)
        assert [line.label for line in panel.lines] == list(self.values)
        for line, (steps, values, averages) in zip(panel.lines, self.values.values(), strict=True):
            assert np.array_equal(line.steps, steps), line.label
            assert np.array_equal(line.values, values, equal_nan=True), line.label
            if self.beta:
                assert line.smoothed is not None
                # the average is float64, but drawn in float32
                np.testing.assert_allclose(line.smoothed, averages, rtol=1e-6, atol=1e-12)
        assert panel.smoothing == self.beta
        shown = dict(panel.references)
        assert list(shown) == list(self.references)
        for label, value in self.references.items():
            assert math.isclose(shown[label], value, rel_tol=1e-12)
        assert [(mark.label, mark.step) for mark in panel.marks] == list(self.marks)


@dataclass(frozen=True)
class Answers(Expected):
    """A strip of tokens."""

    prompt: Sequence[str]
    said: Sequence[Sequence[int]]  # (frame answer)
    probabilities: np.ndarray  # (frame answer) of what is said
    targets: Sequence[int]
    places: Sequence[int]
    vocabulary: Sequence[str]

    def compare(self, panel: Panel, frames: Sequence[int]) -> None:
        assert isinstance(panel, Tokens)
        assert list(panel.prompt) == list(self.prompt)
        assert list(panel.vocabulary) == list(self.vocabulary)
        assert list(panel.targets) == list(self.targets)
        assert list(panel.places) == list(self.places)
        assert panel.answers[frames].tolist() == [list(row) for row in self.said]
        same(panel.probabilities[frames], self.probabilities, self.rtol)


@dataclass(frozen=True)
class Probabilities(Expected):
    """Bars: the probability of every token that is named, and of all others together."""

    groups: Sequence[str]
    values: np.ndarray  # (frame answer d_vocab_out)
    targets: Sequence[int]
    vocabulary: Sequence[str]

    def compare(self, panel: Panel, frames: Sequence[int]) -> None:
        assert isinstance(panel, Bars)
        shown = panel.values[frames]
        answers = [list(self.groups).index(group) for group in panel.groups]
        for place, answer in enumerate(answers):
            labels, target = list(panel.labels[place]), self.targets[answer]
            assert labels[panel.targets[place]] == self.vocabulary[target]
            tokens = [self.vocabulary.index(label) for label in labels if label != "other"]
            expected = self.values[:, answer][:, tokens]
            if "other" in labels:
                expected = np.column_stack([expected, 1 - expected.sum(1)])
            else:
                assert labels == list(self.vocabulary)
            same(shown[:, place], expected, self.rtol)
        if panel.predicted:
            said = [[self.vocabulary[token] for token in row[answers]] for row in self.values.argmax(-1)]
            assert [list(panel.predicted[frame]) for frame in frames] == said


@dataclass(frozen=True)
class Points(Expected):
    """A scatter."""

    labels: Sequence[str]
    points: np.ndarray  # (frame point 2)
    axes: tuple[str, str]

    def compare(self, panel: Panel, frames: Sequence[int]) -> None:
        assert isinstance(panel, Scatter)
        assert list(panel.labels) == list(self.labels)
        assert (panel.x_axis, panel.y_axis) == self.axes
        same(np.stack([panel.x[frames], panel.y[frames]], -1), self.points, self.rtol)


@dataclass(frozen=True)
class Rows(Expected):
    """A raster over the snapshots, or over some other steps."""

    rows: Sequence[str]
    steps: Sequence[int]
    values: np.ndarray  # (row point), at ``at`` of the steps
    at: Sequence[int]
    marks: Sequence[float] | None = None  # (row,) steps; nan: none

    def compare(self, panel: Panel, frames: Sequence[int]) -> None:
        assert isinstance(panel, Raster)
        assert list(panel.rows) == list(self.rows)
        assert list(panel.steps) == list(self.steps)
        same(panel.values[:, self.at].T, np.asarray(self.values).T, self.rtol)
        assert (panel.marks is None) == (self.marks is None)
        if panel.marks is not None:
            np.testing.assert_array_equal(panel.marks, self.marks)


@dataclass(frozen=True)
class Edges(Expected):
    """The edges of a graph, and what is enough of them."""

    ends: Sequence[tuple[str, str]]  # (edge,) sender and receiver
    values: np.ndarray  # (frame edge)
    is_circuit: Callable[[int, np.ndarray], bool]  # (of the three frames, which edges are kept) -> whether they may be

    def compare(self, panel: Panel, frames: Sequence[int]) -> None:
        assert isinstance(panel, Graph)
        shown = zip(panel.senders, panel.receivers, strict=True)
        assert [(panel.nodes[sender], panel.nodes[receiver]) for sender, receiver in shown] == list(self.ends)
        same(panel.values[frames], self.values, self.rtol)
        for place, frame in enumerate(frames):
            kept = panel.kept[frame]
            assert (np.isnan(kept) == np.isnan(self.values[place])).all()
            if np.isfinite(kept).all():
                assert self.is_circuit(place, kept == 1)


@dataclass(frozen=True)
class Lettering(Expected):
    """Texts, the same to the letter."""

    blocks: Sequence[str]  # (frame,)

    def compare(self, panel: Panel, frames: Sequence[int]) -> None:
        assert isinstance(panel, Text)
        assert [panel.blocks[frame] for frame in frames] == list(self.blocks)


@dataclass(frozen=True)
class Printed(Expected):
    """Texts of a heading and rows of cells; a number agrees if it rounds to what is printed."""

    heading: Sequence[str]
    blocks: Sequence[Sequence[Sequence[str | float]]]  # (frame, or one) row cell
    cell: re.Pattern[str] = re.compile(r"\S+(?: \S+)*")

    def compare(self, panel: Panel, frames: Sequence[int]) -> None:
        assert isinstance(panel, Text)
        blocks = [panel.blocks[frame] for frame in frames] if len(panel.blocks) > 1 else list(panel.blocks)
        assert len(blocks) == len(self.blocks)
        for block, expected in zip(blocks, self.blocks, strict=True):
            heading, *rows = block.split("\n")
            assert re.split(r"\s{2,}", heading.strip()) == list(self.heading)
            assert len(rows) == len(expected)
            for row, values in zip(rows, expected, strict=True):
                cells(self.cell.findall(row), values)


def cells(shown: Sequence[str], expected: Sequence[str | float], error: float = 0.0) -> None:
    """Printed cells agree with texts, or with the numbers that they stand for."""
    assert len(shown) == len(expected), f"{shown} shown, {expected} expected"
    for text, value in zip(shown, expected, strict=True):
        if isinstance(value, str):
            assert text == value
        else:
            rounds_to(text, value, error)


def numbers_in(title: str, known: Sequence[str] = ()) -> list[str]:
    """The numbers in a title, but for those in names and in the texts ``known``."""
    for text in known:
        title = title.replace(text, "")
    return NUMBER.findall(NO_NUMBER.sub("", title))
