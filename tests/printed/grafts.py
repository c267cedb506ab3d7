"""The loss of a snapshot with a part of another."""

import re
from collections.abc import Iterator

import numpy as np

from tests.plain import measures
from tests.plain.model import Array
from tests.plain.run import PlainRun
from tests.printed.expected import Expected, Lines, OfPairs
from tests.printed.page import Page, recomputes

ANSWERS, MORE = 384, 3072  # over which losses are means: of the map, of parts alone
HALF, LEAST = 5e-4, 3e-8  # losses are kept in float16, whose smallest numbers are 6e-8 apart
LEAST_FALL = 0.1  # of the largest difference of losses; of less there is no share
_LOSSES: dict[tuple[PlainRun, int, int, str, int], Array] = {}


def parts(cfg: dict) -> Iterator[str]:
    """Nothing, each part of a model, and unions that are not yet among them."""
    layers = range(cfg["n_layers"])
    yield from ("unchanged", "embeddings", *measures.components(cfg), "unembedding")
    if len(layers) > 1:
        yield from (f"L{layer} attention" for layer in layers)
    if len(layers) * cfg["n_heads"] > 1:
        yield "all attention"
    if len(layers) > 1 and not cfg["attn_only"]:
        yield "all MLPs"
    yield "everything"


def grafted(w: dict, donor: dict, part: str) -> dict:
    """The weights of one snapshot with a part of another. No run has biases of attention."""
    found = {name: weight.copy() for name, weight in w.items()}
    for name, weight in donor.items():
        kind, layer = name.split(".")[0], (re.search(r"blocks\.(\d)", name) or [""] * 2)[1]
        inside = {"attn": "attention", "mlp": "MLP"}.get(name.split(".")[2] if layer else "", "")
        of = {"embed": "embeddings", "pos_embed": "embeddings", "unembed": "unembedding"}.get(kind, "")
        if part in ("everything", of, f"L{layer} {inside}", f"all {inside}", f"all {inside}s"):
            found[name] = weight
        elif inside == "attention" and part.startswith(f"L{layer}H"):
            head = int(part.split("H")[1])
            found[name][head] = weight[head]
    return found


def loss(page: Page, step: int, donor: int, part: str, answers: int = ANSWERS) -> float:
    """Of a snapshot with a part of another: the chosen one of the per-token losses, or their mean."""
    key = page.run, step, donor, part, answers
    if key not in _LOSSES:
        examples = page.of_measures(answers)
        n = max(1, answers // examples[1].shape[1])
        weights = grafted(page.run.weights(step), page.run.weights(donor), part)
        _LOSSES[key] = page.token_losses(weights, tuple(one[:n] for one in examples))  # type: ignore[arg-type]
    token = page.options.token
    return _LOSSES[key].mean() if token == -1 else _LOSSES[key][token]


@recomputes("grafts", "with_final", "final_with")
def alone(page: Page, id: str) -> Expected:
    last = page.run.steps[-1]

    def of_part(part: str) -> list[float]:
        pairs = [(step, last) if id == "with_final" else (last, step) for step in page.steps]
        return [loss(page, *pair, part, MORE) for pair in pairs]

    names = list(parts(page.cfg))
    if page.options.part not in names:  # another name of weights that have one
        names.insert(-1, page.options.part)
    return Lines(page.run.steps, {name: of_part(name) for name in names}, rtol=HALF, atol=LEAST)


def matrix(page: Page) -> Array:
    """The losses of the three snapshots with the part of each, (receiver donor)."""
    return np.array([[loss(page, one, other, page.options.part) for other in page.steps] for one in page.steps])


def axes(page: Page) -> tuple[str, str]:
    return "all else from step", f"{page.options.part} from step"


@recomputes("grafts", "graft")
def graft(page: Page, id: str) -> Expected:
    return OfPairs(axes(page), matrix(page), rtol=HALF, atol=LEAST)


@recomputes("grafts", "share")
def share(page: Page, id: str) -> Expected:
    every = np.array([loss(page, step, step, "unchanged") for step in page.run.steps])
    own = every[page.frames][:, None]
    fall = own - own.T
    losses, least = matrix(page), LEAST_FALL * np.ptp(every)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(np.abs(fall) < least, np.nan, (own - losses) / fall)
    rounding = 2 * HALF * max(losses.max(), own.max()) / least
    return OfPairs(axes(page), shares, rtol=HALF, atol=rounding)
