"""Activation patching: the activations of one example in the forward pass on another, at every snapshot.

Axes
    snapshot   snapshots of the run
    batch, pos, head, d_head    as in `explorer.model.transformer`
    answer     the tokens that an example asks for
"""

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from explorer.analysis.components import Component, components
from explorer.errors import UserError, quoted
from explorer.model.ensemble import Ensemble, Hooks
from explorer.model.hooks import Hook, hook_axes
from explorer.tasks.data import Example

MIN_LOGIT_DIFFERENCE = 1e-6  # between clean and corrupted, in logits; a share of less is rounding error


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
    check_pair(clean, corrupted, answer)
    position, right, other = clean.positions[answer], clean.targets[answer], corrupted.targets[answer]
    passes = ensemble.passes(tokens, hooks=hooks)
    return torch.cat([logits[:, :, position, right] - logits[:, :, position, other] for logits, _ in passes])


def check_pair(clean: Example, corrupted: Example, answer: int) -> None:
    """Check that two examples can be compared at an answer.

    Args:
        clean, corrupted: the examples.
        answer: which of their answers, from 0.

    Raises:
        UserError: they cannot: they differ in length or in where they ask for answers, there is no such answer, or both
            have the same right one.
    """
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
    check_pair(clean, corrupted, answer)
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
    check_pair(clean, corrupted, answer)
    heads = [component for component in components(ensemble.cfg) if component.kind == "head"]
    # Row i of the batch has head i patched.
    rows = torch.eye(len(heads), dtype=torch.bool)
    rows = rearrange(rows, "row (layer head) -> layer row 1 head 1", layer=ensemble.cfg.n_layers)
    masks = {Component(layer, "head").hook: rows[layer] for layer in range(ensemble.cfg.n_layers)}
    hooks = patching_hooks(ensemble, clean, masks)
    return tuple(head.name for head in heads), _restored(ensemble, clean, corrupted, answer, hooks, len(heads))
