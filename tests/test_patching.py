"""Activation patching."""

import dataclasses

import pytest
import torch

from explorer.analysis.components import parse_component
from explorer.analysis.patching import logit_difference, patch_heads, patch_positions, patching_hooks
from explorer.errors import UserError
from tests.stacks import ATTENTION, BATCH, CLEAN, CORRUPTED, MLPS, NORMED, TABLE, TASK, UNITS, stack, with_weights


def test_patching_everything_is_the_clean_run():
    for cfg, hook in [(MLPS, "hook_resid_pre"), (ATTENTION, "hook_resid_pre"), (TABLE, "attn.hook_z")]:
        ensemble, hook = stack(cfg), f"blocks.0.{hook}"
        everywhere = torch.ones([1] * (2 + hook.endswith("hook_z")), dtype=torch.bool)[..., None]
        hooks = patching_hooks(ensemble, CLEAN, {hook: everywhere})
        patched, _ = ensemble.run(CORRUPTED.tokens[None], hooks=hooks)
        torch.testing.assert_close(patched, ensemble.run(CLEAN.tokens[None])[0])


@pytest.mark.parametrize("cfg", [MLPS, ATTENTION, NORMED], ids=["MLPs", "attention only", "layer norm"])
def test_patching_the_embedding_of_a_shared_token_restores_nothing(cfg):
    ensemble, n = stack(cfg), len(CLEAN.tokens)
    restored = patch_positions(ensemble, CLEAN, CORRUPTED, UNITS, "blocks.0.hook_resid_pre", range(n))
    assert restored.shape == (3, n)
    same = CLEAN.tokens == CORRUPTED.tokens
    assert 0 < same.sum() < n
    assert restored[:, same].abs().max() < 1e-4
    assert restored[:, ~same].abs().max() > 1e-3


def test_patching_the_last_residual_stream_at_the_answer_restores_everything(ensemble):
    last = f"blocks.{ensemble.cfg.n_layers - 1}."
    hook = last + ("attn.hook_z" if ensemble.cfg is TABLE else "hook_resid_post")
    at = int(CLEAN.positions[UNITS])
    restored = patch_positions(ensemble, CLEAN, CORRUPTED, UNITS, hook, [at - 1, at])
    torch.testing.assert_close(restored, torch.tensor([0.0, 1.0]).double().expand(3, -1), rtol=1e-4, atol=1e-4)


def test_patch_positions_equals_patching_by_hand():
    ensemble, hook, at = stack(ATTENTION), "blocks.0.hook_attn_out", 4
    _, cache = ensemble.run(CLEAN.tokens[None], [hook])

    def by_hand(snapshots):
        def put(x, name):
            x = x.clone()
            x[:, :, at] = cache[hook][snapshots, :, at]
            return x

        return {hook: put}

    def difference(example, hooks=None):
        logits, _ = ensemble.run(example.tokens[None], hooks=hooks)
        at_answer = logits[:, 0, CLEAN.positions[UNITS]]
        return at_answer[:, CLEAN.targets[UNITS]] - at_answer[:, CORRUPTED.targets[UNITS]]

    clean, corrupted, patched = difference(CLEAN), difference(CORRUPTED), difference(CORRUPTED, by_hand)
    expected = ((patched - corrupted) / (clean - corrupted)).double()
    restored = patch_positions(ensemble, CLEAN, CORRUPTED, UNITS, hook, [at, 0])
    torch.testing.assert_close(restored[:, 0], expected, rtol=1e-3, atol=1e-4)
    both = torch.stack([CLEAN.tokens, CORRUPTED.tokens])
    found = logit_difference(ensemble, both, CLEAN, CORRUPTED, UNITS)
    torch.testing.assert_close(found, torch.stack([clean, corrupted], 1))


def test_patching_positional_embeddings_restores_nothing():
    """They are the same for every prompt, and have a batch axis of 1."""
    restored = patch_positions(stack(MLPS), CLEAN, CORRUPTED, UNITS, "hook_pos_embed", range(3))
    torch.testing.assert_close(restored, torch.zeros(3, 3).double(), rtol=0, atol=1e-4)


