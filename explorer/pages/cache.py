"""Caches shared by all sessions: loaded runs and results of views, bounded in bytes."""

import contextlib
import ctypes
import dataclasses
import os
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

import numpy as np
import streamlit as st
from cachetools import LRUCache
from torch import Tensor

from explorer.film.film import Film
from explorer.runs import Run
from explorer.runs.sweeps import Sweep
from explorer.views.swept import Seen, seen

MAX_RUN_BYTES = 3 * 2**30  # bytes of weights and losses
MAX_RESULT_BYTES = 512 * 2**20  # bytes of films
MIN_ENTRY_BYTES = 4096  # counted for every result besides its arrays
# Computations at once, of all sessions together. More would not be faster, and each takes memory of its own.
COMPUTING = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))
Value = TypeVar("Value")


@contextlib.contextmanager
def _computation() -> Iterator[None]:
    """Waits for a place among the computations, and returns their memory at the end: each run of a script is a new
    thread, and the C library keeps what a thread has freed for that thread alone."""
    with COMPUTING:
        yield
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:  # of glibc
        trim(0)


@dataclasses.dataclass(frozen=True)
class _Entry(Generic[Value]):
    version: Hashable
    value: Value
    size: int


class ByteCache(Generic[Value]):
    """A least-recently-used cache whose values take at most ``max_bytes``.

    A value is computed once for all sessions, and again when its version changes. Concurrent requests for a key wait
    for one computation; other keys are not blocked.
    """

    def __init__(self, max_bytes: int, size: Callable[[Value], int]):
        self._size = size
        self._lock = threading.Lock()
        self._entries: LRUCache[Hashable, _Entry[Value]] = LRUCache(max_bytes, getsizeof=lambda entry: entry.size)
        self._computing: WeakValueDictionary[Hashable, threading.Lock] = WeakValueDictionary()

    def get(self, key: Hashable, version: Hashable, compute: Callable[[Value | None], Value]) -> Value:
        """The value of ``key``, from the cache or computed.

        Args:
            key: of the value.
            version: of the inputs; a cached value of another version is computed again.
            compute: computes the value; its argument is the cached value of another version, or None. It must not ask
                a cache itself.
        """
        with self._lock:
            computing = self._computing.setdefault(key, threading.Lock())
        with computing:
            with self._lock:
                entry = self._entries.get(key)
            if entry is None or entry.version != version:
                with _computation():
                    value = compute(None if entry is None else entry.value)
                entry = _Entry(version, value, self._size(value))
                with self._lock:
                    self._entries.pop(key, None)
                    with contextlib.suppress(ValueError):  # larger than the whole cache: not stored
                        self._entries[key] = entry
            return entry.value


def nbytes(value: Any) -> int:
    """The bytes of all arrays and texts in a value.

    Args:
        value: made of dataclasses, mappings, sequences, arrays, tensors and texts.
    """
    if isinstance(value, np.ndarray | Tensor):
        return int(value.nbytes)
    if isinstance(value, bytes | str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(nbytes, value.values()))
    if isinstance(value, Sequence):
        return sum(map(nbytes, value))
    if dataclasses.is_dataclass(value):
        return sum(nbytes(getattr(value, field.name)) for field in dataclasses.fields(value))
    return 0


@dataclasses.dataclass
class Growing:
    """A film on a sample that grows, shared by all sessions. What was measured is kept while nobody looks.

    Attributes:
        film: on the sample so far.
        share: of the work that is done; 1 at the end.
    """

    film: Film
    share: float
    _later: Iterator[tuple[Film, float]]
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    @classmethod
    def begun(cls, films: Iterator[tuple[Film, float]]) -> "Growing":
        """With the first part of the sample.

        Args:
            films: as `View.films` yields them.
        """
        return cls(*next(films), films)

    def grow(self) -> None:
        """Measure one more part, unless another session is just doing that."""
        if self._lock.acquire(blocking=False):
            try:
                with _computation():
                    self.film, self.share = next(self._later, (self.film, 1.0))
            finally:
                self._lock.release()


@dataclasses.dataclass(frozen=True)
class Caches:
    """The loaded runs and the results of views, shared by all sessions."""

    runs: ByteCache[Seen]
    results: ByteCache[Any]

    def load(self, run: Run | Sweep) -> tuple[Hashable, Seen]:
        """The current version of a run or a sweep, and what is loaded of it.

        Args:
            run: on disk.

        Raises:
            UserError: the run cannot be read.
        """
        version = run.version()
        return version, self.runs.get(run.address, version, lambda before: seen(run, before))

    def result(
        self,
        run: Run | Sweep,
        make: Callable[..., Value],
        *parameters: Hashable,
        second: Run | Sweep | None = None,
    ) -> Value:
        """The cached result of ``make(subject, *parameters)`` for a run or a sweep.

        Args:
            run: on disk; what is loaded of it is the first argument of ``make``.
            make: a function or a bound method. The object is part of the cache key, so that results of old code are
                not reused after a hot reload.
            parameters: further arguments.
            second: a second one, which is the last argument.

        Raises:
            UserError: as ``make``, or a run cannot be read.
        """
        runs = (run,) if second is None else (run, second)
        versions, (subject, *others) = zip(*map(self.load, runs), strict=True)
        key = (make, *(each.address for each in runs), *parameters)
        return self.results.get(key, versions, lambda _: make(subject, *parameters, *others))


@st.cache_resource(show_spinner=False)
def caches() -> Caches:
    """The caches of this server."""
    return Caches(
        runs=ByteCache(MAX_RUN_BYTES, lambda run: run.nbytes),
        # A film holds its arrays and, once it is sent, the message made of them.
        results=ByteCache(MAX_RESULT_BYTES, lambda value: MIN_ENTRY_BYTES + 2 * nbytes(value)),
    )
