"""Which part of a model says what: the logits of an example, taken apart.

Axes
    snapshot       snapshots of the run
    answer         the places of the example that are asked for, with the right answers before them given
    component      what writes to the residual stream: the embedding, each head, each MLP...
    stage          places along the residual stream
    d_vocab_out    output tokens

What a block writes is multiplied by the residual gain g in every later block, and what stands before block 0 in all of
them: of n blocks, block i is worth g**(n-1-i) at the end, the embedding g**n.
"""

from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from torch import Tensor

from explorer.model.ensemble import Ensemble, Hooks
from explorer.model.transformer import ModelConfig
from explorer.tasks.data import Example

TABLE_LOGITS = "blocks.0.attn.hook_z"


@dataclass(frozen=True)
class Attribution:
    """What each component adds to the logits of the right answers."""

    components: tuple[str, ...]  # "embedding", "positions", "L0H0", ..., "L0 MLP", ..., "bias"; those that there are
    values: Tensor  # (snapshot answer component), logits
    logits: Tensor  # (snapshot answer), the right answer's, less the mean logit if centred: the sum of the components


def direct_logit_attribution(
    ensemble: Ensemble, example: Example, centred: bool = False, hooks: Hooks | None = None
) -> Attribution:
    """Direct logit attribution: each component's output times the unembedding of the right answer.

    A final layer norm is taken apart too: each component is centred and multiplied by the weights, and divided by the
    scale that the whole stream has; "bias" is what the norm adds. An MLP's bias belongs to the MLP. A table has one
    component, its head.

    Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits; ARENA 1.2.

    Args:
        centred: of each logit, take off the mean over all output tokens, which makes no difference to probabilities.
        hooks: as in `Ensemble.passes`. Components are read where they are written: at hook_embed, hook_pos_embed,
            hook_z and hook_mlp_out. A hook on another place between them and the logits belongs to no component.
    """
    cfg = ensemble.cfg
    if cfg.architecture == "table":
        _, cache = ensemble.run(example.tokens[None], [TABLE_LOGITS], hooks=hooks)
        logits = _of_right(cache[TABLE_LOGITS][:, 0, example.positions, 0], example.targets, centred)
        return Attribution(("L0H0",), logits[..., None], logits)

    places = _components(cfg)
    norm = ["ln_final.hook_scale"] if cfg.layer_norm else []
    logits, cache = ensemble.run(example.tokens[None], [*places, *norm], hooks=hooks)
    cache = {name: x[:, 0, example.positions] for name, x in cache.items()}  # (snapshot answer ...)

    # The direction of the residual stream along which the logit grows, (snapshot answer d_model).
    W_U = ensemble.weights["unembed.W_U"]
    right = rearrange(W_U[:, :, example.targets], "snapshot d_model answer -> snapshot answer d_model")
    if centred:
        right = right - W_U.mean(-1)[:, None]
    bias = None
    if cfg.layer_norm:
        w, b = ensemble.weights["ln_final.w"][:, None], ensemble.weights["ln_final.b"][:, None]
        bias = (right * b).sum(-1)
        right = right * w
        right = (right - right.mean(-1, keepdim=True)) / cache["ln_final.hook_scale"]

    components, values = [], []
    for name, (labels, gain) in places.items():
        written = cache[name]
        if name.endswith("hook_z"):
            W_O = ensemble.weights[name.replace("hook_z", "W_O")]
            back = "snapshot head d_head d_model, snapshot answer d_model -> snapshot answer head d_head"
            added = (written * einsum(W_O, right, back)).sum(-1)
        else:
            added = (written * right).sum(-1)[..., None]
        components += labels
        values.append(gain * added)
    if bias is not None:
        components.append("bias")
        values.append(bias[..., None])
    logits = _of_right(logits[:, 0, example.positions], example.targets, centred)
    return Attribution(tuple(components), torch.cat(values, -1), logits)


def _components(cfg: ModelConfig) -> dict[str, tuple[list[str], float]]:
    """Hook point -> the components that are read there, and the gain that they still meet."""
    places = {"hook_embed": (["embedding"], cfg.residual_gain**cfg.n_layers)}
    if cfg.positions != "none":
        places["hook_pos_embed"] = (["positions"], cfg.residual_gain**cfg.n_layers)
    for layer in range(cfg.n_layers):
        gain = cfg.residual_gain ** (cfg.n_layers - 1 - layer)
        places[f"blocks.{layer}.attn.hook_z"] = ([f"L{layer}H{head}" for head in range(cfg.n_heads)], gain)
        if not cfg.attn_only:
            places[f"blocks.{layer}.hook_mlp_out"] = ([f"L{layer} MLP"], gain)
    return places


def _of_right(logits: Tensor, targets: Tensor, centred: bool) -> Tensor:
    """Of logits (snapshot answer d_vocab_out) those of the right answers, (snapshot answer)."""
    right = logits[:, torch.arange(len(targets)), targets]
    return right - logits.mean(-1) if centred else right


def logit_lens(ensemble: Ensemble, example: Example) -> tuple[tuple[str, ...], Tensor]:
    """What the model would answer if nothing more were added to the residual stream.

    The stream is multiplied by the gain that it still meets, so that the last stage is the model's own answer.

    Source: nostalgebraist 2020, interpreting GPT: the logit lens.

    Returns:
        The stages, "embedding", then for each block "attention 0" before its MLP, if it has one, and "after block 0",
        and the logits at each, (snapshot stage answer d_vocab_out). A table has the stage "after block 0" only.
    """
    cfg = ensemble.cfg
    if cfg.architecture == "table":
        logits, _ = ensemble.run(example.tokens[None])
        return ("after block 0",), logits[:, :, example.positions]

    stages = {"blocks.0.hook_resid_pre": ("embedding", cfg.residual_gain**cfg.n_layers)}
    for layer in range(cfg.n_layers):
        gain = cfg.residual_gain ** (cfg.n_layers - 1 - layer)
        if not cfg.attn_only:
            stages[f"blocks.{layer}.hook_resid_mid"] = (f"attention {layer}", gain)
        stages[f"blocks.{layer}.hook_resid_post"] = (f"after block {layer}", gain)
    _, cache = ensemble.run(example.tokens[None], stages)
    streams = [gain * cache[name][:, 0, example.positions] for name, (_, gain) in stages.items()]
    model = ensemble.model()
    logits = model.unembed(model.ln_final(torch.stack(streams, 1)))  # (snapshot stage answer d_vocab_out)
    return tuple(label for label, _ in stages.values()), logits
