"""Runs at an address that fsspec can list: a bucket, a repository, a web server, a zip file.

They are only read, but for sweeps, whose runs are written in a folder of a worker and put there when they are done.

All objects below the address are listed at once. A file is copied when it is first opened (`explorer.runs.copies`), and
again after the listing tells something else about it. Names of objects are untrusted: those that are not of a run's
files are passed over.
"""

import contextlib
import functools
import hashlib
import re
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

import fsspec
from fsspec.callbacks import Callback

from explorer.errors import UserError, printable
from explorer.runs import copies
from explorer.runs.files import NO_ROOM
from explorer.runs.place import (
    ABOUT,
    ADDRESS,
    INFO,
    LEADS,
    MEASURES,
    METRICS,
    NAME,
    OUTCOMES,
    SNAPSHOT,
    SNAPSHOTS,
    SWEEP,
    TOKENIZER,
    NothingThereError,
    Stamp,
    UnreachableError,
    not_installed,
)

SMALL = (INFO, METRICS, ABOUT, TOKENIZER, SWEEP, OUTCOMES, LEADS)
FILE = re.compile(  # of a run, of a sweep, or of a run of a sweep
    rf"({NAME.pattern}(?:/{NAME.pattern})?)/"
    rf"({'|'.join(map(re.escape, SMALL))}|{SNAPSHOTS}/{SNAPSHOT.pattern}|{MEASURES}/[\w-]+\.safetensors)",
    re.ASCII,
)
LISTED_FOR = 10.0  # seconds until a listing is made anew
PATIENCE = 30.0  # seconds that a listing may take, or a copy without a further byte
SLOWEST = 100_000  # bytes a second: what is written may take so much longer, since not everything tells its progress
AT_ONCE = 8  # copies
Value = TypeVar("Value")


@dataclass(frozen=True)
class _Object:
    """A file of a run or a sweep."""

    path: str  # as the file system has it
    size: int | None  # bytes, if that is told
    stamp: Stamp


@dataclass(frozen=True)
class _Listing:
    at: float  # seconds, of a clock
    system: Any  # the file system
    names: list[str]  # of all that is there
    told: Mapping[str, Mapping[str, Mapping[str, Any]]]  # name of a run or a sweep -> file -> what is told of it
    files: dict[str, Mapping[str, _Object]] = field(default_factory=dict)  # of those that were asked for


class _Progress(Callback):
    """Notes when a copy grows, and ends one that grows too large, or that nobody waits for any more."""

    def __init__(self, most: int):
        super().__init__()
        self.most, self.heard, self.is_awaited = most, time.monotonic(), True

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        self.heard = time.monotonic()
        if self.value > self.most or not self.is_awaited:
            raise InterruptedError("the copy was ended")


