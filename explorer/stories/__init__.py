"""Stories: what a run shows, told in beats. Each is one Markdown file in this folder, without any code in it."""

from pathlib import Path

from explorer.errors import UserError, quoted
from explorer.stories.reader import Story, read_story

FOLDER = Path(__file__).parent


def names(folder: Path = FOLDER) -> list[str]:
    """The names of all stories, sorted.

    Args:
        folder: of their files.
    """
    return sorted(file.stem for file in folder.glob("*.md"))


def all_stories(folder: Path = FOLDER) -> dict[str, Story]:
    """All stories by name, in their order.

    Args:
        folder: of their files.

    Raises:
        UserError: one is wrong; the message names file and line.
    """
    stories = [read_story(folder / f"{name}.md") for name in names(folder)]
    return {story.name: story for story in sorted(stories, key=lambda story: story.order)}


def get_story(name: str, folder: Path = FOLDER) -> Story:
    """The story called ``name``.

    Args:
        name: as in a link.
        folder: of the files.

    Raises:
        UserError: there is none, and the message lists those there are; or it is wrong.
    """
    found = names(folder)
    if name not in found:
        raise UserError(f"There is no story {quoted(name)}; there are {', '.join(found) or 'none'}.")
    return read_story(folder / f"{name}.md")
