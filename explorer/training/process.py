"""How a process trains: on which device, on how many threads, and set up to be fast."""

import ctypes
import functools
import hashlib
import platform
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TypeVar

import torch

from explorer.errors import UserError, quoted
from explorer.model.transformer import ModelConfig
from explorer.settings import TrainingConfig
from explorer.tasks.task import Task
from explorer.training.memory import peak_bytes

DEVICES = ("auto", "cpu", "cuda")
LONG_STEP = 10 * 2**20  # bytes that an update takes from which on it is shared between threads
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt
HEAP = 2**26  # bytes of a heap of glibc's, of which each thread has some
Result = TypeVar("Result")


def device_named(name: str) -> torch.device:
    """A device to train on.

    Args:
        name: one of `DEVICES`; "auto" is the GPU if there is one.

    Raises:
        UserError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in DEVICES:
        raise UserError(f"There is no device {quoted(name)}; known are {', '.join(DEVICES)}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("torch sees no GPU on this machine; leave --device out, or install a torch that has CUDA.")
    return torch.device(name, 0) if name == "cuda" else torch.device(name)


def made_with(device: torch.device, threads: int) -> dict[str, str]:
    """What a run is made with: what to look at if it turns out otherwise elsewhere.

    Args:
        device: on which it is trained.
        threads: of torch.

    Returns:
        Name -> version, or another text. The code is that which determines a run, as the first digits of its SHA-256.
    """
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        **{"torch": torch.__version__, "Python": platform.python_version(), "code": _code()},
        **{"device": f"{device.type} ({on})", "threads": str(threads)},
    }


@functools.cache
def _code() -> str:
    digest = hashlib.sha256()
    for folder in ("model", "tasks", "training"):
        for path in sorted((Path(__file__).parents[1] / folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def threads_for(task: Task, model_config: ModelConfig, training: TrainingConfig) -> int:
    """How many threads to train with: all that torch has, or one if an update takes less time than starting them."""
    examples = task.n_train(training)
    batch = examples if examples and training.full_batch else training.batch_size
    is_long = peak_bytes(task, model_config, max(batch, 1), learns=True) >= LONG_STEP
    return torch.get_num_threads() if is_long else 1


def run_apart(work: Callable[[], Result], threads: int, on_interrupt: Callable[[], object] = lambda: None) -> Result:
    """Do ``work`` in a new thread that is set up for training, and wait for it.

    Subnormals, numbers that float32 holds with fewer digits (below 1e-38), are flushed to zero. Once data are
    memorised, AdamW's averages of squared gradients sink that low; processors compute with such numbers many times
    slower. This is a setting of each thread, which the threads that it starts inherit, those on which torch computes
    included. In a new thread all of these are new as well, so the result does not depend on what this process
    computed before.

    Args:
        work: called once.
        threads: torch threads that it computes on.
        on_interrupt: called at the first KeyboardInterrupt (Ctrl-C) while this waits, to make ``work`` end early. It
            is raised again when ``work`` has ended, a second one at once.

    Returns:
        What ``work`` returns; what it raises is raised here.
    """

    _keep_freed_memory()
    outcome: Future[Result] = Future()
    thread = threading.Thread(target=_set_up, args=(work, threads, outcome), name="training")
    try:
        thread.start()
        _wait_for(outcome)
        return outcome.result()
    except KeyboardInterrupt:
        on_interrupt()
        if thread in threading.enumerate():
            _wait_for(outcome)
        raise
    finally:
        del outcome  # an error in it refers to this frame


def _wait_for(outcome: Future[Result]) -> None:
    """Wait in short waits: a Ctrl-C that comes just before a wait is acted on only after it."""
    while not outcome.done():
        wait([outcome], timeout=0.5)


def _set_up(work: Callable[[], Result], threads: int, outcome: Future[Result]) -> None:
    before = torch.get_num_threads()
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    try:
        try:
            result = work()
        finally:
            torch.set_num_threads(before)  # threads to come begin with it
        outcome.set_result(result)
    except BaseException as error:  # raised again in the thread that waits
        outcome.set_exception(error)
        del outcome  # the error refers to this frame


def _keep_freed_memory() -> None:
    """Let glibc keep memory that is freed, up to 2 GiB, from now on in this process.

    An update frees as much as the next one takes. By default large parts go back to the system each time, and getting
    them again costs up to a tenth of the update. Other allocators are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, HEAP)  # keeps the heaps of threads other than the main one
        mallopt(M_MMAP_THRESHOLD, 2**25)  # the most that every glibc takes; larger parts still go back
