"""Where runs are: a folder of this machine, or an address elsewhere, where runs are only read and sweeps are written.

A place is asked about a run by its name, and about a file by its path in the folder of the run, such as
``snapshots/step-000640.safetensors``. The name of a run of a sweep is that of the sweep's folder, a slash and its own.
What reads runs, sweeps and measures asks; what writes runs takes the path of a folder.
"""

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO, Protocol

from explorer.errors import UserError, printable, quoted
from explorer.runs.files import leads_outside, regular
from explorer.runs.lock import is_locked
from explorer.settings import NAME

INFO, METRICS, ABOUT, TOKENIZER = "run.json", "metrics.safetensors", "about.md", "tokenizer.json"
NAMES = "up to 64 letters, digits, dots, dashes and underscores, beginning with a letter or a digit"
# In the folder of a sweep, beside the folders of its runs:
SWEEP, OUTCOMES, LEADS = "sweep.json", "outcomes.safetensors", "leads.safetensors"
MEASURES = "measures"
SNAPSHOTS, SNAPSHOT = "snapshots", re.compile(r"step-(\d{6,})\.safetensors")
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters or more: a single one is a drive of Windows
Stamp = tuple[int, ...]  # changes whenever a file is written, replaced or made readable


class UnreachableError(UserError):
    """What is elsewhere cannot be read or written now. The runs themselves may be whole."""


class NothingThereError(UnreachableError):
    """There is nothing at an address, not even something else than runs."""


def check_name(name: str) -> None:
    """Raises UserError if a run cannot have this name; the sentence says which it can."""
    if not NAME.fullmatch(name):
        raise UserError(f"{quoted(name)} cannot be the name of a run; use {NAMES}.")


def default_folder(beside: Path = Path()) -> Path | str:
    """The default place of runs: the value of the environment variable ``EXPLORER_CHECKPOINTS``, or ``checkpoints``.

    Args:
        beside: the folder that contains ``checkpoints``.

    Raises:
        UserError: the variable names the home folder of somebody unknown.
    """
    return folder_named(os.environ.get("EXPLORER_CHECKPOINTS") or str(beside / "checkpoints"))


def folder_named(text: str) -> Path | str:
    """The path that somebody has named, where ``~`` is the home folder, or an address as it is.

    Args:
        text: as typed.

    Raises:
        UserError: it begins with ``~`` and the name of somebody unknown.
    """
    if ADDRESS.match(text):
        return text
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{quoted(text)} begins with a home folder that is not known; write it in full.") from error


