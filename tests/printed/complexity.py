"""The local learning coefficient, from the draws that are kept, and the comparison of settings."""

import numpy as np

from tests.plain import measures
from tests.plain.model import Array
from tests.printed.expected import Expected, Lines, Maps, Series
from tests.printed.page import Page, recomputes

N_BETAS, STEP_SIZES = (2.0, 8.0, 32.0, 128.0), (1e-4, 3e-4, 1e-3, 3e-3)
RATIOS, MOST_BELOW, MOST_DRIFT = (0.8, 1.2), 0.2, 0.1  # where an estimate is believed
PLATEAU = 0.2  # how much the estimate may change beside the settings that are chosen
USUAL = (25.0, 1e-3)  # n_beta and step size where there are none
BINS = 15
EXAMPLES = 10**6  # more than any training data have


def draws(page: Page) -> tuple[Array, Array, Array, dict]:
    """At the three snapshots: the losses (frame chain draw) that were drawn, that of the snapshot on all training
    examples (frame,), and the ratios (frame chain) that were kept; and the settings."""
    kept, settings = page.kept("complexity")
    order = np.argsort(kept["place"])
    assert list(kept["place"][order]) == list(range(len(page.run.steps)))
    sample = page.of_measures(EXAMPLES, training=True)
    baseline = np.array(page.each(lambda w: page.token_losses(w, sample).mean()))
    np.testing.assert_allclose(kept["baseline"][order][page.frames], baseline, rtol=1e-3, atol=1e-9)
    losses, ratios = (kept[name][order][page.frames].astype(np.float64) for name in ("losses", "ratios"))
    return losses, baseline, ratios, settings


@recomputes("complexity", "llc")
def coefficient(page: Page, id: str) -> Expected:
    losses, baseline, ratios, settings = draws(page)
    n_beta, half = settings["n_beta"], settings["draws"] // 2
    mean, error = measures.mean_and_error(n_beta * (losses.mean(2) - baseline[:, None]))
    drift, noise = measures.mean_and_error(losses[..., half:].mean(2) - losses[..., :half].mean(2))
    steady = (np.abs(drift) <= 3 * noise) | (np.abs(drift) <= MOST_DRIFT * np.abs(mean / n_beta))
    low, high = RATIOS
    good = steady & (ratios.mean(1) >= low) & (ratios.mean(1) <= high) & (below(page) <= MOST_BELOW)
    values, intervals = (
        {"estimate": np.where(good, of, np.nan), "not to be believed": np.where(good, np.nan, of)}
        for of in (mean, 3 * error)
    )
    return Lines(page.run.steps, values, intervals, numbers=[settings["chains"]])


@recomputes("complexity", "ratio")
def ratio(page: Page, id: str) -> Expected:
    """Made of gradients while sampling, which are not kept."""
    _, _, ratios, _ = draws(page)
    limits = dict(zip(("at least", "at most"), RATIOS, strict=True))
    return Lines(page.run.steps, {"ratio": ratios.mean(1)}, references=limits, numbers=[1])


def below(page: Page) -> Array:
    """The share of draws with a lower loss than the snapshot, (frame,)."""
    losses, baseline, _, _ = draws(page)
    return (losses < baseline[:, None, None]).mean((1, 2))


@recomputes("complexity", "below")
def share_below(page: Page, id: str) -> Expected:
    return Lines(page.run.steps, {"share": below(page)}, references={"at most": MOST_BELOW})


@recomputes("complexity", "chains")
def chains(page: Page, id: str) -> Expected:
    losses, baseline, _, settings = draws(page)
    parts = np.array_split(np.arange(settings["draws"]), BINS)
    excess = losses - baseline[:, None, None]
    values = np.stack([excess[..., part].mean(2) for part in parts], 2)
    names = [f"chain {i + 1}" for i in range(settings["chains"])]
    return Series(names, [str(part[0] + 1) for part in parts], values)


@recomputes("complexity", "calibration")
def calibration(page: Page, id: str) -> Expected:
    """Its chains are not kept. What was chosen follows from the estimates, and the coefficient is sampled with it."""
    kept, _ = page.kept("calibration")
    _, settings = page.kept("complexity")
    llc, ratios, healthy = (
        kept[name].reshape(len(N_BETAS), len(STEP_SIZES), -1) for name in ("llc", "ratio", "healthy")
    )
    assert (ratios[healthy] >= RATIOS[0]).all()
    assert (ratios[healthy] <= RATIOS[1]).all()
    believed = np.where(healthy, llc, np.nan)

    def change(i: int, j: int) -> float:
        """From one pair of settings to those beside it, as a share of the mean of both."""
        beside = [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
        others = [believed[one] for one in beside if 0 <= one[0] < len(N_BETAS) and 0 <= one[1] < len(STEP_SIZES)]
        shares = [2 * np.abs(believed[i, j] - one) / (np.abs(believed[i, j]) + np.abs(one)) for one in others]
        return float(np.mean([one[~np.isnan(one)].mean() for one in shares if not np.isnan(one).all()]))

    most = healthy.sum(2).max()
    changes = {(i, j): change(i, j) for i, j in np.ndindex(healthy.shape[:2]) if healthy[i, j].sum() == most}
    row, column = min(changes, key=changes.__getitem__)
    is_plateau = changes[row, column] <= PLATEAU
    chosen = (N_BETAS[row], STEP_SIZES[column]) if is_plateau else USUAL
    assert (settings["n_beta"], settings["step_size"]) == chosen
    n, steps = len(page.run.steps), page.run.steps
    apart = 2 ** int(np.log2((n - 1) / 3))  # the last snapshot, and three before it
    return Maps(
        [f"step {steps[n - 1 - k * apart]:,}" for k in (3, 2, 1, 0)],
        np.repeat(believed.transpose(2, 0, 1)[None], len(page.frames), 0),
        [f"{value:g}" for value in N_BETAS],
        [f"{value:g}" for value in STEP_SIZES],
        [(row, column, 1, 1)] if is_plateau else [],
        numbers=[100 * changes[row, column]] if is_plateau else [],
    )
