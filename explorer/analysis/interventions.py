"""Ablation and activation patching, at every snapshot.

Axes
    snapshot   snapshots of the run
    batch, pos, head, d_head, d_mlp    as in `explorer.model.transformer`
    answer     the tokens that an example asks for
    component  heads and MLPs, in the order in which they are computed
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from explorer.analysis.components import Component, check_component, components
from explorer.errors import UserError, quoted
from explorer.model.ensemble import Ensemble, Hooks
from explorer.model.hooks import Hook, hook_axes
from explorer.model.transformer import ModelConfig
from explorer.tasks.data import Batch, Example
from explorer.tasks.task import Task

AblationMode = Literal["zero", "mean"]
MIN_LOGIT_DIFFERENCE = 1e-6  # between clean and corrupted, in logits; a share of less is rounding error


# --- Ablation ---


def ablation_hooks(
    ensemble: Ensemble,
    ablated: Sequence[Component],
    mode: AblationMode,
    reference: Int[Tensor, "batch pos"],
) -> Hooks:
    """Hooks that ablate components: their output is replaced by zero or by its mean over a batch.

    Means are taken here, once, with nothing ablated.

    Args:
        ensemble: the snapshots, on whose passes the hooks are used.
        ablated: the components; the hooks change nothing if there are none.
        mode: "zero", or "mean" for the mean output over ``reference`` at each position and each snapshot.
        reference: token sequences over which means are taken; shorter inputs use the means of its first positions.

    Raises:
        UserError: the model has no such component; or, in a forward pass with mode "mean", the input is longer than
            ``reference``.
    """
    for component in ablated:
        check_component(component, ensemble.cfg)
    return _ablation_hooks(ablated, _mean_outputs(ensemble, ablated, reference) if mode == "mean" else {}, ensemble.cfg)


def _mean_outputs(
    ensemble: Ensemble, of: Iterable[Component], reference: Int[Tensor, "batch pos"]
) -> dict[str, Float[Tensor, "snapshot 1 pos *head unit"]]:
    """Hook point -> mean over the batch, for the hook points of these components."""
    names = sorted({component.hook for component in of})
    if not names:
        return {}
    found = [
        {name: cache[name].mean(1, keepdim=True) for name in names} for _, cache in ensemble.passes(reference, names)
    ]
    return {name: torch.cat([means[name] for means in found]) for name in names}


def _ablation_hooks(ablated: Iterable[Component], means: Mapping[str, Tensor], cfg: ModelConfig) -> Hooks:
    """Hooks that replace the output of components by ``means``, or by zero at hook points that have none."""
    masks: dict[str, Tensor] = {}  # hook point -> bool, broadcast to the last axes of its activation
    for component in ablated:
        shape = {"head": (cfg.n_heads, 1), "mlp": (1,), "neuron": (cfg.d_mlp,)}[component.kind]
        masks.setdefault(component.hook, torch.zeros(shape, dtype=torch.bool))[component.index] = True

    def hooks(snapshots: slice) -> dict[str, Hook]:
        def replace(
            x: Float[Tensor, "snapshot batch pos *unit"], name: str
        ) -> Float[Tensor, "snapshot batch pos *unit"]:
            if name not in means:
                return x.masked_fill(masks[name], 0)
            mean, n_pos = means[name][snapshots], x.shape[2]
            if n_pos > mean.shape[2]:
                raise UserError(
                    f"The text has {n_pos} tokens and the means are those of {mean.shape[2]}; choose a shorter text, "
                    f"or ablate with zero."
                )
            return torch.where(masks[name], mean[:, :, :n_pos], x)

        return dict.fromkeys(masks, replace)

    return hooks


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
    ensemble: Ensemble, batch: Batch, task: Task, mode: AblationMode, reference: Int[Tensor, "reference pos"]
) -> tuple[tuple[str, ...], Float64[Tensor, "snapshot component"]]:
    """The increase of the loss when a single head or MLP is ablated, for each of them.

    Args:
        ensemble: the snapshots.
        batch: the examples on which the loss is measured.
        task: whose loss it is.
        mode: what replaces the output of the component, as in `ablation_hooks`.
        reference: token sequences over which means are taken.

    Returns:
        The names of the components, and in nats the mean loss of all answers of the batch with that component ablated
        minus the loss with none ablated.
    """
    every = components(ensemble.cfg)
    means = _mean_outputs(ensemble, every, reference) if mode == "mean" else {}

    def loss(*ablated: Component) -> Float64[Tensor, " snapshot"]:
        return losses(ensemble, task, batch, _ablation_hooks(ablated, means, ensemble.cfg)).mean((-2, -1))

    baseline = loss()
    increases = torch.stack([loss(component) - baseline for component in every], 1)
    return tuple(component.name for component in every), increases


# --- Activation patching ---


def patching_hooks(ensemble: Ensemble, clean: Example, masks: Mapping[str, Bool[Tensor, "..."]]) -> Hooks:
    """Hooks that patch in activations of the prompt ``clean``.

    Args:
        ensemble: the snapshots, on whose passes the hooks are used.
        clean: the prompt whose activations are patched in. The patched input has as many positions.
        masks: hook point -> what is patched of its activation, broadcast to (batch ...), so that rows of a batch can be
            patched differently.

    Raises:
        UserError: there is no such hook point.
    """
    _, cache = ensemble.run(clean.tokens[None], masks)

    def hooks(snapshots: slice) -> dict[str, Hook]:
        def patch(x: Float[Tensor, "snapshot batch pos *unit"], name: str) -> Float[Tensor, "snapshot rows pos *unit"]:
            return torch.where(masks[name], cache[name][snapshots], x)

        return dict.fromkeys(masks, patch)

    return hooks


def logit_difference(
    ensemble: Ensemble,
    tokens: Int[Tensor, "batch pos"],
    clean: Example,
    corrupted: Example,
    answer: int,
    hooks: Hooks | None = None,
) -> Float[Tensor, "snapshot batch"]:
    """The logit of the right answer to ``clean`` minus the logit of the right answer to ``corrupted``.

    Args:
        ensemble: the snapshots.
        tokens: the inputs, as long as the two examples.
        clean: an example.
        corrupted: an example of the same length with another right answer.
        answer: which of the examples' answers, from 0.
        hooks: as in `Ensemble.passes`.

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
            f"choose two examples of the same length."
        )
    if not torch.equal(clean.positions, corrupted.positions):
        raise UserError(
            f"{one} and {other} ask for answers at different places; choose two examples with answers at the same."
        )
    if not 0 <= answer < len(clean.targets):
        raise UserError(f"There is no answer {answer}; {one} has the answers 0 to {len(clean.targets) - 1}.")
    if clean.targets[answer] == corrupted.targets[answer]:
        raise UserError(
            f"{one} and {other} both have the same right answer at {clean.places[answer]}; choose an answer where they "
            f"differ."
        )


