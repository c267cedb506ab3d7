"""Ablation and activation patching."""

import dataclasses
from collections.abc import Sequence

import pytest
import torch

from explorer.analysis.answers import greedy_answers
from explorer.analysis.components import Component, components, parse_component
from explorer.analysis.interventions import (
    ablate_each,
    ablation_hooks,
    logit_difference,
    losses,
    patch_heads,
    patch_positions,
    patching_hooks,
)
from explorer.errors import UserError
from explorer.model.architectures import new_model
from explorer.model.ensemble import Ensemble
from explorer.model.transformer import ModelConfig
from explorer.tasks.addition import Addition

TASK = Addition(n_digits=2)
MLPS = TASK.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32, n_layers=2)
ATTENTION = TASK.model_config(d_model=16, n_heads=2, d_head=8, n_layers=2, attn_only=True, residual_gain=2.0)
NORMED = TASK.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32, layer_norm=True, act_fn="gelu")
TABLE = TASK.model_config(n_layers=1, n_heads=1, architecture="table")
CONFIGS = {"MLPs": MLPS, "attention only": ATTENTION, "layer norm": NORMED, "table": TABLE}
BATCH = TASK.sample(7, torch.Generator().manual_seed(0))
CLEAN, CORRUPTED = TASK.encode("48+76"), TASK.encode("48+31")  # 124 and 079: every digit differs
UNITS = 2  # the last answer


def stack(cfg: ModelConfig, n: int = 3) -> Ensemble:
    states = []
    for seed in range(n):
        state = new_model(cfg, seed).state_dict()
        rng = torch.Generator().manual_seed(seed)
        biases = {name: torch.randn(w.shape, generator=rng) for name, w in state.items() if ".b_" in name}
        states.append({**state, **biases})
    return Ensemble(cfg, range(n), {name: torch.stack([state[name] for state in states]) for name in states[0]})


def with_weights(ensemble: Ensemble, change) -> Ensemble:
    """A copy of the ensemble on which ``change`` has changed some weights in place."""
    weights = {name: weight.clone() for name, weight in ensemble.weights.items()}
    change(weights)
    return Ensemble(ensemble.cfg, ensemble.steps, weights)


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def ensemble(request) -> Ensemble:
    return stack(request.param)


@pytest.fixture
def one_by_one(monkeypatch):
    """Every pass takes a single snapshot."""
    monkeypatch.setattr("explorer.model.ensemble.activation_bytes", lambda cfg, n_pos: 2**60)


# --- Ablation ---


def test_ablating_a_component_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="There is no L1N3 in this model"):
        ablation_hooks(stack(ATTENTION), [Component(1, "neuron", 3)], "zero", BATCH.tokens)


@pytest.mark.parametrize("mode", ["zero", "mean"])
def test_ablating_nothing_changes_nothing(ensemble, mode):
    hooks = ablation_hooks(ensemble, [], mode, BATCH.tokens)
    assert torch.equal(ensemble.run(BATCH.tokens, hooks=hooks)[0], ensemble.run(BATCH.tokens)[0])
    hooks = ablation_hooks(ensemble, [], mode, BATCH.tokens)
    assert torch.equal(losses(ensemble, TASK, BATCH, hooks), losses(ensemble, TASK, BATCH))


def test_losses_are_those_of_the_task(ensemble):
    logits, _ = ensemble.run(BATCH.tokens)
    expected = TASK.losses(BATCH.at_answers(logits), BATCH)
    assert torch.equal(losses(ensemble, TASK, BATCH), expected)
    assert expected.shape == (3, 7, 3)


@pytest.mark.parametrize("cfg", [MLPS, ATTENTION, NORMED], ids=["MLPs", "attention only", "layer norm"])
def test_zero_ablation_of_a_head_equals_zero_output_weights(cfg):
    ensemble = stack(cfg)
    for component in components(cfg):
        if component.kind == "head":
            without = with_weights(ensemble, lambda w, c=component: w[f"blocks.{c.layer}.attn.W_O"][:, c.index].zero_())
            hooks = ablation_hooks(ensemble, [component], "zero", BATCH.tokens)
            torch.testing.assert_close(ensemble.run(BATCH.tokens, hooks=hooks)[0], without.run(BATCH.tokens)[0])


@pytest.mark.parametrize("cfg", [MLPS, NORMED], ids=["MLPs", "layer norm"])
def test_zero_ablation_of_an_mlp_equals_zero_output_weights(cfg):
    def emptied(weights):
        weights["blocks.0.mlp.W_out"].zero_()
        weights["blocks.0.mlp.b_out"].zero_()

    ensemble = stack(cfg)
    hooks = ablation_hooks(ensemble, [Component(0, "mlp")], "zero", BATCH.tokens)
    without = with_weights(ensemble, emptied)
    torch.testing.assert_close(ensemble.run(BATCH.tokens, hooks=hooks)[0], without.run(BATCH.tokens)[0])


def test_zero_ablation_of_neurons_equals_zero_rows_of_output_weights():
    ensemble, ablated = stack(MLPS), [Component(1, "neuron", 5), Component(1, "neuron", 17)]
    without = with_weights(ensemble, lambda w: w["blocks.1.mlp.W_out"][:, 5:18:12].zero_())
    hooks = ablation_hooks(ensemble, ablated, "zero", BATCH.tokens)
    torch.testing.assert_close(ensemble.run(BATCH.tokens, hooks=hooks)[0], without.run(BATCH.tokens)[0])


