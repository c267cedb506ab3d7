"""Helpers of the tests of films."""

import json
from typing import Any

import numpy as np

from explorer.film.film import Film
from explorer.film.panels.curves import Curves
from explorer.film.panels.plane import Axis, Plane
from explorer.film.panels.strip import Strip


def of(kind: type, film: Film) -> list:
    """The panels of a kind."""
    return [panel for panel in film.panels if isinstance(panel, kind)]


def values(panel: Curves) -> dict[str, np.ndarray]:
    """The values of each curve by its label."""
    return {line.label: line.values for line in panel.lines}


def unpacked(message: bytes) -> dict:
    """The JSON headers of a player's message, where it should stand and its film, as one."""
    found: dict = {}
    for _ in range(2):
        end = 4 + int.from_bytes(message[:4], "little")
        found |= json.loads(message[4:end])
        message = message[end:]
    return found


def panels_of(packed: bytes) -> dict[str, dict]:
    """The panels of a packed film by their ids, with their arrays."""
    start = 4 + int.from_bytes(packed[:4], "little")

    def whole(thing: Any) -> Any:
        if isinstance(thing, dict) and thing.keys() == {"at", "dtype", "shape"}:
            n = int(np.prod(thing["shape"]))
            return np.frombuffer(packed, f"<{thing['dtype']}", n, start + thing["at"]).reshape(thing["shape"])
        if isinstance(thing, dict):
            return {name: whole(value) for name, value in thing.items()}
        return [whole(item) for item in thing] if isinstance(thing, list) else thing

    return {panel["id"]: whole(panel) for panel in json.loads(packed[4:start])["panels"]}


KINDS = ("confusion", "memorisation", "grokking", "comprehension")


def plane(n_frames: int = 12, **more: Any) -> tuple[Plane, list[int]]:
    """A plane of 5 weight decays and 4 learning rates with 3 seeds each, and the steps of its film: the higher both
    are, the sooner a cell leaves confusion and memorisation."""
    steps = np.linspace(0, 11_000, n_frames).round().astype(int)
    decays, rates = [0.0, 0.01, 0.1, 1.0, 10.0], [0.0001, 0.0003, 0.001, 0.01]
    points = np.linspace(0, 11_000, 45)
    rng = np.random.default_rng(0)
    row, column = np.arange(5)[:, None], np.arange(4)[None]
    learns = 500 + 3000 / 2.0**column + 0.0 * row  # (row, column) the step at which the training data are learnt
    learns = np.where((row == 4) & (column == 3), np.inf, learns)
    understands = learns * (1 + 8 / 2.0**row)

    def risen(at: np.ndarray) -> np.ndarray:  # (row, column, point)
        return 0.02 + 0.98 / (1 + np.exp(-(points - at[..., None]) / 300))

    curves = np.stack([risen(learns), risen(understands)], 2) + rng.normal(0, 0.01, (5, 4, 2, 45))
    curves = curves.clip(0, 1)
    here = steps[:, None, None]
    values = np.where(
        here < learns, 0.0, np.where(here < understands, 1.0, np.where(understands > learns + 2500, 2, 3))
    )
    values[:, 0, 3] = np.nan  # not computed yet
    curves[0, 3] = np.nan
    options: dict[str, Any] = {
        "rows": Axis("weight decay", [f"{decay:g}" for decay in decays]),
        "columns": Axis("learning rate", [f"{rate:g}" for rate in rates], rates, log=True),
        "values": values,
        "kinds": KINDS,
        "agree": rng.integers(2, 4, values.shape),
        "n": np.full((5, 4), 3),
        "curves": curves,
        "lines": ["training data", "unseen data"],
        "points": points,
        "curve_unit": "accuracy",
        "threshold": 0.95,
        "runs": [["" if (r, c) == (0, 3) else f"decay-{r} rate-{c}" for c in range(4)] for r in range(5)],
    }
    return Plane("plane", "What becomes of a run", **options | more), steps.tolist()


def strip(n_groups: int = 1, n_marks: int = 20, **more: Any) -> Strip:
    """When each digit's loss falls in the runs of one or two sweeps of many seeds."""
    rng = np.random.default_rng(1)
    rows = ["units", "tens", "hundreds", "thousands", "ten thousands", "hundred thousands"]
    centre = (
        np.array([900, 2600, 3900, 5200, 6900, 1500.0])[None, :, None] * (1 + 0.25 * np.arange(n_groups))[:, None, None]
    )
    marks = (centre * np.exp(rng.normal(0, 0.14, (n_groups, 6, n_marks)))).round()
    marks[:1, 4, :3] = np.nan  # never falls
    middle = np.nanmedian(marks, -1)
    options: dict[str, Any] = {
        "rows": rows,
        "groups": ["streamed data", "10,000 examples", "100 examples"][:n_groups],
        "marks": marks,
        "names": [[f"seed {seed}" for seed in range(n_marks)]] * n_groups,
        "median": middle,
        "low": middle * 0.94,
        "high": middle * 1.07,
        "interval": "95 % interval of the median",
    }
    return Strip("falls", "When each digit's loss falls fastest", **options | more)
