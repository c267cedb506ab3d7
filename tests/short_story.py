"""A story of three beats on the small run, and its telling."""

from pathlib import Path

from explorer.film.export import deck_page
from explorer.stories import read_story
from explorer.stories.telling import Telling
from explorer.views.subject import Subject

FRONT = "---\ntitle: Sums\nquestion: How?\nrun: small\norder: 1\n---\n"
BEAT = (
    "\n## It {{losses/all at 20}} falls\n\n```scene\noverview?step=20\npanel: losses\n```\n\n"
    "At [step 30](step:30) <b>it</b>.\n"
)
ASKED = (
    "\n## What next?\n\n```scene\noverview?step=20&player=losses.log\npanel: losses\nveil: 20\n```\n\nGuess.\n\n"
    "### Reveal\n\nIt is {{losses/all at 40 | 3}}.\n"
)
MAPS = (
    "\n## The heads\n\n```scene\noverview?step=40\npanel: patterns\nlight: L0H0\n```\n\n"
    "[More](heads?run=small&step=10)\n"
)


def told(folder: Path, text: str, subject: Subject) -> Telling:
    """The telling of some beats, written into a folder first."""
    file = folder / "sums.md"
    file.write_text(FRONT + text, encoding="utf-8")
    return Telling.of(read_story(file), subject)


def exported(folder: Path, subject: Subject) -> Path:
    """The story as one HTML file in a folder."""
    telling = told(folder, BEAT + ASKED + MAPS, subject)
    file = folder / "sums.html"
    file.write_text(deck_page(telling.deck([scene.film() for scene in telling.distinct])), encoding="utf-8")
    return file
