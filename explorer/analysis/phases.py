"""When losses fall and rise: the phase changes in the loss curves of a run.

Axes
    step     rows of a loss curve, in the order of training
    token    the per-token losses of a task
    knot     rows at which a curve, drawn as straight pieces, bends
    piece    between two knots

U is the loss of a uniform guess and O the best possible loss of a token.

A curve is measured in four steps, in the order of the functions below. Spikes and noise are taken out with a running
median, which keeps a sudden fall sudden. The curve is then cut into straight pieces, which knows no time scale: a fall
of 20 steps and one of 2,000 are found alike. Where it turns by more than the noise explains, falls change to rises;
between two turns there is a change for each peak of the slope. Source: this project; the pieces are those of Ramer 1972
and of Douglas and Peucker 1973.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from scipy.ndimage import median_filter
from torch import Tensor

from explorer.analysis.smoothing import centred_average, filled, running_median, smooth_robustly, spread

SPIKE = 60  # steps: what is over again sooner is not a change
SPIKE_SHARE = 0.05  # of the rows, where that is less than a spike
BETA = 0.7  # of the average over the running median
DEEP = 0.05  # of U - O: a smaller change is not told
SIGMAS = 8  # standard deviations of the noise that the running median leaves: a smaller change is not told
END_SIGMAS = 5  # the same for the few rows at the ends, where the running median is over fewer and leaves more noise
ROUNDING = 1e-9  # of the largest loss: a smaller change comes from rounding
BEND = 0.25  # of the smallest change that is told: how far a piece may be from the curve
BEND_SIGMAS = 1.5  # the same in standard deviations of the averaged losses: within a fall the median helps little
SMALL = 0.1  # of the steepest slope: where a change begins and ends
VALLEY = 1 / 3  # of the smaller of two peaks of the slope: they are one change if it stays above that between them
FEW = 8  # rows: of fewer, noise cannot be told from change


@dataclass(frozen=True)
class Change:
    """A fall or a rise of one loss, as rows of the loss curve; losses in nats, without spikes and noise."""

    begins: int  # from here to ``ends`` the slope is at least a tenth of the steepest
    steepest: int
    ends: int
    before: float  # the loss at ``begins``
    after: float  # the loss at ``ends``

    @property
    def depth(self) -> float:
        """By how much the loss falls, in nats; negative for a rise."""
        return self.before - self.after

    @property
    def is_fall(self) -> bool:
        return self.after < self.before


def deepest(changes: Sequence[Change]) -> Change | None:
    """The deepest fall, the first of equal ones; None if there is no fall.

    Args:
        changes: of one loss.
    """
    return max((change for change in changes if change.is_fall), key=lambda change: change.depth, default=None)


def spacing(steps: Int[Tensor, " row"]) -> float:
    """The steps from one row of a loss curve to the next: losses may be measured every few steps.

    Args:
        steps: at which the rows were measured, ascending.
    """
    return float(steps[-1] - steps[0]) / (len(steps) - 1) if len(steps) > 1 else 1.0


def resolution(spacing: float = 1.0) -> int:
    """The width in steps below which `changes` cannot tell how sudden a change is.

    Args:
        spacing: steps from one row to the next.
    """
    return max(1, round(spread(BETA) * spacing))


def remaining_share(
    losses: Float[Tensor, "step token"],
    uniform: Float[Tensor, " token"],
    best: Float[Tensor, " token"],
    beta: float = 0.9,
) -> Float64[Tensor, "step token"]:
    """(loss - O) / (U - O) of the smoothed losses: 1 at a uniform guess, 0 at the best possible loss.

    Source: this project.

    Args:
        losses: in nats, not smoothed.
        uniform: U, in nats.
        best: O, in nats.
        beta: of `smooth_robustly`.

    Returns:
        Above 1 for a loss above U; nan where U or O is unknown, or where they are equal.
    """
    span = (uniform - best).double()
    return (smooth_robustly(losses, beta) - best) / span.where(span != 0, torch.nan)


@dataclass(frozen=True)
class Cleaned:
    """Losses without spikes and noise, and what took these out."""

    losses: Float64[np.ndarray, "step token"]  # as measured, with what is missing filled in
    curves: Float64[np.ndarray, "step token"]  # after a running median and then a centred average
    noise: Float64[np.ndarray, "step token"]  # standard deviation of the noise of each of ``losses``
    half: int  # rows of the running median before and after each
    beta: float  # of the average


def cleaned(
    losses: Float[Tensor, "step token"],
    spacing: float = 1.0,
    is_averaged: bool = True,
    error: Float[Tensor, "step token"] | None = None,
) -> Cleaned:
    """Losses without spikes and noise.

    Args:
        losses: in nats, not smoothed; what is not a number is filled in from the losses before and after.
        spacing: steps from one row to the next.
        is_averaged: whether an average follows the running median. Rows that are unevenly spaced should not be: their
            average would be of other steps than their own.
        error: standard deviation of each loss, where it is known: the noise is at least this. What is not a number is
            not known.
    """
    n = len(losses)
    rows = filled(losses.double().numpy())
    half = max(1, min(round(SPIKE / spacing), int(n * SPIKE_SHARE))) if n >= FEW else 0
    beta = BETA if n >= FEW and is_averaged else 0.0
    medians = running_median(rows, half)
    noise = _noise(rows, medians, half)
    if error is not None:
        noise = np.maximum(noise, error.double().nan_to_num(0).numpy())
    return Cleaned(rows, centred_average(medians, beta), noise, half, beta)


def changes(
    losses: Float[Tensor, "step token"],
    uniform: Float[Tensor, " token"],
    best: Float[Tensor, " token"],
    spacing: float = 1.0,
    steps: Int[Tensor, " step"] | None = None,
    error: Float[Tensor, "step token"] | None = None,
) -> list[list[Change]]:
    """The falls and rises of each token's loss, in the order of training.

    A change is at least a twentieth of U - O (of the range of the curve, where U - O is unknown), and more than the
    noise of the curve explains. What is over again within `SPIKE` steps is not told, nor within a twentieth of a
    shorter curve. A slow tail ends a fall; it is a change of its own only if it steepens again.

    Args:
        losses: in nats, not smoothed; what is not a number is filled in from the losses before and after.
        uniform: U, in nats.
        best: O, in nats.
        spacing: steps from one row to the next, the mean where they are unevenly spaced.
        steps: of the rows, ascending, where they are unevenly spaced. Slopes are then taken over these, and the curve
            is not averaged.
        error: standard deviation of each loss, where it is known, as for `cleaned`.
    """
    n, n_tokens = losses.shape
    if n < 2 or not n_tokens:
        return [[] for _ in range(n_tokens)]
    clean = cleaned(losses, spacing, steps is None, error)
    at = np.arange(n, dtype=float) if steps is None else steps.double().numpy()
    spans = (uniform - best).double().numpy()
    spans = np.where((spans > 0) & np.isfinite(spans), spans, np.ptp(clean.curves, axis=0))
    half, beta, noise = clean.half, clean.beta, clean.noise
    reaches = np.minimum(np.arange(n), np.arange(n)[::-1]).clip(max=half)[:, None]
    left = np.sqrt(np.pi / 2 / (2 * half + 1)) * noise  # standard deviation of the running median
    left_at_ends = np.sqrt(np.pi / 2 / (2 * reaches + 1)) * noise
    rounded = ROUNDING * np.abs(clean.curves).max(0) + np.finfo(float).tiny
    told = np.maximum(np.maximum(SIGMAS * left, END_SIGMAS * left_at_ends), np.maximum(DEEP * spans, rounded))
    averaged = np.sqrt((1 - beta) * (1 + beta**2) / (1 + beta) ** 3) * noise
    allowed = np.maximum(BEND * told, BEND_SIGMAS * averaged)
    return [_changes(*columns, at) for columns in zip(clean.curves.T, told.T, allowed.T, strict=True)]


def _changes(
    curve: Float64[np.ndarray, " step"],
    told: Float64[np.ndarray, " step"],
    allowed: Float64[np.ndarray, " step"],
    at: Float64[np.ndarray, " step"],
) -> list[Change]:
    """The changes of a curve of at least ``told`` at their rows; pieces are as near to it as ``allowed``.

    ``at`` is where the rows lie: their numbers, or their steps where they are unevenly spaced.
    """
    knots = _knots(curve, allowed, at)
    found = []
    for start, end in pairwise(_turns(curve, knots, told)):
        leg = knots[(knots >= start) & (knots <= end)]
        sign = 1 if curve[start] > curve[end] else -1
        for begins, steepest, ends in _on_leg(sign * curve, leg, told, at):
            found.append(Change(begins, steepest, ends, float(curve[begins]), float(curve[ends])))
    return found


def _noise(
    losses: Float64[np.ndarray, "step token"], medians: Float64[np.ndarray, "step token"], half: int
) -> Float64[np.ndarray, "step token"]:
    """The standard deviation of the noise around each row, from the second differences and from what the running median
    takes away; larger where the noise of neighbouring rows is alike, of which a median leaves more.

    Sources of the constants: 1.4826 times the median of absolute values is the standard deviation of normal noise, and
    a second difference of white noise has 6 times its variance.
    """
    n = len(losses)
    if n < FEW:
        return np.zeros_like(losses)
    bends = np.abs(np.diff(losses, 2, axis=0, prepend=losses[:1], append=losses[-1:])) / np.sqrt(6)
    taken, around = losses - medians, max(2 * half, FEW)
    noise = 1.4826 * np.maximum(_local_median(bends, around), _local_median(np.abs(taken), around))
    size = half // 4
    if size > 1:
        scaled = np.divide(taken, noise, out=np.zeros_like(taken), where=noise > 0)
        means = scaled[: n // size * size].reshape(-1, size, noise.shape[1]).mean(1)
        noise = noise * np.maximum(1, 1.4826 * np.median(np.abs(means), axis=0) * np.sqrt(size))
    return noise


def _local_median(values: Float64[np.ndarray, "step token"], half: int) -> Float64[np.ndarray, "step token"]:
    return np.stack([median_filter(column, size=2 * half + 1, mode="reflect") for column in values.T], 1)


def _knots(
    curve: Float64[np.ndarray, " step"], allowed: Float64[np.ndarray, " step"], at: Float64[np.ndarray, " step"]
) -> Int[np.ndarray, " knot"]:
    """Rows between which the curve is a straight piece to within ``allowed`` at each row, the first and last included.

    Each piece is cut where the curve is farthest from it, until it is near enough.
    """
    kept, pieces = [0, len(curve) - 1], [(0, len(curve) - 1)]
    allowed = np.maximum(allowed, np.finfo(float).tiny)
    while pieces:
        start, end = pieces.pop()
        if end - start < 2:
            continue
        share = (at[start + 1 : end] - at[start]) / (at[end] - at[start])
        straight = curve[start] + share * (curve[end] - curve[start])
        off = np.abs(curve[start + 1 : end] - straight) / allowed[start + 1 : end]
        farthest = int(off.argmax())
        if off[farthest] > 1:
            cut = start + 1 + farthest
            kept.append(cut)
            pieces += [(start, cut), (cut, end)]
    return np.array(sorted(kept))


def _turns(
    curve: Float64[np.ndarray, " step"], knots: Int[np.ndarray, " knot"], told: Float64[np.ndarray, " step"]
) -> list[int]:
    """The knots at which the curve turns from falling to rising or back, and the two at its ends; none where all that
    happens is too small to be told."""
    turns: list[int] = []
    low = high = int(knots[0])  # the lowest and the highest knot since the last turn
    rising = falling = True  # both as long as neither is certain
    for knot in knots.tolist():
        low = knot if curve[knot] < curve[low] else low
        high = knot if curve[knot] > curve[high] else high
        if rising and curve[high] - curve[knot] >= max(told[high], told[knot]):
            turns.append(high)
            rising, falling, low = False, True, knot
        elif falling and curve[knot] - curve[low] >= max(told[low], told[knot]):
            turns.append(low)
            rising, falling, high = True, False, knot
    if rising != falling:
        turns.append(high if rising else low)
    return turns


def _on_leg(
    curve: Float64[np.ndarray, " step"],
    knots: Int[np.ndarray, " knot"],
    told: Float64[np.ndarray, " step"],
    at: Float64[np.ndarray, " step"],
) -> list[tuple[int, int, int]]:
    """The falls of a curve between two turns, where it never rises by much: begin, steepest row and end of each."""
    slopes = (curve[knots[:-1]] - curve[knots[1:]]) / np.diff(at[knots])  # (piece,), positive where the curve falls
    padded = np.pad(slopes, 1, constant_values=-np.inf)
    peaks = np.flatnonzero((slopes > 0) & (slopes > padded[:-2]) & (slopes >= padded[2:])).tolist()
    while len(peaks) > 1:  # the two peaks that are least apart become one
        pairs = list(pairwise(peaks))
        smaller = [min(pair, key=slopes.__getitem__) for pair in pairs]
        shares = [slopes[a : b + 1].min() / slopes[peak] for (a, b), peak in zip(pairs, smaller, strict=True)]
        least = int(np.argmax(shares))
        if shares[least] <= VALLEY:
            break
        peaks.remove(smaller[least])
    valleys = [one + int(slopes[one : other + 1].argmin()) for one, other in pairwise(peaks)]
    found = []
    for peak, first, last in zip(peaks, [0, *valleys], [*valleys, len(slopes) - 1], strict=True):
        fall = _fall(curve, knots[first : last + 2], slopes[first : last + 1], peak - first, at)
        if curve[fall[0]] - curve[fall[2]] >= max(told[row] for row in fall):
            found.append(fall)
    return found


def _fall(
    curve: Float64[np.ndarray, " step"],
    knots: Int[np.ndarray, " knot"],
    slopes: Float64[np.ndarray, " piece"],
    peak: int,
    at: Float64[np.ndarray, " step"],
) -> tuple[int, int, int]:
    """Begin, steepest row and end of the fall around a piece.

    The pieces next to it that are at least a tenth as steep belong to it. Within them the slope of a row is taken over
    an eighth of the fall's width on either side, so that noise does not decide which is the steepest.
    """
    small = np.flatnonzero(slopes < SMALL * slopes[peak])
    first = int(small[small < peak].max(initial=-1)) + 1
    last = int(small[small > peak].min(initial=len(slopes))) - 1
    begins, ends = int(knots[first]), int(knots[last + 1])
    width = (curve[begins] - curve[ends]) / slopes[peak]  # of a straight fall that is as steep
    rows, half = np.arange(begins, ends + 1), max(1, round(width / 5))
    before = (np.searchsorted(at, at[rows] - half, "right") - 1).clip(knots[0])
    after = np.searchsorted(at, at[rows] + half).clip(max=knots[-1])
    steep = (curve[before] - curve[after]) / (at[after] - at[before])
    steepest = begins + int(steep.argmax())
    small = begins + np.flatnonzero(steep < SMALL * steep.max())
    # The outer pieces bend, so that they may hold a stretch that is not steep.
    head = small[small < min(knots[first + 1], steepest)]
    tail = small[small > max(knots[last], steepest)]
    return int(head.max(initial=begins)), steepest, int(tail.min(initial=ends))
