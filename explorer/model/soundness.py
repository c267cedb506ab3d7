"""Which snapshots hold weights that can be computed with, and which hold the same weights.

Axes: as in `explorer.model.ensemble`.
"""

from collections import defaultdict

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from explorer.model.architectures import activation_shapes
from explorer.model.ensemble import Ensemble

# The longest products of weights are those of four matrices (the circuits of a head), and their norms are squared. No
# entry and no norm of a product exceeds the product of the norms: at most 1e16, squared 1e32, where float32 ends at
# 3e38. The norms of trained weights are below 100.
LARGEST_NORM = 1e4
LARGEST_ACTIVATION = 1e15  # a million of them squared and summed are at most 1e36
SAMPLE = 16  # weights of each parameter that are compared before all of them are


def sound(ensemble: Ensemble, tokens: Int[Tensor, "batch pos"]) -> Bool[Tensor, " snapshot"]:
    """Whether each snapshot can be computed with: its weights and activations are finite and of a usual size.

    Args:
        ensemble: the snapshots.
        tokens: of examples for one forward pass.

    Returns:
        True if the norm of every parameter is at most `LARGEST_NORM`, and every activation and logit at most
        `LARGEST_ACTIVATION`.
    """
    is_sound = torch.ones(len(ensemble), dtype=torch.bool)
    for weight in ensemble.weights.values():
        is_sound &= torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim))) <= LARGEST_NORM  # not if nan
    # Scores are minus infinity where attention is masked; one that is not finite elsewhere makes its pattern nan.
    names = [name for name in activation_shapes(ensemble.cfg, tokens.shape[-1]) if not name.endswith("attn_scores")]
    usual = [
        torch.stack([(x.abs() <= LARGEST_ACTIVATION).flatten(1).all(1) for x in (logits, *cache.values())]).all(0)
        for logits, cache in ensemble.passes(tokens, names)
    ]
    return is_sound & torch.cat(usual)


def identical(ensemble: Ensemble) -> list[tuple[int, ...]]:
    """Groups of snapshots whose weights are all equal.

    Args:
        ensemble: the snapshots, of finite weights.

    Returns:
        The steps of each group of two or more, ascending.
    """
    samples = torch.cat([weight.flatten(1)[:, :SAMPLE] for weight in ensemble.weights.values()], 1)
    alike: dict[bytes, list[int]] = defaultdict(list)
    for place, sample in enumerate(samples):
        alike[sample.numpy().tobytes()].append(place)
    groups: list[list[int]] = []
    for places in alike.values():
        found: list[list[int]] = []
        for place in places:
            group = next((group for group in found if _equal(ensemble, group[0], place)), None)
            if group is None:
                found.append([place])
            else:
                group.append(place)
        groups += [group for group in found if len(group) > 1]
    return sorted(tuple(ensemble.steps[place] for place in group) for group in groups)


def _equal(ensemble: Ensemble, one: int, other: int) -> bool:
    return all(torch.equal(weight[one], weight[other]) for weight in ensemble.weights.values())
