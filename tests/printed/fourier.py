"""Fourier components of weights, neurons and logits."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from explorer.film.panels.panel import Panel
from explorer.film.panels.text import Text
from explorer.views.view import Figures
from tests.plain import fourier, tasks
from tests.plain.model import cross_entropy, forward
from tests.plain.run import PlainRun
from tests.plain.tasks import Prompt
from tests.printed.expected import Expected, Lines, Maps, Points, Printed, Rows, Series, cells, rounds_to, same
from tests.printed.page import Page, checks, recomputes

N_TERMS, N_TERMS_OF_ONE, N_STRONGEST, N_CIRCLES = 12, 8, 4, 3
COMPONENT = re.compile(r"constant|alternating|(?:cos|sin) \d+")


def n_numbers(page: Page) -> int:
    return page.run.task.get("p", 10)


@lru_cache(maxsize=512)
def norms(run: PlainRun, step: int, n: int) -> dict[str, np.ndarray]:
    return fourier.norms(run.model, run.weights(step), n)


def matrix(id: str) -> str:
    return id.removeprefix("frequencies-").removeprefix("over-training-").replace("-", " ")


@recomputes("fourier", "frequencies-W_.*")
def frequencies(page: Page, id: str) -> Expected:
    n, name = n_numbers(page), matrix(id)
    values = np.array([[norms(page.run, step, n)[name]] for step in page.steps])
    keys = fourier.keys(norms(page.run, page.run.steps[-1], n)[name])
    return Series([name], [str(k) for k in range(1, n // 2 + 1)], values, marked=[k - 1 for k in keys])


@recomputes("fourier", "frequencies-over-training-.*")
def frequencies_over_training(page: Page, id: str) -> Expected:
    n = n_numbers(page)
    every = np.array([norms(page.run, step, n)[matrix(id)] for step in page.run.steps])
    rows = [str(k) for k in range(1, n // 2 + 1)]
    return Rows(rows, page.run.steps, every.T, range(len(every)))


@recomputes("fourier", "gini", "participation")
def sparsity(page: Page, id: str) -> Expected:
    measure = {"gini": fourier.gini, "participation": fourier.participation}[id]
    found = [norms(page.run, step, n_numbers(page)) for step in page.steps]
    names = ["W_E"] if page.options.show == "progress" else list(found[0])
    said = {"gini": [0], "participation": [1]}[id] if page.options.show == "frequencies" else []
    return Lines(page.film.steps, {name: [measure(one[name]) for one in found] for name in names}, numbers=said)


@recomputes("fourier", r"circle-\d+")
def circle(page: Page, id: str) -> Expected:
    n, k = n_numbers(page), int(id.split("-")[1])
    strength = norms(page.run, page.run.steps[-1], n)["W_E"][: (n - 1) // 2]
    assert k in np.argsort(strength)[::-1][:N_CIRCLES] + 1
    order = sorted(range(n), key=lambda number: (number * k % n, number))
    values = page.each(lambda w: fourier.plane(page.last, w, n, k)[order])
    return Points([str(number) for number in order], np.array(values), (f"cos {k}", f"sin {k}"), numbers=[k])


@recomputes("fourier", "cosines")
def cosines(page: Page, id: str) -> Expected:
    n = n_numbers(page)
    names, values = [str(number) for number in range(n)], []
    for step in page.steps:
        rows = page.run.weights(step)["embed.W_E"][:n]
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        values.append(rows @ rows.T)
    return Maps([""], np.array(values)[:, None], names, names, numbers=[n])


# --- Both numbers ---


def pairs_of(run: PlainRun, answer: str) -> tuple[list[Prompt], int]:
    """All pairs of numbers, x outer, and the place of the answer."""
    if run.task["name"] == "addition":
        width, column = run.task["n_digits"], tasks.PLACES.index(answer)
        terms = [f"{digit * 10**column:0{width}d}" for digit in range(10)]
        place = width - column  # the leading digit of the answer is that of the carry
        return [tasks.prompt(run.task, f"{x}+{y}") for x in terms for y in terms], place
    numbers = range(run.task["p"])
    return [tasks.prompt(run.task, f"{x}+{y}") for x in numbers for y in numbers], 0


@lru_cache(maxsize=4)
def on_pairs(run: PlainRun, step: int, answer: str) -> dict[str, np.ndarray]:
    prompts, _ = pairs_of(run, answer)
    return forward(run.model, run.weights(step), np.array([prompt.tokens for prompt in prompts]))


@lru_cache(maxsize=32)
def grid(run: PlainRun, step: int, answer: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Logits and targets of all pairs, x outer, and the neurons of the last block, at the place of the answer."""
    prompts, place = pairs_of(run, answer)
    found = on_pairs(run, step, answer)
    at, targets = prompts[0].positions[place], np.array([prompt.targets[place] for prompt in prompts])
    neurons = found.get(f"blocks.{run.model['n_layers'] - 1}.mlp.hook_post")
    return found["logits"][:, at].copy(), targets, None if neurons is None else neurons[:, at].copy()


