"""What led a fall: when each of several measures changed, before or after the loss of a token fell.

Axes
    row        where a measure was taken: at every step, or at the snapshots, which are unevenly spaced
    draw       resampled curves
    measure    the measures that are compared with the fall

Falls and rises are those of `explorer.analysis.phases`, of losses and of any other measure alike. A curve whose rows
are evenly spaced and many is smoothed as losses are. Of any other curve single rows are dropped that stand out, but
there is no average, which would mix rows that are far apart in steps; its slopes are taken over steps, not over rows.

When a change happened is known to within an interval, which is to hold its steepest step in 95 % of cases:

* Nothing is known between two rows. A curve whose slope has one peak is steepest between the two rows where it is
  measured to be, or else in the gap next to these: a gap that is long has a small mean slope even if it holds the peak.
  So the interval spans four rows, and more steps where rows are missing.
* Smoothing moves a change that is not symmetric, by up to half of what it draws a sudden one out to.
* Noise moves the steepest step. The curve is drawn again many times, each row with normal noise of its error, or of
  the noise that the curve itself shows if that is larger, and the interval holds 95 % of the steepest steps found.

Two changes are told apart if their intervals do not touch. So a measure that led may yet have had nothing to do with
the fall, and one that is not told apart may have led by less than the snapshots can show.

Source: this project; the interval of noise is a parametric bootstrap, Efron and Tibshirani 1993, An Introduction to the
Bootstrap.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from explorer.analysis.outcomes import Middle, Order, middle, order
from explorer.analysis.phases import BETA, SPIKE_SHARE, Change, Cleaned, changes, cleaned, spacing
from explorer.analysis.smoothing import centred_average, running_median, spread

DRAWS = 200
CONFIDENCE = 0.95
AROUND = 1 / 8  # of a change's width: the slope of a step is taken over this on either side, as in `phases`
WINDOW = 3  # widths of a fall: a change that is farther from it is not looked for

Verdict = Literal["led", "followed", "not told apart", "no change"]


@dataclass(frozen=True, eq=False)
class Measure:
    """A curve over training."""

    name: str
    steps: Int[Tensor, " row"]  # ascending
    values: Float[Tensor, " row"]  # in any unit; what is not a number was not measured
    error: Float[Tensor, " row"] | None = None  # standard deviation of each value, where it is known
    span: float = math.nan  # what a change is a share of, at least a twentieth; nan: the range of the values


@dataclass(frozen=True)
class DatedChange:
    """A fall or a rise of a measure, in steps, without spikes and noise."""

    begins: float
    steepest: float  # between two snapshots, halfway
    low: float  # of the interval of ``steepest``
    high: float
    ends: float
    before: float  # the measure at ``begins``
    after: float
    share: float  # of the measure's span

    @property
    def is_fall(self) -> bool:
        return self.after < self.before


@dataclass(frozen=True)
class Lead:
    """When a measure changed, in steps after the fall; negative: before it."""

    measure: str
    change: DatedChange | None  # None if it did not change near the fall
    lag: float  # from the steepest step of the fall to that of the change; nan without a change
    low: float  # of the interval of the lag
    high: float
    verdict: Verdict


@dataclass(frozen=True, eq=False)
class SweptLead:
    """When a measure changed, over the seeds of a sweep."""

    measure: str
    lag: Middle  # median lag, in steps; a seed without a change counts as later than all others
    led: Order  # in how many of the seeds that tell it led; it did not where it never changed
    n_followed: int
    n_untold: int  # seeds in which the two are not told apart
    n_seeds: int  # in which the token's loss fell


def dated_changes(measure: Measure, seed: int = 0) -> list[DatedChange]:
    """The falls and rises of a measure, in the order of training.

    Of fewer than eight rows, noise cannot be told from change, so everything that lasts is told, unless it is less than
    the error explains.

    Args:
        measure: with any number of rows.
        seed: of the noise that is drawn.
    """
    is_known = measure.values.isfinite()
    if is_known.sum() < 2:
        return []
    is_smoothed = _is_smoothed(measure.steps)
    rows = torch.ones_like(is_known) if is_smoothed else is_known  # gaps between even rows are filled in
    steps, values = measure.steps[rows], measure.values[rows, None]
    error = None if measure.error is None else measure.error[rows, None]
    each = spacing(steps)
    span, zero = torch.tensor([measure.span]), torch.zeros(1)
    found = changes(values, span, zero, each, None if is_smoothed else steps, error)[0]
    clean = cleaned(values, each, is_smoothed, error)
    whole = measure.span if 0 < measure.span < math.inf else float(np.ptp(clean.curves))
    known, at = measure.steps[is_known].double().numpy(), steps.double().numpy()
    rng = np.random.default_rng(seed)
    return [
        DatedChange(
            float(at[change.begins]),
            *_located(change, clean, at, known, rng),
            float(at[change.ends]),
            change.before,
            change.after,
            abs(change.depth) / whole,
        )
        for change in found
    ]


def deepest_fall(measure: Measure) -> DatedChange | None:
    """The deepest fall of a loss, the first of equal ones; None if it never falls.

    Args:
        measure: the loss of a token.
    """
    falls = [change for change in dated_changes(measure) if change.is_fall]
    return max(falls, key=lambda fall: fall.share, default=None)


def leads(fall: DatedChange, measures: Sequence[Measure], window: float | None = None) -> list[Lead]:
    """When each measure changed, compared with a fall.

    Of a measure that changes several times near the fall, the change counts that is the largest share of its span, the
    nearest of equal ones.

    Args:
        fall: of a token's loss.
        measures: what may have led it or followed it.
        window: steps from the fall within which a change is near, if its interval reaches as far; None for three times
            the fall's width.

    Returns:
        In the order of their changes; last, those without any.
    """
    near = WINDOW * (fall.ends - fall.begins) if window is None else window
    return in_order(_lead(fall, measure, near) for measure in measures)


def compared(measure: str, fall: DatedChange, change: DatedChange | None) -> Lead:
    """When a measure changed, compared with a fall.

    Args:
        measure: its name.
        fall: of a token's loss.
        change: of the measure; None if it does not change near the fall.
    """
    if change is None:
        return Lead(measure, None, math.nan, math.nan, math.nan, "no change")
    low, high = change.low - fall.high, change.high - fall.low
    verdict: Verdict = "led" if high < 0 else "followed" if low > 0 else "not told apart"
    return Lead(measure, change, change.steepest - fall.steepest, low, high, verdict)


def in_order(table: Iterable[Lead]) -> list[Lead]:
    """Leads in the order of the changes; last, those without any.

    Args:
        table: in any order.
    """
    return sorted(table, key=lambda one: math.inf if one.change is None else one.lag)


def over_seeds(tables: Sequence[Sequence[Lead]]) -> list[SweptLead]:
    """How the measures led over the seeds of a sweep.

    Args:
        tables: the leads of each seed in which the token's loss fell, of the same measures.

    Returns:
        In the order of their median lags; last, those without one.
    """
    found = []
    for name in dict.fromkeys(lead.measure for table in tables for lead in table):
        of_seeds = [lead for table in tables for lead in table if lead.measure == name]
        side = {"led": -1.0, "followed": 1.0, "not told apart": 0.0, "no change": math.nan}
        sides = np.array([side[lead.verdict] for lead in of_seeds])
        lags = middle(np.array([lead.lag for lead in of_seeds]), CONFIDENCE)
        led = order(sides, np.zeros(len(sides)))
        n_followed, n_untold = int((sides == 1).sum()), int((sides == 0).sum())
        found.append(SweptLead(name, lags, led, n_followed, n_untold, len(of_seeds)))
    return sorted(found, key=lambda one: float(np.nan_to_num(one.lag.median, nan=math.inf)))


def _lead(fall: DatedChange, measure: Measure, near: float) -> Lead:
    def is_near(change: DatedChange) -> bool:
        return change.high >= fall.steepest - near and change.low <= fall.steepest + near

    found = [change for change in dated_changes(measure) if is_near(change)]
    largest = max(found, key=lambda one: (one.share, -abs(one.steepest - fall.steepest)), default=None)
    return compared(measure.name, fall, largest)


def _is_smoothed(steps: Int[Tensor, " row"]) -> bool:
    """Whether rows are evenly spaced, and so many that the average of losses reaches over few of them."""
    gaps = steps.diff()
    return len(steps) * SPIKE_SHARE >= spread(BETA) and bool((gaps == gaps[0]).all())


def _located(
    change: Change,
    clean: Cleaned,
    at: Float64[np.ndarray, " row"],
    known: Float64[np.ndarray, " known"],
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """The steepest step of a change of a cleaned curve, and its interval.

    Args:
        change: in rows.
        clean: of one measure.
        at: the steps of the rows.
        known: the steps of those that were measured.
        rng: draws noise.
    """
    reach = AROUND * (at[change.ends] - at[change.begins])
    sign = 1 if change.is_fall else -1
    # The rows that the slopes are taken over, and those that smoothing reaches from there.
    more = clean.half + (spread(clean.beta) if clean.beta else 0)
    first = max(0, int(np.searchsorted(at, at[change.begins] - reach, "right")) - 1 - more)
    last = min(len(at), int(np.searchsorted(at, at[change.ends] + reach)) + 1 + more)
    rows, at = slice(first, last), at[first:last]
    begins, ends = change.begins - first, change.ends - first
    if clean.beta:
        asked, steepest = at[begins : ends + 1], float(at[change.steepest - first])
    else:
        asked = (at[begins:ends] + at[begins + 1 : ends + 1]) / 2
        steepest = float(_steepest(sign * clean.curves[rows], at, asked, reach)[0])
    noise = clean.noise[rows] * rng.normal(size=(last - first, DRAWS))  # (row draw)
    drawn = centred_average(running_median(clean.losses[rows] + noise, clean.half), clean.beta)
    low, high = np.quantile(_steepest(sign * drawn, at, asked, reach), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    before = int(np.searchsorted(known, steepest)) - 2
    after = int(np.searchsorted(known, steepest, "right")) + 1
    drawn_out = spread(clean.beta) / 2 * float(at[1] - at[0]) if clean.beta else 0.0
    low = min(float(low), known[max(0, before)]) - drawn_out
    high = max(float(high), known[min(len(known) - 1, after)]) + drawn_out
    return steepest, float(low), float(high)


def _steepest(
    curves: Float64[np.ndarray, "row draw"],
    at: Float64[np.ndarray, " row"],
    asked: Float64[np.ndarray, " step"],
    reach: float,
) -> Float64[np.ndarray, " draw"]:
    """Which of some steps is where each curve falls most steeply, over ``reach`` steps on either side."""
    before, after = (asked - reach).clip(min=at[0]), (asked + reach).clip(max=at[-1])

    def read(steps: Float64[np.ndarray, " step"]) -> Float64[np.ndarray, "step draw"]:
        """The curves, drawn as straight lines from row to row."""
        left = (np.searchsorted(at, steps, "right") - 1).clip(max=len(at) - 2)
        share = ((steps - at[left]) / (at[left + 1] - at[left]))[:, None]
        return (1 - share) * curves[left] + share * curves[left + 1]

    slopes = (read(before) - read(after)) / (after - before)[:, None]
    return asked[slopes.argmax(0)]
