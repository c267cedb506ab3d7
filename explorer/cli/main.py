"""The parser of the command line, and how errors are reported."""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from explorer import cli
from explorer.errors import UserError
from explorer.runs.store import default_folder


class _Parser(argparse.ArgumentParser):
    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; {self.prog} --help lists what is accepted.")


def program() -> str:
    """The command with which this program was started, for sentences that say what to type."""
    return "explorer" if Path(sys.argv[0]).stem == "explorer" else "python -m explorer"


def commands() -> dict[str, ModuleType]:
    """Name -> module of every command."""
    names = [module.name for module in pkgutil.iter_modules(cli.__path__) if module.name != "main"]
    return {name: importlib.import_module(f"{cli.__name__}.{name}") for name in names}


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = _Parser(prog=program(), description="Train small transformers and run their snapshots.")
    subparsers = top.add_subparsers(required=True, metavar="COMMAND")
    for name, module in commands().items():
        about = (module.__doc__ or "").split("\n")[0]
        sub = subparsers.add_parser(name, help=about, description=about)
        sub.set_defaults(run=module.run)
        sub.add_argument(
            "--checkpoints",
            type=Path,
            default=default_folder(),
            metavar="DIR",
            help="the folder of runs; default: EXPLORER_CHECKPOINTS, or checkpoints below the current folder",
        )
        module.add_arguments(sub)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line, without the program; None for those in `sys.argv`.

    Returns:
        The exit status: 0; 2 after a UserError, whose sentence is printed; 130 after Ctrl-C.
    """
    try:
        options = parser().parse_args(arguments)
        options.run(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted; everything saved so far is kept.", file=sys.stderr)
        return 130
    return 0
