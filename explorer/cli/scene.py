"""Print a scene in full: with its run, step and example, and only those options that differ from their default."""

import argparse

from explorer.cli.main import say, warn
from explorer.runs import Runs
from explorer.views.opening import open_scene


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scene", help='such as "heads?run=induction&show=heads", or an address from the browser')


def run(options: argparse.Namespace) -> None:
    opened = open_scene(options.scene, Runs(options.checkpoints))
    say(opened.scene)
    warn(opened.subject.problems)
