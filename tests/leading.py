"""Sweeps whose runs change at known steps."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from explorer.runs import Run, Runs
from explorer.runs.sweeps import Sweep, SweepInfo, create_sweep
from explorer.sweeps.engine import train_sweep
from explorer.tasks.skip_trigram import SkipTrigram
from explorer.training.sweep import parsed
from tests.spoilt import rewrite

SMALL = ["n_letters=16", "n_triggers=4", "batch_size=8", "test_batch_size=8", "d_model=8", "warmup=0"]
STEPS = 400
FALLS = (180, 190, 200, 210, 220, 230, 240)  # of each seed
LAGS = (-90, -80, -70, -60, -50, 0, 60)  # of the norm of all weights, from the fall
NORM, NAME = "norm of all weights", "C → 2"


def trained(folder: Path, name: str, steps: int, keep: str, seeds: str = "0-6", *more: str) -> Sweep:
    plan = parsed(SkipTrigram, "quick", [*SMALL, f"steps={steps}", f"keep={keep}", *more], [], seeds)
    sweep = create_sweep(Runs(folder), name, SweepInfo(plan, 8))
    train_sweep(sweep, lambda: ThreadPoolExecutor(1), 1)
    return sweep


def sigmoid(steps, centre: float, width: float):
    """From 0 to 1."""
    return (1 + np.tanh(4 * (np.asarray(steps, float) - centre) / width)) / 2


def change(run: Run, fall: float, norm: float) -> None:
    """Let the loss of one token fall at a step and the norm of all weights rise at another; nothing else moves."""
    path = run.folder / "metrics.safetensors"
    metrics = load_file(path)
    losses = metrics["train_loss_per_token"]
    losses[:] = 2.0
    token = run.info().task.loss_names.index(NAME)
    losses[:, token] = torch.tensor(2.0 - 1.9 * sigmoid(range(len(losses)), fall, 40)).to(losses.dtype)
    save_file(metrics, path)
    first = load_file(run.snapshot_file(0))
    for step in run.steps():
        scale = 1 + float(sigmoid(step, norm, 60))
        rewrite(run.snapshot_file(step), lambda name, _, scale=scale: first[name] * scale)


def known_sweep(folder: Path, n: int) -> Sweep:
    """The first seeds of known falls and lags, and one more, in which the loss never falls."""
    sweep = trained(folder, "known", STEPS, "all", f"0-{n}", "snapshot_every=8")
    for i, (fall, lag) in enumerate(zip((*FALLS[:n], 10**6), (*LAGS[:n], 0), strict=True)):
        change(sweep.run(f"seed-{i}"), fall, fall + lag)
    return sweep