def _restored(
    ensemble: Ensemble, clean: Example, corrupted: Example, answer: int, hooks: Hooks, n: int
) -> Float64[Tensor, "snapshot {n}"]:
    """The share of the logit difference that each of ``n`` patched copies of the corrupted prompt restores."""
    pair = torch.stack([clean.tokens, corrupted.tokens])
    unpatched = logit_difference(ensemble, pair, clean, corrupted, answer).double()
    of_clean, of_corrupted = unpatched[:, :1], unpatched[:, 1:]  # (snapshot 1)
    tokens = corrupted.tokens.expand(n, -1)
    patched = logit_difference(ensemble, tokens, clean, corrupted, answer, hooks).double()
    total = of_clean - of_corrupted
    return torch.where(total.abs() < MIN_LOGIT_DIFFERENCE, torch.nan, (patched - of_corrupted) / total)


def patch_positions(
    ensemble: Ensemble, clean: Example, corrupted: Example, answer: int, hook: str, positions: Sequence[int]
) -> Float64[Tensor, "snapshot position"]:
    """Activation patching at single positions: how much of the clean answer one activation restores.

    The corrupted prompt is run with the activation at ``hook`` and one position taken from the clean run.

    Source: Wang et al. 2022, Interpretability in the Wild; Heimersheim and Nanda 2024, How to use and interpret
    activation patching.

    Args:
        ensemble: the snapshots.
        clean: the example whose activations are patched in.
        corrupted: the example that is run.
        answer: which of the examples' answers, from 0.
        hook: a hook point whose activation has positions, such as "blocks.0.hook_resid_pre".
        positions: the positions, each patched alone.

    Returns:
        (patched - corrupted) / (clean - corrupted) of `logit_difference`: 0 where nothing is restored, 1 where all of
        it is, nan where clean and corrupted differ by less than 1e-6 logits.

    Raises:
        UserError: the two examples cannot be compared at this answer, there is no such hook point, or its activation
            has no positions.
    """
    _check_pair(clean, corrupted, answer)
    axes = hook_axes(hook)
    if axes[0] != "pos":
        raise UserError(f"{quoted(hook, 60)} has no positions; choose a hook point such as blocks.0.hook_resid_pre.")
    mask = torch.arange(len(clean.tokens)) == torch.tensor(positions, dtype=torch.int64)[:, None]  # (row pos)
    mask = mask.reshape(*mask.shape, *[1] * (len(axes) - 1))  # (row pos ...), row i patched at positions[i]
    return _restored(ensemble, clean, corrupted, answer, patching_hooks(ensemble, clean, {hook: mask}), len(positions))


def patch_heads(
    ensemble: Ensemble, clean: Example, corrupted: Example, answer: int
) -> tuple[tuple[str, ...], Float64[Tensor, "snapshot head"]]:
    """Activation patching of single heads: how much of the clean answer the output of one head restores.

    The corrupted prompt is run with the output of one head, at all positions, taken from the clean run.

    Source: as for `patch_positions`.

    Args:
        ensemble: the snapshots.
        clean: the example whose activations are patched in.
        corrupted: the example that is run.
        answer: which of the examples' answers, from 0.

    Returns:
        The names of the heads, and the share that each restores, as in `patch_positions`.

    Raises:
        UserError: the two examples cannot be compared at this answer.
    """
    _check_pair(clean, corrupted, answer)
    heads = [component for component in components(ensemble.cfg) if component.kind == "head"]
    # Row i of the batch has head i patched.
    rows = torch.eye(len(heads), dtype=torch.bool)
    rows = rearrange(rows, "row (layer head) -> layer row 1 head 1", layer=ensemble.cfg.n_layers)
    masks = {Component(layer, "head").hook: rows[layer] for layer in range(ensemble.cfg.n_layers)}
    hooks = patching_hooks(ensemble, clean, masks)
    return tuple(head.name for head in heads), _restored(ensemble, clean, corrupted, answer, hooks, len(heads))
