"""Copies of files from elsewhere, in a folder of this machine that takes bounded room.

The environment variable ``EXPLORER_CACHE`` names the folder, ``EXPLORER_CACHE_GIB`` the room. The name of a copy is a
hash, so nothing that stands elsewhere becomes a path here. Several processes may share the folder. Those copies that
were used least recently are removed first.
"""

import contextlib
import hashlib
import math
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

from explorer.errors import UserError, printable, quoted
from explorer.runs.files import NO_ROOM, TEMPORARY, is_incomplete, regular

ROOM = 8.0  # GiB
COPY = re.compile("[0-9a-f]{64}")
ABANDONED = 86_400  # seconds after which an incomplete copy is removed: its process was killed
_KEEPING = threading.Lock()  # held where copies are removed, and from when a new one is there until it is open
_MAKING: "WeakValueDictionary[str, threading.Lock]" = WeakValueDictionary()


def folder() -> Path:
    """The folder of copies, which may not exist.

    Raises:
        UserError: it is in a home folder that is not known.
    """
    given = os.environ.get("EXPLORER_CACHE")
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(given or f"{caches}/phase-change-explorer").expanduser()
    except RuntimeError as error:
        raise UserError("The home folder is not known; set EXPLORER_CACHE to a folder for copies.") from error


def room() -> int:
    """The bytes that all copies together may take.

    Raises:
        UserError: the environment variable is no such number.
    """
    text = os.environ.get("EXPLORER_CACHE_GIB") or str(ROOM)
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    if not 0 < size < math.inf:
        raise UserError(f"EXPLORER_CACHE_GIB is {quoted(text)}; set it to a number of GiB above 0, such as {ROOM:g}.")
    return int(size * 2**30)


def opened(key: str, copy: Callable[[Path], object]) -> BinaryIO:
    """Open a copy for reading. If there is none, it is made, by one thread at a time.

    Args:
        key: of what is copied, another one whenever that changes.
        copy: writes the copy to a path, of an empty file.

    Raises:
        UserError: the folder of copies cannot be used; or as ``copy``.
    """
    name, place = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest(), folder()
    path, most = place / name, room()
    try:
        with _MAKING.setdefault(name, threading.Lock()):
            with contextlib.suppress(FileNotFoundError):
                file = regular(path)
                with contextlib.suppress(OSError):  # it may be another user's, or gone by now
                    os.utime(path)  # the time of its last use
                return file
            return _made(path, most, copy)
    except OSError as error:
        remedy = "free some space" if error.errno in NO_ROOM else "set EXPLORER_CACHE to a folder to write to"
        raise UserError(
            f"{printable(place)}, the folder for copies, cannot be used: {error.strerror or error}; {remedy}."
        ) from error


def _made(path: Path, most: int, copy: Callable[[Path], object]) -> BinaryIO:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY[0])
    os.close(handle)
    temporary = Path(name)
    try:
        copy(temporary)
        with _KEEPING:
            temporary.replace(path)
            file = regular(path)
            _make_room(path, most)
            return file
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _make_room(new: Path, most: int) -> None:
    """Remove the copies used least recently, but for a new one, until all take at most ``most`` bytes."""
    found = []
    for path in new.parent.iterdir():
        with contextlib.suppress(OSError):  # another process has just removed it
            about = path.stat()
            if COPY.fullmatch(path.name):
                found.append((about.st_mtime_ns, about.st_size, path))
            elif is_incomplete(path) and time.time() - about.st_mtime > ABANDONED:
                path.unlink()
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total > most and path != new:
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size
