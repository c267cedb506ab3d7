"""Processes of this machine that compute side by side, each on one thread."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor

import torch


def processes(workers: int) -> Callable[[], Executor]:
    """Executors of processes, spawned, so that they share nothing with this one.

    Args:
        workers: how many.
    """
    spawn = multiprocessing.get_context("spawn")
    return lambda: ProcessPoolExecutor(workers, mp_context=spawn, initializer=begin_worker)


def begin_worker() -> None:
    """Set up a process: it computes on one thread, makes way for the app, leaves Ctrl-C to the process that started it,
    and ends at once when that is gone, so that nothing keeps its work from being done by another."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(5)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
