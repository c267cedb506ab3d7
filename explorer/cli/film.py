"""Write a scene as one HTML file that plays without the app and without a network."""

import argparse
from pathlib import Path

from tqdm import tqdm

from explorer.cli.main import say, warn
from explorer.errors import UserError, printable
from explorer.film.export import page
from explorer.runs import Runs
from explorer.views.opening import open_scene


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scene", help='such as "heads?run=induction&show=heads", or an address from the browser')
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.html", help="the file to write")


def run(options: argparse.Namespace) -> None:
    opened = open_scene(options.scene, Runs(options.checkpoints))
    scene = opened.scene
    title = f"{opened.view.title}: {scene.run}"
    with tqdm(total=100, unit="%", desc="measuring", delay=1.0, bar_format="{desc} {bar} {n:.0f} %") as bar:
        for shown, share in opened.films():
            film = shown
            bar.update(100 * share - bar.n)
    html = page(film, title, scene.step or 0, scene.switches)
    try:
        options.output.write_text(html, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{printable(options.output)} cannot be written: {error.strerror}; choose another file."
        ) from error
    say(f"{printable(options.output)}: {len(html.encode()) / 2**20:.1f} MiB")
    warn(opened.subject.problems)
