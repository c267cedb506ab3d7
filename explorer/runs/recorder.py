"""Creating, training and writing runs."""

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence

import torch

from explorer.errors import UserError
from explorer.model.transformer import ModelConfig
from explorer.runs.files import WriteError, is_incomplete, read_tensors, remove_incomplete, writing
from explorer.runs.info import RunInfo
from explorer.runs.keeper import Keeper, Record, write_info
from explorer.runs.lock import Held, locked
from explorer.runs.place import check_name
from explorer.runs.store import Run, Runs
from explorer.settings import TrainingConfig
from explorer.tasks.task import Task
from explorer.training.loop import Measured, Training
from explorer.training.memory import check_memory
from explorer.training.process import device_named, made_with, run_apart, threads_for
from explorer.training.stack import Stack

# Signals that ask a process to end: from the system, and from a terminal that is closed, which not every system has.
ENDINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def create(
    runs: Runs,
    name: str,
    task: Task,
    model: ModelConfig,
    training: TrainingConfig,
    preset: str = "",
    threads: int | None = None,
) -> Run:
    """Create a run on disk, at step 0.

    Args:
        runs: the folder of runs.
        name: of the run, and of its folder.
        task, model, training: what is trained, and how.
        preset: the name of the preset that all settings come from; "" if any was changed.
        threads: torch threads to train with. They stay the same when training is resumed, since the rounding of sums
            depends on their number. None: all threads of torch if they make a step faster, otherwise one.

    Returns:
        The run, whose status is "stopped".

    Raises:
        UserError: the name is taken or cannot be the name of a folder, the data cannot be made, the training would
            not fit in memory, or nothing can be written.
    """
    check_name(name)
    run, taken = Run(runs.root / name), runs.taken(name)
    threads = threads or threads_for(task, model, training)
    if not _is_free(run):
        raise UserError(taken)
    check_memory(task, model, training)
    task.train_stream(training)
    task.test_stream(training)
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{run.folder} cannot be made: {error.strerror}; choose another folder.") from error
    try:
        with locked(run.lock_file) as held:  # if two processes choose the name at once, one of them gets it
            if run.info_file.exists():
                raise UserError(taken)
            try:
                write_info(run, RunInfo(task, model, training, preset, "stopped", 0, (), threads=threads), held.check)
            except WriteError as error:
                _discard(run)
                raise UserError(error.sentence("create the run again")) from error
    except UserError:
        with contextlib.suppress(OSError):  # it holds something, or another process has just removed it
            run.folder.rmdir()
        raise
    return run


def _is_free(run: Run) -> bool:
    """Whether a run may be created there: nothing is, or what is left of one that could not be created."""
    if not os.path.lexists(run.folder):
        return True
    try:
        left = list(run.folder.iterdir())
    except OSError:
        return False
    return all(path in (run.lock_file, run.stop_file, run.log) or is_incomplete(path) for path in left)


def _discard(run: Run) -> None:
    """Remove a run of which no snapshot could be kept, so that its name is free. Its log stays, which says why."""
    for path in (run.info_file, run.metrics_file, run.stop_file, run.lock_file):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    for folder in (run.snapshots_folder, run.folder):
        with contextlib.suppress(OSError):  # there is none, or it holds something
            folder.rmdir()


def train(
    run: Run,
    on_update: Callable[[Measured], None] = lambda measured: None,
    should_stop: Callable[[], bool] = lambda: False,
    device: str = "auto",
) -> RunInfo:
    """Train a run from its current step to its last, and write snapshots, metrics and state.

    Training runs in another thread, and this one waits for it. Ctrl-C saves everything after the current update and
    then raises KeyboardInterrupt; a second Ctrl-C raises it at once.

    Args:
        run: must not be done.
        on_update: called after each update, in the training thread.
        should_stop: called after each update, in the training thread; if it returns true, or after `lock.request_stop`,
            everything is saved and training stops.
        device: "cpu", "cuda", or "auto", which is the GPU if there is one.

    Returns:
        What run.json holds at the end.

    Raises:
        UserError: there is no such device, or the run is done, is being trained by another process, cannot be resumed
            from its state, or cannot be written. After that it can be resumed; if not even its first snapshot could be
            written, it is removed, so that its name is free. Also, its folder or the lock in it was removed or replaced
            while it trained; what is there then is left as it is.
    """
    device_named(device)
    interrupted = threading.Event()

    def must_stop() -> bool:
        return interrupted.is_set() or should_stop()

    threads = run.info().threads or torch.get_num_threads()
    return run_apart(lambda: _train_locked(run, on_update, must_stop, device), threads, interrupted.set)


