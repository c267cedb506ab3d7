"""The model that a configuration describes: how to build it, its weights and its memory."""

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
    """A new model.

    Args:
        cfg: its configuration.
        seed: draws its weights; None leaves them empty.
    """
    return ARCHITECTURES[cfg.architecture](cfg, seed)


def model_from_weights(cfg: ModelConfig, weights: Mapping[str, Tensor]) -> HookedModel:
    """A model on given weights, which are shared, not copied.

    Args:
        cfg: its configuration.
        weights: by name as in `state_dict`; all of them may have a leading snapshot axis.

    Raises:
        UserError: names are missing or unexpected, or a shape does not fit.
    """
    return ARCHITECTURES[cfg.architecture].from_weights(cfg, weights)


@functools.lru_cache(maxsize=64)
def weight_shapes(cfg: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    """Name -> shape of every weight in the `state_dict` of a model of this configuration."""
    with torch.device("meta"):
        return MappingProxyType(hooks.shapes_of(new_model(cfg)))


def n_weights(cfg: ModelConfig) -> int:
    """The number of weights of a model of this configuration."""
    return sum(math.prod(shape) for shape in weight_shapes(cfg).values())


def check_weights(cfg: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """See that ``weights`` fit one model of this configuration.

    Raises:
        UserError: names are missing or unexpected, or a shape or type does not fit.
    """
    hooks.check_weights(weight_shapes(cfg), weights)


@functools.lru_cache(maxsize=256)
def activation_shapes(cfg: ModelConfig, n_pos: int) -> Mapping[str, tuple[int, ...]]:
    """Name -> shape of every activation of one example of ``n_pos`` tokens, in the order in which they are computed.

    Measured on a model with empty weights, and not on the meta device, since torch loads its compiler at the first
    einsum there, which takes a second.
    """
    _, cache = new_model(cfg).run_with_cache(torch.zeros(1, n_pos, dtype=torch.int64))
    return MappingProxyType({name: tuple(x.shape) for name, x in cache.items()})


def activation_bytes(cfg: ModelConfig, n_pos: int) -> int:
    """What all activations of one example of ``n_pos`` tokens take together, in float32."""
    return 4 * sum(math.prod(shape) for shape in activation_shapes(cfg, n_pos).values())
