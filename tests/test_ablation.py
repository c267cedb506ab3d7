"""Ablation of heads, MLPs and neurons."""

from collections.abc import Sequence

import pytest
import torch

from explorer.analysis.ablation import ablate_each, ablation_hooks, losses, mean_outputs
from explorer.analysis.answers import greedy_answers
from explorer.analysis.components import Component, components
from explorer.errors import UserError
from explorer.model.ensemble import Ensemble, Hooks
from explorer.tasks.induction import Induction
from tests.stacks import ATTENTION, BATCH, CLEAN, MLPS, NORMED, TABLE, TASK, stack, with_weights

OTHERS = TASK.sample(9, torch.Generator().manual_seed(1)).tokens  # over which means are taken


def hooks_of(
    ensemble: Ensemble, ablated: Sequence[Component], mode: str, reference: torch.Tensor = BATCH.tokens
) -> Hooks:
    return ablation_hooks(ensemble, ablated, mean_outputs(ensemble, ablated, reference) if mode == "mean" else {})


def test_ablating_a_component_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="There is no L1N3 in this model"):
        ablation_hooks(stack(ATTENTION), [Component(1, "neuron", 3)], {})


@pytest.mark.parametrize("mode", ["zero", "mean"])
def test_ablating_nothing_changes_nothing(ensemble, mode):
    hooks = hooks_of(ensemble, [], mode)
    assert torch.equal(ensemble.run(BATCH.tokens, hooks=hooks)[0], ensemble.run(BATCH.tokens)[0])
    hooks = hooks_of(ensemble, [], mode)
    torch.testing.assert_close(losses(ensemble, TASK, BATCH, hooks), losses(ensemble, TASK, BATCH))


def test_losses_are_those_of_the_task(ensemble):
    logits, _ = ensemble.run(BATCH.tokens)
    expected = TASK.losses(BATCH.at_answers(logits), BATCH)
    torch.testing.assert_close(losses(ensemble, TASK, BATCH), expected, rtol=1e-5, atol=1e-6)
    assert expected.shape == (3, 7, 3)


@pytest.mark.parametrize("cfg", [MLPS, ATTENTION, NORMED], ids=["MLPs", "attention only", "layer norm"])
def test_zero_ablation_of_a_head_equals_zero_output_weights(cfg):
    ensemble = stack(cfg)
    for component in components(cfg):
        if component.kind == "head":
            without = with_weights(ensemble, lambda w, c=component: w[f"blocks.{c.layer}.attn.W_O"][:, c.index].zero_())
            hooks = ablation_hooks(ensemble, [component], {})
            torch.testing.assert_close(ensemble.run(BATCH.tokens, hooks=hooks)[0], without.run(BATCH.tokens)[0])


@pytest.mark.parametrize("cfg", [MLPS, NORMED], ids=["MLPs", "layer norm"])
def test_zero_ablation_of_an_mlp_equals_zero_output_weights(cfg):
    def emptied(weights):
        weights["blocks.0.mlp.W_out"].zero_()
        weights["blocks.0.mlp.b_out"].zero_()

    ensemble = stack(cfg)
    hooks = ablation_hooks(ensemble, [Component(0, "mlp")], {})
    without = with_weights(ensemble, emptied)
    torch.testing.assert_close(ensemble.run(BATCH.tokens, hooks=hooks)[0], without.run(BATCH.tokens)[0])


def test_zero_ablation_of_neurons_equals_zero_rows_of_output_weights():
    ensemble, ablated = stack(MLPS), [Component(1, "neuron", 5), Component(1, "neuron", 17)]
    without = with_weights(ensemble, lambda w: w["blocks.1.mlp.W_out"][:, 5:18:12].zero_())
    hooks = ablation_hooks(ensemble, ablated, {})
    torch.testing.assert_close(ensemble.run(BATCH.tokens, hooks=hooks)[0], without.run(BATCH.tokens)[0])


def test_a_table_without_its_head_has_no_logits():
    hooks = ablation_hooks(stack(TABLE), [Component(0, "head")], {})
    assert not stack(TABLE).run(BATCH.tokens, hooks=hooks)[0].any()


def test_several_components_are_ablated_at_once():
    ensemble = stack(MLPS)

    def emptied(weights):
        for head in (0, 1):
            weights["blocks.0.attn.W_O"][:, head].zero_()
        weights["blocks.1.mlp.W_out"].zero_()
        weights["blocks.1.mlp.b_out"].zero_()

    ablated = [Component(0, "head", 0), Component(0, "head", 1), Component(1, "mlp")]
    hooks = ablation_hooks(ensemble, ablated, {})
    without = with_weights(ensemble, emptied)
    torch.testing.assert_close(ensemble.run(BATCH.tokens, hooks=hooks)[0], without.run(BATCH.tokens)[0])


