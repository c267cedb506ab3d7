"""Names and layouts of weights that others write, as those of `explorer.model.transformer`.

Dialects
    property   TransformerLens' state dicts: ``blocks.0.attn.W_Q`` (head d_model d_head). Ours are these too.
    bridge     those of TransformerLens' native bridge: ``blocks.0.attn.q.weight`` ((head d_head) d_model)
    notebook   the names of property format, below any module, with the axes of each weight in reverse order:
               ``attn_blocks.0.W_Q`` (head d_head d_model)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from einops import rearrange
from torch import Tensor

from explorer.errors import UserError, listed, quoted

Dialect = Literal["property", "bridge", "notebook"]
DEEPEST = 8  # levels of nested objects that are entered
MOST_NAMED = 8  # names that a sentence lists
BUFFERS = ("mask", "IGNORE", "causal_mask")  # constants that some models write beside their weights
WRAPPED = ("_orig_mod.", "module.")  # what torch.compile and data parallelism put before every name
HOLDERS = ("model_state_dict", "state_dict", "model", "weights", "params")  # where the weights are kept beside others
FOREIGN = {  # what a name has in it -> what the model has that ours has not
    "rotary": "rotary positions",
    "W_gate": "gated MLPs",
    "gate.": "gated MLPs",
    "_W_K": "grouped-query attention",
    "_W_V": "grouped-query attention",
    "mlp.ln.": "a layer norm inside its MLPs",
    "q_norm": "normalised queries",
    "k_norm": "normalised keys",
}

ATTENTION = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O")
MLP = ("W_in", "b_in", "W_out", "b_out")
TOP = {"W_E": "embed.W_E", "W_pos": "pos_embed.W_pos", "W_U": "unembed.W_U", "b_U": "unembed.b_U"}
BRIDGE = {  # the end of a name in the bridge's dialect -> ours
    **{f"attn.{part.lower()}.weight": f"attn.W_{part}" for part in "QKVO"},
    **{f"attn.{part.lower()}.bias": f"attn.b_{part}" for part in "QKVO"},
    **{
        "mlp.in.weight": "mlp.W_in",
        "mlp.in.bias": "mlp.b_in",
        "mlp.out.weight": "mlp.W_out",
        "mlp.out.bias": "mlp.b_out",
    },
    **{
        f"{norm}.{theirs}": f"{norm}.{ours}"
        for norm in ("ln1", "ln2")
        for theirs, ours in (("weight", "w"), ("bias", "b"))
    },
}
BRIDGE_TOP = {
    **{"embed.weight": "embed.W_E", "pos_embed.weight": "pos_embed.W_pos"},
    **{"unembed.weight": "unembed.W_U", "unembed.bias": "unembed.b_U"},
    **{"ln_final.weight": "ln_final.w", "ln_final.bias": "ln_final.b"},
}
REVERSED = {  # in the notebook's dialect: a weight's axes -> ours
    **dict.fromkeys(("W_Q", "W_K", "W_V"), "head d_head d_model -> head d_model d_head"),
    **{"W_E": "d_model d_vocab -> d_vocab d_model", "W_O": "head d_model d_head -> head d_head d_model"},
    **{"W_in": "d_mlp d_model -> d_model d_mlp", "W_out": "d_model d_mlp -> d_mlp d_model"},
}


@dataclass(frozen=True)
class Read:
    """Weights under our names, and what their names and shapes say of the model."""

    weights: dict[str, Tensor]
    dialect: Dialect
    settings: dict[str, Any] = field(default_factory=dict)  # of `ModelConfig`, as far as they can be told


def state_dict_in(held: Any, shown: str) -> dict[str, Tensor]:
    """The weights in what a file holds: nested objects are entered, and prefixes taken off.

    Args:
        held: a state dict, or objects around one, of any names.
        shown: the file's name in error messages.

    Returns:
        Name -> weight.

    Raises:
        UserError: there are no tensors, or several objects hold some and none is known to hold the weights.
    """
    for _ in range(DEEPEST):
        if not isinstance(held, Mapping):
            break
        tensors = {str(name): value for name, value in held.items() if isinstance(value, Tensor)}
        inner = {str(name): value for name, value in held.items() if _holds_tensors(value)}
        if tensors and not any(name in inner for name in HOLDERS):
            return _unwrapped(tensors)
        known = [name for name in HOLDERS if name in inner]
        if not known and len(inner) != 1:
            break
        held = inner[known[0]] if known else next(iter(inner.values()))
    else:
        raise UserError(f"{shown} holds objects within objects; save the state dict of the model alone.")
    if isinstance(held, Mapping) and any(map(_holds_tensors, held.values())):
        names = listed([quoted(str(name)) for name in held], MOST_NAMED)
        raise UserError(f"{shown} holds several objects ({names}); save the state dict of the model alone.")
    raise UserError(f"{shown} holds no weights; save the state dict of a model.")


def _holds_tensors(value: Any, depth: int = 0) -> bool:
    if not isinstance(value, Mapping) or depth > DEEPEST:
        return False
    return any(isinstance(one, Tensor) or _holds_tensors(one, depth + 1) for one in value.values())


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without buffers, and without the prefixes that all names share."""
    found = {name: tensor for name, tensor in tensors.items() if name.rsplit(".", 1)[-1] not in BUFFERS}
    while prefix := next((one for one in WRAPPED if found and all(name.startswith(one) for name in found)), ""):
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def read(tensors: Mapping[str, Tensor], shown: str, settings: Mapping[str, Any] = {}) -> Read:
    """Weights under our names and in our layout.

    Args:
        tensors: name -> weight, as `state_dict_in` returns them; on the meta device if only the settings are wanted.
        shown: the file's name in error messages.
        settings: what is known of the model, by the names of `ModelConfig`. The bridge's dialect needs ``n_heads``.

    Returns:
        The weights and what they say. A name that is none of a model is kept, so that checking the weights lists it.

    Raises:
        UserError: the model has a part that ours has not, two weights have one name here, a shape cannot be understood,
            or the number of heads is not given where shapes do not tell it.
    """
    for name in tensors:
        for mark, what in FOREIGN.items():
            if mark in name:
                raise UserError(f"{shown} holds {quoted(name, 80)}: models with {what} cannot be shown here.")
    is_bridge = "embed.weight" in tensors
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not tensor.ndim:
            raise UserError(f"{quoted(name, 80)} in {shown} is a single number, which no weight is; leave it out.")
        ours = _from_bridge(name) if is_bridge else _from_leaf(name)
        if ours in renamed:
            raise UserError(f"{shown} holds two weights for {quoted(ours, 80)}, {quoted(name, 80)} is one; keep one.")
        renamed[ours] = tensor
    _check_complete(renamed, shown)
    if is_bridge:
        return _settled(_split(renamed, shown, settings), "bridge", tensors, shown)
    if _is_reversed(renamed):
        n_heads = renamed["blocks.0.attn.W_Q"].shape[0]
        turned = {name: _turned(name, weight, shown, n_heads) for name, weight in renamed.items()}
        return _settled(turned, "notebook", tensors, shown)
    return _settled(renamed, "property", tensors, shown)


