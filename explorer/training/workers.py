"""Processes of this machine that compute side by side, each on one thread."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing.synchronize import Event
from typing import Any

import torch


def processes(workers: int) -> Callable[[], Executor]:
    """Executors of processes, spawned, so that they share nothing with this one.

    What is submitted to them is called with ``is_wanted`` besides its arguments: a function without arguments which
    returns whether anybody still waits for the result. Nobody does after a shutdown that cancels what is left.

    Args:
        workers: how many.
    """
    return lambda: _Processes(workers)


class _Processes(ProcessPoolExecutor):
    def __init__(self, workers: int):
        spawn = multiprocessing.get_context("spawn")
        self._unwanted = spawn.Event()
        super().__init__(workers, mp_context=spawn, initializer=_begin, initargs=(self._unwanted,))

    def submit(self, function: Callable[..., Any], /, *args: Any, **settings: Any) -> Future[Any]:
        return super().submit(_called, function, *args, **settings)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            self._unwanted.set()
        super().shutdown(wait, cancel_futures=cancel_futures)


# --- In such a process ---

_unwanted: Event | None = None  # set when results are no longer wanted


def _begin(unwanted: Event) -> None:
    """Set up a process: it makes way for the app, leaves Ctrl-C to the process that started it, and ends at once when
    that is gone, so that nothing keeps its work from being done by another."""
    global _unwanted
    _unwanted = unwanted
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(5)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _called(function: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    return function(*args, **settings, is_wanted=lambda: _unwanted is None or not _unwanted.is_set())