def test_patch_heads_equals_patching_by_hand():
    ensemble = stack(MLPS)
    names, restored = patch_heads(ensemble, CLEAN, CORRUPTED, UNITS)
    assert names == ("L0H0", "L0H1", "L1H0", "L1H1")
    for i, name in enumerate(names):
        head = parse_component(name, MLPS)
        own = torch.zeros(1, 1, 2, 1, dtype=torch.bool)
        own[0, 0, head.index] = True
        hooks = patching_hooks(ensemble, CLEAN, {head.hook: own})
        tokens = torch.stack([CORRUPTED.tokens])
        patched = logit_difference(ensemble, tokens, CLEAN, CORRUPTED, UNITS, hooks)[:, 0]
        clean = logit_difference(ensemble, CLEAN.tokens[None], CLEAN, CORRUPTED, UNITS)[:, 0]
        corrupted = logit_difference(ensemble, tokens, CLEAN, CORRUPTED, UNITS)[:, 0]
        expected = ((patched - corrupted) / (clean - corrupted)).double()
        torch.testing.assert_close(restored[:, i], expected, rtol=1e-3, atol=1e-4)


def test_patching_the_only_head_of_a_table_restores_everything():
    names, restored = patch_heads(stack(TABLE), CLEAN, CORRUPTED, UNITS)
    assert names == ("L0H0",)
    torch.testing.assert_close(restored, torch.ones(3, 1).double(), rtol=1e-4, atol=0)


def test_each_snapshot_is_patched_with_its_own_activations(ensemble):
    hook = "blocks.0.attn.hook_z"
    positions = patch_positions(ensemble, CLEAN, CORRUPTED, UNITS, hook, range(9))
    _, heads = patch_heads(ensemble, CLEAN, CORRUPTED, UNITS)
    for i in range(3):
        alone = ensemble.select(slice(i, i + 1))
        again = patch_positions(alone, CLEAN, CORRUPTED, UNITS, hook, range(9))
        torch.testing.assert_close(again[0], positions[i], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(patch_heads(alone, CLEAN, CORRUPTED, UNITS)[1][0], heads[i], rtol=1e-3, atol=1e-4)


def test_snapshots_in_chunks_give_the_same(ensemble, request):
    def everything():
        yield patch_positions(ensemble, CLEAN, CORRUPTED, UNITS, "blocks.0.attn.hook_z", range(9))
        yield patch_heads(ensemble, CLEAN, CORRUPTED, UNITS)[1]

    whole = list(everything())
    request.getfixturevalue("one_by_one")
    assert len(list(ensemble.passes(BATCH.tokens))) == len(ensemble)
    for chunked, at_once in zip(everything(), whole, strict=True):
        torch.testing.assert_close(chunked, at_once, rtol=1e-3, atol=1e-4)


def test_the_share_is_nan_where_clean_and_corrupted_do_not_differ():
    ensemble = with_weights(stack(MLPS), lambda weights: weights["unembed.W_U"][1].zero_())
    _, restored = patch_heads(ensemble, CLEAN, CORRUPTED, UNITS)
    assert restored[1].isnan().all()
    assert not restored[[0, 2]].isnan().any()


def test_examples_that_cannot_be_compared_are_refused_in_one_sentence():
    ensemble, longer = stack(MLPS), dataclasses.replace(CORRUPTED, tokens=CORRUPTED.tokens[:-1])
    elsewhere = dataclasses.replace(CORRUPTED, positions=CORRUPTED.positions - 1)
    for other, answer, why in [
        (longer, UNITS, r"'48\+76' and '48\+31' have different lengths, 9 and 8 tokens"),
        (elsewhere, UNITS, "at different places"),
        (CLEAN, UNITS, "both have the same right answer at units; choose an answer where they differ"),
        (TASK.encode("47+76"), 0, "at hundreds; choose an answer where they differ"),
        (CORRUPTED, 3, "There is no answer 3; '48.76' has the answers 0 to 2"),
    ]:
        for patch in (patch_heads, lambda *pair: patch_positions(*pair, "blocks.0.hook_resid_pre", [0])):
            with pytest.raises(UserError, match=why):
                patch(ensemble, CLEAN, other, answer)
    with pytest.raises(UserError, match=r"'blocks.0.attn.hook_pattern' has no positions"):
        patch_positions(ensemble, CLEAN, CORRUPTED, UNITS, "blocks.0.attn.hook_pattern", [0])
    with pytest.raises(UserError, match=r"no hook point 'blocks[.]9[.]hook_resid_pre'"):
        patch_positions(ensemble, CLEAN, CORRUPTED, UNITS, "blocks.9.hook_resid_pre", [0])
