"""Reading and writing the files of a run.

Every file is first written in full under a temporary name in the same folder and then renamed, so a process that is
killed at any moment leaves either the old file or the new one. No folder is ever made here: one that was removed stays
removed. Nothing is ever unpickled.
"""

import contextlib
import errno
import json
import math
import os
import re
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from explorer.errors import UserError, printable, quoted

DTYPES = {  # of a safetensors file
    **{"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "BOOL": torch.bool},
    **{"I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64},
    **{"U8": torch.uint8, "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64, "C64": torch.complex64},
}
LARGEST_HEADER = 2**24  # bytes, of a safetensors file; one name, shape and type take about a hundred
LARGEST_TEXT = 2**24  # bytes, of a text file
LOG_TAIL = 2000  # bytes of a log in which its last line is looked for
CHECKSUM = "crc32"  # in a file's metadata: that of the bytes of all its tensors, in the order of their names
TEMPORARY = (".writing-", ".tmp")  # prefixes of the names of incomplete files: ours, and those of safetensors
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Check = Callable[[Mapping[str, Tensor], Mapping[str, str]], object]
Source = Path | Callable[[], BinaryIO]  # a file, or what opens one


class WriteError(OSError):
    """A file cannot be written. It has ``errno``, ``strerror`` and ``filename``, the file's final name."""

    def sentence(self, then: str) -> str:
        """What cannot be written, why, and the remedy.

        Args:
            then: what to do once the remedy is applied, such as "resume the run".
        """
        folder = Path(self.filename).parent
        remedy = "free some space" if self.errno in NO_ROOM else f"see that {folder} is a folder that can be written to"
        return f"{self.filename} cannot be written: {self.strerror}; {remedy}, then {then}."


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Whatever is done within changes ``path``.

    Args:
        path: the file or folder that is written, made or removed.

    Raises:
        WriteError: the operating system refuses.
    """
    try:
        yield
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), str(path)) from error
    except SafetensorError as error:  # has the number in its text only
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise WriteError(code, os.strerror(code), str(path)) from error


def read_tensors(
    source: Source, shown: str, check: Check = lambda tensors, metadata: None, only_header: bool = False
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file into memory. It is not mapped: a process dies if a file that it has mapped is cut short.

    Args:
        source: the file, or what opens it.
        shown: its name in error messages.
        check: is called with the tensors on the meta device and the metadata, before any tensor is read; it raises
            UserError if they are not what they should be.
        only_header: read only names, shapes and types.

    Returns:
        The tensors by name, on the meta device if ``only_header``, and the file's metadata.

    Raises:
        UserError: the file is missing or damaged, names something twice, or holds other bytes than its checksum tells,
            if it has one; or as ``check``.
    """
    try:
        with _opened(source) as file:
            tensors, begins, metadata = _read_header(file, shown)
            check(tensors, metadata)
            if only_header:
                return tensors, metadata
            for name in begins:
                tensors[name] = _read_tensor(file, tensors[name])
    except FileNotFoundError as error:
        raise UserError(f"{shown} is missing; restore the file, or train the run again.") from error
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{shown} cannot be read: {error.strerror}; change its permissions.") from error
    except (OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise UserError(f"{shown} is damaged or is not a safetensors file; restore it.") from error
    if CHECKSUM in metadata and metadata[CHECKSUM] != _checksum(tensors):
        raise UserError(
            f"{shown} does not hold the numbers that were written, by its {CHECKSUM}; restore it, or, if you changed "
            f"it, leave {CHECKSUM} out of its metadata."
        )
    return tensors, metadata


def read_text(source: Source) -> str:
    """Read a UTF-8 text file of at most `LARGEST_TEXT` bytes.

    Args:
        source: the file, or what opens it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a file, too large, or not UTF-8.
    """
    with _opened(source) as file:
        data = file.read(LARGEST_TEXT + 1)
    if len(data) > LARGEST_TEXT:
        raise ValueError(f"The file has more than {LARGEST_TEXT} bytes.")
    return data.decode()


def last_line(log: Path) -> str:
    """The last line of a log that says something; "" if there is none.

    Args:
        log: the file, which may not exist.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line for line in map(printable, reversed(lines)) if line.strip()), "")


def leads_outside(path: Path, folder: Path) -> bool:
    """Whether a path is a symbolic link to somewhere outside a folder.

    Args:
        path: which may not exist.
        folder: which may itself be reached through a link.
    """
    return path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _opened(source: Source) -> BinaryIO:
    return regular(source) if isinstance(source, Path) else source()


def regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is a folder, a device or a pipe, on which a reader might wait without end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path} is not a file.")
    return path.open("rb")


def _read_header(file: BinaryIO, shown: str) -> tuple[dict[str, Tensor], dict[str, int], dict[str, str]]:
    """The header of a safetensors file. Nothing is allocated for what it only claims to hold.

    Returns:
        The tensors, on the meta device; where each begins, in bytes after the header, ascending; the metadata.

    Raises:
        UserError: it names something twice: readers do not agree on which of the two counts.
        ValueError, TypeError, RuntimeError: it is no such header, or is not that of what follows.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if length > min(LARGEST_HEADER, size - 8):
        raise ValueError(f"The header has {length} bytes.")
    entries = parsed_json(file.read(length).decode(), shown)
    if not isinstance(entries, dict):
        raise TypeError("The header is no object.")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise TypeError("The metadata are no texts.")
    tensors, spans = {}, {}
    for name, entry in entries.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise TypeError(f"{name} is no tensor.")
        dtype, shape, (begin, end) = DTYPES.get(entry["dtype"]), entry["shape"], entry["data_offsets"]
        if dtype is None or not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
            raise TypeError(f"{name} has no valid type, shape or place.")
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name} takes other than {end - begin} bytes.")
        tensors[name] = torch.empty(shape, dtype=dtype, device="meta")
        spans[name] = (begin, end)
    expected = 0
    for begin, end in sorted(spans.values()):
        if begin != expected:
            raise ValueError(f"Nothing or two tensors are at {expected}.")
        expected = end
    if expected != size - 8 - length:
        raise ValueError(f"{expected} bytes should follow the header.")
    return tensors, {name: spans[name][0] for name in sorted(spans, key=spans.__getitem__)}, metadata


def _read_tensor(file: BinaryIO, like: Tensor) -> Tensor:
    """The next tensor of a file, in memory of its own."""
    if not like.numel():
        return torch.empty(like.shape, dtype=like.dtype)
    data = bytearray(like.nbytes)
    if file.readinto(data) != len(data):  # type: ignore[attr-defined]  # of a buffered file
        raise ValueError("The file has become shorter.")
    return torch.frombuffer(data, dtype=like.dtype).reshape(like.shape)


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """Eight hexadecimal digits."""
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def parsed_json(text: str | bytes, shown: str) -> Any:
    """Parse JSON whose objects name nothing twice.

    Args:
        text: of the file, or a part of it.
        shown: the file's name in error messages.

    Raises:
        UserError: an object has two values of one name.
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"{shown} names {quoted(twice)} twice; restore the file.")
        return values

    return json.loads(text, object_pairs_hook=unique)


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    check: Callable[[], object] = lambda: None,
) -> None:
    """Write a safetensors file atomically.

    Args:
        path: the file, in a folder that exists.
        tensors: by name, on the CPU.
        metadata: text by name, stored in the file's header, to which the checksum of the tensors is added.
        check: called when the new file is complete, just before it takes the place of the old one; what it raises
            leaves the old one there.

    Raises:
        WriteError: it cannot be written.
    """
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    header = {"format": "pt", **(metadata or {}), CHECKSUM: _checksum(contiguous)}
    _write_atomically(path, lambda temporary: save_file(contiguous, temporary, header), check)


def write_text(path: Path, text: str, check: Callable[[], object] = lambda: None) -> None:
    """Write a UTF-8 text file atomically.

    Args:
        path: the file, in a folder that exists.
        text: its new contents.
        check: as for `write_tensors`.

    Raises:
        WriteError: it cannot be written.
    """
    _write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), check)


def is_incomplete(path: Path) -> bool:
    """Whether a file is one that a process has begun to write.

    Args:
        path: any file in the folder of a run.
    """
    return path.name.startswith(TEMPORARY)


def remove_incomplete(folder: Path) -> None:
    """Remove the incomplete files of a killed process.

    Args:
        folder: is searched, with all folders below it.

    Raises:
        WriteError: one cannot be removed.
    """
    for left in filter(is_incomplete, folder.rglob(".*")):
        with writing(left):
            left.unlink()


def _write_atomically(path: Path, write: Callable[[Path], object], check: Callable[[], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk, then rename it to ``path``.

    If the folder is replaced by another one after ``check``, the temporary file is in the old one, so that the rename
    fails.
    """
    with writing(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY[0])
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            check()
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
