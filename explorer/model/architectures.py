"""Models by their configuration: how to build one, the shapes of its weights and activations, and their memory."""

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
        seed: of the generator that draws its weights; None leaves them uninitialised.
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
    """The shapes of all weights.

    Args:
        cfg: the configuration of a model.

    Returns:
        Name -> shape, as in the model's `state_dict`.
    """
    with torch.device("meta"):
        return MappingProxyType(hooks.shapes_of(new_model(cfg)))


def n_weights(cfg: ModelConfig) -> int:
    """The number of weights, position embeddings included.

    Args:
        cfg: the configuration of a model.
    """
    return sum(math.prod(shape) for shape in weight_shapes(cfg).values())


def check_weights(cfg: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Check that weights fit one model.

    Args:
        cfg: the configuration of the model.
        weights: name -> weight, as in `state_dict`.

    Raises:
        UserError: names are missing or unexpected, or a shape or type does not fit.
    """
    hooks.check_weights(weight_shapes(cfg), weights)


@functools.lru_cache(maxsize=256)
def activation_shapes(cfg: ModelConfig, n_pos: int) -> Mapping[str, tuple[int, ...]]:
    """The shapes of all activations of a batch of one example.

    They are those of a forward pass with uninitialised weights on the CPU: on the meta device, the first einsum makes
    torch load its compiler, which takes a second.

    Args:
        cfg: the configuration of a model.
        n_pos: tokens of the example.

    Returns:
        Hook point -> (1 ...), in the order in which activations are computed.
    """
    _, cache = new_model(cfg).run_with_cache(torch.zeros(1, n_pos, dtype=torch.int64))
    return MappingProxyType({name: tuple(x.shape) for name, x in cache.items()})


def activation_bytes(cfg: ModelConfig, n_pos: int) -> int:
    """The memory that all activations and logits of one example take, in float32.

    Args:
        cfg: the configuration of a model.
        n_pos: tokens of the example.

    Returns:
        Bytes.
    """
    values = sum(math.prod(shape) for shape in activation_shapes(cfg, n_pos).values())
    return 4 * (values + n_pos * cfg.d_vocab_out)