def channels(run: PlainRun, step: int, answer: str, source: str) -> np.ndarray:
    """Logits or neurons (pair channel)."""
    logits, _, neurons = grid(run, step, answer)
    values = logits if source == "logits" else neurons
    assert values is not None
    return values


@lru_cache(maxsize=32)
def term_norms(run: PlainRun, step: int, answer: str, source: str, n: int) -> np.ndarray:
    """The norm of each 2-D term over all channels, (component component)."""
    values = channels(run, step, answer, source)
    energy = fourier.energies(values, n).sum(2)
    energy[0, 0] = n**2 * (values.mean(0) ** 2).sum()
    return np.sqrt(energy)


def share(energy: np.ndarray, of: float) -> np.ndarray:
    """Of their sum; 0 for what is nothing beside ``of``, such as the variance of a silent neuron."""
    return energy / energy.sum() if energy.sum() > 1e-12 * of else np.zeros_like(energy)


def without_constant(coefficients: np.ndarray) -> np.ndarray:
    """The share of the variance of each term."""
    energy = coefficients**2
    total = float(energy.sum())
    energy[0, 0] = 0
    return share(energy, total)


@recomputes("fourier", "terms")
def terms(page: Page, id: str) -> Expected:
    n = n_numbers(page)
    names, _ = fourier.basis(n)
    found = [term_norms(page.run, step, page.options.answer, page.options.show, n) for step in page.steps]
    shares = np.array([without_constant(norms) for norms in found])
    # Squares of differences of float32 logits: the relative error of a small component is larger.
    return Maps([""], shares[:, None], names, names, rtol=1e-4, numbers=[n**2])


@dataclass(frozen=True)
class Terms(Expected):
    """A table of the largest terms. A term may stand at another place if its coefficient is equal in the digits
    printed."""

    names: Sequence[str]
    coefficients: Sequence[np.ndarray]  # (frame,) (component component)
    n_terms: int

    def compare(self, panel: Panel, frames: Sequence[int]) -> None:
        assert isinstance(panel, Text)
        for frame, coefficients in zip(frames, self.coefficients, strict=True):
            lines = panel.blocks[frame].split("\n")[2:]
            places = []
            for line in lines:
                x, y = COMPONENT.findall(line)
                places.append((self.names.index(x), self.names.index(y)))
            assert len(set(places)) == len(lines) == self.n_terms
            largest = np.sort(np.abs(coefficients).ravel())[::-1]
            in_order = [coefficients[place] for place in places]
            np.testing.assert_allclose(np.abs(in_order), largest[: self.n_terms], rtol=1e-3, atol=1e-6 * largest[0])
            of_variance, of_all = without_constant(coefficients), share(coefficients**2, 0)
            sums = [0.0, 0.0]
            for place, line in zip(places, lines, strict=True):
                sums = [sums[0] + of_variance[place], sums[1] + of_all[place]]
                shares: list[str | float] = [of_variance[place], sums[0]]
                expected = ["–", "–"] if place == (0, 0) else shares
                cell, *rest = COMPONENT.sub("", line).split()
                rounds_to(cell, coefficients[place], 1e-5 * largest[0])
                cells(rest, [*expected, of_all[place], sums[1]], 0.002)