class Place(Protocol):
    """Where runs are. Its text, ``str(place)``, is what a person calls it."""

    read_only: bool  # whether it is no folder, so that runs can only be read there

    @property
    def root(self) -> Path:
        """The folder of runs, which may not exist.

        Raises:
            UserError: the place is no folder.
        """

    @property
    def known_as(self) -> str:
        """What names the place to another process, whatever folder that is in."""

    def emptiness(self) -> str:
        """A sentence without a full stop, which says that there are no runs."""

    def entries(self) -> list[str]:
        """The names of all that is there, in alphabetical order, whether it is a run or not.

        Raises:
            UserError: it cannot be listed.
        """

    def look_again(self) -> None:
        """Do not rely on what was there a moment ago."""

    def holds_run(self, name: str) -> bool:
        """Whether there is a run of that name, which may be unreadable."""

    def check_inside(self, run: str, files: Iterable[str]) -> None:
        """Raises UserError if one of the files is a link to elsewhere: what it leads to would be shown, or written."""

    def is_training(self, run: str, lock: str) -> bool:
        """Whether a process is training the run now, as far as one can tell.

        Args:
            run: its name.
            lock: the file that this process holds locked.
        """

    def stamp(self, run: str, file: str) -> Stamp | None:
        """A stamp of a file; None if it does not exist or cannot be reached."""

    def snapshots(self, run: str) -> Mapping[int, Stamp | None]:
        """A stamp of each snapshot file, by step, in any order."""

    def open(self, run: str, file: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            OSError: it does not exist or cannot be opened.
            ValueError: it is no regular file.
            UserError: it is a link to elsewhere, or cannot be fetched.
        """

    def ahead(self, run: str, files: Iterable[str]) -> AbstractContextManager[object]:
        """While this lasts, the files are opened one after another: what takes time is done ahead."""

    # --- Writing ---

    def check_written(self) -> None:
        """Raises UserError if no sweep can be written there, whatever the permissions."""

    def desk(self, name: str) -> AbstractContextManager[Path]:
        """A folder of this machine in which files of a sweep are written. What is to be in the place is then handed in.

        Args:
            name: of the sweep.
        """

    def hand_in(self, desk: Path, name: str, files: Iterable[str]) -> None:
        """Put files from a desk in the place, one after another, each instead of the one of its path.

        Args:
            desk: of a sweep.
            name: of the sweep.
            files: their paths in both.

        Raises:
            UserError: one cannot be written.
        """

    def remove(self, runs: Iterable[str]) -> None:
        """Remove runs of a sweep that are there.

        Args:
            runs: their names.

        Raises:
            UserError: one cannot be removed. It may be half removed, and those after it are still there.
        """


class Folder:
    """A folder of this machine.

    Args:
        root: the folder, which may not exist.
    """

    read_only = False

    def __init__(self, root: Path):
        self.root = root

    def __str__(self) -> str:
        return printable(self.root)

    @property
    def known_as(self) -> str:
        return str(self.root.resolve())

    def emptiness(self) -> str:
        state = "holds no runs yet" if self.root.exists() else "does not exist"
        return f"The folder {printable(self.root.absolute())} {state}"

    def entries(self) -> list[str]:
        try:
            return sorted(path.name for path in self.root.iterdir())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise UserError(f"{self} cannot be read as a folder of runs: {why}.") from error

    def look_again(self) -> None:
        """A folder is looked at whenever something is asked."""

    def holds_run(self, name: str) -> bool:
        try:
            return (self.root / name / INFO).is_file()
        except OSError:
            return True  # opening the run reports why it cannot be read

    def check_inside(self, run: str, files: Iterable[str]) -> None:
        folder = self.root / run
        for file in files:
            if leads_outside(folder / file, folder):
                raise UserError(
                    f"{run}/{file} is a link out of the folder of the run; put what it leads to in its place."
                )

    def is_training(self, run: str, lock: str) -> bool:
        try:
            return is_locked(self.root / run / lock)
        except OSError:
            return False  # no process trains a run that has no lock, or a folder that cannot be read

    def stamp(self, run: str, file: str) -> Stamp | None:
        return _stamp(self.root / run / file)

    def snapshots(self, run: str) -> Mapping[int, Stamp | None]:
        try:
            with os.scandir(self.root / run / SNAPSHOTS) as entries:
                return {int(match[1]): _stamp(entry) for entry in entries if (match := SNAPSHOT.fullmatch(entry.name))}
        except OSError:
            return {}  # reading a snapshot reports which file is missing

    def open(self, run: str, file: str) -> BinaryIO:
        self.check_inside(run, [file])
        return regular(self.root / run / file)

    def ahead(self, run: str, files: Iterable[str]) -> AbstractContextManager[object]:
        return nullcontext()

    def check_written(self) -> None:
        """What is wrong with a folder is found where it is written."""

    def desk(self, name: str) -> AbstractContextManager[Path]:
        return nullcontext(self.root / name)

    def hand_in(self, desk: Path, name: str, files: Iterable[str]) -> None:
        """What is written at the desk is there."""

    def remove(self, runs: Iterable[str]) -> None:
        for folder in (self.root / run for run in runs):
            try:
                if folder.exists():
                    shutil.rmtree(folder)
            except OSError as error:
                raise UserError(f"{folder} cannot be removed: {error.strerror or error}; remove it by hand.") from error


def place_of(where: str | Path) -> Place:
    """The place that somebody has named.

    Args:
        where: the path of a folder or of a zip file, or an address such as ``s3://bucket/prefix``.

    Raises:
        UserError: it is not on this machine, and the package that reads such places is not installed.
    """
    text = str(where)
    is_address = isinstance(where, str) and ADDRESS.match(text)
    if not (is_address or (text.endswith(".zip") and not os.path.isdir(text))):  # noqa: PTH112 - takes any text
        return Folder(Path(where))
    try:
        from explorer.runs.elsewhere import elsewhere
    except ImportError as error:
        raise not_installed(text, error) from error
    return elsewhere(text)


def not_installed(address: str, error: ImportError) -> UserError:
    """The sentence about a package that is needed to read an address.

    Args:
        address: of runs.
        error: what its import raised.
    """
    return UserError(
        f"{quoted(address)} cannot be read, since a package is missing ({printable(error).rstrip('.')}); install it "
        "with: pip install -r requirements-optional.txt"
    )


def _stamp(path: Path | os.DirEntry[str]) -> Stamp | None:
    """What changes whenever a file is written, replaced, or made readable, also where the clock has gone backwards or a
    copy keeps the time of its original; None if the file does not exist or cannot be reached."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
