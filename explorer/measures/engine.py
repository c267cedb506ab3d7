"""Computes a measure of a run piece by piece, and keeps what is there on disk, so that it goes on where it was.

What takes long is computed by several processes, each of which reads the run itself and computes some pieces at a time.
Pieces are kept in their order, whoever computes them.
"""

import contextlib
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import BrokenExecutor
from typing import Any

import torch
from torch import Tensor

from explorer.errors import UserError
from explorer.measures.measure import Measure, Measured, files_of, staleness
from explorer.runs import Run, Runs
from explorer.runs.files import WriteError, remove_incomplete, writing
from explorer.runs.lock import locked
from explorer.runs.measures import Kept, MeasureFiles, identity
from explorer.training.workers import processes

WRITE_EVERY = 3.0  # seconds between two writings of the file
LOOK_EVERY = 0.2  # seconds between two looks at whether a stop is asked for
WORTH = 20.0  # seconds that the other pieces will take, from which on several processes are started
TURNS = 16  # in which each process computes its share


def measure_run(
    run: Run,
    of: Measured,
    measure: Measure[Any],
    settings: Any,
    on_piece: Callable[[int, int], object] = lambda done, n: None,
    should_stop: Callable[[], bool] = lambda: False,
    workers: int = 1,
) -> Kept | None:
    """Compute the pieces of a measure that are missing, and keep them. What is kept of other settings, of another
    version or of other snapshots is replaced.

    Args:
        run: on disk, where it can be written.
        of: the run in memory.
        measure: the measure.
        settings: of the measure.
        on_piece: called after each piece, with the number of those that are done, and of all.
        should_stop: asked after each piece; if it returns true, or the stop file is there, what there is is kept.
        workers: processes that compute, if it takes long.

    Returns:
        What is kept at the end; None if it was stopped before the first piece.

    Raises:
        UserError: the settings do not fit the run; another process measures; the run can only be read; or the file
            cannot be written, or is damaged.
    """
    files, n = files_of(run, measure, settings), measure.n_pieces(of, settings)
    try:
        with writing(files.folder):
            files.folder.mkdir(exist_ok=True)
        with locked(files.lock_file, "measuring") as held:
            held.check()
            with writing(files.stop_file):
                files.stop_file.unlink(missing_ok=True)
            remove_incomplete(files.folder)
            kept = files.read()
            if kept is not None and (staleness(kept, measure, settings, of) or kept.n_pieces != n):
                kept = None
            if kept is None:
                of_what = identity(of.info, of.ensemble.steps)
                kept = Kept({}, n, dataclasses.asdict(settings), measure.version, of_what, 0.0)
            left = range(kept.done, kept.n_pieces)
            with contextlib.closing(_pieces(run, of, measure, settings, left, workers)) as pieces:
                return _Measuring(files, held.check, kept, on_piece, should_stop).keep(pieces)
    except WriteError as error:
        raise UserError(error.sentence("measure again, which goes on where it was")) from error
    except BrokenExecutor:
        raise UserError("A process that measured has ended; measure again, which goes on where it was.") from None


def _pieces(
    run: Run, of: Measured, measure: Measure[Any], settings: Any, which: range, workers: int
) -> Generator[dict[str, Tensor], None, None]:
    """Some pieces of a measure in their order. The first, computed here, shows how long the others will take."""
    if not which:
        return
    began = time.monotonic()
    yield from measure.pieces(of, settings, which[:1])
    which, each = which[1:], time.monotonic() - began
    if workers == 1 or len(which) * each < WORTH:
        yield from measure.pieces(of, settings, which)
        return
    at_once = max(len(which) // (workers * TURNS), 1)
    turns = [which[first : first + at_once] for first in range(0, len(which), at_once)]
    compute = functools.partial(_computed, str(run.runs.root), run.name, of.ensemble.steps, measure, settings)
    executor = processes(workers)()
    try:
        for pieces in [executor.submit(compute, turn) for turn in turns]:
            yield from pieces.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _computed(
    root: str,
    name: str,
    steps: tuple[int, ...],
    measure: Measure[Any],
    settings: Any,
    which: range,
    is_wanted: Callable[[], bool],
) -> list[dict[str, Tensor]]:
    """Some pieces, by a process to which a run's name and settings come; fewer if nobody waits for them any longer."""
    pieces = measure.pieces(_opened(root, name, steps), settings, which)
    return list(itertools.takewhile(lambda _: is_wanted(), pieces))


@functools.cache
def _opened(root: str, name: str, steps: tuple[int, ...]) -> Measured:
    run = Runs(root).open(name)
    return Measured(run.info(), run.ensemble(steps))


class _Measuring:
    def __init__(
        self,
        files: MeasureFiles,
        check: Callable[[], object],
        kept: Kept,
        on_piece: Callable[[int, int], object],
        should_stop: Callable[[], bool],
    ):
        self._files, self._check, self._kept = files, check, kept
        self._on_piece, self._should_stop = on_piece, should_stop
        self._new: list[dict[str, Tensor]] = []
        self._began = time.monotonic()

    def keep(self, pieces: Iterator[dict[str, Tensor]]) -> Kept | None:
        written = looked = self._began
        try:
            for piece in pieces:
                self._new.append(piece)
                now = time.monotonic()
                if now - written > WRITE_EVERY:
                    self._write()
                    written = time.monotonic()
                self._on_piece(self._kept.done + len(self._new), self._kept.n_pieces)
                if self._should_stop() or (now - looked > LOOK_EVERY and self._files.stop_file.exists()):
                    break
        finally:
            self._write()
        return self._kept if self._kept.done else None

    def _write(self) -> None:
        if not self._new:
            return
        new = {name: torch.stack([piece[name] for piece in self._new]) for name in self._new[0]}
        before = self._kept.tensors
        tensors = {name: torch.cat([before[name], values]) if before else values for name, values in new.items()}
        now = time.monotonic()
        self._kept = dataclasses.replace(self._kept, tensors=tensors, seconds=self._kept.seconds + now - self._began)
        self._new, self._began = [], now
        self._check()
        self._files.write(self._kept, self._check)
