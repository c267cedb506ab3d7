"""Small stacks of snapshots of every kind of model, and examples to run them on."""

import torch

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
