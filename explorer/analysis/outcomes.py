"""How trainings turn out: the phases of learning of Liu et al., and falls over several seeds.

Axes
    run      trainings
    point    training steps at which all of them are looked at, ascending
    seed     the runs of one setting
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

PHASES = ("confusion", "memorisation", "grokking", "comprehension")
CONFUSION, MEMORISATION, GROKKING, COMPREHENSION = range(4)
REACHED = 0.9  # share of right answers from which on examples count as learnt, as in the paper
DELAY = 1000  # steps from learning the training data to unseen ones from which on this is grokking, as in the paper


def reached_at(
    right: Float[np.ndarray, "run point"], steps: Int[np.ndarray, " point"], reached: float = REACHED
) -> Float[np.ndarray, " run"]:
    """The first step at which enough answers are right.

    Args:
        right: share of right answers; nan where nothing was measured.
        steps: of the points.
        reached: the share that is enough.

    Returns:
        nan for a run that never gets there.
    """
    enough = np.nan_to_num(right, nan=-1.0) >= reached
    first = steps[enough.argmax(1)].astype(float)
    return np.where(enough.any(1), first, np.nan)


def phases(
    train: Float[np.ndarray, "run point"],
    unseen: Float[np.ndarray, "run point"],
    steps: Int[np.ndarray, " point"],
    reached: float = REACHED,
    delay: float = DELAY,
) -> Int[np.ndarray, "run point"]:
    """The phase of each run, at each point of its training.

    Confusion: not even the training data are learnt. Memorisation: these are, unseen data are not. Comprehension: both
    are, unseen data less than ``delay`` steps after the training data. Grokking: both are, later than that. A run that
    forgets returns to the phase of what it still knows.

    Source: Liu et al. 2022, Towards Understanding Grokking: An Effective Theory of Representation Learning, section
    4.2; there, a run has the phase that it ends in.

    Args:
        train: share of right answers on the training data; nan where nothing was measured.
        unseen: the same on unseen data.
        steps: of the points.
        reached: the share of right answers from which on data count as learnt.
        delay: steps.

    Returns:
        Places in `PHASES`; -1 where nothing was measured.
    """
    lag = reached_at(unseen, steps, reached) - reached_at(train, steps, reached)  # (run,)
    understood = np.where(lag >= delay, GROKKING, COMPREHENSION)[:, None]
    found = np.where(unseen >= reached, understood, np.where(train >= reached, MEMORISATION, CONFUSION))
    found = np.where((unseen >= reached) & ~(train >= reached), COMPREHENSION, found)
    return np.where(np.isnan(train) | np.isnan(unseen), -1, found)


@dataclass(frozen=True, eq=False)
class Middle:
    """The median over seeds, with an interval that holds for any distribution."""

    median: Float[np.ndarray, "..."]  # nan where no more than half of the seeds have a value
    low: Float[np.ndarray, "..."]  # nan where the interval is open
    high: Float[np.ndarray, "..."]


def middle(values: Float[np.ndarray, "seed ..."], confidence: float = 0.95) -> Middle:
    """The median of what some seeds may never reach.

    The interval is between two order statistics, which the binomial distribution chooses. A seed without a value counts
    as later than all others. Source: Conover 1999, Practical Nonparametric Statistics, section 3.2.

    Args:
        values: such as steps; nan for a seed that has none.
        confidence: of the interval.
    """
    from scipy.stats import binom  # takes half a second, and most pages need none of it

    n = len(values)
    ordered = np.sort(np.where(np.isnan(values), np.inf, values), axis=0)
    median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    below = int(binom.ppf((1 - confidence) / 2, n, 0.5))  # values that may be below the interval
    while below > 0 and binom.cdf(below - 1, n, 0.5) > (1 - confidence) / 2:
        below -= 1
    is_wide_enough = below > 0
    low = ordered[below - 1] if is_wide_enough else np.full_like(median, np.nan)
    high = ordered[n - below] if is_wide_enough else np.full_like(median, np.nan)
    return Middle(*(np.where(np.isfinite(found), found, np.nan) for found in (median, low, high)))


@dataclass(frozen=True)
class Order:
    """In how many of the seeds one thing falls before another."""

    before: int
    n: int  # seeds in which at least one of them falls, at different steps
    low: float  # of the share, a Wilson interval of 95 %
    high: float


def order(one: Float[np.ndarray, " seed"], other: Float[np.ndarray, " seed"]) -> Order:
    """In how many seeds the first falls before the second.

    Args:
        one, other: steps of the falls; nan for one that never comes, which is later than any that does.
    """
    first, second = (np.where(np.isnan(steps), np.inf, steps) for steps in (one, other))
    n, before = int((first != second).sum()), int((first < second).sum())
    if not n:
        return Order(0, 0, 0.0, 1.0)
    from scipy.stats import binomtest  # as above

    interval = binomtest(before, n).proportion_ci(method="wilson")
    return Order(before, n, float(interval.low), float(interval.high))


def agreeing(kinds: Int[np.ndarray, "seed ..."], n_kinds: int) -> tuple[Int[np.ndarray, "..."], Int[np.ndarray, "..."]]:
    """The most frequent kind over seeds, the first of equally frequent ones, and how many seeds have it.

    Args:
        kinds: -1 where a seed has none.
        n_kinds: how many kinds there are.

    Returns:
        The kind, -1 where no seed has one, and the number of seeds.
    """
    counts = np.stack([(kinds == kind).sum(0) for kind in range(n_kinds)])
    most = counts.max(0)
    return np.where(most > 0, counts.argmax(0), -1), most
