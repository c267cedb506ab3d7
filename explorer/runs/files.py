"""Reading and writing the files of a run.

Every file is first written in full under a temporary name in the same folder and then renamed, so a process that is
killed at any moment leaves either the old file or the new one. Nothing is ever unpickled.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from explorer.errors import UserError

FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
TEMPORARY = ".writing-"  # prefix of the names of incomplete files


def read_tensors(path: Path, shown: str, only_header: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file, mapped into memory.

    Args:
        path: the file.
        shown: its name in error messages.
        only_header: read only names, shapes and types.

    Returns:
        The tensors by name, on the meta device if ``only_header``, and the file's metadata.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            read = (lambda name: _on_meta(file.get_slice(name))) if only_header else file.get_tensor
            return {name: read(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError as error:
        raise UserError(f"{shown} is missing; restore the file, or train the run again.") from error
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{shown} is damaged or is not a safetensors file; restore it.") from error


def _on_meta(part: Any) -> Tensor:
    """A tensor on the meta device with the shape and type that a safetensors header gives."""
    return torch.empty(part.get_shape(), dtype=FLOATS.get(part.get_dtype(), torch.uint8), device="meta")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically.

    Args:
        path: the file; its folder is made if there is none.
        tensors: by name, on the CPU.
        metadata: text by name, stored in the file's header.

    Raises:
        OSError: it cannot be written.
    """
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    _write_atomically(path, lambda temporary: save_file(contiguous, temporary, dict(metadata or {"format": "pt"})))


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically.

    Args:
        path: the file; its folder is made if there is none.
        text: its new contents.

    Raises:
        OSError: it cannot be written.
    """
    _write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def remove_incomplete(folder: Path) -> None:
    """Remove the temporary files of a killed process.

    Args:
        folder: is searched, with all folders below it.
    """
    for left in folder.rglob(f"{TEMPORARY}*"):
        left.unlink()


def _write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk, then rename it to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
