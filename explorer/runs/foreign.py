"""Files with other people's weights: reading them, whatever they hold. Nothing is unpickled but tensors."""

import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from explorer.errors import UserError, quoted
from explorer.interchange.names import state_dict_in
from explorer.runs.files import parsed_json, read_tensors, read_text

SAFE, PICKLED, INDEX = ".safetensors", (".pth", ".pt"), ".index.json"
LARGEST = 2**32  # bytes of one snapshot
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Snapshot:
    """A file that holds one snapshot, or an index of several that do."""

    path: Path

    @property
    def shown(self) -> str:
        return self.path.name

    @property
    def step(self) -> int | None:
        """The last number in the name; None if there is none."""
        numbers = re.findall(r"\d+", self.path.name.removesuffix(INDEX).removesuffix(self.path.suffix))
        return int(numbers[-1]) if numbers and len(numbers[-1]) < 16 else None

    def read(self, only_header: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The weights under the names in the file, without prefixes, and its metadata.

        Args:
            only_header: leave the weights on the meta device where the file's format allows it.

        Raises:
            UserError: the file cannot be read, is no such file, is too large, or holds no weights.
        """
        _check_size(self.path)
        if self.path.suffix == SAFE:
            tensors, metadata = read_tensors(self.path, self.shown, only_header=only_header)
        elif self.path.name.endswith(INDEX):
            tensors, metadata = self._sharded(only_header), {}
        elif self.path.suffix in PICKLED:
            tensors, metadata = _unpickled(self.path, self.shown), {}
        else:
            raise UserError(f"{quoted(self.shown)} is no file of weights; give .safetensors, .index.json, .pth or .pt.")
        found = state_dict_in(tensors, self.shown)
        for name, tensor in found.items():
            if tensor.dtype not in FLOATS:
                raise UserError(f"{quoted(name, 80)} in {self.shown} holds {tensor.dtype}, not floating-point numbers.")
        return found, metadata

    def _sharded(self, only_header: bool) -> dict[str, Tensor]:
        index = read_object(self.path)
        places = index.get("weight_map")
        if not isinstance(places, Mapping) or not places:
            raise UserError(f"{self.shown} is no index: it has no weight_map.")
        tensors: dict[str, Tensor] = {}
        for file in sorted({str(place) for place in places.values()}):
            if Path(file).name != file or not file.endswith(SAFE):
                raise UserError(f"{self.shown} names {quoted(file)}; shards are .safetensors files beside the index.")
            shard = self.path.parent / file
            _check_size(shard)
            held, _ = read_tensors(shard, file, only_header=only_header)
            tensors |= {name: tensor for name, tensor in held.items() if places.get(name) == file}
        if missing := sorted(places.keys() - tensors.keys()):
            raise UserError(f"{self.shown} names {quoted(missing[0], 80)}, which is not in {places[missing[0]]}.")
        if sum(tensor.nbytes for tensor in tensors.values()) > LARGEST:
            raise UserError(f"The shards of {self.shown} hold more than {LARGEST / 2**30:.0f} GiB.")
        return tensors


def snapshots_in(paths: list[Path]) -> list[Snapshot]:
    """The snapshots that files and folders hold, in the order given, those of a folder by name.

    Args:
        paths: of files; or of folders, in which an index stands for the files that it names.

    Raises:
        UserError: there is no such file, or a folder has none.
    """
    found: list[Snapshot] = []
    for path in paths:
        try:
            inside = sorted(path.iterdir()) if path.is_dir() else [path]
        except OSError as error:
            raise UserError(f"{quoted(path)} cannot be read: {error.strerror}; give another.") from error
        if path.is_dir():
            indices = [one for one in inside if one.name.endswith(INDEX)]
            inside = indices or [one for one in inside if one.suffix in (SAFE, *PICKLED)]
            if not inside:
                raise UserError(f"The folder {quoted(path)} holds no .safetensors, .index.json, .pth or .pt file.")
        elif not path.exists():
            raise UserError(f"There is no file {quoted(path)}; give the path of one.")
        found += [Snapshot(one) for one in inside]
    return found


def read_object(path: Path) -> dict[str, Any]:
    """A small JSON or YAML file that holds an object. From YAML nothing but plain values is made.

    Args:
        path: of the file; YAML if it ends in .yaml or .yml.

    Raises:
        UserError: it cannot be read or holds something else.
    """
    try:
        text = read_text(path)
        held = yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else parsed_json(text, path.name)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{quoted(path.name)} cannot be read: {error.strerror}; give another.") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        kind = "YAML without tags of its own" if path.suffix in (".yaml", ".yml") else "JSON"
        raise UserError(f"{quoted(path.name)} is not {kind}; mend it or leave it out.") from error
    if not isinstance(held, dict):
        raise UserError(f"{quoted(path.name)} does not hold an object; mend it or leave it out.")
    return {str(name): value for name, value in held.items()}


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"{quoted(path.name)} cannot be read: {error.strerror}; give another.") from error
    if size > LARGEST:
        raise UserError(f"{quoted(path.name)} has {size / 2**30:.1f} GiB; a snapshot may have {LARGEST / 2**30:.0f}.")


def _unpickled(path: Path, shown: str) -> Any:
    """What torch has saved, if it is made of tensors and plain values only."""
    damaged = f"{quoted(shown)} is damaged, or holds more than tensors; save it again as .safetensors."
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise UserError(f"{quoted(shown)} is compressed, which torch does not do; save it again.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(damaged) from error
    _check_tensors(held, shown, depth=0)
    return held


def _check_tensors(held: Any, shown: str, depth: int) -> None:
    """Refuse tensors that are not what they seem: without memory of their own, sparse, or larger than their memory."""
    if isinstance(held, Mapping) and depth < 10:
        for value in held.values():
            _check_tensors(value, shown, depth + 1)
    elif isinstance(held, Tensor):
        if held.layout != torch.strided or held.is_quantized or held.device.type != "cpu":
            raise UserError(f"{quoted(shown)} holds a tensor that is sparse, quantised or elsewhere; save it as plain.")
        if held.numel() * held.element_size() > held.untyped_storage().nbytes():
            raise UserError(f"{quoted(shown)} holds a tensor that claims more numbers than there are; save it again.")
