"""Ablation: the output of a component replaced by zero or by its mean, at every snapshot.

Axes
    snapshot   snapshots of the run
    batch, pos, head, d_head, d_mlp    as in `explorer.model.transformer`
    answer     the tokens that an example asks for
"""

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from einops import einsum
from jaxtyping import Float, Float64, Int
from torch import Tensor

from explorer.analysis.components import Component, check_component, components
from explorer.errors import UserError
from explorer.model.ensemble import Ensemble, Hooks
from explorer.model.hooks import Hook
from explorer.model.transformer import ModelConfig, Transformer
from explorer.tasks.data import Batch
from explorer.tasks.task import Task

Means = Mapping[str, Float[Tensor, "snapshot 1 pos *head unit"]]  # by hook point


def mean_outputs(ensemble: Ensemble, of: Iterable[Component], reference: Int[Tensor, "batch pos"]) -> Means:
    """The mean outputs of components at each position, with nothing ablated.

    Args:
        ensemble: the snapshots.
        of: the components.
        reference: token sequences over which means are taken. They should not be those on which the effect of the
            ablation is measured: a component that is replaced by a mean that contains its own output seems to do less.

    Returns:
        Hook point -> mean over ``reference``, for the hook points of these components.

    Raises:
        UserError: the model has no such component.
    """
    names = sorted({_checked(component, ensemble.cfg).hook for component in of})
    if not names:
        return {}
    found = [
        {name: cache[name].mean(1, keepdim=True) for name in names} for _, cache in ensemble.passes(reference, names)
    ]
    return {name: torch.cat([means[name] for means in found]) for name in names}


def ablation_hooks(ensemble: Ensemble, ablated: Iterable[Component], means: Means) -> Hooks:
    """Hooks that ablate components.

    Args:
        ensemble: the snapshots, on whose passes the hooks are used.
        ablated: the components; the hooks change nothing if there are none.
        means: what replaces their outputs, from `mean_outputs`; outputs at hook points that it lacks become zero.
            Inputs shorter than its sequences use the means of their first positions.

    Raises:
        UserError: the model has no such component; or, in a forward pass, the input is longer than the sequences of
            ``means``.
    """
    cfg = ensemble.cfg
    masks: dict[str, Tensor] = {}  # hook point -> bool, broadcast to the last axes of its activation
    for component in ablated:
        shape = {"head": (cfg.n_heads, 1), "mlp": (1,), "neuron": (cfg.d_mlp,)}[_checked(component, cfg).kind]
        masks.setdefault(component.hook, torch.zeros(shape, dtype=torch.bool))[component.index] = True

    def hooks(snapshots: slice) -> dict[str, Hook]:
        def replace(
            x: Float[Tensor, "snapshot batch pos *unit"], name: str
        ) -> Float[Tensor, "snapshot batch pos *unit"]:
            if name not in means:
                return x.masked_fill(masks[name], 0)
            return torch.where(masks[name], _first_positions(means[name][snapshots], x.shape[2]), x)

        return dict.fromkeys(masks, replace)

    return hooks


def _checked(component: Component, cfg: ModelConfig) -> Component:
    check_component(component, cfg)
    return component


def losses(
    ensemble: Ensemble, task: Task, batch: Batch, hooks: Hooks | None = None
) -> Float64[Tensor, "snapshot batch answer"]:
    """The cross-entropy of every answer of a batch, in nats.

    Args:
        ensemble: the snapshots.
        task: whose loss it is.
        batch: the examples.
        hooks: as in `Ensemble.passes`.
    """
    passes = ensemble.passes(batch.tokens, hooks=hooks)
    return torch.cat([task.losses(batch.at_answers(logits), batch) for logits, _ in passes])


def ablate_each(
    ensemble: Ensemble, task: Task, batch: Batch, means: Means
) -> Float64[Tensor, "snapshot component batch"]:
    """The increase of the loss of each example when a single head or MLP is ablated, for each of `components`.

    Everything up to a component is computed once for all of them; the last block and the logits, at the answers alone.

    Args:
        ensemble: the snapshots.
        task: whose loss it is.
        batch: the examples on which the loss is measured.
        means: as in `ablation_hooks`.

    Returns:
        In nats: the mean loss of the answers of an example with the component ablated, minus that with none ablated.

    Raises:
        UserError: the examples are longer than the sequences of ``means``.
    """
    every = components(ensemble.cfg)
    if ensemble.cfg.architecture == "table":  # one head, after which there are the logits
        before = losses(ensemble, task, batch)
        return (losses(ensemble, task, batch, ablation_hooks(ensemble, every, means)) - before).mean(-1)[:, None]
    increases, start = [], 0
    names = sorted({name for component in every for name in (component.hook, _sum_after(component, ensemble.cfg))})
    for logits, cache in ensemble.passes(batch.tokens, names):
        snapshots = slice(start, start + len(logits))
        model, start = cast(Transformer, ensemble.model(snapshots)), snapshots.stop
        of_chunk = {name: mean[snapshots] for name, mean in means.items()}
        before = task.losses(batch.at_answers(logits), batch).mean(-1)  # (snapshot batch)
        after = [task.losses(_logits_without(one, model, cache, of_chunk, batch), batch).mean(-1) for one in every]
        increases.append(torch.stack(after, 1) - before[:, None])
    return torch.cat(increases)


def _sum_after(component: Component, cfg: ModelConfig) -> str:
    """The hook point of the residual stream to which the output of a component was added last."""
    place = "hook_resid_mid" if component.kind == "head" and not cfg.attn_only else "hook_resid_post"
    return f"blocks.{component.layer}.{place}"


@torch.no_grad()
def _logits_without(
    component: Component, model: Transformer, cache: Mapping[str, Tensor], means: Means, batch: Batch
) -> Float[Tensor, "snapshot batch answer d_vocab_out"]:
    """The logits at the answers with a component ablated, from the activations of an unchanged pass."""
    layer, output = component.layer, cache[component.hook]
    x, is_last = cache[_sum_after(component, model.cfg)], layer == len(model.blocks) - 1
    if component.hook in means:
        output = output - _first_positions(means[component.hook], output.shape[2])
    if is_last:  # what follows needs no other positions
        x, output = batch.at_answers(x), batch.at_answers(output.flatten(3)).unflatten(-1, output.shape[3:])
    if component.kind == "head":
        write = "snapshot batch pos d_head, snapshot d_head d_model -> snapshot batch pos d_model"
        output = einsum(output[..., component.index, :], model.blocks[layer].attn.W_O[:, component.index], write)
        x = model.blocks[layer].after_attention(x - output)
    else:
        x = x - output
    logits = model.after_block(layer, x)
    return logits if is_last else batch.at_answers(logits)


def _first_positions(
    mean: Float[Tensor, "snapshot 1 pos *unit"], n_pos: int
) -> Float[Tensor, "snapshot 1 {n_pos} *unit"]:
    if n_pos > mean.shape[2]:
        raise UserError(
            f"The text has {n_pos} tokens and the means are those of {mean.shape[2]}; choose a shorter text, or ablate "
            f"with zero."
        )
    return mean[:, :, :n_pos]
