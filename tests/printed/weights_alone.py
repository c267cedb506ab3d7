"""Circuits and weights: what is read from the weights alone."""

import itertools
from functools import lru_cache

import numpy as np

from tests.plain import circuits, measures, tasks
from tests.plain.run import PlainRun
from tests.printed.expected import Expected, Lines, Maps, Points, Series
from tests.printed.losses_and_answers import head_names, no_future
from tests.printed.page import Page, recomputes

# --- Circuits ---


def heads(page: Page) -> list[str]:
    """Of the chosen layer."""
    n = page.cfg["n_heads"]
    return head_names(page.cfg)[page.options.layer * n : (page.options.layer + 1) * n]


@recomputes("circuits", "qk")
def qk(page: Page, id: str) -> Expected:
    names, layer = tasks.vocabulary(page.run.task), page.options.layer
    values = page.each(lambda w: circuits.scores(page.cfg, w, layer, w["embed.W_E"], w["embed.W_E"]))
    return Maps(heads(page), np.array(values), names, names)


@recomputes("circuits", "qk-positions")
def qk_positions(page: Page, id: str) -> Expected:
    layer, names = page.options.layer, [str(position) for position in range(page.cfg["n_ctx"])]
    values = page.each(
        lambda w: no_future(circuits.scores(page.cfg, w, layer, w["pos_embed.W_pos"], w["pos_embed.W_pos"]))
    )
    return Maps(heads(page), np.array(values), names, names)


@recomputes("circuits", "ov", "trigram-outputs")
def ov(page: Page, id: str) -> Expected:
    values = page.each(lambda w: circuits.ov(page.cfg, w, page.options.layer))
    return Maps(heads(page), np.array(values), tasks.vocabulary(page.run.task), tasks.answer_tokens(page.run.task))


@recomputes("circuits", "trigram-scores")
def trigram_scores(page: Page, id: str) -> Expected:
    """From the token that predicts the first answer, with its position, to every token without one."""
    at = page.prompt.positions[0]
    token, names = page.prompt.tokens[at], tasks.vocabulary(page.run.task)

    def from_query(w: dict) -> np.ndarray:
        query = w["embed.W_E"][token] + w["pos_embed.W_pos"][at]
        return circuits.scores(page.cfg, w, page.options.layer, query[None], w["embed.W_E"])[:, 0]

    values = np.array(page.each(from_query))[:, None]  # (frame 1 head token)
    return Maps([""], values, heads(page), names, title=f"from {names[token]} at position {at},", numbers=[at])


@recomputes("circuits", "copying-score", "copied-tokens")
def copying(page: Page, id: str) -> Expected:
    inputs = tasks.answered(page.run.task)
    found = np.array(page.each(lambda w: circuits.copying(page.cfg, w, inputs)[id == "copied-tokens"]))
    return Lines(page.run.steps, dict(zip(head_names(page.cfg), found.T, strict=True)))


@recomputes("circuits", "composition-[KQV]")
def composition(page: Page, id: str) -> Expected:
    """Minus the mean over random heads. That is a mean of 300 draws: drawn again, it differs by its standard error."""
    found = page.each(lambda w: circuits.compositions(page.cfg, w, id[-1]))
    drawn = circuits.random_compositions(page.cfg["d_model"], page.cfg["d_head"], 1000)
    panel = next(panel for panel in page.film.panels if panel.id == id)
    n, n_layers = page.cfg["n_heads"], page.cfg["n_layers"]
    layers = list(itertools.combinations(range(n_layers), 2))
    raw = np.array(
        [[[[one[f"L{a}H{i} → L{b}H{j}"] for i in range(n)] for j in range(n)] for a, b in layers] for one in found]
    )  # (frame map later earlier)
    shown = panel.values[page.frames]  # type: ignore[attr-defined]
    baseline = (raw - shown).mean()
    error = drawn.std() * np.sqrt(1 / 300 + 1 / len(drawn))
    assert abs(baseline - drawn.mean()) < 4 * error
    # Everything else of the maps is exact, given that one number.
    heads = [f"H{head}" for head in range(n)]
    return Maps([f"L{a} → L{b}" for a, b in layers], raw - baseline, heads, heads)


@recomputes("circuits", "singular-values-(QK|OV)", "effective-rank-(QK|OV)")
def singular_values(page: Page, id: str) -> Expected:
    values = np.array(page.each(lambda w: circuits.singular_values(page.cfg, w, page.options.layer, id[-2:])))
    if id.startswith("singular"):
        return Series(heads(page), [str(i + 1) for i in range(values.shape[-1])], values)
    ranks = np.array([[circuits.effective_rank(one) for one in frame] for frame in values])
    return Lines(page.run.steps, dict(zip(heads(page), ranks.T, strict=True)))


# --- Weights ---


@recomputes("weights", "norms")
def norms(page: Page, id: str) -> Expected:
    found = page.each(measures.norms)
    panel = next(panel for panel in page.film.panels if panel.id == id)
    names = [line.label for line in panel.lines]  # type: ignore[attr-defined]  # the order is the model's
    assert sorted(names) == sorted(found[0])
    assert names[0] == "total"
    return Lines(page.run.steps, {name: [one[name] for one in found] for name in names})


@lru_cache(maxsize=16)
def principal_path(run: PlainRun) -> tuple[np.ndarray, np.ndarray]:
    return measures.principal_path([run.weights(step) for step in run.steps], 3)


@recomputes("weights", "path", "components")
def path(page: Page, id: str) -> Expected:
    coordinates, explained = principal_path(page.run)
    axes = [f"PC{i + 1} ({100 * share:.0f} %)" for i, share in enumerate(explained)]
    if id == "path":
        return Points(["weights"], coordinates[page.frames, None, :2], (axes[0], axes[1]))
    return Lines(page.run.steps, dict(zip(axes, coordinates[page.frames].T, strict=True)))
