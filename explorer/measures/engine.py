"""Computes a measure of a run piece by piece, and keeps what is there on disk, so that it goes on where it was.

What takes long is computed by several processes, each of which reads the run itself and computes some pieces at a time.
Pieces are kept in their order, whoever computes them.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import BrokenExecutor, Future, wait
from typing import Any

import torch
from torch import Tensor

from explorer.errors import UserError
from explorer.measures.measure import Measure, Measured, files_of, read_kept
from explorer.model.ensemble import MEMORY_BUDGET
from explorer.runs import Run, Runs
from explorer.runs.files import WriteError, remove_incomplete, writing
from explorer.runs.lock import locked
from explorer.runs.measures import Kept, MeasureFiles, identity
from explorer.training.memory import PROCESS, free_memory
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
        should_stop: asked between pieces and while other processes compute; if it returns true, or the stop file is
            there, what there is is kept.
        workers: processes that compute, if it takes long; fewer if there is no memory for them.

    Returns:
        What is kept at the end; None if it was stopped before the first piece.

    Raises:
        UserError: the settings do not fit the run; another process measures; the run can only be read; or the file
            cannot be written, is damaged, or is a link to elsewhere.
    """
    files, n = files_of(run, measure, settings), measure.n_pieces(of, settings)
    files.check_inside()
    try:
        with writing(files.folder):
            files.folder.mkdir(exist_ok=True)
        with locked(files.lock_file, "measuring") as held:
            held.check()
            with writing(files.stop_file):
                files.stop_file.unlink(missing_ok=True)
            remove_incomplete(files.folder)
            kept, _ = read_kept(run, measure, settings, of)
            if kept is None:
                of_what = identity(of.info, of.ensemble.steps)
                kept = Kept({}, n, dataclasses.asdict(settings), measure.version, of_what, 0.0)
            left = range(kept.done, kept.n_pieces)
            measuring = _Measuring(files, held.check, kept, on_piece, should_stop)
            with contextlib.closing(_pieces(run, of, measure, settings, left, workers, measuring.is_over)) as pieces:
                return measuring.keep(pieces)
    except WriteError as error:
        raise UserError(error.sentence("measure again, which goes on where it was")) from error
    except BrokenExecutor:
        raise UserError("A process that measured has ended; measure again, which goes on where it was.") from None


def at_once(workers: int, of: Measured, free: int) -> int:
    """How many processes that compute fit into memory: each holds all snapshots, and what one pass takes.

    Args:
        workers: how many there may be.
        of: the run in memory.
        free: bytes.

    Returns:
        At least 1: this process, which holds them already.
    """
    stack = sum(weight.nbytes for weight in of.ensemble.weights.values())
    return max(1, min(workers, free // (PROCESS + stack + MEMORY_BUDGET)))


def _pieces(
    run: Run,
    of: Measured,
    measure: Measure[Any],
    settings: Any,
    which: range,
    workers: int,
    is_over: Callable[[], bool],
) -> Generator[dict[str, Tensor], None, None]:
    """Some pieces of a measure in their order, until ``is_over``; then those that follow and are there already. The
    first, computed here, shows how long the others will take."""
    if not which:
        return
    began = time.monotonic()
    yield from measure.pieces(of, settings, which[:1])
    which, each = which[1:], time.monotonic() - began
    if is_over():
        return
    workers = at_once(workers, of, free_memory())
    if workers == 1 or len(which) * each < WORTH:
        for piece in measure.pieces(of, settings, which):
            yield piece
            if is_over():
                return
        return
    size = max(len(which) // (workers * TURNS), 1)
    turns = [which[first : first + size] for first in range(0, len(which), size)]
    compute = functools.partial(_computed, str(run.runs.root), run.name, of.ensemble.steps, measure, settings)
    executor = processes(workers)()
    try:
        computed = [executor.submit(compute, turn) for turn in turns]
        for pieces, turn in zip(computed, turns, strict=True):
            if _are_there(pieces, is_over):
                yield from pieces.result()
                continue
            executor.shutdown(cancel_futures=True)  # each process ends with the piece that it computes
            found = [] if pieces.cancelled() else pieces.result()
            yield from found
            if len(found) < len(turn):
                return
    finally:
        executor.shutdown(cancel_futures=True)


def _are_there(pieces: Future[Any], is_over: Callable[[], bool]) -> bool:
    """Wait for some pieces; false if it is over first."""
    while not is_over():
        if wait([pieces], LOOK_EVERY).done:
            return True
    return False


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
    found = list[dict[str, Tensor]]()
    if is_wanted():
        for piece in measure.pieces(_opened(root, name, steps), settings, which):
            found.append(piece)
            if not is_wanted():
                break
    return found


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
        self._began = self._looked = time.monotonic()
        self._is_over = False

    def is_over(self) -> bool:
        """Whether a stop was asked for."""
        self._is_over = self._is_over or self._should_stop()
        if not self._is_over and time.monotonic() - self._looked > LOOK_EVERY:
            self._is_over, self._looked = self._files.stop_file.exists(), time.monotonic()
        return self._is_over

    def keep(self, pieces: Iterator[dict[str, Tensor]]) -> Kept | None:
        written = self._began
        try:
            for piece in pieces:
                self._new.append(piece)
                now = time.monotonic()
                if now - written > WRITE_EVERY:
                    self._write()
                    written = time.monotonic()
                self._on_piece(self._kept.done + len(self._new), self._kept.n_pieces)
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
