"""Configurations that others write beside weights, as settings of `ModelConfig`."""

from collections.abc import Mapping
from typing import Any

from explorer.errors import UserError, quoted

SAME = ("d_model", "d_head", "n_heads", "n_layers", "n_ctx", "d_vocab", "d_mlp", "attn_only", "d_vocab_out")
ACTIVATIONS: Mapping[object, str] = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_new", "gelu_fast": "gelu_new"}
UNKNOWN = (  # keys of TransformerLens whose value must be absent, false, 0 or null, and what a model with it has
    ("parallel_attn_mlp", "parallel blocks"),
    ("gated_mlp", "gated MLPs"),
    ("final_rms", "RMS norms"),
    ("use_local_attn", "local attention"),
    ("scale_attn_by_inverse_layer_idx", "attention that is scaled by its layer"),
    ("num_experts", "experts"),
    ("use_qk_norm", "normalised queries and keys"),
    ("post_embedding_ln", "a layer norm after the embedding"),
)


def settings_in(config: Mapping[str, Any], shown: str) -> dict[str, Any]:
    """What a configuration says of the model, by the names of `ModelConfig`.

    Args:
        config: of TransformerLens, old or new, or anything else, whose unknown keys are passed over.
        shown: where it comes from, for error messages.

    Raises:
        UserError: the model has a part that ours has not; the sentence names it.
    """

    def refuse(what: str) -> UserError:
        return UserError(f"By {shown} the model has {what}, which cannot be shown here.")

    for key, what in UNKNOWN:
        if config.get(key):
            raise refuse(what)
    if config.get("attention_dir", "causal") != "causal":
        raise refuse("attention to later tokens")
    if config.get("n_key_value_heads") not in (None, config.get("n_heads")):
        raise refuse("grouped-query attention")
    for key in ("attn_scores_soft_cap", "output_logits_soft_cap"):
        if isinstance(cap := config.get(key), int | float) and cap > 0:
            raise refuse("capped scores or logits")
    if config.get("use_attn_scale") is False:
        raise refuse("attention scores that are not scaled")
    scale, d_head = config.get("attn_scale"), config.get("d_head")
    if isinstance(scale, int | float) and isinstance(d_head, int) and scale > 0 and abs(scale**2 - d_head) > 1e-3:
        raise refuse(f"attention scores that are divided by {scale:g}")
    found = {key: config[key] for key in SAME if type(config.get(key)) in (int, bool) and config[key] != -1}
    if "act_fn" in config and not found.get("attn_only"):
        if config["act_fn"] not in ACTIVATIONS:
            raise refuse(f"the activation function {quoted(config['act_fn'])}")
        found["act_fn"] = ACTIVATIONS[config["act_fn"]]
    for key in ("normalization_type", "normalization"):
        if key in config:
            found["layer_norm"] = config[key] is not None
            if config[key] not in (None, "LN"):
                raise refuse(f"the normalisation {quoted(config[key])}")
    if isinstance(eps := config.get("eps"), float):
        found["eps"] = eps
    positions = config.get("positional_embedding_type", "standard")
    if config.get("shortformer_pos") or positions == "shortformer":
        found["positions"] = "shortformer"
    elif positions != "standard":
        raise refuse(f"{quoted(positions)} positions")
    return found
