"""The parser of the command line, and how errors are reported."""

import argparse
import contextlib
import importlib
import io
import json
import math
import os
import pkgutil
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from explorer import cli
from explorer.errors import UserError, printable
from explorer.runs.place import default_folder, folder_named

PIPE_CLOSED = 141  # the exit status of Unix tools that write to a pipe that nobody reads: 128 + SIGPIPE


class _Parser(argparse.ArgumentParser):
    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{printable(message)}; {self.prog} --help lists what is accepted.")

    def print_help(self, file: Any = None) -> None:
        say(self.format_help().rstrip())


def say(text: object) -> None:
    """Print on the standard output, at once.

    Args:
        text: what to print.

    Raises:
        BrokenPipeError: nobody reads it any more.
        UserError: it cannot be written.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard(sys.stdout)  # what is left of it would fail again at the end
        raise UserError(f"The output cannot be written: {error.strerror}; write it elsewhere.") from error


def warn(sentences: str | Iterable[str]) -> None:
    """Print sentences on the standard error, one a line.

    Args:
        sentences: one or several.
    """
    with contextlib.suppress(OSError):
        for sentence in [sentences] if isinstance(sentences, str) else sentences:
            print(sentence, file=sys.stderr, flush=True)


def n_workers(asked: int | None) -> int:
    """How many processes to start.

    Args:
        asked: by ``--workers``; None for as many as there are cores.

    Raises:
        UserError: it is no such number.
    """
    workers = os.cpu_count() or 1 if asked is None else asked
    if not 1 <= workers <= 1024:
        raise UserError(f"--workers is {workers}; it must lie between 1 and 1,024.")
    return workers


def say_json(value: Any) -> None:
    """Print JSON, with null for numbers that are not finite, which JSON does not have.

    Args:
        value: made of dicts, lists, texts, numbers and None.

    Raises:
        BrokenPipeError, UserError: as `say`.
    """
    say(json.dumps(_of_finite(value), indent=2, allow_nan=False))


def _of_finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _of_finite(one) for name, one in value.items()}
    return [_of_finite(one) for one in value] if isinstance(value, list | tuple) else value


def _discard(*streams: Any) -> None:
    """Let everything that is still written to these streams go nowhere."""
    with contextlib.suppress(OSError, ValueError):  # a stream that is no file
        for stream in streams:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def where(checkpoints: Path | str) -> str:
    """The option that a command needs to find the runs in a place, after a space; "" if it is the default.

    Args:
        checkpoints: the path of the folder, or the address.
    """
    return "" if checkpoints == default_folder() else f" --checkpoints {shlex.quote(str(checkpoints))}"


def program() -> str:
    """The command with which this program was started, for sentences that say what to type."""
    return "explorer" if Path(sys.argv[0]).stem == "explorer" else "python -m explorer"


def commands() -> dict[str, ModuleType]:
    """Name -> module of every command."""
    names = [module.name for module in pkgutil.iter_modules(cli.__path__) if module.name != "main"]
    return {name.rstrip("_").replace("_", "-"): importlib.import_module(f"{cli.__name__}.{name}") for name in names}


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
            metavar="DIR",
            help="the folder of runs, or an address where they are read and sweeps are written; default: "
            "EXPLORER_CHECKPOINTS, or checkpoints below the current folder",
        )
        module.add_arguments(sub)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line, without the program; None for those in `sys.argv`.

    Returns:
        The exit status: 0; 2 after a UserError, whose sentence is printed; 130 after Ctrl-C; `PIPE_CLOSED` where the
        output is no longer read.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not know every character
    try:
        options = parser().parse_args(arguments)
        given = options.checkpoints
        options.checkpoints = default_folder() if given is None else folder_named(given)
        options.run(options)
    except UserError as error:
        warn(str(error))
        return 2
    except BrokenPipeError:
        _discard(sys.stdout, sys.stderr)
        return PIPE_CLOSED
    except KeyboardInterrupt:
        warn("\nInterrupted; everything saved so far is kept.")
        return 130
    return 0
