"""Models with given logits over all pairs of numbers, for the tests of Fourier measures."""

import math
from collections.abc import Mapping

import torch

from explorer.model.architectures import weight_shapes
from explorer.model.ensemble import Ensemble
from explorer.tasks.addition import Addition
from explorer.tasks.data import Grid
from explorer.tasks.modular_addition import ModularAddition
from explorer.tasks.task import Task

MODULAR = ModularAddition(p=7)
SUBTRACT = ModularAddition(p=7, function="subtract")
DIGITS = Addition(n_digits=1)
PLACES: Mapping[type[Task], tuple[int, int, int]] = {ModularAddition: (0, 1, 2), Addition: (0, 2, 4)}  # x, y, answer


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def wave(n: int, k: int, sign: int = 1) -> torch.Tensor:
    """cos(w_k (x + sign y - z)), (pair z) float64."""
    x, y, z = torch.arange(n)[:, None, None], torch.arange(n)[:, None], torch.arange(n)
    return torch.cos(2 * math.pi * k * (x + sign * y - z).double() / n).flatten(0, 1)


def lookup_ensemble(task: Task, functions: torch.Tensor) -> Ensemble:
    """Snapshots with given logits at the answer's position.

    One head copies x to that position and one copies y, each number as a direction of its own. The neuron of a pair has
    the activation 1 if both numbers are there, and writes the logits of the pair.

    Args:
        functions: (snapshot pair d_vocab_out).
    """
    n, places = task.cycle.n, PLACES[type(task)]
    number, place, out = torch.arange(n), n, n + task.n_ctx  # the first of their directions in the residual stream
    n_outputs = len(task.answer_tokens)
    cfg = task.model_config(d_model=out + 2 * n + n_outputs, n_heads=2, d_head=n, d_mlp=n * n)
    weights = {name: torch.zeros(shape) for name, shape in weight_shapes(cfg).items()}
    weights["embed.W_E"][number, number] = 1
    weights["pos_embed.W_pos"][range(task.n_ctx), range(place, out)] = 1
    for head in (0, 1):
        weights["blocks.0.attn.W_Q"][head, place + places[2], 0] = 100
        weights["blocks.0.attn.W_K"][head, place + places[head], 0] = 100
        weights["blocks.0.attn.W_V"][head, number, number] = 1
        weights["blocks.0.attn.W_O"][head, number, out + head * n + number] = 1
    x, y = torch.cartesian_prod(number, number).unbind(1)
    weights["blocks.0.mlp.W_in"][out + x, range(n * n)] = 1
    weights["blocks.0.mlp.W_in"][out + n + y, range(n * n)] = 1
    weights["blocks.0.mlp.b_in"][:] = -1
    weights["unembed.W_U"][out + 2 * n :] = torch.eye(n_outputs)
    stack = {name: weight.repeat(len(functions), *[1] * weight.ndim) for name, weight in weights.items()}
    stack["blocks.0.mlp.W_out"][..., out + 2 * n :] = functions
    return Ensemble(cfg, range(len(functions)), stack)


def only_grid(task: Task) -> Grid:
    (grid,) = task.cycle.grids.values()
    return grid
