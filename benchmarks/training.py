"""How long an update takes: training as it is done here against the plain way, in turns, each in a process of its own.

    python -m benchmarks.training [--threads N] [--seconds S]

The plain way is that of the notebook that this grew from: the hooked forward pass at every position, autograd, AdamW
as it comes, each loss fetched by itself, and on finite data the loss on unseen examples at every step, between the
forward and the backward pass and with a graph that nobody needs, as there. Losses are computed alike. A turn is
several updates if they are short: in training, one finds the caches as the one before has left them. The ratio is the
median over pairs of turns. Floating-point operations are counted in the matrix products that the fast way does, and
compared with those of one large product on the same threads.
"""

import argparse
import dataclasses
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from explorer.model.architectures import new_model
from explorer.model.fast_forward import logits_at
from explorer.model.transformer import ModelConfig
from explorer.settings import TrainingConfig
from explorer.tasks import TASKS
from explorer.tasks.task import Task
from explorer.training.loop import Training
from explorer.training.process import run_apart
from explorer.training.schedule import learning_rate

CASES = (
    ("addition", "notebook"),
    ("skip-trigram", "notebook"),
    ("induction", "notebook"),
    ("modular-addition", "notebook"),
    ("addition", "quick"),
    ("addition", "quick-finite"),
)
TURN = 0.1  # seconds that a turn takes at least


def seconds(work: Callable[[], object], times: int = 1) -> float:
    """Of one time, on average."""
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def plain_way(task: Task, cfg: ModelConfig, training: TrainingConfig) -> Callable[[], None]:
    """One update of the notebook."""
    model = new_model(cfg, training.seed)
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=training.lr,
        betas=(training.beta1, training.beta2),
        weight_decay=training.weight_decay,
    )
    train = task.train_stream(training)
    test = task.test_stream(training) if task.n_train(training) else None
    steps, gradients = count(), {}

    def apart(losses: torch.Tensor, batch_targets: torch.Tensor) -> list[float]:
        """Each per-token loss, one after another."""
        if losses.shape[1] > 1:
            return [loss.item() for loss in losses.mean(0)]
        return [losses[batch_targets[:, 0] == i].mean().item() for i in range(len(task.loss_names))]

    def step() -> None:
        optimiser.param_groups[0]["lr"] = learning_rate(training, next(steps))
        batch = train.next()
        with model.hooks(backward={name: lambda g, at: gradients.update({at: g}) for name in task.watched_gradients}):
            logits = model(batch.tokens)
        losses = task.losses(batch.at_answers(logits), batch)
        losses.mean().item()
        if len(task.loss_names) > 1:
            apart(losses, batch.targets)
        if test is not None:
            unseen = test.next()
            task.losses(unseen.at_answers(model(unseen.tokens)), unseen).mean().item()
        losses.mean().backward()
        for gradient in gradients.values():
            rows = torch.arange(len(batch.tokens))
            apart(gradient[rows, 0, -1, batch.extra["trigger"]][:, None], batch.targets)
        optimiser.step()
        optimiser.zero_grad()

    return step


def fast_way(task: Task, cfg: ModelConfig, training: TrainingConfig) -> Callable[[], None]:
    """One update as `recorder.train` does it."""
    updates = Training(task, cfg, dataclasses.replace(training, steps=10**7)).updates()  # more than are timed
    return lambda: next(updates)


WAYS = {"plain": plain_way, "fast": fast_way}


def chosen(name: str, preset_name: str) -> tuple[Task, ModelConfig, TrainingConfig]:
    kind = TASKS[name]
    preset = kind.presets[preset_name]
    task = kind(**preset.task)
    return task, task.model_config(**preset.model), preset.training


def take_turns(way: str, case: tuple[str, str], threads: int, turns: Connection) -> None:
    """Time as many updates as are asked for, until the other end of ``turns`` is closed."""

    def serve() -> None:
        with suppress(EOFError):
            update = WAYS[way](*chosen(*case))
            update()
            while True:
                turns.send(seconds(update, turns.recv()))

    torch.set_num_threads(threads)
    if way == "fast":
        run_apart(serve, threads)
    else:
        serve()


@contextmanager
def in_process(way: str, case: tuple[str, str], threads: int) -> Iterator[Callable[[int], float]]:
    """A function that tells how long an update takes, on average over so many, in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=take_turns, args=(way, case, threads, there), daemon=True)
    process.start()
    there.close()  # so that, if the process fails, it is not waited for

    def timed(times: int) -> float:
        here.send(times)
        return here.recv()

    try:
        yield timed
    finally:
        here.close()
        process.join()


def operations(task: Task, cfg: ModelConfig, training: TrainingConfig) -> int:
    """Floating-point operations in the matrix products of one fast update."""
    model, batch = new_model(cfg, 0), task.train_stream(training).next()
    with FlopCounterMode(display=False) as counter:
        task.losses(logits_at(model, batch.tokens, batch.positions), batch).mean().backward()
    return counter.get_total_flops()


def product_rate(n: int = 1536) -> float:
    """Floating-point operations a second of a product of square matrices."""
    a, b, out = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
    return 2 * n**3 / statistics.median(seconds(lambda: torch.mm(a, b, out=out)) for _ in range(3))


def machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown processor"


def measure(case: tuple[str, str], threads: int, lasting: float) -> str:
    """A line of the table."""
    task, cfg, training = chosen(*case)
    share = training.test_every if task.n_train(training) else 1  # so that each fast turn has its share of tests
    with in_process("plain", case, threads) as plain, in_process("fast", case, threads) as fast:
        plain_turn, fast_turn = (math.ceil(TURN / timed(2)) for timed in (plain, fast))
        turns, began = [], time.perf_counter()
        while time.perf_counter() - began < lasting:
            turns.append((plain(plain_turn), fast(math.ceil(fast_turn / share) * share), product_rate()))
    slow, quick, rate = (statistics.median(column) for column in zip(*turns, strict=True))
    ratio = statistics.median(slow / quick for slow, quick, _ in turns)
    flops = operations(task, cfg, training)
    return (
        f"{', '.join(case):<30} {1000 * slow:6.1f} ms  {1000 * quick:6.1f} ms  {ratio:5.1f}"
        f"  {flops / 1e9:6.3f} GFLOP  {flops / quick / rate:4.0%} of {rate / 1e9:.0f} GFLOP/s"
    )


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--seconds", type=float, default=15, help="of each case")
    options = options.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{machine()}, {options.threads} threads, torch {torch.__version__}")
    print(f"{'':<30} plain way   this way  ratio   operations   share of the rate of one large product")
    for case in CASES:
        print(measure(case, options.threads, options.seconds), flush=True)


if __name__ == "__main__":
    main()
