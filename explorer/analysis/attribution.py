"""The logits of one example as a sum over the components of the model, and the logit lens.

Axes
    snapshot       snapshots of the run
    example        one of several, where there are several
    answer         the tokens that the example asks for, predicted with teacher forcing
    component      what is added to the residual stream: the embedding, each head, each MLP...
    stage          points along the residual stream
    d_vocab_out    output tokens

Each block multiplies the residual stream by the residual gain g before adding its outputs. So in a model of n blocks
the output of block i reaches the unembedding times g**(n-1-i), and the embedding times g**n.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from explorer.analysis.components import components
from explorer.model.ensemble import Ensemble, Hooks
from explorer.model.transformer import ModelConfig, Transformer
from explorer.tasks.data import Batch, Example


@dataclass(frozen=True)
class Attribution:
    """How much each component adds to the logits of the right answers."""

    components: tuple[str, ...]  # of "embedding", "positions", "L0H0", ..., "L0 MLP", ..., "bias" those of the model
    values: Float[Tensor, "snapshot *example answer component"]  # in logits
    logits: Float[Tensor, "snapshot *example answer"]  # of the right answer, centred as the values are: their sum

    def of(self, example: int) -> "Attribution":
        """That of one of several examples.

        Args:
            example: its place.
        """
        return Attribution(self.components, self.values[:, example], self.logits[:, example])


def direct_logit_attribution(
    ensemble: Ensemble, example: Example, centred: bool = False, hooks: Hooks | None = None
) -> Attribution:
    """Direct logit attribution: the output of each component times the unembedding of the right answer.

    A final layer norm is applied to each component with the scale of the whole residual stream: the component is
    centred, divided by the scale and multiplied by the norm's weights. The bias of an MLP belongs to the MLP; all other
    biases, those of attention, of the norm and of the logits, are the component "bias". The only component of a table
    model is its head.

    Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits; ARENA 1.2.

    Args:
        ensemble: the snapshots.
        example: the prompt and its right answers.
        centred: subtract from each logit the mean over all output tokens, which leaves probabilities as they are.
        hooks: as in `Ensemble.passes`. Components are read at hook_embed, hook_pos_embed, hook_z and hook_mlp_out; what
            a hook changes between there and the logits is not attributed to any component.
    """
    logits, cache = ensemble.run(example.tokens[None], attribution_hooks(ensemble.cfg), hooks=hooks)
    return attributed(ensemble, example.batch, logits, cache, centred).of(0)


def attribution_hooks(cfg: ModelConfig) -> list[str]:
    """The hook points that direct logit attribution reads.

    Args:
        cfg: of the model.
    """
    if cfg.architecture == "table":
        return [component.hook for component in components(cfg)]
    return [*_sources(cfg), *(["ln_final.hook_scale"] if cfg.layer_norm else [])]


def batch_attribution(ensemble: Ensemble, batch: Batch) -> Attribution:
    """`direct_logit_attribution` of several examples, centred, and for some snapshots at a time.

    Args:
        ensemble: the snapshots.
        batch: the examples.
    """
    parts, start = list[Attribution](), 0
    for logits, cache in ensemble.passes(batch.tokens, attribution_hooks(ensemble.cfg)):
        some = ensemble.select(slice(start, start + len(logits)))
        parts.append(attributed(some, batch, logits, cache, centred=True))
        start += len(logits)
    values, logits = (torch.cat([getattr(part, name) for part in parts]) for name in ("values", "logits"))
    return Attribution(parts[0].components, values, logits)


def attributed(
    ensemble: Ensemble,
    batch: Batch,
    logits: Float[Tensor, "snapshot example pos d_vocab_out"],
    cache: Mapping[str, Tensor],
    centred: bool,
) -> Attribution:
    """`direct_logit_attribution` from a forward pass that was made already.

    Args:
        ensemble: the snapshots.
        batch: the examples of the pass.
        logits: of the pass.
        cache: of the pass, with the activations at `attribution_hooks`.
        centred: as there.
    """
    cfg = ensemble.cfg
    rows = torch.arange(len(batch.tokens))[:, None]
    if cfg.architecture == "table":
        (head,) = components(cfg)
        right = _right_logits(cache[head.hook][:, rows, batch.positions, 0], batch.targets, centred)
        return Attribution((head.name,), right[..., None], right)
    at_answers = {name: cache[name][:, rows, batch.positions] for name in attribution_hooks(cfg)}

    # The direction of the residual stream along which the right logit grows.
    W_U = ensemble.weights["unembed.W_U"]
    to_last = "snapshot d_model example answer -> snapshot example answer d_model"
    direction = rearrange(W_U[:, :, batch.targets], to_last)
    if centred:
        direction = direction - W_U.mean(-1)[:, None, None]
    biases: list[Tensor] = []  # each (snapshot example answer)
    if cfg.unembed_bias:
        b_U = ensemble.weights["unembed.b_U"]
        biases.append(b_U[:, batch.targets] - (b_U.mean(-1)[:, None, None] if centred else 0))
    if cfg.layer_norm:
        w, b = (ensemble.weights[f"ln_final.{name}"][:, None, None] for name in "wb")
        biases.append((direction * b).sum(-1))
        direction = direction * w
        direction = (direction - direction.mean(-1, keepdim=True)) / at_answers["ln_final.hook_scale"]

    names, values = [], []
    for hook, (labels, gain) in _sources(cfg).items():
        output = at_answers[hook]
        if hook.endswith("hook_z"):
            W_O = ensemble.weights[hook.replace("hook_z", "W_O")]
            through_W_O = (
                "snapshot head d_head d_model, snapshot example answer d_model -> snapshot example answer head d_head"
            )
            added = (output * einsum(W_O, direction, through_W_O)).sum(-1)  # (snapshot example answer head)
        else:
            added = (output * direction).sum(-1)[..., None]  # (snapshot example answer 1)
        names += labels
        values.append(gain * added)
    if cfg.attn_bias:
        for layer in range(cfg.n_layers):
            b_O = ensemble.weights[f"blocks.{layer}.attn.b_O"][:, None, None]
            biases.append(cfg.residual_gain ** (cfg.n_layers - 1 - layer) * (direction * b_O).sum(-1))
    if biases:
        names.append("bias")
        values.append(torch.stack(biases).sum(0)[..., None])
    right = _right_logits(logits[:, rows, batch.positions], batch.targets, centred)
    return Attribution(tuple(names), torch.cat(values, -1), right)


def _sources(cfg: ModelConfig) -> dict[str, tuple[list[str], float]]:
    """Hook point -> the names of the components read there, and the gain from there to the unembedding."""
    sources = {"hook_embed": (["embedding"], cfg.residual_gain**cfg.n_layers)}
    if cfg.positions not in ("none", "shortformer"):  # these are added to the residual stream
        sources["hook_pos_embed"] = (["positions"], cfg.residual_gain**cfg.n_layers)
    for component in components(cfg):
        gain = cfg.residual_gain ** (cfg.n_layers - 1 - component.layer)
        labels, _ = sources.setdefault(component.hook, ([], gain))
        labels.append(component.name)
    return sources


def _right_logits(
    logits: Float[Tensor, "snapshot example answer d_vocab_out"], targets: Int[Tensor, "example answer"], centred: bool
) -> Float[Tensor, "snapshot example answer"]:
    right = logits.gather(-1, targets.expand(logits.shape[:-1])[..., None])[..., 0]
    return right - logits.mean(-1) if centred else right


def logit_lens(
    ensemble: Ensemble, example: Example
) -> tuple[tuple[str, ...], Float[Tensor, "snapshot stage answer d_vocab_out"]]:
    """The residual stream at each stage, unembedded as if it were the last one.

    The stream is multiplied by the gain of the blocks that follow, so the logits of the last stage are the model's.

    Source: nostalgebraist 2020, interpreting GPT: the logit lens.

    Args:
        ensemble: the snapshots.
        example: the prompt and its right answers.

    Returns:
        The names of the stages, and the logits at each. Stages are "embedding", then for each block i "attention i"
        before its MLP, if it has one, and "after block i". A table model has the stage "after block 0" only.
    """
    cfg, model = ensemble.cfg, ensemble.model()
    if not isinstance(model, Transformer):
        logits, _ = ensemble.run(example.tokens[None])
        return ("after block 0",), logits[:, :, example.positions]

    stages = {"blocks.0.hook_resid_pre": ("embedding", cfg.residual_gain**cfg.n_layers)}
    for layer in range(cfg.n_layers):
        gain = cfg.residual_gain ** (cfg.n_layers - 1 - layer)
        if not cfg.attn_only:
            stages[f"blocks.{layer}.hook_resid_mid"] = (f"attention {layer}", gain)
        stages[f"blocks.{layer}.hook_resid_post"] = (f"after block {layer}", gain)
    _, cache = ensemble.run(example.tokens[None], stages)
    streams = [gain * cache[hook][:, 0, example.positions] for hook, (_, gain) in stages.items()]
    logits = model.unembed(model.ln_final(torch.stack(streams, 1)))  # (snapshot stage answer d_vocab_out)
    return tuple(name for name, _ in stages.values()), logits
