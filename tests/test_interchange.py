"""Other people's weights, in and out: against TransformerLens, and in every form in which they are saved."""

import json
from pathlib import Path

import pytest
import torch
from einops import rearrange
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

from explorer.analysis.attribution import direct_logit_attribution, logit_lens
from explorer.cli.main import main
from explorer.errors import UserError
from explorer.interchange.transformerlens import exported
from explorer.model.fast_forward import logits_at
from explorer.model.transformer import ModelConfig, Transformer
from explorer.runs import Run, Runs
from explorer.runs.importing import Given, bring_in, look
from explorer.tasks.plain_tokens import PlainTokens
from explorer.views.opening import open_scene
from explorer.views.subject import Subject

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
NOTHING = Given()

THEIRS = {  # everything that a model of theirs may have and ours too
    **{"d_model": 32, "d_head": 8, "n_heads": 4, "n_layers": 2, "n_ctx": 40, "d_vocab": 60, "d_vocab_out": 60},
    **{"d_mlp": 64, "act_fn": "gelu_new", "normalization_type": "LN", "eps": 1e-3},
}
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


def bridge(seed: int = 0, **changed) -> TransformerBridge:
    """A model of TransformerLens all of whose weights count."""
    torch.manual_seed(seed)
    model = TransformerBridge.boot_native(TransformerBridgeConfig(**{**THEIRS, **changed}))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


def saved(weights: dict[str, Tensor], path: Path, **metadata: str) -> Path:
    save_file({name: weight.detach().clone().contiguous() for name, weight in weights.items()}, path, metadata or None)
    return path


def imported(folder: Path, *files: Path, told: Given = NOTHING, name: str = "theirs") -> Run:
    return bring_in(Runs(folder / "runs"), name, look(files, told))


def same(ours: Transformer, theirs: TransformerBridge, d_vocab: int) -> None:
    """The same logits, to 1e-5 of the largest, and the same attention in every head."""
    torch.manual_seed(0)
    tokens = torch.randint(0, d_vocab, (3, 12 if ours.cfg.n_ctx > 12 else ours.cfg.n_ctx))
    with torch.no_grad():
        logits, cache = theirs.run_with_cache(tokens)
        own, activations = ours.run_with_cache(tokens)
    torch.testing.assert_close(own / logits.abs().max(), logits / logits.abs().max(), atol=1e-5, rtol=0)
    for layer in range(ours.cfg.n_layers):
        pattern = f"blocks.{layer}.attn.hook_pattern"
        torch.testing.assert_close(activations[pattern], cache[pattern], **TOLERANCE)


# --- Out ---


@pytest.mark.parametrize("name", Runs(CHECKPOINTS).names())
def test_the_last_snapshot_of_every_shipped_run_is_the_same_model_in_transformerlens(tmp_path, name, capsys):
    file = tmp_path / "exported.safetensors"
    assert main(["export", name, "--checkpoints", str(CHECKPOINTS), "--to", "transformerlens", str(file)]) == 0
    run = Runs(CHECKPOINTS).open(name)
    assert f"{name} at step {run.steps()[-1]:,}" in capsys.readouterr().out
    cfg = TransformerBridgeConfig(**json.loads(file.with_suffix(".json").read_text()))
    theirs = TransformerBridge.boot_native(cfg)
    theirs.load_state_dict(convert_tl_checkpoint(load_file(file), cfg), strict=True)
    same(run.model(run.steps()[-1]), theirs, run.info().model.d_vocab)


@pytest.mark.parametrize("positions", ["sinusoidal", "none"])
def test_what_their_models_do_not_have_is_exported_as_what_they_have(tmp_path, positions):
    cfg = ModelConfig(7, 7, 9, n_layers=3, d_model=16, n_heads=2, d_head=4, positions=positions, residual_gain=-0.5)
    model = Transformer(cfg, seed=0)
    weights, arguments = exported(cfg, {name: weight.detach() for name, weight in model.state_dict().items()})
    theirs_cfg = TransformerBridgeConfig(**json.loads(json.dumps(arguments)))
    theirs = TransformerBridge.boot_native(theirs_cfg)
    theirs.load_state_dict(convert_tl_checkpoint(weights, theirs_cfg), strict=True)
    same(model, theirs, 7)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"positions": "shortformer"}, "shortformer positions"),
        ({"layer_norm": True}, "unbiased deviation"),
        ({"layer_norm": True, "norm_scale": "variance", "residual_gain": 2.0}, "cannot be folded"),
        ({"residual_gain": 0.0}, "residual gain of 0"),
    ],
)
def test_what_cannot_be_exported_is_named(settings, what):
    with pytest.raises(UserError, match=what):
        exported(ModelConfig(7, 7, 9, d_model=8, n_heads=2, d_head=4, d_mlp=8, **settings), {})


