"""Which model a configuration means. Whoever builds, loads or stacks models asks here."""

import functools
import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from explorer.model import hooks
from explorer.model.hooks import HookedModel
from explorer.model.table import TableModel
from explorer.model.transformer import ModelConfig, Transformer

ARCHITECTURES: dict[str, type[HookedModel]] = {"transformer": Transformer, "table": TableModel}


def new_model(cfg: ModelConfig, seed: int | None = None) -> HookedModel:
    """A model of its own, its weights drawn from ``seed``, or empty."""
    return ARCHITECTURES[cfg.architecture](cfg, seed)


def model_from_weights(cfg: ModelConfig, weights: Mapping[str, Tensor]) -> HookedModel:
    """A model on ``weights``, which are shared, not copied; they may all carry a snapshot axis in front.

    Raises:
        UserError: names are missing or unexpected, or a shape does not fit.
    """
    return ARCHITECTURES[cfg.architecture].from_weights(cfg, weights)


@functools.lru_cache(maxsize=64)
def weight_shapes(cfg: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every weight that a model of this configuration keeps."""
    with torch.device("meta"):
        return hooks.shapes_of(new_model(cfg))


def check_weights(cfg: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """See that ``weights`` are those of one model of this configuration.

    Raises:
        UserError: names are missing or unexpected, or a shape or type does not fit.
    """
    hooks.check_weights(weight_shapes(cfg), weights)


@functools.lru_cache(maxsize=256)
def activation_shapes(cfg: ModelConfig, n_pos: int) -> Mapping[str, tuple[int, ...]]:
    """Name -> shape of every activation of one example of ``n_pos`` tokens, in the order in which they are computed.

    Measured on a model without weights. Tensors on the device "meta" would do as well, but the first of them makes
    torch load its compiler, which takes a second.
    """
    _, cache = new_model(cfg).run_with_cache(torch.zeros(1, n_pos, dtype=torch.int64))
    return MappingProxyType({name: tuple(x.shape) for name, x in cache.items()})


def activation_bytes(cfg: ModelConfig, n_pos: int) -> int:
    """What all activations of one example of ``n_pos`` tokens take together, in float32."""
    return 4 * sum(math.prod(shape) for shape in activation_shapes(cfg, n_pos).values())
