"""Measures of a run that take minutes, kept beside it in ``<run>/measures/NAME.safetensors``.

A measure is made of pieces, which are computed one after another. Its file holds the first of them: every tensor has
the axis ``piece`` in front.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from explorer.errors import UserError, quoted
from explorer.runs.files import parsed_json, read_tensors, write_tensors
from explorer.runs.info import RunInfo
from explorer.runs.lock import request_stop
from explorer.runs.place import MEASURES, Stamp
from explorer.runs.store import Run

MOST_PIECES = 1_000_000


@dataclass(frozen=True, eq=False)
class Kept:
    """What is kept of a measure."""

    tensors: Mapping[str, Tensor]  # name -> (piece ...), of the pieces so far
    n_pieces: int  # of the whole measure
    settings: Mapping[str, Any]  # with which it was computed
    version: int  # of the code that computed it
    of: str  # `identity` of what was measured
    seconds: float  # that the pieces took

    @property
    def done(self) -> int:
        """The pieces so far."""
        return min((len(values) for values in self.tensors.values()), default=0)

    @property
    def share(self) -> float:
        """Of the pieces that are done."""
        return self.done / self.n_pieces

    @property
    def seconds_left(self) -> float:
        """An estimate, from the pieces so far."""
        return self.seconds / max(self.done, 1) * (self.n_pieces - self.done)


def identity(info: RunInfo, steps: Iterable[int]) -> str:
    """What tells apart what a measure was computed on: the run's settings and its snapshots.

    Args:
        info: of the run.
        steps: of the snapshots.
    """
    values = info.to_json()
    told = {name: values[name] for name in ("task", "model", "training", "origin")}
    text = json.dumps([told, list(steps)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class MeasureFiles:
    """The files of one measure of a run.

    Attributes:
        run: which is measured.
        name: of the measure's file, such as "complexity-L0H0"; letters, digits and hyphens.
    """

    run: Run
    name: str

    @property
    def folder(self) -> Path:
        """Of all measures of the run.

        Raises:
            UserError: the run can only be read. So do all paths of files.
        """
        return self.run.folder / MEASURES

    @property
    def _file(self) -> str:
        return f"{MEASURES}/{self.name}.safetensors"

    @property
    def _log(self) -> str:
        return f"{MEASURES}/{self.name}.log"

    @property
    def _lock(self) -> str:
        return f".{self.name}.lock"

    @property
    def _stop(self) -> str:
        return f".{self.name}.stop"

    @property
    def file(self) -> Path:
        return self.run.folder / self._file

    @property
    def lock_file(self) -> Path:
        """Locked by the process that measures."""
        return self.run.folder / self._lock

    @property
    def stop_file(self) -> Path:
        """Its presence asks the process that measures to save the pieces it has and stop."""
        return self.run.folder / self._stop

    @property
    def log(self) -> Path:
        """The output of a job."""
        return self.run.folder / self._log

    def check_inside(self) -> None:
        """Raises UserError if one of the files, or their folder, is a link out of the folder of the run."""
        files = (MEASURES, self._file, self._log, self._lock, self._stop)
        self.run.runs.place.check_inside(self.run.name, files)

    def request_stop(self) -> None:
        """Ask the process that measures to save the pieces it has and stop.

        Raises:
            UserError: the request cannot be written, or would be written elsewhere.
        """
        self.check_inside()
        request_stop(self)

    def is_measuring(self) -> bool:
        """Whether a process is measuring now, as far as one can tell: at an address one cannot."""
        return not self.run.runs.read_only and self.run.runs.place.is_training(self.run.name, self._lock)

    def stamp(self) -> Stamp | None:
        """What changes whenever what is kept does; None if nothing is kept."""
        return self.run.runs.place.stamp(self.run.name, self._file)

    def read(self) -> Kept | None:
        """What is kept; None if nothing is.

        Raises:
            UserError: the file is damaged, or is a link to elsewhere.
        """
        place, shown = self.run.runs.place, f"{self.run.name}/{self._file}"
        if self.stamp() is None:
            return None
        place.check_inside(self.run.name, [MEASURES])
        tensors, metadata = read_tensors(functools.partial(place.open, self.run.name, self._file), shown)
        try:
            told = parsed_json(metadata["measure"], shown)
            kept = Kept(tensors, **{name: told[name] for name in ("n_pieces", "settings", "version", "of", "seconds")})
            _check(kept)
        except (KeyError, TypeError, ValueError, RecursionError):
            raise self.refused from None
        return kept

    @property
    def refused(self) -> UserError:
        """The sentence about a file that holds something else."""
        return UserError(
            f"{self.run.name}/{self._file} is not a measure of this explorer; remove it and measure again."
        )

    def write(self, kept: Kept, check: Callable[[], object]) -> None:
        """Write the file.

        Args:
            kept: what it is to hold.
            check: called just before the file is replaced.

        Raises:
            WriteError: it cannot be written.
        """
        told = {name: getattr(kept, name) for name in ("n_pieces", "version", "of", "seconds")}
        text = json.dumps({**told, "settings": dict(kept.settings)})
        write_tensors(self.file, kept.tensors, {"measure": text}, check)


def _check(kept: Kept) -> None:
    """Raises TypeError or ValueError if values are not of their kinds."""
    if type(kept.n_pieces) is not int or type(kept.version) is not int or not isinstance(kept.of, str):
        raise TypeError("They are of other kinds.")
    if not isinstance(kept.settings, Mapping) or type(kept.seconds) not in (int, float):
        raise TypeError("They are of other kinds.")
    lengths = {len(values) if values.ndim else -1 for values in kept.tensors.values()}
    if len(lengths) != 1 or not 1 <= min(lengths) <= kept.n_pieces <= MOST_PIECES or not 0 <= kept.seconds < 1e12:
        raise ValueError(quoted(kept.n_pieces))