@pytest.mark.parametrize("budget", [1, 10**9], ids=["one by one", "at once"])
def test_mean_ablation_takes_the_mean_over_the_batch_at_each_position_and_snapshot(ensemble, budget):
    for component in components(ensemble.cfg):
        _, plain = ensemble.run(BATCH.tokens, [component.hook])
        hooks = hooks_of(ensemble, [component], "mean")
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
    hooks = hooks_of(ensemble, [Component(0, "neuron", 3)], "mean")
    _, cache = ensemble.run(BATCH.tokens, [hook], hooks=hooks)
    expected = plain[hook].clone()
    expected[..., 3] = plain[hook][..., 3].mean(1, keepdim=True)
    torch.testing.assert_close(cache[hook], expected)


def test_shorter_inputs_use_the_means_of_the_first_positions_and_longer_ones_are_refused():
    ensemble = stack(MLPS)
    hooks = hooks_of(ensemble, [Component(0, "mlp")], "mean", BATCH.tokens[:, :6])
    short, _ = ensemble.run(BATCH.tokens[:, :4], hooks=hooks)
    torch.testing.assert_close(short, ensemble.run(BATCH.tokens[:, :6], hooks=hooks)[0][:, :, :4])
    with pytest.raises(UserError, match="The text has 9 tokens and the means are those of 6"):
        ensemble.run(BATCH.tokens, hooks=hooks)


def ablated_losses(ensemble: Ensemble, ablated: Sequence[Component], mode: str) -> torch.Tensor:
    return losses(ensemble, TASK, BATCH, hooks_of(ensemble, ablated, mode, OTHERS))


def each(ensemble: Ensemble, mode: str) -> torch.Tensor:
    means = mean_outputs(ensemble, components(ensemble.cfg), OTHERS) if mode == "mean" else {}
    return ablate_each(ensemble, TASK, BATCH, means)


@pytest.mark.parametrize("mode", ["zero", "mean"])
def test_ablate_each_equals_a_pass_with_hooks_for_each(ensemble, mode):
    increases, every = each(ensemble, mode), components(ensemble.cfg)
    assert increases.shape == (3, len(every), len(BATCH.tokens))
    plain = losses(ensemble, TASK, BATCH).mean(-1)
    for i, component in enumerate(every):
        ablated = ablated_losses(ensemble, [component], mode).mean(-1)
        torch.testing.assert_close(increases[:, i], ablated - plain, rtol=1e-4, atol=1e-5)


def test_ablate_each_on_random_models_of_three_layers_equals_hooks():
    task = Induction(stretch=4, interval=6)
    cfg = task.model_config(d_model=12, n_heads=2, d_head=6, d_mlp=16, n_layers=3, residual_gain=1.5)
    ensemble, batch = stack(cfg), task.endless_stream(5, 0).next()
    means = mean_outputs(ensemble, components(cfg), task.endless_stream(6, 1).next().tokens)
    plain = losses(ensemble, task, batch)
    for i, component in enumerate(components(cfg)):
        ablated = losses(ensemble, task, batch, ablation_hooks(ensemble, [component], means))
        found = ablate_each(ensemble, task, batch, means)[:, i]
        torch.testing.assert_close(found, (ablated - plain).mean(-1), rtol=1e-4, atol=1e-5)


def test_ablate_each_refuses_examples_that_are_longer_than_those_of_the_means():
    ensemble = stack(MLPS)
    with pytest.raises(UserError, match="The text has 9 tokens and the means are those of 6"):
        ablate_each(ensemble, TASK, BATCH, mean_outputs(ensemble, components(MLPS), OTHERS[:, :6]))


@pytest.mark.parametrize("mode", ["zero", "mean"])
def test_ablating_each_snapshot_alone_gives_the_same(ensemble, mode):
    ablated, increases = components(ensemble.cfg)[:2], each(ensemble, mode)
    together = ablated_losses(ensemble, ablated, mode)
    for i in range(3):
        alone = ensemble.select(slice(i, i + 1))
        torch.testing.assert_close(ablated_losses(alone, ablated, mode)[0], together[i], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(each(alone, mode)[0], increases[i], rtol=1e-4, atol=1e-6)


def test_snapshots_in_chunks_give_the_same(ensemble, request):
    def everything():
        yield each(ensemble, "mean")
        yield ablated_losses(ensemble, components(ensemble.cfg)[:1], "mean")

    whole = list(everything())
    request.getfixturevalue("one_by_one")
    assert len(list(ensemble.passes(BATCH.tokens))) == len(ensemble)
    for chunked, at_once in zip(everything(), whole, strict=True):
        torch.testing.assert_close(chunked, at_once, rtol=1e-3, atol=1e-4)


def test_answers_of_an_ablated_model():
    ensemble = stack(MLPS)

    def emptied(weights):
        weights["blocks.0.attn.W_O"][:, 1].zero_()

    hooks = ablation_hooks(ensemble, [Component(0, "head", 1)], {})
    without = with_weights(ensemble, emptied)
    torch.testing.assert_close(
        greedy_answers(ensemble, CLEAN, hooks).probabilities, greedy_answers(without, CLEAN).probabilities
    )
