"""Direct logit attribution adds up to the logits, and the logit lens ends at them."""

import pytest
import torch

from explorer.analysis.attribution import direct_logit_attribution, logit_lens
from explorer.model.ensemble import Ensemble
from explorer.model.transformer import ModelConfig
from explorer.tasks.skip_trigram import SkipTrigram
from tests.conftest import TASK, random_ensemble

EXAMPLE = TASK.encode("48+76")
CONFIGS = {
    "plain": ModelConfig(12, 10, 9, 2, 16, 2, 8, 32),
    "attention only": ModelConfig(12, 10, 9, 2, 16, 2, 8, attn_only=True, residual_gain=2.0, positions="sinusoidal"),
    "gain and MLP": ModelConfig(12, 10, 9, 3, 16, 2, 8, 32, residual_gain=-1.5),
    "layer norm": ModelConfig(12, 10, 9, 1, 16, 2, 8, 32, act_fn="gelu", layer_norm=True, positions="none"),
}
TRIGRAMS = SkipTrigram()
TABLE = TRIGRAMS.model_config(n_layers=1, n_heads=1, architecture="table")
CASES = [(cfg, EXAMPLE) for cfg in CONFIGS.values()] + [(TABLE, TRIGRAMS.encode("hbgjCaied"))]
each = pytest.mark.parametrize(("cfg", "example"), CASES, ids=[*CONFIGS, "table"])


def right_logits(ensemble, example) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits of the right answers and the mean logits, each (snapshot answer)."""
    logits = ensemble.run(example.tokens[None])[0][:, 0, example.positions]
    return logits[:, range(len(example.targets)), example.targets], logits.mean(-1)


@each
def test_attributions_sum_to_the_logit(cfg, example):
    ensemble = random_ensemble(cfg)
    right, mean = right_logits(ensemble, example)
    for centred, expected in ((False, right), (True, right - mean)):
        found = direct_logit_attribution(ensemble, example, centred)
        assert found.values.shape == (3, len(example.targets), len(found.components))
        torch.testing.assert_close(found.logits, expected)
        torch.testing.assert_close(found.values.sum(-1), expected, rtol=1e-4, atol=1e-4)


def test_components_are_named_in_the_order_of_computation():
    names = {name: direct_logit_attribution(random_ensemble(cfg), EXAMPLE).components for name, cfg in CONFIGS.items()}
    blocks = [("L0H0", "L0H1", "L0 MLP"), ("L1H0", "L1H1", "L1 MLP")]
    assert names["plain"] == ("embedding", "positions", *blocks[0], *blocks[1])
    assert names["attention only"] == ("embedding", "positions", *blocks[0][:2], *blocks[1][:2])
    assert names["layer norm"] == ("embedding", *blocks[0], "bias")
    assert direct_logit_attribution(random_ensemble(TABLE), TRIGRAMS.encode("C")).components == ("L0H0",)


def test_ablating_a_head_of_the_last_block_removes_its_attribution():
    """Nothing after the last block reads its heads, so the logit falls by exactly what was attributed to the head."""
    ensemble = random_ensemble(CONFIGS["attention only"])

    def without(snapshots):
        return {"blocks.1.attn.hook_z": lambda z, name: z * torch.tensor([1.0, 0.0])[:, None]}

    whole, rest = (
        direct_logit_attribution(ensemble, EXAMPLE),
        direct_logit_attribution(ensemble, EXAMPLE, hooks=without),
    )
    ablated = whole.components.index("L1H1")
    assert (rest.values[..., ablated] == 0).all()
    torch.testing.assert_close(whole.logits - rest.logits, whole.values[..., ablated], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rest.values.sum(-1), rest.logits, rtol=1e-4, atol=1e-4)


def test_without_attention_only_the_embedding_contributes():
    cfg = CONFIGS["attention only"]
    ensemble = random_ensemble(cfg)
    weights = {name: torch.zeros_like(w) if name.endswith("W_O") else w for name, w in ensemble.weights.items()}
    weights["pos_embed.W_pos"] = torch.zeros(3, 9, 16)
    found = direct_logit_attribution(Ensemble(cfg, range(3), weights), EXAMPLE)
    direct = 4 * weights["embed.W_E"] @ weights["unembed.W_U"]  # two blocks of gain 2
    expected = direct[:, EXAMPLE.tokens[EXAMPLE.positions], EXAMPLE.targets]
    torch.testing.assert_close(found.values[..., 0], expected, rtol=1e-4, atol=1e-5)
    assert (found.values[..., 1:] == 0).all()


@each
def test_the_last_stage_of_the_logit_lens_is_the_output(cfg, example):
    ensemble = random_ensemble(cfg)
    stages, logits = logit_lens(ensemble, example)
    expected = ensemble.run(example.tokens[None])[0][:, 0, example.positions]
    assert logits.shape == (3, len(stages), len(example.targets), cfg.d_vocab_out)
    assert stages[-1] == f"after block {cfg.n_layers - 1}"
    torch.testing.assert_close(logits[:, -1], expected, rtol=1e-4, atol=1e-4)


def test_stages_are_in_the_order_of_the_residual_stream():
    blocks = [("attention 0", "after block 0"), ("attention 1", "after block 1")]
    assert logit_lens(random_ensemble(CONFIGS["plain"]), EXAMPLE)[0] == ("embedding", *blocks[0], *blocks[1])
    attention = logit_lens(random_ensemble(CONFIGS["attention only"]), EXAMPLE)
    assert attention[0] == ("embedding", "after block 0", "after block 1")
    assert logit_lens(random_ensemble(TABLE), TRIGRAMS.encode("C"))[0] == ("after block 0",)


@pytest.mark.parametrize("name", ["plain", "attention only", "gain and MLP"])
def test_the_logit_lens_changes_between_stages_by_the_components_between_them(name):
    ensemble = random_ensemble(CONFIGS[name])
    stages, logits = logit_lens(ensemble, EXAMPLE)
    found = direct_logit_attribution(ensemble, EXAMPLE)
    right = logits[:, :, range(len(EXAMPLE.targets)), EXAMPLE.targets]  # (snapshot stage answer)
    sums = {"embedding": ("embedding", "positions")}
    for layer in range(CONFIGS[name].n_layers):
        heads = (f"L{layer}H0", f"L{layer}H1")
        mlp = (f"L{layer} MLP",)
        sums |= {f"attention {layer}": heads, f"after block {layer}": mlp}
        if CONFIGS[name].attn_only:
            sums[f"after block {layer}"] = heads
    for i, stage in enumerate(stages):
        added = sum(found.values[..., found.components.index(component)] for component in sums[stage])
        before = right[:, i - 1] if i else 0
        torch.testing.assert_close(right[:, i] - before, added, rtol=1e-3, atol=1e-3)


def test_each_snapshot_is_measured_on_its_own_weights(small):
    ensemble = small.ensemble()
    found, (stages, logits) = direct_logit_attribution(ensemble, EXAMPLE), logit_lens(ensemble, EXAMPLE)
    for i in range(len(ensemble)):
        alone = ensemble.select(slice(i, i + 1))
        one = direct_logit_attribution(alone, EXAMPLE)
        assert one.components == found.components
        torch.testing.assert_close(one.values, found.values[i : i + 1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one.logits, found.logits[i : i + 1], rtol=1e-4, atol=1e-5)
        assert logit_lens(alone, EXAMPLE)[0] == stages
        torch.testing.assert_close(logit_lens(alone, EXAMPLE)[1], logits[i : i + 1], rtol=1e-4, atol=1e-5)
