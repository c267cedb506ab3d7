"""What is kept in memory for all sessions: runs that were read, and what views gave for them. Bounded in bytes."""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

import numpy as np
import streamlit as st
from cachetools import LRUCache
from torch import Tensor

from explorer.runs import Run
from explorer.views.subject import Subject

RUNS_KEPT = 2 * 2**30  # bytes of weights and losses
VIEWS_KEPT = 512 * 2**20  # bytes of films
LEAST_SIZE = 4096  # bytes that anything is taken to have
Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class _Entry(Generic[Value]):
    version: Hashable
    value: Value
    size: int


class Kept(Generic[Value]):
    """Values by key, at most ``room`` bytes of them; those used least recently go first.

    A value is made once, however many sessions ask for it, and again when its version has changed. Whoever asks for a
    value that is being made waits for it; other keys are not held up.
    """

    def __init__(self, room: int, size: Callable[[Value], int]):
        self._size = size
        self._lock = threading.Lock()
        self._entries: LRUCache[Hashable, _Entry[Value]] = LRUCache(room, getsizeof=lambda entry: entry.size)
        self._making: WeakValueDictionary[Hashable, threading.Lock] = WeakValueDictionary()

    def get(self, key: Hashable, version: Hashable, make: Callable[[Value | None], Value]) -> Value:
        """The value of ``key``.

        Args:
            key: what is wanted.
            version: of what the value is made of; a kept value of another version is made again.
            make: makes the value; it is given the kept one of another version, if there is one.
        """
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                entry = self._entries.get(key)
            if entry is None or entry.version != version:
                value = make(None if entry is None else entry.value)
                entry = _Entry(version, value, self._size(value))
                with self._lock:
                    self._entries.pop(key, None)
                    with contextlib.suppress(ValueError):  # larger than all the room there is: it is not kept
                        self._entries[key] = entry
            return entry.value


def nbytes(value: Any) -> int:
    """The bytes of all arrays in a value made of dataclasses, mappings and sequences."""
    if isinstance(value, np.ndarray | Tensor):
        return int(value.nbytes)
    if isinstance(value, bytes | str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(nbytes(one) for one in value.values())
    if isinstance(value, Sequence):
        return sum(nbytes(one) for one in value)
    if dataclasses.is_dataclass(value):
        return sum(nbytes(getattr(value, one.name)) for one in dataclasses.fields(value))
    return 0


@dataclasses.dataclass(frozen=True)
class Memory:
    """The runs and what views gave for them, one of each for all sessions."""

    runs: Kept[Subject]
    views: Kept[Any]

    def read(self, run: Run) -> tuple[Hashable, Subject]:
        """The version of the run as it is now, and the run.

        Raises:
            UserError: it cannot be read.
        """
        version = run.version()
        return version, self.runs.get(run.folder, version, lambda before: Subject.load(run, before))

    def made(self, run: Run, make: Callable[..., Value], *parameters: Hashable, beside: Run | None = None) -> Value:
        """What ``make(subject, *parameters)`` gives for a run.

        Args:
            run: its subject is the first argument of ``make``.
            make: a function or a bound method. It is part of the key as an object: when the code of a view changes
                while the app runs, there is a new function, and what the old one made is not used.
            parameters: further arguments.
            beside: a second run, whose subject is the last argument.

        Raises:
            UserError: as ``make``, or a run cannot be read.
        """
        runs = (run,) if beside is None else (run, beside)
        versions, (subject, *others) = zip(*map(self.read, runs), strict=True)
        key = (make, *(one.folder for one in runs), *parameters)
        return self.views.get(key, versions, lambda _: make(subject, *parameters, *others))


@st.cache_resource(show_spinner=False)
def memory() -> Memory:
    """The memory of this server."""
    # A film holds its arrays and, once it was sent, the message made of them.
    return Memory(
        Kept(RUNS_KEPT, lambda run: run.nbytes), Kept(VIEWS_KEPT, lambda value: LEAST_SIZE + 2 * nbytes(value))
    )
