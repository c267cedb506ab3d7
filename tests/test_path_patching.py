"""Path patching: edges between components, on models whose paths are known, on random ones and on a shipped run."""

import dataclasses

import pytest
import torch

from explorer.analysis.path_patching import Edge, circuit, edges, patch_edges, patched_logits
from explorer.errors import UserError
from explorer.model.ensemble import Ensemble
from explorer.model.transformer import ModelConfig
from explorer.runs import Runs
from explorer.tasks.data import Example
from tests.conftest import SHIPPED, random_ensemble
from tests.stacks import ATTENTION, CLEAN, CONFIGS, CORRUPTED, MLPS, NORMED, TABLE, TASK, UNITS, stack

TRANSFORMERS = {name: cfg for name, cfg in CONFIGS.items() if cfg is not TABLE}
SHORT = TASK.model_config(
    d_model=16, n_heads=2, d_head=8, d_mlp=32, n_layers=2, layer_norm=True, positions="shortformer", attn_bias=True
)
TRANSFORMERS["shortformer, biases"] = SHORT
AT = int(CLEAN.positions[UNITS])
close = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(params=TRANSFORMERS.values(), ids=TRANSFORMERS)
def transformers(request) -> Ensemble:
    return random_ensemble(SHORT) if request.param is SHORT else stack(request.param)


def rows(cfg: ModelConfig, *patched: bool) -> torch.Tensor:
    """(1 row edge): in each row no edge is patched, or all are."""
    return torch.tensor(patched)[None, :, None].expand(-1, -1, len(edges(cfg)))


def test_the_edges_of_a_model():
    def named(cfg: ModelConfig) -> list[str]:
        return [f"{edge.sender} > {edge.receiver}" for edge in edges(cfg)]

    assert named(NORMED) == [
        *("tokens > L0H0", "tokens > L0H1", "tokens > L0 MLP", "L0H0 > L0 MLP", "L0H1 > L0 MLP"),
        *("tokens > answer", "L0H0 > answer", "L0H1 > answer", "L0 MLP > answer"),
    ]
    assert {"L0H1 > L1H0", "tokens > L1H1"} < set(named(ATTENTION))
    assert len(named(ATTENTION)) == 2 + 2 * 3 + 5
    assert {"L0 MLP > L1H0", "L0 MLP > L1 MLP", "L1H0 > L1 MLP"} < set(named(MLPS))
    assert not {"L1H0 > L1H1", "L1 MLP > L1 MLP", "L1H0 > L0 MLP"} & set(named(MLPS))


def test_no_edge_patched_is_the_clean_run_and_all_patched_are_the_corrupted_one(transformers):
    found = patched_logits(transformers, CLEAN, CORRUPTED, UNITS, rows(transformers.cfg, False, True))
    for row, example in enumerate((CLEAN, CORRUPTED)):
        logits, _ = transformers.run(example.tokens[None])
        torch.testing.assert_close(found[:, row], logits[:, 0, AT], rtol=1e-5, atol=1e-5)


def test_an_example_in_place_of_itself_changes_nothing(transformers):
    """Only the right answer is another one, so that there is a logit difference."""
    same = dataclasses.replace(CLEAN, targets=CORRUPTED.targets)
    patched = torch.rand(3, 4, len(edges(transformers.cfg)), generator=torch.Generator().manual_seed(0)) < 0.5
    found = patched_logits(transformers, CLEAN, same, UNITS, patched)
    logits, _ = transformers.run(CLEAN.tokens[None])
    torch.testing.assert_close(found, logits[:, :, AT].expand(-1, 4, -1), rtol=1e-5, atol=1e-5)
    assert patch_edges(transformers, CLEAN, same, UNITS).effects.isnan().all()


