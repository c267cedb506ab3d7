"""Sweeps on a cluster: the processes of a Dask scheduler, which must see the place of runs under the same name."""

import contextlib
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from explorer.errors import UserError, printable, quoted

CONNECT_WITHIN = 10  # seconds
GONE = ("closing", "closed", "failed")  # what a worker is when no result of it is taken any more


class _Cluster(Executor):
    """The workers of a scheduler, until `shutdown`."""

    def __init__(self, client: Any):
        self._client, self._executor = client, client.get_executor(pure=False, retries=0)

    def submit(self, function: Callable[..., Any], /, *args: Any, **settings: Any) -> Future[Any]:
        return self._executor.submit(_on_worker, function, *args, **settings)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        waits = wait and not cancel_futures and self._client.status == "running"
        with contextlib.suppress(OSError):  # the scheduler may be gone
            self._executor.shutdown(wait=waits)  # otherwise the futures are cancelled
            self._client.close(timeout=CONNECT_WITHIN)


def _on_worker(function: Callable[..., Any], *args: object) -> Any:
    """Call a function in a worker, whose thread nothing can end from outside.

    The scheduler cancels a task when its client cancels it, and when it has lost the client. The worker then notes that
    it is cancelled, and lets it run to its end.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state == "executing" and worker.status.name not in GONE

    return function(*args, is_wanted=is_wanted)


def cluster(address: str) -> tuple[Callable[[], Executor], int]:
    """Executors of a Dask cluster.

    Args:
        address: of its scheduler, such as ``tcp://node1:8786``.

    Returns:
        Makes an executor, and how many groups it can train at a time: the threads of all workers.

    Raises:
        UserError: the package that talks to it is missing, it does not answer, or it has no workers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError(
            "--dask needs a package that is missing; install it with: pip install -r requirements-optional.txt"
        ) from error

    def silent(error: Exception) -> UserError:
        why = printable(error).rstrip(".")
        return UserError(f"No Dask scheduler answers at {quoted(address)} ({why}); start one with: dask scheduler")

    def connected() -> Any:
        try:
            return Client(address, timeout=CONNECT_WITHIN, set_as_default=False)
        except (OSError, ValueError) as error:
            raise silent(error) from error

    client = connected()
    try:
        threads = sum(client.nthreads().values())
    except OSError as error:  # it has gone since
        raise silent(error) from error
    finally:
        with contextlib.suppress(OSError):
            client.close(timeout=CONNECT_WITHIN)
    if not threads:
        raise UserError(
            f"The Dask scheduler at {quoted(address)} has no workers; start some with: dask worker {address}"
        )
    return lambda: _Cluster(connected()), threads