class Elsewhere:
    """Runs at an address. Threads may share it.

    Args:
        address: as fsspec takes it, with one more way to name a zip file: simply its path or address.
    """

    read_only = True

    def __init__(self, address: str):
        self.known_as, self._shown = address, _without_password(printable(address))
        self._address, self._folder = address, ""
        self._is_zip = False
        if address.startswith("zip://"):
            inner, chained, archive = address.removeprefix("zip://").partition("::")
            self._is_zip, self._folder, self._address = True, inner if chained else "", archive if chained else inner
        elif address.endswith(".zip"):
            self._is_zip = True
        self._listing: _Listing | None = None
        self._source: tuple[Any, str] | None = None  # the file system of the address, and the path in it
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return self._shown

    @property
    def root(self) -> NoReturn:
        raise UserError(f"{self} is no folder; train, rename and delete single runs in a folder of this machine.")

    def emptiness(self) -> str:
        return f"{self} holds no runs"

    def entries(self) -> list[str]:
        return self._listed().names

    def holds_run(self, name: str) -> bool:
        return INFO in self._listed().told.get(name, {})

    def check_inside(self, run: str, files: Iterable[str]) -> None:
        """Objects are no links."""

    def is_training(self, run: str, lock: str) -> bool:
        return True  # its process would be on another machine: what run.json says of it is believed

    def stamp(self, run: str, file: str) -> Stamp | None:
        found = self._files(run).get(file)
        return None if found is None else found.stamp

    def snapshots(self, run: str) -> Mapping[int, Stamp | None]:
        found = self._files(run).items()
        names = ((file.removeprefix(f"{SNAPSHOTS}/"), one) for file, one in found)
        return {int(match[1]): one.stamp for name, one in names if (match := SNAPSHOT.fullmatch(name))}

    def open(self, run: str, file: str) -> BinaryIO:
        listing = self._listed()
        found = self._files(run).get(file)
        if found is None:
            raise FileNotFoundError(file)
        key = "\n".join((self._address, found.path, str(found.stamp)))
        return copies.opened(key, lambda path: self._copy(listing.system, found, f"{run}/{file}", path))

    @contextlib.contextmanager
    def ahead(self, run: str, files: Iterable[str]) -> Iterator[None]:
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            for file in files:  # what cannot be copied is reported where it is opened
                pool.submit(lambda file: self.open(run, file).close(), file)
            yield
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    # --- Writing ---

    def check_written(self) -> None:
        if self._is_zip:
            raise UserError(f"{self} is a zip file, which is only read; name a folder or the address of one.")

    def desk(self, name: str) -> AbstractContextManager[Path]:
        return _scratch()

    def hand_in(self, desk: Path, name: str, files: Iterable[str]) -> None:
        for file in files:
            put = functools.partial(self._put, desk / file, f"{name}/{file}")
            self._answer(put, patience=PATIENCE + (desk / file).stat().st_size / SLOWEST, done="written")
        self.look_again()

    def _put(self, source: Path, file: str) -> None:
        system, root = self._located()
        target = _below(system, root) + file
        if not system.async_impl:  # stores of objects, which have no folders, answer asynchronously
            system.makedirs(target.rpartition("/")[0], exist_ok=True)
        system.put_file(str(source), target)

    def remove(self, runs: Iterable[str]) -> None:
        told = self._listed().told
        paths = [about["name"] for run in runs for about in told.get(run, {}).values()]
        if paths:
            self._answer(lambda: self._located()[0].rm(paths), done="written")
            self.look_again()

    # --- What there is ---

    def look_again(self) -> None:
        with self._lock:
            self._listing = None

    def _files(self, run: str) -> Mapping[str, _Object]:
        listing = self._listed()
        if run not in listing.files:
            told = listing.told.get(run, {})
            is_told = all(about["size"] is not None for about in told.values())
            listing.files[run] = (
                _objects(listing.system, told) if is_told else self._answer(lambda: _objects(listing.system, told))
            )
        return listing.files[run]

    def _listed(self) -> _Listing:
        with self._lock:
            if self._listing is None or time.monotonic() - self._listing.at > LISTED_FOR:
                self._listing = self._answer(self._list)
            return self._listing

    def _located(self) -> tuple[Any, str]:
        """The file system of the address, and the path in it."""
        if self._source is None:
            self._source = fsspec.core.url_to_fs(self._address)
        return self._source

    def _list(self) -> _Listing:
        system, root = self._located()
        system.invalidate_cache()
        if self._is_zip:  # opened anew, since it may be another file by now
            system, root = fsspec.filesystem("zip", fo=system.open(root, "rb")), self._folder.strip("/")
        found = system.find(root, detail=True)
        if not found:
            system.ls(root)  # raises where `find` passes over what is not there, or does not answer
        below = _below(system, root)
        told: dict[str, dict[str, Any]] = {}
        names = set()
        for path, about in found.items():
            if not path.startswith(below):
                continue
            names.add(path.removeprefix(below).partition("/")[0])
            if match := FILE.fullmatch(path.removeprefix(below)):
                told.setdefault(match[1], {})[match[2]] = {**about, "name": path}
        return _Listing(time.monotonic(), system, sorted(filter(None, names)), told)

    # --- Asking, with a time limit ---

    def _copy(self, system: Any, found: _Object, shown: str, path: Path) -> None:
        """Copy an object to a path of this machine."""
        most = copies.room()
        if (found.size or 0) > most:
            raise UserError(
                f"{shown} of {self} has {found.size / 2**30:,.2g} GiB, more than all copies may take; set "  # type: ignore[operator]
                "EXPLORER_CACHE_GIB to more."
            )
        progress = _Progress(most if found.size is None else found.size)
        self._answer(lambda: system.get_file(found.path, str(path), callback=progress), progress)
        if found.size is not None and path.stat().st_size != found.size:
            raise UnreachableError(f"{shown} of {self} has changed while it was read; try again.")

    def _answer(
        self,
        ask: Callable[[], Value],
        progress: _Progress | None = None,
        patience: float | None = None,
        done: str = "read",
    ) -> Value:
        """What the file system answers, whose libraries may wait without end and raise errors of any kind."""
        patience = PATIENCE if patience is None else patience
        answer: Future[Value] = Future()
        progress = progress or _Progress(0)

        def wait() -> None:
            try:
                answer.set_result(ask())
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=wait, daemon=True).start()  # so that it does not keep the program from ending
        while not answer.done():
            left = progress.heard + patience - time.monotonic()
            if left <= 0:
                progress.is_awaited = False
                raise UnreachableError(
                    f"{self} has not answered for {patience:g} s; check the network, or try again later."
                )
            with contextlib.suppress(TimeoutError):
                answer.exception(timeout=left)
        try:
            return answer.result()
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise  # for the copy
            raise self._refused(error, done) from error

    def _refused(self, error: Exception, done: str) -> UserError:
        if isinstance(error, ImportError):
            return not_installed(str(self), error)
        if isinstance(error, FileNotFoundError) and done == "read":
            return NothingThereError(f"There is nothing to read at {self}; check the address.")
        if isinstance(error, zipfile.BadZipFile):
            return UnreachableError(f"{self} is damaged or is not a zip file; restore it.")
        why = _without_password(printable(" ".join(str(error).split()), 200)).rstrip(".")
        return UnreachableError(
            f"{self} cannot be {done}: {type(error).__name__}{why and f', {why}'}; check the address, the network and "
            "the credentials."
        )


