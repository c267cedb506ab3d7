"""Runs on disk. Only this folder reads or writes checkpoint files."""

from explorer.runs.store import Run, RunInfo, Runs

__all__ = ["Run", "RunInfo", "Runs"]
