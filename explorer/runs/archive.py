"""A whole run as one zip file, and back."""

import re
import zipfile
from pathlib import Path
from typing import IO

from explorer.errors import UserError, printable, quoted
from explorer.runs.files import LARGEST_TEXT, WriteError, writing
from explorer.runs.importing import new_run
from explorer.runs.place import SNAPSHOT
from explorer.runs.store import Run, Runs

# What an archive may hold, and how many bytes of each. The state of the optimiser, locks and logs stay at home.
PARTS = {"run.json": LARGEST_TEXT, "metrics.safetensors": 2**31, "tokenizer.json": LARGEST_TEXT, "about.md": 2**20}
LARGEST_SNAPSHOT, LARGEST_ARCHIVE = 2**32, 2**36  # bytes
MOST_PARTS = 10_000
PIECE = 2**20  # bytes that are copied at a time


def pack(run: Run, path: Path) -> int:
    """Write a run as a zip file, which any program can open. It is not compressed: weights hardly get smaller.

    Args:
        run: the run, which is read as it is now.
        path: the file, which is replaced if it exists.

    Returns:
        The bytes of the file.

    Raises:
        UserError: run.json cannot be read, or the file cannot be written.
    """
    run.info()
    files = [run.folder / name for name in PARTS if (run.folder / name).is_file()]
    files += [run.snapshot_file(step) for step in sorted(run.steps_on_disk())]
    temporary = path.with_name(f".{path.name}.part")
    try:
        with writing(path):
            try:
                with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
                    for file in files:
                        archive.write(file, f"{run.name}/{file.relative_to(run.folder).as_posix()}")
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            return path.stat().st_size
    except WriteError as error:
        raise UserError(error.sentence("export the run again")) from error


def unpack(runs: Runs, path: Path, name: str = "") -> Run:
    """Make a run of a zip file that `pack` wrote. If it cannot be completed, nothing is left of it.

    Args:
        runs: the folder of runs.
        path: the zip file.
        name: of the run; "" for the one that it had.

    Raises:
        UserError: the file is no such archive, holds anything else, is larger than it claims, or its run cannot be
            read; the name is taken or cannot be that of a run; nothing can be written.
    """
    shown = quoted(path.name)
    try:
        with zipfile.ZipFile(path) as archive:
            parts, held = _parts(archive, shown)
            with new_run(runs, name or held) as run:
                for part, entry in parts.items():
                    target = run.folder / part
                    with writing(target):
                        target.parent.mkdir(exist_ok=True)
                        with archive.open(entry) as source, target.open("xb") as file:
                            _copy(source, file, entry.file_size, shown)
                run.readable([])
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"There is no file {shown}; give the path of one.") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise UserError(f"{shown} is damaged or no archive of a run; export the run again.") from error
    return Run(runs.root / (name or held))


def _parts(archive: zipfile.ZipFile, shown: str) -> tuple[dict[str, zipfile.ZipInfo], str]:
    """The files of the run, by their places in its folder, and the name of the run."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > MOST_PARTS:
        raise UserError(f"{shown} holds {len(entries):,} files; an archive of a run has at most {MOST_PARTS:,}.")
    parts: dict[str, zipfile.ZipInfo] = {}
    names = set()
    for entry in entries:
        name, _, part = entry.filename.partition("/")
        names.add(name)
        folder, _, file = part.rpartition("/")
        is_snapshot = folder == "snapshots" and SNAPSHOT.fullmatch(file)
        if not (is_snapshot or part in PARTS) or part in parts:
            raise UserError(f"{shown} holds {printable(repr(entry.filename), 80)}, which is no file of a run.")
        most = LARGEST_SNAPSHOT if is_snapshot else PARTS[part]
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > most or entry.flag_bits & 1:
            raise UserError(f"{part} in {shown} is compressed, encrypted or too large; export the run again.")
        parts[part] = entry
    if "run.json" not in parts or len(names) != 1:
        raise UserError(f"{shown} is no archive of one run: it needs one folder with a run.json in it.")
    if sum(entry.file_size for entry in parts.values()) > LARGEST_ARCHIVE:
        raise UserError(f"{shown} holds more than {LARGEST_ARCHIVE / 2**30:.0f} GiB.")
    name = names.pop()
    return parts, re.sub(r"[^A-Za-z0-9._-]", "-", name)


def _copy(source: IO[bytes], target: IO[bytes], size: int, shown: str) -> None:
    """Copy as many bytes as an entry claims to have."""
    left = size
    while piece := source.read(min(PIECE, left + 1)):
        left -= len(piece)
        if left < 0:
            raise UserError(f"{shown} holds more than it claims; export the run again.")
        target.write(piece)