def _train_locked(
    run: Run, on_update: Callable[[Measured], None], should_stop: Callable[[], bool], device: str
) -> RunInfo:
    with locked(run.lock_file) as held:
        _refuse_done(run)
        with _failures_noted(run, held):
            training, info = _begun(run, device)
            return _train(run, held, training, info, on_update, should_stop)


def _refuse_done(run: Run) -> None:
    info = run.info()
    if info.status == "done":
        raise UserError(f"{run.name} is done: all of its {info.steps_done:,} steps are trained; give it more to go on.")


def _begun(run: Run, device: str) -> tuple[Training, RunInfo]:
    """A run that is locked, as a training at its first step, and what run.json is to hold."""
    info = run.info()
    made = made_with(device_named(device), torch.get_num_threads())
    training = Training(info.task, info.model, info.training, device)
    return training, dataclasses.replace(info, made_with=made)


@contextlib.contextmanager
def _failures_noted(run: Run, held: Held) -> Iterator[None]:
    """Notes in run.json why training failed; a run of which nothing could be kept is removed."""
    try:
        yield
    except WriteError as error:
        held.check()
        if not (run.steps_on_disk() or run.resume_file.exists()):
            _discard(run)
            raise UserError(error.sentence("train it again")) from error
        sentence = error.sentence(f"resume {run.name}")
        _fail(run, held, sentence)
        raise UserError(sentence) from error
    except Exception as error:
        _fail(run, held, str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
        raise


def _fail(run: Run, held: Held, message: str) -> None:
    """Note why training failed, if that can be written: what failed first is what is told."""
    with contextlib.suppress(UserError, WriteError):
        write_info(run, dataclasses.replace(run.info(), status="failed", message=message), held.check)


def _train(
    run: Run,
    held: Held,
    training: Training,
    info: RunInfo,
    on_update: Callable[[Measured], None],
    should_stop: Callable[[], bool],
) -> RunInfo:
    with _kept(run, held, training, info) as (keeper, record):
        for measured, due in training.updates():
            held.check()
            record.add(measured)
            if due:
                keeper.keep(training)
            keeper.report(training)
            on_update(measured)
            if not training.over and (should_stop() or run.stop_file.exists()):
                return keeper.finish(training, "stopped")
        return keeper.finish(training, "done")


@contextlib.contextmanager
def _kept(run: Run, held: Held, training: Training, info: RunInfo) -> Iterator[tuple[Keeper, Record]]:
    """Prepare a run's folder, restore the training from its state if there is one, and keep its first snapshot."""
    remove_incomplete(run.folder)
    if training.schedule.wants_first:
        with writing(run.snapshots_folder):  # the only folder that is made, and only here
            run.snapshots_folder.mkdir(exist_ok=True)
    with writing(run.stop_file):
        run.stop_file.unlink(missing_ok=True)
    if run.log.exists():  # the output of an earlier process
        with writing(run.log):
            run.log.write_bytes(b"")
    record = Record(info.task)
    if run.resume_file.is_file():
        state, _ = read_tensors(run.resume_file, f"{run.name}/resume.safetensors")
        try:
            training.restore(state)
        except (RuntimeError, ValueError, OverflowError) as error:
            raise UserError(f"{run.name}/resume.safetensors is damaged: {error} Train a new run.") from error
        record.load(run.metrics(), training.step)
    elif info.steps_done and info.training.keep == "all":
        raise UserError(f"{run.name}/resume.safetensors is missing, so the run cannot be resumed; train a new one.")
    for step in run.steps_on_disk():
        if step > training.step:  # a process was killed between writing this snapshot and writing the state
            with writing(run.snapshot_file(step)):
                run.snapshot_file(step).unlink()
    snapshots = tuple(step for step in info.snapshots if step <= training.step)
    began = dataclasses.replace(info, status="running", message="", steps_per_second=0.0, snapshots=snapshots)
    with Keeper(run, held, began, record, training.step) as keeper:
        if training.step == 0 and training.schedule.wants_first:
            keeper.keep(training)
        yield keeper, record


def train_together(
    runs: Sequence[Run], should_stop: Callable[[], bool] = lambda: False, device: str = "auto"
) -> dict[str, str]:
    """Train runs of one shape as one stack, each to its last step, and write of each what `train` writes.

    Args:
        runs: none of which is done; they can be trained as one stack (`training.stack.shape_of`).
        should_stop: called after each update, in the training thread; if it returns true, everything is saved and
            training stops.
        device: as for `train`.

    Returns:
        Name -> why that run failed. The others are done, or stopped.
    """
    device_named(device)
    interrupted = threading.Event()
    return run_apart(
        lambda: _train_together(runs, lambda: interrupted.is_set() or should_stop(), device), 1, interrupted.set
    )


def _train_together(runs: Sequence[Run], should_stop: Callable[[], bool], device: str) -> dict[str, str]:
    problems: dict[str, str] = {}
    with contextlib.ExitStack() as all_of_them:
        members: dict[Training, _Member] = {}
        for run in runs:
            member = _Member(run, all_of_them)
            with member.problem_in(problems):
                members[member.begin(device)] = member
        together = Stack(list(members))
        for training in [training for training in members if training.over]:  # it was killed when all was trained
            with members[training].problem_in(problems):
                members.pop(training).finish(training)
        for taken in together.updates():
            stops = should_stop()
            for training, outcome in taken:
                member = members[training]
                with member.problem_in(problems):
                    member.note(training, outcome)
                if member.run.name in problems:
                    together.leave(training)
                elif training.over or stops:
                    with member.problem_in(problems):
                        member.finish(training)
            if stops:
                break
    return problems


class _Member:
    """A run that is trained together with others. What goes wrong with it does not stop these.

    Args:
        run: that is trained.
        until: the end of the training of all, until which its lock is held.
    """

    def __init__(self, run: Run, until: contextlib.ExitStack):
        self.run, self._until = run, until
        self._held: Held | None = None

    @contextlib.contextmanager
    def problem_in(self, problems: dict[str, str]) -> Iterator[None]:
        """Adds why the run failed, if it does meanwhile."""
        noted = contextlib.nullcontext() if self._held is None else _failures_noted(self.run, self._held)
        try:
            with noted:
                yield
        except UserError as error:
            problems[self.run.name] = str(error)

    def begin(self, device: str) -> Training:
        self._held = self._until.enter_context(locked(self.run.lock_file))
        _refuse_done(self.run)
        with _failures_noted(self.run, self._held):
            training, info = _begun(self.run, device)
            self._keeper, self._record = self._until.enter_context(_kept(self.run, self._held, training, info))
        return training

    def note(self, training: Training, outcome: tuple[Measured, bool] | UserError) -> None:
        if isinstance(outcome, UserError):
            raise outcome
        assert self._held is not None
        self._held.check()
        measured, due = outcome
        self._record.add(measured)
        if due:
            self._keeper.keep(training)
        self._keeper.report(training)

    def finish(self, training: Training) -> None:
        self._keeper.finish(training, "done" if training.over else "stopped")


def extend(run: Run, steps: int) -> None:
    """Give a run that is done more steps, so that it can be trained again, from the state in which it ended.

    What depends on the number of steps follows the new number from here on: after a cool-down, the learning rate
    returns to that of a run of ``steps`` steps, and cools down at the new end. With no cool-down, and snapshots at a
    fixed interval, the run becomes, bit for bit, the one that is trained for ``steps`` steps at once; only the snapshot
    at which it ended before may be added.

    Args:
        run: must be done.
        steps: updates in all, more than it has done.

    Raises:
        UserError: it is not done, has done as many, ended below ``stop_below``, its state was not kept, or run.json
            cannot be written.
    """
    with locked(run.lock_file) as held:
        info = run.info()
        if info.status != "done":
            raise UserError(f"{run.name} is not done; resume it, and give it more steps when it is.")
        if info.steps_done < info.training.steps:
            raise UserError(
                f"{run.name} ended at step {info.steps_done:,}, below its stop_below of {info.training.stop_below:g}; "
                f"train a new run with a lower one."
            )
        if steps <= info.steps_done:
            raise UserError(f"{run.name} has done {info.steps_done:,} steps; give it more than that, not {steps:,}.")
        if not run.resume_file.is_file():
            raise UserError(
                f"{run.name} cannot go on, since the state of its optimiser was not kept; train a new run of "
                f"{steps:,} steps."
            )
        training = dataclasses.replace(info.training, steps=steps)
        ended_at = (*info.ended_at, info.steps_done)
        longer = dataclasses.replace(info, training=training, preset="", status="stopped", ended_at=ended_at)
        try:
            write_info(run, longer, held.check)
        except WriteError as error:
            raise UserError(error.sentence("try again")) from error