@recomputes("fourier", "largest-terms")
def largest_terms(page: Page, id: str) -> Expected:
    n = n_numbers(page)
    found = [term_norms(page.run, step, page.options.answer, page.options.show, n) for step in page.steps]
    return Terms(fourier.basis(n)[0], found, N_TERMS)


def signed(page: Page, step: int, channel: int) -> np.ndarray:
    """The coefficient of each 2-D term in one logit or neuron, (component component)."""
    n = n_numbers(page)
    _, waves = fourier.basis(n)
    values = channels(page.run, step, page.options.answer, page.options.source)[:, channel]
    return waves @ values.reshape(n, n) @ waves.T


@recomputes("fourier", "signed-terms")
def signed_terms(page: Page, id: str) -> Expected:
    """Of the logits or neurons that vary most in the last snapshot."""
    assert not page.options.channels
    n, source = n_numbers(page), page.options.source
    names, _ = fourier.basis(n)
    last = channels(page.run, page.run.steps[-1], page.options.answer, source)
    chosen = np.argsort(-last.var(0), kind="stable")[:N_STRONGEST]
    values = np.array([[signed(page, step, channel) for channel in chosen] for step in page.steps])
    values[:, :, 0, 0] = np.nan
    if source == "neurons":
        labels = [f"neuron {channel}" for channel in chosen]
    else:
        labels = [f"logit of {tasks.answer_tokens(page.run.task)[channel]}" for channel in chosen]
    return Maps(labels, values, names, names, rtol=1e-4, numbers=[n**2])


@recomputes("fourier", r"largest-terms-(?:logits|neurons)-\d+")
def largest_terms_of_one(page: Page, id: str) -> Expected:
    channel = int(id.rsplit("-", 1)[1])
    found = [signed(page, step, channel) for step in page.steps]
    return Terms(fourier.basis(n_numbers(page))[0], found, N_TERMS_OF_ONE, numbers=[channel])


