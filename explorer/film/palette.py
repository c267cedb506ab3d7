"""The colours of data, for the player's canvas and for figures: after Okabe and Ito, with the lightness fitted to each
background. Their pink, which is the cursor's, is left out.

Every table has one entry for a light and one for a dark background.
"""

from collections.abc import Mapping
from typing import Literal

Mode = Literal["light", "dark"]
Scale = Literal["sequential", "diverging"]

# Of figures and of pages of their own; inside the app the player reads the theme's.
PAPER: Mapping[Mode, str] = {"light": "#ffffff", "dark": "#12171d"}
WASH: Mapping[Mode, str] = {"light": "#f3f5f7", "dark": "#1d242c"}
STRONG: Mapping[Mode, str] = {"light": "#1a222c", "dark": "#e6ebf0"}  # text, and the overall curve among its parts
LINE: Mapping[Mode, str] = {"light": "#d5dbe1", "dark": "#35404b"}
MUTED: Mapping[Mode, str] = {"light": "#8795a3", "dark": "#8795a3"}  # references of figures
CURSOR: Mapping[Mode, str] = {"light": "#b3124f", "dark": "#ff7aa8"}
# Of data, everywhere.
CATEGORIES: Mapping[Mode, tuple[str, ...]] = {
    "light": ("#0064a8", "#d55e00", "#009e73", "#7b4fa3", "#b8860b", "#56b4e9", "#8c6d46"),
    "dark": ("#4a9ae0", "#f0803c", "#2fc79a", "#b79cdb", "#f0c040", "#bfe3fa", "#c9a98a"),
}
RIGHT: Mapping[Mode, str] = {"light": "#00795a", "dark": "#2fc79a"}
WRONG: Mapping[Mode, str] = {"light": "#c04f00", "dark": "#f0803c"}
# From zero, which has the colour of the page, up; a diverging scale goes down to the negative end as well.
RAMPS: Mapping[Mode, Mapping[str, tuple[str, ...]]] = {
    "light": {
        "sequential": ("#9ecae8", "#2f7fc1", "#08306b"),
        "positive": ("#9ecae8", "#2f7fc1", "#0d4f9e"),
        "negative": ("#f0a46c", "#cc5500", "#8f3600"),
    },
    "dark": {
        "sequential": ("#1d5c96", "#4fa8e0", "#eaf6ff"),
        "positive": ("#1d5c96", "#4fa8e0", "#cfe9ff"),
        "negative": ("#9c4a12", "#ef9450", "#ffdfc4"),
    },
}


def for_player() -> dict[str, dict[str, object]]:
    """What the player's code is given as ``PALETTE``: the colours of data by mode."""
    return {
        mode: {
            "categories": CATEGORIES[mode],
            "right": RIGHT[mode],
            "wrong": WRONG[mode],
            "ramps": RAMPS[mode],
        }
        for mode in CATEGORIES
    }


def stops(scale: Scale, mode: Mode) -> list[str]:
    """The colours of a scale at even distances, from its lowest value to its highest."""
    if scale == "sequential":
        return [PAPER[mode], *RAMPS[mode]["sequential"]]
    return [*reversed(RAMPS[mode]["negative"]), PAPER[mode], *RAMPS[mode]["positive"]]