def by_hand(ensemble: Ensemble, sender: str, receiver: str) -> torch.Tensor:
    """The logits with one edge patched by hooks at what the receiver computes from its input."""
    pair = torch.stack([CLEAN.tokens, CORRUPTED.tokens])
    _, cache = ensemble.run(pair, ["hook_embed", "blocks.0.attn.hook_result", "blocks.0.hook_mlp_out"])
    written = {
        "tokens": cache["hook_embed"],
        "L0H1": cache["blocks.0.attn.hook_result"][..., 1, :],
        "L0 MLP": cache["blocks.0.hook_mlp_out"],
    }[sender]
    passed = (sender == "tokens") + (receiver == "L1 MLP")  # how often the stream is multiplied on the way
    more = ensemble.cfg.residual_gain**passed * (written[:, 1:] - written[:, :1])  # (snapshot 1 pos d_model)

    def hooks(snapshots: slice):
        def add(x, name):
            weight = ensemble.weights[f"blocks.1.{reads[name.removeprefix('blocks.1.')]}"][snapshots]
            x = x.clone()
            if receiver == "L1 MLP":
                x += more[snapshots] @ weight[:, None]
            else:
                x[..., 1, :] += more[snapshots] @ weight[:, 1, None]
            return x

        return {f"blocks.1.{name}": add for name in reads}

    heads = {f"attn.hook_{name.lower()}": f"attn.W_{name}" for name in "QKV"}
    reads = {"L1H1": heads, "L1 MLP": {"mlp.hook_pre": "mlp.W_in"}}[receiver]
    return ensemble.run(CLEAN.tokens[None], hooks=hooks)[0][:, 0, AT]


@pytest.mark.parametrize("receiver", ["L1H1", "L1 MLP"])
@pytest.mark.parametrize("sender", ["tokens", "L0H1", "L0 MLP"])
@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_a_patched_edge_adds_to_what_one_receiver_reads(gain, sender, receiver):
    ensemble = stack(dataclasses.replace(MLPS, residual_gain=gain))
    which = edges(ensemble.cfg).index(Edge(sender, receiver))
    patched = torch.eye(len(edges(ensemble.cfg)), dtype=torch.bool)[None, [which]]
    found = patched_logits(ensemble, CLEAN, CORRUPTED, UNITS, patched)
    torch.testing.assert_close(found[:, 0], by_hand(ensemble, sender, receiver), **close)


def test_a_patched_edge_to_the_answer_adds_to_the_last_residual_stream(transformers):
    cfg, n = transformers.cfg, transformers.cfg.n_layers
    last = f"blocks.{n - 1}."
    pair = torch.stack([CLEAN.tokens, CORRUPTED.tokens])
    _, cache = transformers.run(pair, ["hook_embed", last + "attn.hook_result", last + "hook_resid_post"])
    streams, written = cache[last + "hook_resid_post"][:, :1], cache["hook_embed"] * cfg.residual_gain**n
    of_head = cache[last + "attn.hook_result"][..., 0, :]
    for sender, outputs in (("tokens", written), (f"L{n - 1}H0", of_head)):
        changed = streams + outputs[:, 1:] - outputs[:, :1]
        expected = transformers.model().after_block(n - 1, changed)[:, 0, AT]
        patched = torch.eye(len(edges(cfg)), dtype=torch.bool)[None, [edges(cfg).index(Edge(sender, "answer"))]]
        found = patched_logits(transformers, CLEAN, CORRUPTED, UNITS, patched)
        torch.testing.assert_close(found[:, 0], expected, **close)


def test_effects_are_shares_of_the_logit_difference(transformers):
    found, n = patch_edges(transformers, CLEAN, CORRUPTED, UNITS), len(edges(transformers.cfg))
    patched = torch.cat([rows(transformers.cfg, False, True), torch.eye(n, dtype=torch.bool)[None]], 1)
    logits = patched_logits(transformers, CLEAN, CORRUPTED, UNITS, patched).double()
    difference = logits[..., CLEAN.targets[UNITS]] - logits[..., CORRUPTED.targets[UNITS]]
    of_clean, of_corrupted = difference[:, :1], difference[:, 1:2]
    torch.testing.assert_close(found.effects, (of_clean - difference[:, 2:]) / (of_clean - of_corrupted), **close)
    assert found.edges == edges(transformers.cfg)


