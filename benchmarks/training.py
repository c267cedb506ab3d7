"""How long an update takes: training as it is done here against the plain way, in turns, in one process.

    python -m benchmarks.training [--threads N] [--seconds S]

The plain way is that of the notebook that this grew from: the hooked forward pass at every position, autograd, AdamW
as it comes, each loss fetched by itself, and on finite data the loss on unseen examples at every step. A turn is
several updates if they are short: in training, one finds the caches as the one before has left them. Floating-point
operations are counted in the matrix products that the fast way does, and compared with those of one large product on
the same threads.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from explorer.asked import asked_logits
from explorer.models import new_model
from explorer.settings import TrainingConfig
from explorer.tasks import TASKS
from explorer.tasks.base import Task
from explorer.training import Training, learning_rate
from explorer.transformer import ModelConfig

CASES = (
    ("addition", "notebook"),
    ("skip-trigram", "notebook"),
    ("induction", "notebook"),
    ("modular-addition", "notebook"),
    ("addition", "quick"),
    ("addition", "quick-finite"),
)
TURN = 0.1  # seconds that a turn of the plain way takes at least


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
        losses = task.losses(batch.asked(logits), batch)
        losses.mean().item()
        if len(task.loss_names) > 1:
            apart(losses, batch.targets)
        losses.mean().backward()
        for gradient in gradients.values():
            rows = torch.arange(len(batch.tokens))
            apart(gradient[rows, 0, -1, batch.extra["trigger"]][:, None], batch.targets)
        optimiser.step()
        optimiser.zero_grad()
        if test is not None:
            unseen = test.next()
            task.losses(unseen.asked(model(unseen.tokens)), unseen).mean().item()

    return step


def operations(task: Task, cfg: ModelConfig, training: TrainingConfig) -> int:
    """Floating-point operations in the matrix products of one fast update."""
    model, batch = new_model(cfg, 0), task.train_stream(training).next()
    with FlopCounterMode(display=False) as counter:
        task.losses(asked_logits(model, batch.tokens, batch.positions), batch).mean().backward()
    return counter.get_total_flops()


def product_rate(n: int = 1536) -> float:
    """Floating-point operations a second of a product of square matrices."""
    a, b = torch.randn(n, n), torch.randn(n, n)
    out = torch.empty(n, n)
    return 2 * n**3 / statistics.median(seconds(lambda: torch.mm(a, b, out=out)) for _ in range(15))


def machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown processor"


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--seconds", type=float, default=8, help="of each case")
    options = options.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{machine()}, {options.threads} threads, torch {torch.__version__}")
    print(f"{'':<30} plain way   this way  ratio   operations   share of the rate of one large product")
    for name, preset_name in CASES:
        kind = TASKS[name]
        preset = kind.presets[preset_name]
        task, training = kind(**preset.task), preset.training
        cfg = task.model_config(**preset.model)
        plain, updates = plain_way(task, cfg, training), Training(task, cfg, training).updates()
        plain(), next(updates)
        share = training.test_every if task.n_train(training) else 1  # so that each fast turn has its share of tests
        turns = {"plain": math.ceil(TURN / seconds(plain))}
        turns["fast"] = math.ceil(turns["plain"] / share) * share
        times: dict[str, list[float]] = {way: [] for way in turns}
        began, rates = time.perf_counter(), [product_rate()]
        while time.perf_counter() - began < options.seconds:
            for way, update in (("plain", plain), ("fast", updates.__next__)):
                times[way].append(seconds(update, turns[way]))
        rates.append(product_rate())
        slow, quick = (statistics.median(times[way]) for way in ("plain", "fast"))
        flops, rate = operations(task, cfg, training), max(rates)
        print(
            f"{name + ', ' + preset_name:<30} {1000 * slow:6.1f} ms  {1000 * quick:6.1f} ms  {slow / quick:5.1f}"
            f"  {flops / 1e9:6.2f} GFLOP  {flops / quick / rate:4.0%} of {rate / 1e9:.0f} GFLOP/s",
            flush=True,
        )


if __name__ == "__main__":
    main()