@recomputes("fourier", r"sums-(?:logits|neurons)-\d+")
def sums(page: Page, id: str) -> Expected:
    """Along waves of x + y and x - y of norm 1, of the frequency whose terms, without the constant, are the
    strongest in the last snapshot."""
    n, channel = n_numbers(page), int(id.rsplit("-", 1)[1])
    last = signed(page, page.run.steps[-1], channel) ** 2
    last[0, 0] = 0
    blocks = [[0, 2 * k - 1, 2 * k] for k in range(1, (n + 1) // 2)]
    k = 1 + int(np.argmax([last[np.ix_(block, block)].sum() for block in blocks]))
    x, y = np.divmod(np.arange(n * n), n)
    curves = {}
    for sign, angle in (("+", x + y), ("−", x - y)):
        for name, wave in (("cos", np.cos), ("sin", np.sin)):
            direction = wave(2 * np.pi * k * angle / n)
            direction /= np.linalg.norm(direction)
            values = [channels(page.run, step, page.options.answer, page.options.source) for step in page.steps]
            curves[f"{name} {k}(x {sign} y)"] = [direction @ of_step[:, channel] for of_step in values]
    # A wave that is all but absent is a difference of float32 numbers as large as the others.
    return Lines(page.film.steps, curves, rtol=1e-4, numbers=[channel, n**2])


@recomputes("fourier", "neurons-by-frequency")
def neurons_by_frequency(page: Page, id: str) -> Expected:
    """Of the final model. A neuron that is active at one pair only has equally much at all frequencies: it may be
    counted at any of them, so the counts and medians are checked against all that may be."""
    _, _, neurons = grid(page.run, page.run.steps[-1], page.options.answer)
    assert neurons is not None
    explained = fourier.neuron_frequencies(neurons, n_numbers(page))  # (frequency neuron), 0 for silent neurons
    best = explained.max(0)
    likely = np.vstack([best == 0, (explained > best * (1 - 1e-4)) & (best > 0)])  # (frequency neuron), from 0 on
    panel = next(panel for panel in page.film.panels if panel.id == id)
    rows, counted = [], 0
    for line in panel.blocks[0].split("\n")[1:]:  # type: ignore[attr-defined]
        name, count, median = line.split()
        k, n = int(name.replace("none", "0")), int(count)
        sure = best[likely[k] & (likely.sum(0) == 1)]
        unsure = np.sort(best[likely[k] & (likely.sum(0) > 1)])
        taken = n - len(sure)
        assert 0 <= taken <= len(unsure)
        # The lower of the two in the middle, as torch has it.
        lowest, highest = (
            np.sort(np.append(sure, some))[(n - 1) // 2] for some in (unsure[:taken], unsure[len(unsure) - taken :])
        )
        rows.append([name, count, float(np.clip(float(median.rstrip("%")) / 100, lowest, highest))])
        counted += n
    assert counted == neurons.shape[1]
    numbers = [n_numbers(page) ** 2]
    return Printed(["frequency", "neurons", "median variance explained"], [rows], numbers=numbers)


@recomputes("fourier", "pair-losses")
def pair_losses(page: Page, id: str) -> Expected:
    n = n_numbers(page)
    values = [cross_entropy(*grid(page.run, step, page.options.answer)[:2]) for step in page.steps]
    names = [str(number) for number in range(n)]
    # A small loss is a difference of float32 logits that are much larger.
    return Maps([""], np.array(values).reshape(-1, 1, n, n), names, names, rtol=1e-4, numbers=[n**2])


@recomputes("fourier", "pair-activations")
def pair_activations(page: Page, id: str) -> Expected:
    """One entry of an activation."""
    n, options = n_numbers(page), page.options
    values = []
    for step in page.steps:
        found = on_pairs(page.run, step, options.answer)[options.hook]
        if options.hook.endswith(("pattern", "scores")):
            values.append(found[:, options.head, options.position, options.key].copy())
        elif found.ndim == 4:
            values.append(found[:, options.position, options.head, options.unit].copy())
        else:
            values.append(found[:, options.position, options.unit].copy())
    names = [str(number) for number in range(n)]
    return Maps([""], np.array(values).reshape(-1, 1, n, n), names, names, title=f"all {n**2:,} pairs")


def trained_pairs(page: Page) -> np.ndarray | None:
    """Which pairs are in the training data: those that come first in Python's own shuffle of all. None for sums."""
    if "p" not in page.run.task:
        return None
    p = page.run.task["p"]
    pairs = list(range(p * p))
    random.Random(page.run.training["seed"]).shuffle(pairs)
    return np.isin(np.arange(p * p), pairs[: int(page.run.task["train_share"] * p * p)])


@recomputes("fourier", "progress")
def progress(page: Page, id: str) -> Expected:
    n = n_numbers(page)
    keys = fourier.keys(norms(page.run, page.run.steps[-1], n)["W_E"])
    trained_on = trained_pairs(page)
    is_split = trained_on is not None
    if trained_on is None:  # no sum of the grid of one column, or every one, is in the training data
        trained_on = np.ones(n * n, dtype=bool)
    found = []
    for step in page.steps:
        logits, targets, _ = grid(page.run, step, page.options.answer)
        found.append(fourier.progress(logits, targets, trained_on, n, keys))
    names = ["train", "test"] if is_split else ["all pairs"]
    names += ["restricted", "excluded"]
    curves = {name: [one[name] for one in found] for name in names}
    return Lines(page.film.steps, curves, numbers=[*keys, n**2])


@checks("fourier", Figures)
def the_basis(page: Page, figures: Figures) -> None:
    names, values = fourier.basis(n_numbers(page))
    basis, gram = figures.panels
    assert list(basis.rows) == list(gram.rows) == list(gram.columns) == names  # type: ignore[attr-defined]
    same(basis.values[0], values[None])  # type: ignore[attr-defined]
    same(gram.values[0], np.eye(len(names))[None])  # type: ignore[attr-defined]
