"""The transformer: all activations by the names of their hook points, and the gradient of a loss at each of them.

Axes: batch, pos (query, key), head, d_model, d_head, d_mlp, d_vocab_out. Without layer norm, which no shipped run has.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

Array = np.ndarray
Replace = Mapping[str, Callable[[Array], Array]]
_erf = np.vectorize(math.erf, otypes=[np.float64])


def act(name: str, x: Array) -> Array:
    """The neurons' activation function, "relu" or "gelu"."""
    return np.maximum(x, 0) if name == "relu" else x * (1 + _erf(x / math.sqrt(2))) / 2


def act_slope(name: str, x: Array) -> Array:
    """Its derivative."""
    if name == "relu":
        return (x > 0).astype(np.float64)
    return (1 + _erf(x / math.sqrt(2))) / 2 + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def softmax(x: Array) -> Array:
    """Over the last axis."""
    x = x - x.max(-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(-1, keepdims=True)
    return x


def cross_entropy(logits: Array, targets: Array) -> Array:
    """In nats, of logits (... d_vocab_out) and the right tokens (...)."""
    shifted = logits - logits.max(-1, keepdims=True)
    return np.log(np.exp(shifted).sum(-1)) - np.take_along_axis(shifted, targets[..., None], -1)[..., 0]


def mean_loss_slope(logits: Array, positions: Array, targets: Array) -> Array:
    """The gradient of each example's mean loss over its answers (batch answer), (batch pos d_vocab_out)."""
    slope = np.zeros_like(logits)
    for row, (at, right) in enumerate(zip(positions, targets, strict=True)):
        for position, target in zip(at, right, strict=True):
            slope[row, position] += softmax(logits[row, position]) / len(at)
            slope[row, position, target] -= 1 / len(at)
    return slope


def forward(cfg: dict, w: Mapping[str, Array], tokens: Array, replace: Replace | None = None) -> dict[str, Array]:
    """All activations of a forward pass, and the logits under "logits".

    Args:
        cfg: the model in run.json.
        w: name -> weight.
        tokens: (batch pos).
        replace: hook point -> what is computed on with, given its activation.
    """
    assert cfg.get("architecture", "transformer") == "transformer"
    assert not cfg["layer_norm"]
    found: dict[str, Array] = {}

    def hook(name: str, x: Array) -> Array:
        found[name] = replace[name](x) if replace and name in replace else x
        return found[name]

    n_pos = tokens.shape[1]
    future = np.arange(n_pos)[None, :] > np.arange(n_pos)[:, None]  # (query key)
    x = hook("hook_embed", w["embed.W_E"][tokens])
    if cfg["positions"] != "none":
        positions = np.broadcast_to(w["pos_embed.W_pos"][:n_pos], x.shape)
        x = x + hook("hook_pos_embed", positions)
    for layer in range(cfg["n_layers"]):
        block, at = f"blocks.{layer}", f"blocks.{layer}.attn"
        x = hook(f"{block}.hook_resid_pre", x)
        q, k, v = (
            hook(f"{at}.hook_{name}", np.stack([x @ matrix for matrix in w[f"{at}.W_{name.upper()}"]], 2))
            for name in "qkv"
        )  # (batch pos head d_head)
        scores = q.transpose(0, 2, 1, 3) @ k.transpose(0, 2, 3, 1) / math.sqrt(cfg["d_head"])
        scores = hook(f"{at}.hook_attn_scores", np.where(future, -np.inf, scores))  # (batch head query key)
        pattern = hook(f"{at}.hook_pattern", softmax(scores))
        z = hook(f"{at}.hook_z", (pattern @ v.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3))
        heads = [z[:, :, head] @ matrix for head, matrix in enumerate(w[f"{at}.W_O"])]
        result = hook(f"{at}.hook_result", np.stack(heads, 2))  # (batch pos head d_model)
        x = cfg["residual_gain"] * x + hook(f"{block}.hook_attn_out", result.sum(2))
        if not cfg["attn_only"]:
            x = hook(f"{block}.hook_resid_mid", x)
            pre = hook(f"{block}.mlp.hook_pre", x @ w[f"{block}.mlp.W_in"] + w[f"{block}.mlp.b_in"])
            post = hook(f"{block}.mlp.hook_post", act(cfg["act_fn"], pre))
            x = x + hook(f"{block}.hook_mlp_out", post @ w[f"{block}.mlp.W_out"] + w[f"{block}.mlp.b_out"])
        x = hook(f"{block}.hook_resid_post", x)
    found["logits"] = x @ w["unembed.W_U"]
    return found


def path_patched(
    cfg: dict, w: Mapping[str, Array], clean: Array, corrupted: Array, is_patched: Callable[[str, str], bool]
) -> Array:
    """The logits after the last token of ``clean`` where some components read what others write on ``corrupted``.

    Args:
        cfg: the model in run.json.
        w: name -> weight.
        clean, corrupted: tokens (pos).
        is_patched: whether a receiver reads what a sender writes on ``corrupted``; for the names of both, sender first:
            "tokens", "L0H1", "L0 MLP", "answer".

    Returns:
        (d_vocab_out)
    """
    found, gain, n_pos = forward(cfg, w, corrupted[None]), cfg["residual_gain"], len(clean)
    future = np.arange(n_pos)[None, :] > np.arange(n_pos)[:, None]  # (query key)
    same = w["pos_embed.W_pos"][:n_pos] if cfg["positions"] != "none" else 0.0  # (pos d_model), on both examples
    written = [("tokens", w["embed.W_E"][clean], found["hook_embed"][0])]  # sender, here and on ``corrupted``

    def read(receiver: str) -> Array:
        return same + sum(there if is_patched(sender, receiver) else here for sender, here, there in written)

    for layer in range(cfg["n_layers"]):
        block, at, heads = f"blocks.{layer}", f"blocks.{layer}.attn", []
        for head in range(cfg["n_heads"]):
            x = read(f"L{layer}H{head}")
            q, k, v = (x @ w[f"{at}.W_{name}"][head] for name in "QKV")
            pattern = softmax(np.where(future, -np.inf, q @ k.T / math.sqrt(cfg["d_head"])))
            there = found[f"{at}.hook_result"][0, :, head]
            heads.append((f"L{layer}H{head}", pattern @ v @ w[f"{at}.W_O"][head], there))
        same = gain * same
        written = [(sender, gain * here, gain * there) for sender, here, there in written] + heads
        if not cfg["attn_only"]:
            post = act(cfg["act_fn"], read(f"L{layer} MLP") @ w[f"{block}.mlp.W_in"] + w[f"{block}.mlp.b_in"])
            here = post @ w[f"{block}.mlp.W_out"] + w[f"{block}.mlp.b_out"]
            written.append((f"L{layer} MLP", here, found[f"{block}.hook_mlp_out"][0]))
    return read("answer")[-1] @ w["unembed.W_U"]


def gradient(cfg: dict, w: Mapping[str, Array], tokens: Array, positions: Array, targets: Array) -> dict[str, Array]:
    """The gradient of the mean loss of all examples at all weights, without biases of attention, which no run has."""
    found = forward(cfg, w, tokens)
    slope = mean_loss_slope(found["logits"], positions, targets) / len(tokens)
    grads = backward(cfg, w, found, slope)

    def product(x: Array, slope: Array) -> Array:
        """Of a matrix that makes x (batch pos in) into something with this slope (batch pos out)."""
        return x.reshape(-1, x.shape[-1]).T @ slope.reshape(-1, slope.shape[-1])

    of = {name: np.zeros_like(weight) for name, weight in w.items()}
    np.add.at(of["embed.W_E"], tokens, grads["hook_embed"])
    if cfg["positions"] != "none":
        of["pos_embed.W_pos"][: tokens.shape[1]] = grads["hook_pos_embed"].sum(0)
    for layer in range(cfg["n_layers"]):
        block, at = f"blocks.{layer}", f"blocks.{layer}.attn"
        for head in range(cfg["n_heads"]):
            for name in "QKV":
                slopes = grads[f"{at}.hook_{name.lower()}"][:, :, head]
                of[f"{at}.W_{name}"][head] = product(found[f"{block}.hook_resid_pre"], slopes)
            of[f"{at}.W_O"][head] = product(found[f"{at}.hook_z"][:, :, head], grads[f"{block}.hook_attn_out"])
        if not cfg["attn_only"]:
            pre, out = grads[f"{block}.mlp.hook_pre"], grads[f"{block}.hook_mlp_out"]
            of[f"{block}.mlp.W_in"] = product(found[f"{block}.hook_resid_mid"], pre)
            of[f"{block}.mlp.W_out"] = product(found[f"{block}.mlp.hook_post"], out)
            of[f"{block}.mlp.b_in"], of[f"{block}.mlp.b_out"] = pre.sum((0, 1)), out.sum((0, 1))
    of["unembed.W_U"] = product(found[f"blocks.{cfg['n_layers'] - 1}.hook_resid_post"], slope)
    return of


def backward(cfg: dict, w: Mapping[str, Array], found: Mapping[str, Array], slope: Array) -> dict[str, Array]:
    """The gradients at all hook points.

    Args:
        cfg: the model in run.json.
        w: name -> weight.
        found: what `forward` returned.
        slope: the gradient at the logits.
    """
    grads: dict[str, Array] = {}
    x = slope @ w["unembed.W_U"].T
    for layer in reversed(range(cfg["n_layers"])):
        block, at = f"blocks.{layer}", f"blocks.{layer}.attn"
        grads[f"{block}.hook_resid_post"] = x
        if not cfg["attn_only"]:
            grads[f"{block}.hook_mlp_out"] = x
            grads[f"{block}.mlp.hook_post"] = post = x @ w[f"{block}.mlp.W_out"].T
            pre = post * act_slope(cfg["act_fn"], found[f"{block}.mlp.hook_pre"])
            grads[f"{block}.mlp.hook_pre"] = pre
            x = x + pre @ w[f"{block}.mlp.W_in"].T
            grads[f"{block}.hook_resid_mid"] = x
        grads[f"{block}.hook_attn_out"] = x
        grads[f"{at}.hook_result"] = np.repeat(x[:, :, None], cfg["n_heads"], 2)
        z = np.stack([x @ matrix.T for matrix in w[f"{at}.W_O"]], 2)  # (batch query head d_head)
        grads[f"{at}.hook_z"] = z
        by_head = z.transpose(0, 2, 1, 3)  # (batch head query d_head)
        q, k, v, pattern = (found[f"{at}.hook_{name}"] for name in ("q", "k", "v", "pattern"))
        grads[f"{at}.hook_pattern"] = of_pattern = by_head @ v.transpose(0, 2, 3, 1)
        of_v = (pattern.swapaxes(-1, -2) @ by_head).transpose(0, 2, 1, 3)
        # softmax: d s_i = p_i (d p_i - sum_j p_j d p_j)
        scores = pattern * (of_pattern - (pattern * of_pattern).sum(-1, keepdims=True))
        grads[f"{at}.hook_attn_scores"] = scores
        scale = math.sqrt(cfg["d_head"])
        of_q = (scores @ k.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3) / scale
        of_k = (scores.swapaxes(-1, -2) @ q.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3) / scale
        x = cfg["residual_gain"] * x
        for name, gradient in zip("qkv", (of_q, of_k, of_v), strict=True):
            grads[f"{at}.hook_{name}"] = gradient
            for head, matrix in enumerate(w[f"{at}.W_{name.upper()}"]):
                x = x + gradient[:, :, head] @ matrix.T
        grads[f"{block}.hook_resid_pre"] = x
    grads["hook_embed"] = x
    if cfg["positions"] != "none":
        grads["hook_pos_embed"] = x
    return grads
