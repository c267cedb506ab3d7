"""List the stories, or write one as one HTML file that plays without the app and without a network."""

import argparse

from tqdm import tqdm

from explorer.cli.film import add_output, write_page
from explorer.cli.main import say, warn
from explorer.errors import UserError
from explorer.film.export import deck_page, deck_page_size, size_text
from explorer.runs import Runs
from explorer.stories import get_story, names
from explorer.stories.telling import Telling
from explorer.views.swept import named, seen

MOST = 25 * 2**20  # bytes of a file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("story", nargs="?", help="its name; without one, the names of all are listed")
    add_output(parser, required=False)


def run(options: argparse.Namespace) -> None:
    if options.story is None:
        if options.output is not None:
            raise UserError(f"No story is named; there are {', '.join(names())}.")
        for name in names():
            say(name)
        return
    story = get_story(options.story)
    if options.output is None:
        raise UserError(f"There is no file to write {story.name} to; add -o FILE.html.")
    subject = seen(named(Runs(options.checkpoints), story.run))
    telling = Telling.of(story, subject)
    films = [scene.film() for scene in tqdm(telling.distinct, desc="measuring", delay=1.0, unit="scene")]
    deck = telling.deck(films)
    size = deck_page_size(deck)
    if size > MOST:
        raise UserError(
            f"{story.name} would take {size_text(size)}, more than {size_text(MOST)}; show panels with fewer maps."
        )
    write_page(deck_page(deck), options.output)
    warn(subject.problems)
