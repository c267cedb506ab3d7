"""The command line."""

from explorer.cli.main import main

__all__ = ["main"]