@functools.lru_cache(maxsize=16)
def elsewhere(address: str) -> Elsewhere:
    """The runs at an address: one object for all who ask, so that they share what was listed.

    Args:
        address: as `Elsewhere` takes it.
    """
    return Elsewhere(address if ADDRESS.match(address) else str(Path(address).absolute()))


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """An empty folder, which is removed at the end; not if the process is killed."""
    with tempfile.TemporaryDirectory(prefix="explorer-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _below(system: Any, root: str) -> str:
    """What the paths of all that is below a path begin with."""
    return f"{root.rstrip('/')}/" if root.strip("/") else str(system.root_marker)


def _objects(system: Any, told: Mapping[str, Mapping[str, Any]]) -> dict[str, _Object]:
    """The files of one run or sweep.

    Args:
        system: the file system.
        told: file -> what the listing says of it. Of a web server that is a name only: each small file is then asked
            for, and snapshots count as changed when run.json is.
    """
    asked = {file: system.info(told[file]["name"]) for file in SMALL if file in told and told[file]["size"] is None}
    objects = {}
    for file, about in told.items():
        facts = asked.get(file) or (about if about["size"] is not None else asked.get(INFO, {}))
        text = repr(sorted((key, str(value)) for key, value in facts.items()))
        stamp = int.from_bytes(hashlib.sha256(text.encode(errors="surrogateescape")).digest()[:16], "big")
        objects[file] = _Object(about["name"], about["size"], (stamp,))
    return objects


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)