def _from_bridge(name: str) -> str:
    match = re.fullmatch(r"blocks\.(\d{1,3})\.(.+)", name)
    if match and match[2] in BRIDGE:
        return f"blocks.{match[1]}.{BRIDGE[match[2]]}"
    return BRIDGE_TOP.get(name, name)


def _from_leaf(name: str) -> str:
    """By the last part of a name, wherever the weight is kept, and the number of its block."""
    leaf = name.rsplit(".", 1)[-1]
    block = re.search(r"(?:^|\.)(?:attn_)?blocks\.(\d{1,3})\.", name)
    norm = re.search(r"(?:^|\.)(ln1|ln2|ln_final)\.[wb]$", name)
    if block and leaf in (*ATTENTION, *MLP):
        return f"blocks.{int(block[1])}.{'attn' if leaf in ATTENTION else 'mlp'}.{leaf}"
    if norm and (norm[1] == "ln_final") != bool(block):
        return f"blocks.{int(block[1])}.{norm[1]}.{leaf}" if block else f"ln_final.{leaf}"
    return TOP.get(leaf, name) if not block else name


def _check_complete(weights: Mapping[str, Tensor], shown: str) -> None:
    """Refuse weights without which nothing can be told, and blocks of kinds that ours has not."""
    needed = ("embed.W_E", "unembed.W_U", *(f"blocks.0.attn.{name}" for name in ("W_Q", "W_K", "W_V", "W_O")))
    if missing := [name for name in needed if name not in weights]:
        has = listed([quoted(name, 60) for name in sorted(weights)], MOST_NAMED) or "nothing"
        raise UserError(f"{shown} is no transformer of a known kind: {listed(missing)} missing; it holds {has}.")
    for name in weights:
        if name.endswith(("ln1.w", "ln2.w", "ln_final.w")) and f"{name[:-1]}b" not in weights:
            raise UserError(f"{shown} has {name} without a bias: models with RMS norms cannot be shown here.")
    has_mlp, norms = any(".mlp." in name for name in weights), [name for name in weights if name.endswith("ln1.w")]
    if has_mlp and norms and not any(name.endswith("ln2.w") for name in weights):
        raise UserError(f"{shown} has one layer norm for attention and MLP: parallel blocks cannot be shown here.")