# --- Circuits ---


def test_a_circuit_is_enough_and_no_edge_of_it_can_be_dropped(transformers):
    found = circuit(transformers, CLEAN, CORRUPTED, UNITS)
    n = len(found.edges)
    assert ((found.faithfulness - 1).abs() <= 0.1).all()
    without = found.kept[:, None] & ~torch.eye(n, dtype=torch.bool)  # row i: edge i is dropped too
    patched = torch.cat([rows(transformers.cfg, False, True).expand(3, -1, -1), ~found.kept[:, None], ~without], 1)
    logits = patched_logits(transformers, CLEAN, CORRUPTED, UNITS, patched).double()
    difference = logits[..., CLEAN.targets[UNITS]] - logits[..., CORRUPTED.targets[UNITS]]
    of_clean, of_corrupted = difference[:, :1], difference[:, 1:2]
    shares = (difference[:, 2:] - of_corrupted) / (of_clean - of_corrupted)
    torch.testing.assert_close(shares[:, 0], found.faithfulness, **close)
    assert ((shares[:, 1:] - 1).abs() > 0.1 - 1e-4)[found.kept].all()
    torch.testing.assert_close(found.effects, patch_edges(transformers, CLEAN, CORRUPTED, UNITS).effects)


def test_a_circuit_that_must_give_everything_holds_every_edge_that_does_something():
    ensemble = stack(MLPS)
    found = circuit(ensemble, CLEAN, CORRUPTED, UNITS, faithful=1.0)
    assert found.kept[found.effects.abs() > 1e-3].all()
    assert found.kept.sum(1).min() > circuit(ensemble, CLEAN, CORRUPTED, UNITS, faithful=0.5).kept.sum(1).max()


WIDE = 6  # tokens and positions of the model below


def copying(gain: float) -> Ensemble:
    """Attention-only models of two blocks, of which the snapshots have learnt more and more to copy.

    The residual stream holds the token, the position, the previous token and the token to answer, each in columns of
    its own. L0H0 writes the previous token. L1H0 attends from a token to the token after its earlier occurrence, and
    writes it as the answer. Snapshot 0 has no answer, snapshot 1 all of this; in 2, L1H1 does half of the work of L1H0.
    """
    cfg = ModelConfig(WIDE, WIDE, WIDE, 2, 4 * WIDE, 2, WIDE, attn_only=True, residual_gain=gain)
    token, position, previous, answer = torch.eye(4 * WIDE).split(WIDE)  # each (WIDE d_model)
    weights = {name: torch.zeros_like(weight) for name, weight in random_ensemble(cfg).weights.items()}
    weights["embed.W_E"][:], weights["pos_embed.W_pos"][:] = token, position
    one, other = ({name: weights[f"blocks.{layer}.attn.W_{name}"] for name in "QKVO"} for layer in range(2))
    one["Q"][:, 0], one["K"][:, 0] = 60 * position.roll(1, 0).T, position.T
    one["V"][:, 0], one["O"][:, 0] = token.T, previous
    other["Q"][:], other["K"][:], other["V"][:] = 60 * token.T, previous.T, token.T
    other["O"][1, 0], other["O"][2] = answer, answer / 2
    weights["unembed.W_U"][:] = answer.T
    return Ensemble(cfg, range(3), weights)


def text(*tokens: int, right: int) -> Example:
    end = torch.tensor([len(tokens) - 1])
    return Example("".join(map(str, tokens)), torch.tensor(tokens), len(tokens), end, torch.tensor([right]), ("end",))


ASKED = text(0, 1, 2, 3, 4, 1, right=2)
# What comes before is exchanged: only the heads that know the previous token see it.
EXCHANGED = text(0, 3, 2, 1, 4, 1, right=4)
# What is to be copied, or what is asked for, is another token, which the last heads read from the tokens themselves.
OTHER_VALUE, OTHER_QUERY = text(0, 1, 5, 3, 4, 1, right=5), text(0, 1, 2, 3, 4, 3, right=4)


