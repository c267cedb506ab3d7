"""What becomes of a model when a part of it is switched off, or is given what it computed on another prompt.

Axes
    snapshot   in front, as in an `Ensemble`
    batch, pos, head, d_head, d_mlp    as in `explorer.model.transformer`
    token      the per-token losses of a task
    component  heads and MLPs, in the order in which they are computed
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from explorer.analysis.components import Component, check_component, components
from explorer.errors import UserError, quoted
from explorer.model.ensemble import Ensemble, Hooks
from explorer.model.hooks import Hook, hook_axes
from explorer.model.transformer import ModelConfig
from explorer.tasks.base import Batch, Example, Task

AblationMode = Literal["zero", "mean"]
MIN_LOGIT_DIFFERENCE = 1e-6  # of logits; a share of less is rounding


# --- Switched off ---


def ablation_hooks(ensemble: Ensemble, off: Sequence[Component], mode: AblationMode, reference: Tensor) -> Hooks:
    """Hooks for passes of this ensemble, under which some components put out nothing, or always the same.

    An ablation, as is standard. The means are taken once, here, while nothing is off.

    Args:
        off: with none, the hooks do nothing.
        mode: "zero" sets a component's output to zero, "mean" to its mean over the batch ``reference``, at each
            position and for each snapshot.
        reference: (batch pos) tokens. Shorter texts take the means of its first positions.

    Raises:
        UserError: a component is none of this model; later, in a pass with means, a text has more positions than
            ``reference``.
    """
    for component in off:
        check_component(component, ensemble.cfg)
    return _off(off, _means(ensemble, off, reference) if mode == "mean" else {}, ensemble.cfg)


def _means(ensemble: Ensemble, of: Sequence[Component], reference: Tensor) -> dict[str, Tensor]:
    """Hook point -> mean over the batch, (snapshot 1 pos ...), for the hook points of these components."""
    names = sorted({component.hook for component in of})
    if not names:
        return {}
    found = [
        {name: cache[name].mean(1, keepdim=True) for name in names} for _, cache in ensemble.passes(reference, names)
    ]
    return {name: torch.cat([means[name] for means in found]) for name in names}


def _off(off: Sequence[Component], means: Mapping[str, Tensor], cfg: ModelConfig) -> Hooks:
    """Hooks which set ``off`` to ``means``, and to zero at hook points that have none."""
    chosen: dict[str, Tensor] = {}  # hook point -> bool, broadcast to the last axes of its activation
    for component in off:
        shape = {"head": (cfg.n_heads, 1), "mlp": (1,), "neuron": (cfg.d_mlp,)}[component.kind]
        chosen.setdefault(component.hook, torch.zeros(shape, dtype=torch.bool))[component.index] = True

    def hooks(snapshots: slice) -> dict[str, Hook]:
        def replaced(x: Tensor, name: str) -> Tensor:  # (snapshot batch pos ...)
            if name not in means:
                return x.masked_fill(chosen[name], 0)
            mean, n_pos = means[name][snapshots], x.shape[2]
            if n_pos > mean.shape[2]:
                raise UserError(
                    f"The text has {n_pos} tokens and the means are those of {mean.shape[2]}; take a shorter text, "
                    f"or set the output to zero."
                )
            return torch.where(chosen[name], mean[:, :, :n_pos], x)

        return dict.fromkeys(chosen, replaced)

    return hooks


def losses(ensemble: Ensemble, task: Task, batch: Batch, hooks: Hooks | None = None) -> Tensor:
    """The loss of every answer of a batch, (snapshot batch answer) float64 in nats."""
    passes = ensemble.passes(batch.tokens, hooks=hooks)
    return torch.cat([task.losses(batch.asked(logits), batch) for logits, _ in passes])


def ablate_each(
    ensemble: Ensemble, batch: Batch, task: Task, mode: AblationMode, reference: Tensor
) -> tuple[tuple[str, ...], Tensor]:
    """How much the loss rises when a single head or MLP is off.

    Returns:
        The names of the components, and (snapshot component) float64 in nats: the mean loss of all answers of the batch
        with this one off, less the mean loss with none off.
    """
    every = components(ensemble.cfg)
    means = _means(ensemble, every, reference) if mode == "mean" else {}

    def loss(*off: Component) -> Tensor:  # (snapshot,)
        return losses(ensemble, task, batch, _off(off, means, ensemble.cfg)).mean((-2, -1))

    none = loss()
    rises = torch.stack([loss(component) - none for component in every], 1)
    return tuple(component.name for component in every), rises


# --- Patched ---


def patching_hooks(ensemble: Ensemble, clean: Example, where: Mapping[str, Tensor]) -> Hooks:
    """Hooks for passes of this ensemble, in which some activations are those of the prompt ``clean``.

    Args:
        where: hook point -> (batch ...) bool, broadcast to its activation: what is taken from ``clean``, for each row
            of the batch. A row has as many positions as ``clean``.

    Raises:
        UserError: no such hook point.
    """
    _, cache = ensemble.run(clean.tokens[None], where)

    def hooks(snapshots: slice) -> dict[str, Hook]:
        def replaced(x: Tensor, name: str) -> Tensor:  # (snapshot batch pos ...)
            return torch.where(where[name], cache[name][snapshots], x)

        return dict.fromkeys(where, replaced)

    return hooks


def logit_difference(
    ensemble: Ensemble,
    tokens: Tensor,
    clean: Example,
    corrupted: Example,
    answer: int,
    hooks: Hooks | None = None,
) -> Tensor:
    """By how much the right answer to ``clean`` is ahead of that to ``corrupted``, (snapshot batch).

    Args:
        tokens: (batch pos), as long as the examples.
        answer: which of the answers; the logits are those at its place.

    Raises:
        UserError: the two examples cannot be compared at this answer.
    """
    _check_pair(clean, corrupted, answer)
    position, right, other = clean.positions[answer], clean.targets[answer], corrupted.targets[answer]
    passes = ensemble.passes(tokens, hooks=hooks)
    return torch.cat([logits[:, :, position, right] - logits[:, :, position, other] for logits, _ in passes])


def _check_pair(clean: Example, corrupted: Example, answer: int) -> None:
    one, other = quoted(clean.text), quoted(corrupted.text)
    if len(clean.tokens) != len(corrupted.tokens):
        raise UserError(
            f"{one} and {other} have different lengths, {len(clean.tokens)} and {len(corrupted.tokens)} tokens; "
            f"choose two of the same length."
        )
    if not torch.equal(clean.positions, corrupted.positions):
        raise UserError(f"{one} and {other} ask for answers at different places; choose two that ask at the same.")
    if not 0 <= answer < len(clean.targets):
        raise UserError(f"There is no answer {answer}; {one} has the answers 0 to {len(clean.targets) - 1}.")
    if clean.targets[answer] == corrupted.targets[answer]:
        raise UserError(
            f"{one} and {other} both have the same right answer at {clean.places[answer]}; choose an answer where they "
            f"differ."
        )


def _restored(ensemble: Ensemble, clean: Example, corrupted: Example, answer: int, hooks: Hooks, n: int) -> Tensor:
    """The share of the logit difference that each of ``n`` rows of the corrupted prompt restores, (snapshot row)."""
    pair = torch.stack([clean.tokens, corrupted.tokens])
    untouched = logit_difference(ensemble, pair, clean, corrupted, answer).double()
    whole, without = untouched[:, :1], untouched[:, 1:]
    tokens = corrupted.tokens.expand(n, -1)
    patched = logit_difference(ensemble, tokens, clean, corrupted, answer, hooks).double()
    way = whole - without
    return torch.where(way.abs() < MIN_LOGIT_DIFFERENCE, torch.nan, (patched - without) / way)


def patch_positions(
    ensemble: Ensemble, clean: Example, corrupted: Example, answer: int, hook: str, positions: Sequence[int]
) -> Tensor:
    """What one activation at one position restores of the right answer.

    An activation patch, as is standard: the corrupted prompt runs with the activation at ``hook`` taken from the clean
    one at a single position. The logit difference is that of `logit_difference`.

    Args:
        hook: a hook point whose activation has positions, such as "blocks.0.hook_resid_pre".

    Returns:
        (snapshot position) float64: (patched - corrupted) / (clean - corrupted), 0 where nothing is restored and 1
        where everything is; nan where clean and corrupted differ by less than 1e-6.

    Raises:
        UserError: the two examples cannot be compared at this answer, there is no such hook point, or its activation
            has no positions.
    """
    _check_pair(clean, corrupted, answer)
    axes = hook_axes(hook)
    if axes[0] != "pos":
        raise UserError(f"{quoted(hook, 60)} has no positions; choose a hook point such as blocks.0.hook_resid_pre.")
    where = torch.arange(len(clean.tokens)) == torch.tensor(positions, dtype=torch.int64)[:, None]  # (position pos)
    where = where.reshape(*where.shape, *[1] * (len(axes) - 1))
    return _restored(ensemble, clean, corrupted, answer, patching_hooks(ensemble, clean, {hook: where}), len(positions))


def patch_heads(ensemble: Ensemble, clean: Example, corrupted: Example, answer: int) -> tuple[tuple[str, ...], Tensor]:
    """What the output of one head, at all positions, restores of the right answer.

    Returns:
        The names of the heads, and (snapshot head) float64, shares as in `patch_positions`.

    Raises:
        UserError: the two examples cannot be compared at this answer.
    """
    _check_pair(clean, corrupted, answer)
    heads = [component for component in components(ensemble.cfg) if component.kind == "head"]
    # Each head is patched in a row of its own.
    own = rearrange(
        torch.eye(len(heads), dtype=torch.bool), "row (layer head) -> layer row 1 head 1", layer=ensemble.cfg.n_layers
    )
    where = {Component(layer, "head").hook: own[layer] for layer in range(ensemble.cfg.n_layers)}
    hooks = patching_hooks(ensemble, clean, where)
    return tuple(head.name for head in heads), _restored(ensemble, clean, corrupted, answer, hooks, len(heads))
