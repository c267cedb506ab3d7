"""All colours, for the player and for figures, by mode of the page: light or dark.

The categories follow the palette of Okabe and Ito, with a lightness that suits each background. Their pink is left out,
because the cursor is pink.
"""

from collections.abc import Mapping
from typing import Literal

Mode = Literal["light", "dark"]
Scale = Literal["sequential", "diverging"]

# The page. Inside the app the player reads these from Streamlit's theme, which has the same.
PAPER: Mapping[Mode, str] = {"light": "#ffffff", "dark": "#12171d"}
WASH: Mapping[Mode, str] = {"light": "#f3f5f7", "dark": "#1d242c"}
STRONG: Mapping[Mode, str] = {"light": "#0b1118", "dark": "#e6ebf0"}  # text, and curves of totals
LINE: Mapping[Mode, str] = {"light": "#d5dbe1", "dark": "#35404b"}
MUTED: Mapping[Mode, str] = {"light": "#8795a3", "dark": "#8795a3"}  # reference lines of figures
CURSOR: Mapping[Mode, str] = {"light": "#b3124f", "dark": "#d6336c"}
# Data.
CATEGORIES: Mapping[Mode, tuple[str, ...]] = {
    "light": ("#0064a8", "#d55e00", "#009e73", "#7b4fa3", "#b8860b", "#56b4e9", "#8c6d46"),
    "dark": ("#4a9ae0", "#f0803c", "#2fc79a", "#b79cdb", "#f0c040", "#bfe3fa", "#c9a98a"),
}
RIGHT: Mapping[Mode, str] = {"light": "#00795a", "dark": "#2fc79a"}
WRONG: Mapping[Mode, str] = {"light": "#c04f00", "dark": "#f0803c"}
# Points in a ring have hues at even distances; this is their saturation and lightness, in percent.
RING: Mapping[Mode, tuple[int, int]] = {"light": (60, 42), "dark": (60, 66)}
# Colour scales, from the colour after zero to that of the largest absolute value. Zero has the colour of the page.
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
    """The colours of data by mode, which the player's script has as ``PALETTE``."""
    return {
        mode: {
            "categories": CATEGORIES[mode],
            "right": RIGHT[mode],
            "wrong": WRONG[mode],
            "ring": RING[mode],
            "ramps": RAMPS[mode],
        }
        for mode in CATEGORIES
    }


def stops(scale: Scale, mode: Mode) -> list[str]:
    """The colours of a scale at even distances, from its lowest value to its highest.

    Args:
        scale: which.
        mode: of the page.
    """
    if scale == "sequential":
        return [PAPER[mode], *RAMPS[mode]["sequential"]]
    return [*reversed(RAMPS[mode]["negative"]), PAPER[mode], *RAMPS[mode]["positive"]]


def category(place: int, mode: Mode) -> str:
    """The colour of a category; after the last colour the first comes again.

    Args:
        place: of the category, from 0.
        mode: of the page.
    """
    colours = CATEGORIES[mode]
    return colours[place % len(colours)]


def categories(n: int, mode: Mode) -> list[str]:
    """The colours of categories that must not share one: hues at even distances if the palette has too few.

    Args:
        n: how many categories.
        mode: of the page.
    """
    return ring(n, mode) if n > len(CATEGORIES[mode]) else list(CATEGORIES[mode][:n])


def ring(n: int, mode: Mode) -> list[str]:
    """The colours of points in a ring, in order.

    Args:
        n: how many points.
        mode: of the page.
    """
    saturation, lightness = RING[mode]
    return [f"hsl({360 * place / n:g}, {saturation}%, {lightness}%)" for place in range(n)]