@pytest.mark.parametrize("gain", [1.0, 2.0])
@pytest.mark.parametrize(
    ("corrupted", "chain"),
    [
        (EXCHANGED, ["tokens > L0H0", "L0H0 > {}", "{} > answer"]),
        (OTHER_VALUE, ["tokens > {}", "{} > answer"]),
        (OTHER_QUERY, ["tokens > {}", "{} > answer"]),
    ],
    ids=["previous token", "copied token", "asked token"],
)
def test_known_edges_carry_all_and_are_the_circuit(corrupted, chain, gain):
    ensemble = copying(gain)
    found = circuit(ensemble, ASKED, corrupted, 0)
    names = [f"{edge.sender} > {edge.receiver}" for edge in found.edges]
    for snapshot, heads in ((1, ["L1H0"]), (2, ["L1H0", "L1H1"])):
        expected = {edge.format(head): 1 / len(heads) if "{}" in edge else 1.0 for edge in chain for head in heads}
        wanted = torch.tensor([expected.get(name, 0.0) for name in names]).double()
        torch.testing.assert_close(found.effects[snapshot], wanted, rtol=0, atol=1e-4)
        assert {name for name, kept in zip(names, found.kept[snapshot], strict=True) if kept} == expected.keys()
    torch.testing.assert_close(found.faithfulness, torch.tensor([torch.nan, 1, 1]).double(), equal_nan=True, **close)
    assert not found.kept[0].any()
    assert found.effects[0].isnan().all()


@pytest.mark.parametrize("cfg", [ATTENTION, NORMED], ids=["attention only", "layer norm"])
def test_snapshots_and_rows_in_parts_give_the_same(cfg, monkeypatch):
    two = stack(cfg, 2)
    whole = circuit(two, CLEAN, CORRUPTED, UNITS)
    monkeypatch.setattr("explorer.analysis.path_patching.MEMORY_BUDGET", 1)
    parts = circuit(two, CLEAN, CORRUPTED, UNITS)  # one snapshot and one row at a time
    for name in ("effects", "faithfulness", "kept"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), **close)
    again = patch_edges(two.select([1]), CLEAN, CORRUPTED, UNITS).effects
    torch.testing.assert_close(again[0], whole.effects[1], **close)


def test_a_shipped_run_has_a_circuit():
    run = Runs(SHIPPED).open("induction")
    task, ensemble = run.info().task, run.ensemble()
    clean, corrupted = (task.encode(task.examples[name]) for name in ("words", "other words"))
    found = circuit(ensemble.select([0, len(ensemble) - 1]), clean, corrupted, 7)
    assert found.faithfulness[-1] >= 0.9
    assert 4 < found.kept[-1].sum() < 20
    into = {edge.receiver for edge, kept in zip(found.edges, found.kept[-1], strict=True) if kept}
    senders = {edge.sender for edge, kept in zip(found.edges, found.kept[-1], strict=True) if kept}
    assert senders - {"tokens"} == into - {"answer"}  # nothing dangles
    assert Edge("tokens", "answer") not in {e for e, kept in zip(found.edges, found.kept[-1], strict=True) if kept}


# --- What cannot be asked ---


def test_what_has_no_paths_or_cannot_be_compared_is_refused_in_one_sentence():
    for measure in (patch_edges, circuit):
        with pytest.raises(UserError, match=r"^A table model has no paths .* choose a run of a transformer\.$"):
            measure(stack(TABLE), CLEAN, CORRUPTED, UNITS)
        with pytest.raises(UserError, match="both have the same right answer at units; choose an answer where they"):
            measure(stack(MLPS), CLEAN, CLEAN, UNITS)
        with pytest.raises(UserError, match="There is no answer 3"):
            measure(stack(MLPS), CLEAN, CORRUPTED, 3)
    with pytest.raises(UserError, match="no paths"):
        edges(TABLE)