def _split(weights: Mapping[str, Tensor], shown: str, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Attention of the bridge's dialect, head by head; the other matrices transposed."""
    n_heads = settings.get("n_heads")
    if type(n_heads) is not int or n_heads < 1:
        raise UserError(f"The shapes in {shown} do not tell the number of heads; give it with --set n_heads=N.")
    split = {
        **dict.fromkeys(("W_Q", "W_K", "W_V"), "(head d_head) d_model -> head d_model d_head"),
        **dict.fromkeys(("b_Q", "b_K", "b_V"), "(head d_head) -> head d_head"),
        **{"W_O": "d_model (head d_head) -> head d_head d_model"},
        **dict.fromkeys(("W_in", "W_out", "W_U"), "out into -> into out"),
    }
    return {name: _rearranged(w, split, name, shown, n_heads) for name, w in weights.items()}


def _rearranged(weight: Tensor, patterns: Mapping[str, str], name: str, shown: str, n_heads: int | None) -> Tensor:
    pattern = patterns.get(name.rsplit(".", 1)[-1])
    if pattern is None:
        return weight
    try:
        sizes = {"head": n_heads} if "(head" in pattern and n_heads is not None else {}
        return rearrange(weight, pattern, **sizes)
    except ValueError as error:  # einops raises its own kind of it
        heads = f" with {n_heads} heads" if n_heads else ""
        raise UserError(
            f"{quoted(name, 80)} in {shown} has shape {tuple(weight.shape)}, which is not that of such a weight{heads}."
        ) from error


def _is_reversed(weights: Mapping[str, Tensor]) -> bool:
    """Whether the axes are those of the notebook's dialect. W_U has d_model first in both."""
    W_E, W_U = weights["embed.W_E"], weights["unembed.W_U"]
    d_model = W_U.shape[0] if W_U.ndim == 2 else 0
    if W_E.ndim == 2 and W_E.shape[0] != W_E.shape[1]:
        return W_E.shape[0] == d_model and W_E.shape[1] != d_model
    W_Q = weights["blocks.0.attn.W_Q"]
    return W_Q.ndim == 3 and W_Q.shape[2] == d_model and W_Q.shape[1] != d_model


def _turned(name: str, weight: Tensor, shown: str, n_heads: int) -> Tensor:
    """A weight of the notebook's dialect; W_O may have its heads side by side."""
    if name.endswith("W_O") and weight.ndim == 2:
        return _rearranged(weight, {"W_O": "d_model (head d_head) -> head d_head d_model"}, name, shown, n_heads)
    return _rearranged(weight, REVERSED, name, shown, None)


def _settled(weights: dict[str, Tensor], dialect: Dialect, theirs: Mapping[str, Tensor], shown: str) -> Read:
    """What names and shapes say of the model."""
    W_E, W_U, W_Q = (weights[name] for name in ("embed.W_E", "unembed.W_U", "blocks.0.attn.W_Q"))
    if (W_E.ndim, W_U.ndim, W_Q.ndim) != (2, 2, 3):
        raise UserError(f"W_E, W_U and W_Q in {shown} have {W_E.ndim}, {W_U.ndim} and {W_Q.ndim} axes, not 2, 2 and 3.")
    layers = [int(match[1]) for name in weights if (match := re.match(r"blocks\.(\d+)\.", name))]
    found: dict[str, Any] = {
        **{"d_vocab": W_E.shape[0], "d_model": W_E.shape[1], "d_vocab_out": W_U.shape[1]},
        **{"n_layers": max(layers) + 1, "n_heads": W_Q.shape[0], "d_head": W_Q.shape[2]},
        **{"attn_only": not any(".mlp." in name for name in weights), "unembed_bias": "unembed.b_U" in weights},
        **{"attn_bias": any(".attn.b_" in name for name in weights), "layer_norm": "ln_final.w" in weights},
    }
    if found["layer_norm"]:
        found["norm_scale"] = "deviation" if dialect == "notebook" else "variance"
    if W_in := [w for name, w in weights.items() if name.endswith("mlp.W_in")]:
        found["d_mlp"] = W_in[0].shape[-1]
    if "pos_embed.W_pos" in weights:
        found["n_ctx"] = weights["pos_embed.W_pos"].shape[0]
    else:
        found["positions"] = "none"
    if any(re.search(r"(^|\.)attn_blocks\.", name) for name in theirs):
        found["residual_gain"] = (
            2.0  # each of these blocks returns its input too, and the loop around them adds it again
        )
    return Read(weights, dialect, found)
