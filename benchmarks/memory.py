"""How near the estimate of a training's memory is to what it takes, over settings that are drawn at random.

    python -m benchmarks.memory [--seed S] [--draws N] [--only I]

Each draw is trained for a few steps by a process of its own, as a job is. What it takes is the peak of its resident
memory, less what the same process takes when everything is imported and nothing has been done. A draw counts as near if
the estimate is within a factor of two of that. Below `FLOOR` what torch itself takes with its first operations
outweighs the training, so a draw counts as near as well if both are below it.
"""

import argparse
import dataclasses
import math
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from explorer.errors import UserError
from explorer.model.architectures import n_weights
from explorer.model.transformer import ModelConfig
from explorer.runs import Runs, recorder
from explorer.settings import TrainingConfig
from explorer.tasks import TASKS
from explorer.tasks.task import Task
from explorer.training.memory import memory_needed

FLOOR = 64 * 2**20  # bytes
STEPS = 3  # updates: the first keeps a snapshot, the later ones train while it is written
WORK = 4e11  # multiplications that a draw may take, some seconds
MOST = 6 * 2**30  # bytes that a draw may be estimated at
PRIMES = (13, 29, 59, 97, 113, 151, 199, 251)
CHILD = """
import sys
from explorer.runs import Runs, recorder

def resident(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

run = Runs(sys.argv[1]).open("drawn")
before = resident("VmRSS")
recorder.train(run, device="cpu")
print(1024 * (resident("VmHWM") - before))
"""
Draw = tuple[Task, ModelConfig, TrainingConfig]


def draw(rng: random.Random, kind: str) -> Draw:
    """Settings of a task that can be trained in a few seconds.

    Args:
        rng: draws them.
        kind: the name of the task.
    """
    while True:
        try:
            task, model, training = _any(rng, kind)
            task.training_set(training)
        except UserError:
            continue  # settings that contradict each other
        examples = task.n_train(training)
        batch = examples if examples and training.full_batch else training.batch_size
        tested = task.n_test(training) if examples else 0
        work = 3 * STEPS * (3 * batch + tested) * task.n_ctx * (n_weights(model) + task.n_ctx * model.d_model)
        if work < WORK and memory_needed(task, model, training) < MOST:
            return task, model, training


def _any(rng: random.Random, kind: str) -> Draw:
    def about(low: float, high: float) -> int:
        """A whole number, uniform on a logarithmic scale."""
        return round(math.exp(rng.uniform(math.log(low), math.log(high))))

    finite = rng.random() < 0.5
    choices: dict[str, dict[str, Any]] = {
        "addition": {"n_digits": rng.randint(1, 10)},
        "induction": {
            "stretch": rng.randint(2, 24),
            "interval": rng.randint(24, 48),
            "copies": rng.randint(1, 3),
            "vocabulary": rng.randint(96, 256),
            "answers": rng.choice(["copies", "all"]),
        },
        "modular-addition": {
            "p": rng.choice(PRIMES),
            "function": rng.choice(["add", "random"]),
            "train_share": rng.uniform(0.1, 0.9) if finite else 1.0,
        },
        "skip-trigram": {"n_triggers": rng.randint(2, 26), "n_letters": rng.randint(16, 160)},
    }
    task = TASKS[kind](**choices[kind])
    model: dict[str, Any] = {
        "n_layers": rng.randint(1, 4),
        "d_model": about(16, 2048),
        "n_heads": rng.randint(1, 8),
        "d_head": about(8, 128),
        "d_mlp": about(16, 8192),
        "attn_only": rng.random() < 0.3,
        "layer_norm": rng.random() < 0.3,
        "act_fn": rng.choice(["relu", "gelu"]),
        "positions": rng.choice(["learned", "none"]),
    }
    if kind == "skip-trigram" and rng.random() < 0.3:
        model = {"n_layers": 1, "n_heads": 1, "architecture": "table"}
    training = TrainingConfig(
        steps=STEPS,
        batch_size=about(8, 100_000),
        finite=about(100, 1_000_000) if finite and kind != "modular-addition" else 0,
        full_batch=rng.random() < 0.5,
        test_batch_size=about(8, 1_000_000),
        optimiser=rng.choice(["adamw", "sgd"]),
        momentum=rng.choice([0.0, 0.9]),
        snapshot_dtype=rng.choice(["float16", "float32"]),
        snapshot_every=1,
        seed=rng.randint(0, 1000),
    )
    model_config = task.model_config(**model)
    if finite and not training.full_batch:
        training = dataclasses.replace(training, batch_size=min(training.batch_size, task.n_train(training)))
    return task, model_config, training


def taken(task: Task, model: ModelConfig, training: TrainingConfig) -> int:
    """The bytes that a process takes to train these settings, beyond those that it takes before.

    Args:
        task, model, training: what is trained, and how.
    """
    with tempfile.TemporaryDirectory() as folder:
        recorder.create(Runs(folder), "drawn", task, model, training)
        command = [sys.executable, "-c", CHILD, folder]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
        if done.returncode:
            raise SystemExit(done.stderr)
        return int(done.stdout)


def about(task: Task, model: ModelConfig, training: TrainingConfig) -> str:
    """What was drawn, in a few words."""
    data = f"{task.n_train(training):,} examples" if task.n_train(training) else "infinite"
    size = "full" if task.n_train(training) and training.full_batch else f"{training.batch_size:,}"
    shape = "table" if model.architecture == "table" else f"{model.n_layers} x {model.d_model}"
    return (
        f"{task.name:<16} {shape:<9} {n_weights(model):>10,} weights, batch {size:>7}, test {task.n_test(training):>8,}"
        f", {data:<17} {training.optimiser:<5} {training.snapshot_dtype}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--only", type=int, help="the number of one draw")
    options = parser.parse_args()
    torch.set_num_threads(1)
    near, ratios = 0, []
    rng, kinds = random.Random(options.seed), sorted(TASKS)
    draws = [draw(rng, kinds[i % len(kinds)]) for i in range(options.draws)]
    for i, settings in enumerate(draws):
        if options.only not in (None, i):
            continue
        estimate, peak = memory_needed(*settings), taken(*settings)
        ratio = estimate / peak
        is_near = 0.5 <= ratio <= 2 or max(estimate, peak) < FLOOR
        near += is_near
        ratios.append(ratio)
        sizes = f"{estimate / 2**20:>6,.0f} MiB estimated, {peak / 2**20:>6,.0f} taken, {ratio:5.2f}"
        print(f"{i:>2}  {sizes}  {'' if is_near else '!':<1} {about(*settings)}", flush=True)
    print(f"{near} of {len(ratios)} within a factor of two; ratios from {min(ratios):.2f} to {max(ratios):.2f}.")


if __name__ == "__main__":
    main()
