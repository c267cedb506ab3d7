"""Write a scene as one HTML file that plays without the app and without a network."""

import argparse
from pathlib import Path

from tqdm import tqdm

from explorer.cli.main import say, warn
from explorer.errors import UserError, printable
from explorer.film.export import page, size_text
from explorer.runs import Runs
from explorer.views.opening import open_scene


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scene", help='such as "heads?run=induction&show=heads", or an address from the browser')
    add_output(parser)


def run(options: argparse.Namespace) -> None:
    opened = open_scene(options.scene, Runs(options.checkpoints))
    scene = opened.scene
    title = f"{opened.view.title}: {scene.run}"
    with tqdm(total=100, unit="%", desc="measuring", delay=1.0, bar_format="{desc} {bar} {n:.0f} %") as bar:
        for shown, share in opened.films():
            film = shown
            bar.update(100 * share - bar.n)
    html = page(film, title, scene.step or 0, scene.switches)
    write_page(html, options.output)
    warn(opened.subject.problems)


def add_output(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """The option that names the file to write.

    Args:
        parser: of the command.
        required: whether the command always writes one.
    """
    parser.add_argument("-o", "--output", type=Path, required=required, metavar="FILE.html", help="the file to write")


def write_page(html: str, output: Path) -> None:
    """Write a page, and say how large it is.

    Args:
        html: the page.
        output: the file.

    Raises:
        UserError: it cannot be written.
    """
    try:
        output.write_text(html, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{printable(output)} cannot be written: {error.strerror}; choose another file.") from error
    say(f"{printable(output)}: {size_text(len(html.encode()))}")
