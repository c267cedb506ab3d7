"""Runs on disk. Only this folder reads or writes checkpoint files; reading a run imports no training code."""

from explorer.runs.info import RunInfo
from explorer.runs.store import Run, Runs

__all__ = ["Run", "RunInfo", "Runs"]
