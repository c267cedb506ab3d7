"""A film as one HTML file that plays without the app and without a network."""

import base64
import html
import math
from collections.abc import Sequence

from explorer.film.deck import Deck, deck_message
from explorer.film.film import Film, Switch, message
from explorer.film.palette import CURSOR, LINE, PAPER, STRONG, WASH, Mode
from explorer.film.script import joined, style

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; {light} }}
@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}
body {{ margin: 0; background: var(--st-background-color); color: var(--st-text-color); }}
main {{ max-width: 1760px; margin: 0 auto; padding: 24px 32px 48px; font-family: system-ui, sans-serif; }}
h1 {{ margin: 0 0 8px; font-size: 20px; font-weight: 600; }}
@media (max-width: 720px) {{ main {{ padding: 16px; }} }}
{style}
</style>
</head>
<body>
<main>
{body}
</main>
<script type="application/octet-stream" id="film">{film}</script>
<script type="module">
{script}
</script>
</body>
</html>
"""


def page(film: Film, title: str, start: int, switches: Sequence[Switch] = ()) -> str:
    """A page that plays a film with the same code as the app, in the light or dark mode of the reader's system.

    Args:
        film: what to play.
        title: of the page, and its heading.
        start: the step to open at.
        switches: values of panels' switches; all others keep their initial values.

    Returns:
        HTML that loads nothing from outside.
    """
    heading = f"<h1>{html.escape(title)}</h1>"
    body = f'{heading}\n<div class="film" tabindex="-1"></div>'
    return _page(title, body, message(film, start, switches=switches), "page.js")


def deck_page(deck: Deck) -> str:
    """A page that shows a deck with the same code as the app, in the light or dark mode of the reader's system.

    Args:
        deck: what to show, with all its films.

    Returns:
        HTML that loads nothing from outside.
    """
    return _deck_page(deck, deck_message(deck, "file"))


def deck_page_size(deck: Deck) -> int:
    """How many bytes `deck_page` takes, without writing it.

    Args:
        deck: what to show, with all its films.

    Returns:
        Bytes in UTF-8.
    """
    data = len(deck_message(deck, "file"))
    return len(_deck_page(deck, b"").encode()) + 4 * math.ceil(data / 3)  # base64 has 4 letters for 3 bytes


def size_text(n_bytes: int) -> str:
    """The size of a file, as people read it.

    Args:
        n_bytes: of the file.

    Returns:
        Such as "2.3 MiB".
    """
    return f"{n_bytes / 2**20:.1f} MiB"


def _deck_page(deck: Deck, data: bytes) -> str:
    return _page(deck.title, '<div class="deck"></div>', data, "deckpage.js")


def _page(title: str, body: str, data: bytes, entry: str) -> str:
    return PAGE.format(
        title=html.escape(title),
        light=_variables("light"),
        dark=_variables("dark"),
        style=style(),
        body=body,
        film=base64.b64encode(data).decode(),
        script=joined(entry),
    )


def _variables(mode: Mode) -> str:
    """The colours of the page as CSS variables with Streamlit's names."""
    colours = {
        "background": PAPER,
        "secondary-background": WASH,
        "text": STRONG,
        "border": LINE,
        "primary": CURSOR,
    }
    return " ".join(f"--st-{name}-color: {colour[mode]};" for name, colour in colours.items())