# --- In ---


def test_their_models_come_in_exactly(tmp_path):
    theirs = bridge()
    file = saved(theirs.state_dict(), tmp_path / "model_500.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(THEIRS))
    run = imported(tmp_path, file)
    assert run.steps() == (500,)
    assert (run.info().model.act_fn, run.info().model.eps) == ("gelu_new", 1e-3)
    same(run.model(500), theirs, 60)


def test_property_format_comes_in_exactly_and_goes_out_again(tmp_path):
    """Also without a configuration, and with the buffers that old models have."""
    theirs = bridge(attn_only=True, normalization_type=None)
    weights = {}
    for name, weight in theirs.state_dict().items():
        pattern = {"q": "(h e) d -> h d e", "k": "(h e) d -> h d e", "v": "(h e) d -> h d e", "o": "d (h e) -> h e d"}
        part = name.split(".")[-2]
        if "attn" in name:
            bias = "(h e) -> h e" if part != "o" else "d -> d"
            turned = rearrange(
                weight,
                pattern[part] if name.endswith("weight") else bias,
                **({"h": 4} if part != "o" or name.endswith("weight") else {}),
            )
            weights[f"{name.rsplit('.', 2)[0]}.{'W' if name.endswith('weight') else 'b'}_{part.upper()}"] = turned
    state = theirs.state_dict()
    weights |= {"embed.W_E": state["embed.weight"], "pos_embed.W_pos": state["pos_embed.weight"]}
    weights |= {"unembed.W_U": state["unembed.weight"].T, "unembed.b_U": state["unembed.bias"]}
    weights |= {"blocks.0.attn.mask": torch.ones(40, 40), "blocks.0.attn.IGNORE": torch.tensor(-torch.inf)}
    run = imported(tmp_path, saved(weights, tmp_path / "old.safetensors"))
    same(run.model(0), theirs, 60)
    out = tmp_path / "again.safetensors"
    arguments = ["export", "theirs", "--checkpoints", str(tmp_path / "runs"), "--to", "transformerlens", str(out)]
    assert main(arguments) == 0
    again = load_file(out)
    for name in again:
        assert torch.equal(again[name], weights[name])


def test_a_series_is_scrubbed_and_its_losses_are_measured(tmp_path):
    """A model that learns in TransformerLens to repeat, saved twenty times."""
    settings = {"n_layers": 1, "d_vocab": 12, "d_vocab_out": 12, "n_ctx": 16, "d_model": 16, "d_mlp": 32}
    theirs = bridge(**settings)
    (tmp_path / "config.json").write_text(json.dumps({**THEIRS, **settings}))
    optimiser = torch.optim.AdamW(theirs.parameters(), lr=3e-3)
    for step in range(20):
        saved(theirs.state_dict(), tmp_path / f"step_{10 * step}.safetensors")
        for _ in range(10):
            tokens = torch.randint(0, 12, (64, 16))
            logits = theirs(tokens)[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    run = imported(tmp_path, tmp_path)
    assert run.steps() == tuple(range(0, 200, 10))
    subject = Subject.load(run)
    assert subject.problems == ()
    (losses,) = subject.losses()
    assert losses.names == ("new tokens", "repeated tokens")
    assert losses.steps.tolist() == list(run.steps())
    first = run.model(0)
    batch = run.info().task.test_stream(run.info().training).next()
    expected = run.info().task.losses(batch.at_answers(first(batch.tokens)), batch)
    torch.testing.assert_close(losses.values[0], run.info().task.per_token(expected, batch).float())
    assert losses.values[-1, 0] < losses.values[0, 0] - 0.3
    film = open_scene("overview?run=theirs", Runs(tmp_path / "runs")).film()
    assert film.steps == run.steps()


def reversed_axes(model: Transformer, flat: bool) -> dict[str, Tensor]:
    """The weights as the notebook has them."""
    turn = {"W_Q": "h d e -> h e d", "W_K": "h d e -> h e d", "W_V": "h d e -> h e d", "W_E": "v d -> d v"}
    turn |= {"W_O": "h e d -> d (h e)" if flat else "h e d -> h d e", "W_in": "d m -> m d", "W_out": "m d -> d m"}
    state = model.state_dict()
    return {name: rearrange(w, turn[leaf]) if (leaf := name.split(".")[-1]) in turn else w for name, w in state.items()}


def test_the_notebooks_models_come_in(tmp_path):
    """Its general model; the one of induction, whose blocks return their input too; and under other modules' names."""
    general = Transformer(ModelConfig(12, 10, 18, d_model=16, n_heads=2, d_head=8, d_mlp=24), seed=1)
    tokens = torch.randint(0, 12, (2, 18))
    run = imported(tmp_path, saved(reversed_axes(general, False), tmp_path / "general.safetensors"), name="general")
    assert run.info().task.name == "addition"
    torch.testing.assert_close(run.model(0)(tokens), general(tokens))

    cfg = ModelConfig(20, 20, 85, n_layers=2, d_model=16, n_heads=2, d_head=4, attn_only=True, residual_gain=2.0)
    doubled = Transformer(cfg, seed=2)
    weights = {
        name.replace("blocks.", "attn_blocks.").replace(".attn.", "."): weight
        for name, weight in reversed_axes(doubled, True).items()
    }
    run = imported(tmp_path, saved(weights, tmp_path / "induction.safetensors"), name="doubled")
    assert run.info().model.residual_gain == 2
    tokens = torch.randint(0, 20, (2, 30))
    torch.testing.assert_close(run.model(0)(tokens), doubled(tokens))


def test_positions_of_a_shortformer_are_added_to_queries_and_keys_only():
    """Against the definition in TransformerLens: after the norm, and not to values or to the residual stream."""
    settings = {"layer_norm": True, "norm_scale": "variance", "attn_bias": True, "unembed_bias": True}
    cfg = ModelConfig(11, 11, 9, 2, 16, 2, 8, attn_only=True, positions="shortformer", **settings)
    model = Transformer(cfg, seed=3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    w, tokens = model.state_dict(), torch.randint(0, 11, (2, 9))
    x, positions = w["embed.W_E"][tokens], w["pos_embed.W_pos"][:9]
    norm = torch.nn.functional.layer_norm
    for layer in range(2):
        at = {
            name: w[f"blocks.{layer}.attn.{name}"] for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O")
        }
        normed = norm(x, (16,), w[f"blocks.{layer}.ln1.w"], w[f"blocks.{layer}.ln1.b"], 1e-5)
        heads = []
        for head in range(2):
            q = (normed + positions) @ at["W_Q"][head] + at["b_Q"][head]
            k = (normed + positions) @ at["W_K"][head] + at["b_K"][head]
            v = normed @ at["W_V"][head] + at["b_V"][head]
            scores = (q @ k.mT / 8**0.5).masked_fill(torch.ones(9, 9).triu(1).bool(), -torch.inf)
            heads.append(scores.softmax(-1) @ v @ at["W_O"][head])
        x = x + sum(heads) + at["b_O"]
    expected = norm(x, (16,), w["ln_final.w"], w["ln_final.b"], 1e-5) @ w["unembed.W_U"] + w["unembed.b_U"]
    torch.testing.assert_close(model(tokens), expected, atol=1e-5, rtol=1e-5)
    at = torch.tensor([[3, 8], [0, 5]])
    torch.testing.assert_close(
        logits_at(model, tokens, at), expected[torch.arange(2)[:, None], at], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("positions", ["learned", "shortformer"])
def test_attributions_of_a_model_with_all_biases_add_up_and_its_lens_ends_in_its_logits(tmp_path, positions, centred):
    settings = {"layer_norm": True, "norm_scale": "variance", "attn_bias": True, "unembed_bias": True}
    model = Transformer(ModelConfig(11, 11, 9, 2, 16, 2, 8, 24, positions=positions, **settings), seed=4)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    file = saved(model.state_dict(), tmp_path / "m.safetensors")
    run = imported(tmp_path, file, told=Given(model={"positions": positions, "act_fn": "relu"}))
    example = run.info().task.encode("1 2 3 1 2 3")
    ensemble = run.ensemble()
    found = direct_logit_attribution(ensemble, example, centred=centred)
    assert ("positions" in found.components) == (positions == "learned")
    assert found.components[-1] == "bias"
    torch.testing.assert_close(found.values.sum(-1), found.logits, atol=1e-4, rtol=1e-4)
    _, lens = logit_lens(ensemble, example)
    torch.testing.assert_close(lens[0, -1], model(example.tokens[None])[0, example.positions], atol=1e-4, rtol=1e-4)


def test_prefixes_nesting_shards_and_pickled_files_come_in(tmp_path):
    model = Transformer(ModelConfig(9, 9, 6, d_model=8, n_heads=2, d_head=4, d_mlp=8), seed=5)
    state, tokens = model.state_dict(), torch.randint(0, 9, (2, 6))
    forms = {"prefixed.pth": {f"module._orig_mod.{name}": weight for name, weight in state.items()}}
    forms["nested.pt"] = {
        "epoch": 3,
        "model_state_dict": state,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}},
    }
    shared = torch.cat([state["embed.W_E"].flatten(), state["unembed.W_U"].T.flatten()])
    forms["shared.pth"] = {**state, "embed.W_E": shared[:72].view(9, 8), "unembed.W_U": shared[72:].view(9, 8).T}
    for name, held in forms.items():
        torch.save(held, tmp_path / name)
        run = imported(tmp_path, tmp_path / name, name=name.split(".")[0])
        torch.testing.assert_close(run.model(0)(tokens), model(tokens))
    names = sorted(state)
    parts = {"a-1.safetensors": names[:4], "a-2.safetensors": names[4:]}
    for part, held in parts.items():
        saved({name: state[name] for name in held}, tmp_path / part)
    places = {name: part for part, held in parts.items() for name in held}
    index = tmp_path / "model_7.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (tmp_path / "config.json").write_text(json.dumps({"act_fn": "gelu"}))
    run = imported(tmp_path, index, name="sharded", told=Given(model={"act_fn": "relu"}))
    assert look([index]).info.model.act_fn == "gelu"
    assert run.steps() == (7,)
    torch.testing.assert_close(run.model(7)(tokens), model(tokens))


def test_the_explorers_own_snapshots_come_in_with_all_that_they_say(tmp_path, small):
    files = [small.snapshot_file(step) for step in small.steps()]
    run = imported(tmp_path, *files)
    assert (run.info().task, run.info().model) == (small.info().task, small.info().model)
    assert run.info().training.lr == small.info().training.lr
    assert run.steps() == small.steps()
    for step in run.steps():
        ours, theirs = run.snapshot(step), small.snapshot(step)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda w: {**w, "blocks.0.attn.rotary_sin": torch.ones(2)}, "rotary positions"),
        (lambda w: {**w, "blocks.0.mlp.W_gate": torch.ones(2)}, "gated MLPs"),
        (lambda w: {**w, "blocks.0.attn._W_K": torch.ones(2)}, "grouped-query"),
        (lambda w: {**w, "blocks.0.mlp.ln.w": torch.ones(2)}, "layer norm inside"),
        (lambda w: {**w, "blocks.0.ln1.w": torch.ones(8)}, "RMS norms"),
        (lambda w: {**w, **{f"blocks.0.ln1.{leaf}": torch.ones(8) for leaf in "wb"}}, "parallel blocks"),
        (lambda w: {**w, "blocks.0.extra": torch.ones(8)}, "unexpected: .blocks.0.extra"),
        (lambda w: {name: x for name, x in w.items() if "b_in" not in name}, "missing: .blocks.0.mlp.b_in"),
        (lambda w: {name: x for name, x in w.items() if "W_U" not in name}, "unembed.W_U missing"),
        (lambda w: {**w, "blocks.0.attn.W_O": torch.ones(2, 4, 9)}, "has shape"),
        (lambda w: {name: x.to(torch.int32) for name, x in w.items()}, "floating-point"),
        (lambda w: {**w, "blocks.0.attn.W_Q": torch.tensor(1.0)}, "single number"),
        (lambda w: {"a": w["embed.W_E"]}, "no transformer of a known kind"),
        (lambda w: {**w, "copy.embed.W_E": w["embed.W_E"]}, "two weights"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_leaves_nothing_behind(tmp_path, change, what):
    model = Transformer(ModelConfig(9, 9, 6, d_model=8, n_heads=2, d_head=4, d_mlp=8), seed=5)
    file = saved(change(model.state_dict()), tmp_path / "m.safetensors")
    with pytest.raises(UserError, match=what):
        imported(tmp_path, file)
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"positional_embedding_type": "rotary"}, "'rotary' positions"),
        ({"parallel_attn_mlp": True}, "parallel blocks"),
        ({"act_fn": "solu_ln"}, "'solu_ln'"),
        ({"normalization_type": "RMS"}, "'RMS'"),
        ({"normalization_type": "LN"}, "missing: .blocks.0.ln1.b"),
        ({"n_heads": "2"}, ""),
        ({"n_ctx": 7}, "W_pos"),
        ({"attention_dir": "bidirectional"}, "attention to later tokens"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(tmp_path, config, what):
    model = Transformer(ModelConfig(9, 9, 6, d_model=8, n_heads=2, d_head=4, d_mlp=8), seed=5)
    file = saved(model.state_dict(), tmp_path / "m.safetensors")
    file.with_suffix(".json").write_text(json.dumps(config))
    if not what:  # a value of another type is passed over, as the shapes tell
        assert look([file]).info.model.n_heads == 2
        return
    with pytest.raises(UserError, match=what):
        look([file])


def test_a_tokenizer_splits_typed_text(tmp_path):
    words = ["[UNK]", "the", "cat", "sat", "on", "mat", ".", "The"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    model = Transformer(ModelConfig(9, 9, 30, d_model=8, n_heads=2, d_head=4, d_mlp=8), seed=5)
    run = imported(tmp_path, saved(model.state_dict(), tmp_path / "m.safetensors"))
    task = run.info().task
    assert isinstance(task, PlainTokens)
    example = task.encode("The cat sat")
    assert example.tokens.tolist() == [7, 2, 3]
    assert example.places == ("after The (0)", "after cat (1)")
    assert task.tokens == (*words, "8")
    with pytest.raises(UserError, match="one token"):
        task.encode("cat")
    with pytest.raises(UserError, match="31 tokens"):
        task.encode("cat " * 31)
    assert Subject.load(run).first_example.startswith("The cat sat on the mat")


def test_steps_are_given_or_read_and_never_guessed(tmp_path, small):
    model = Transformer(ModelConfig(9, 9, 6, d_model=8, n_heads=2, d_head=4, d_mlp=8), seed=5)
    files = [saved(model.state_dict(), tmp_path / f"{name}.safetensors") for name in ("a", "b")]
    with pytest.raises(UserError, match=r"a\.safetensors give its step; give --steps"):
        look(files)
    assert look(files, Given(steps=(5, 2))).info.snapshots == (2, 5)
    with pytest.raises(UserError, match="3 steps are given for 2 files"):
        look(files, Given(steps=(1, 2, 3)))
    with pytest.raises(UserError, match="are all of step 4"):
        look(files, Given(steps=(4, 4)))
    metadata = saved(model.state_dict(), tmp_path / "last_9.safetensors", step="12")
    assert look([metadata]).info.snapshots == (12,)


def test_an_import_names_a_run_that_is_taken(tmp_path, small, capsys):
    model = Transformer(ModelConfig(9, 9, 6, d_model=8, n_heads=2, d_head=4, d_mlp=8), seed=5)
    file = saved(model.state_dict(), tmp_path / "my model!.safetensors")
    command = ["import", str(file), "--checkpoints", str(tmp_path / "runs")]
    assert main([*command, "--dry-run"]) == 0
    assert not (tmp_path / "runs").exists()
    assert main(command) == 0
    assert "positions=learned, act_fn=relu" in capsys.readouterr().out
    assert Runs(tmp_path / "runs").names() == ["my-model"]
    assert main(command) == 2
    assert "already a file or folder my-model" in capsys.readouterr().err
    assert main([*command, "--set", "n_heads=3", "--name", "other"]) == 2
    assert "W_Q has shape (2, 8, 4)" in capsys.readouterr().err