def test_a_table_without_its_head_has_no_logits():
    hooks = ablation_hooks(stack(TABLE), [Component(0, "head")], "zero", BATCH.tokens)
    assert not stack(TABLE).run(BATCH.tokens, hooks=hooks)[0].any()


def test_several_components_are_ablated_at_once():
    ensemble = stack(MLPS)

    def emptied(weights):
        for head in (0, 1):
            weights["blocks.0.attn.W_O"][:, head].zero_()
        weights["blocks.1.mlp.W_out"].zero_()
        weights["blocks.1.mlp.b_out"].zero_()

    ablated = [Component(0, "head", 0), Component(0, "head", 1), Component(1, "mlp")]
    hooks = ablation_hooks(ensemble, ablated, "zero", BATCH.tokens)
    without = with_weights(ensemble, emptied)
    torch.testing.assert_close(ensemble.run(BATCH.tokens, hooks=hooks)[0], without.run(BATCH.tokens)[0])


@pytest.mark.parametrize("budget", [1, 10**9], ids=["one by one", "at once"])
def test_mean_ablation_takes_the_mean_over_the_batch_at_each_position_and_snapshot(ensemble, budget):
    for component in components(ensemble.cfg):
        _, plain = ensemble.run(BATCH.tokens, [component.hook])
        hooks = ablation_hooks(ensemble, [component], "mean", BATCH.tokens)
        _, cache = ensemble.run(BATCH.tokens[:2], [component.hook], budget=budget, hooks=hooks)
        expected = plain[component.hook][:, :2].clone()
        mean = plain[component.hook].mean(1, keepdim=True)  # (snapshot 1 pos ...)
        if component.kind == "head":
            expected[..., component.index, :] = mean[..., component.index, :]
        else:
            expected[:] = mean
        torch.testing.assert_close(cache[component.hook], expected)


def test_mean_ablation_of_a_neuron_leaves_the_others():
    ensemble, hook = stack(MLPS), "blocks.0.mlp.hook_post"
    _, plain = ensemble.run(BATCH.tokens, [hook])
    hooks = ablation_hooks(ensemble, [Component(0, "neuron", 3)], "mean", BATCH.tokens)
    _, cache = ensemble.run(BATCH.tokens, [hook], hooks=hooks)
    expected = plain[hook].clone()
    expected[..., 3] = plain[hook][..., 3].mean(1, keepdim=True)
    torch.testing.assert_close(cache[hook], expected)


def test_shorter_inputs_use_the_means_of_the_first_positions_and_longer_ones_are_refused():
    ensemble = stack(MLPS)
    hooks = ablation_hooks(ensemble, [Component(0, "mlp")], "mean", BATCH.tokens[:, :6])
    short, _ = ensemble.run(BATCH.tokens[:, :4], hooks=hooks)
    torch.testing.assert_close(short, ensemble.run(BATCH.tokens[:, :6], hooks=hooks)[0][:, :, :4])
    with pytest.raises(UserError, match="The text has 9 tokens and the means are those of 6"):
        ensemble.run(BATCH.tokens, hooks=hooks)


def ablated_losses(ensemble: Ensemble, ablated: Sequence[Component], mode: str) -> torch.Tensor:
    return losses(ensemble, TASK, BATCH, ablation_hooks(ensemble, ablated, mode, BATCH.tokens))


@pytest.mark.parametrize("mode", ["zero", "mean"])
def test_ablate_each_is_the_increase_of_the_mean_loss(ensemble, mode):
    names, increases = ablate_each(ensemble, BATCH, TASK, mode, BATCH.tokens)
    every = components(ensemble.cfg)
    assert names == tuple(component.name for component in every)
    assert increases.shape == (3, len(every))
    plain = losses(ensemble, TASK, BATCH).mean((1, 2))
    for i, component in enumerate(every):
        ablated = ablated_losses(ensemble, [component], mode).mean((1, 2))
        torch.testing.assert_close(increases[:, i], ablated - plain)


@pytest.mark.parametrize("mode", ["zero", "mean"])
def test_ablating_each_snapshot_alone_gives_the_same(ensemble, mode):
    ablated, (_, increases) = components(ensemble.cfg)[:2], ablate_each(ensemble, BATCH, TASK, mode, BATCH.tokens)
    together = ablated_losses(ensemble, ablated, mode)
    for i in range(3):
        alone = ensemble.select(slice(i, i + 1))
        torch.testing.assert_close(ablated_losses(alone, ablated, mode)[0], together[i], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(
            ablate_each(alone, BATCH, TASK, mode, BATCH.tokens)[1][0], increases[i], rtol=1e-4, atol=1e-6
        )


def test_answers_of_an_ablated_model():
    ensemble = stack(MLPS)

    def emptied(weights):
        weights["blocks.0.attn.W_O"][:, 1].zero_()

    hooks = ablation_hooks(ensemble, [Component(0, "head", 1)], "zero", BATCH.tokens)
    without = with_weights(ensemble, emptied)
    torch.testing.assert_close(
        greedy_answers(ensemble, CLEAN, hooks).probabilities, greedy_answers(without, CLEAN).probabilities
    )


# --- Activation patching ---


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
        hook = "blocks.0.attn.hook_z"
        yield ablate_each(ensemble, BATCH, TASK, "mean", BATCH.tokens)[1]
        yield ablated_losses(ensemble, components(ensemble.cfg)[:1], "mean")
        yield patch_positions(ensemble, CLEAN, CORRUPTED, UNITS, hook, range(9))
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
