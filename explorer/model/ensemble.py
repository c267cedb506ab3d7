"""The snapshots of a run as one stack, run as one batched model.

Axes: ``snapshot`` in front, then as in `explorer.model.transformer`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from explorer.model.architectures import activation_bytes, model_from_weights
from explorer.model.hooks import Hook, HookedModel
from explorer.model.transformer import ModelConfig

MEMORY_BUDGET = 128 * 2**20  # bytes of activations that one chunk of snapshots may hold; with more, caches thrash
Hooks = Callable[[slice], Mapping[str, Hook]]  # the hooks for some of the snapshots


def _laid_out(name: str, weight: Tensor) -> Tensor:
    """The same weight; W_Q, W_K and W_V (snapshot head d_model d_head) lie in memory as (snapshot d_model head d_head).

    The heads of a snapshot are then one matrix, which a sum over d_model reads where it lies. Otherwise each forward
    pass would copy them.
    """
    if name.rsplit(".", 1)[-1] in ("W_Q", "W_K", "W_V"):
        return weight.transpose(1, 2).contiguous().transpose(1, 2)
    return weight


class Ensemble:
    """All snapshots of one run at once.

    Attributes:
        cfg: the model's shape.
        steps: the step of each snapshot, ascending.
        weights: name -> (snapshot, ...) tensor, shared and never written to.
    """

    def __init__(self, cfg: ModelConfig, steps: Sequence[int], weights: Mapping[str, Tensor]):
        self.cfg, self.steps = cfg, tuple(steps)
        self.weights = {name: _laid_out(name, weight) for name, weight in weights.items()}

    def __len__(self) -> int:
        return len(self.steps)

    def model(self, snapshots: slice = slice(None)) -> HookedModel:
        """A new model on the shared weights of some snapshots, for hooks of one's own."""
        return model_from_weights(self.cfg, {name: w[snapshots] for name, w in self.weights.items()})

    def select(self, snapshots: slice) -> "Ensemble":
        """The ensemble of some of the snapshots, on the same memory."""
        return Ensemble(self.cfg, self.steps[snapshots], {name: w[snapshots] for name, w in self.weights.items()})

    def followed_by(self, later: "Ensemble") -> "Ensemble":
        """An ensemble of these snapshots and then those of ``later``."""
        weights = {name: torch.cat([weight, later.weights[name]]) for name, weight in self.weights.items()}
        return Ensemble(self.cfg, self.steps + later.steps, weights)

    def run(
        self,
        tokens: Tensor,
        names: Iterable[str] = (),
        loss: Callable[[Tensor], Tensor] | None = None,
        budget: int = MEMORY_BUDGET,
        hooks: Hooks | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One forward pass of every snapshot.

        Args:
            tokens: (batch pos), the same for all, or (snapshot batch pos).
            names: the hook points wanted.
            loss: logits (snapshot batch pos d_vocab_out) -> loss, any shape; adds each activation's gradient.
            budget: see `passes`; what is returned comes on top.
            hooks: see `passes`.

        Returns:
            logits (snapshot batch pos d_vocab_out), and name -> activation with ``snapshot`` in front.

        Raises:
            UserError: no such hook point.
        """
        logits, caches = zip(*self.passes(tokens, names, loss, budget, hooks), strict=True)
        return torch.cat(logits), {name: torch.cat([cache[name] for cache in caches]) for name in caches[0]}

    def passes(
        self,
        tokens: Tensor,
        names: Iterable[str] = (),
        loss: Callable[[Tensor], Tensor] | None = None,
        budget: int = MEMORY_BUDGET,
        hooks: Hooks | None = None,
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """As `run`, some snapshots at a time, for what need not be kept whole.

        Args:
            budget: bytes of activations, and of their gradients, that a pass may hold; as many snapshots go through
                at once as fit, and a single one always.
            hooks: which snapshots -> name -> forward hook, to change what flows through a pass. A hook is given
                activations with ``snapshot`` in front, and what it returns is what the cache has.

        Yields:
            What `run` returns, for the snapshots of each pass in turn.
        """
        names = tuple(names)
        per_snapshot = tokens.shape[-2] * activation_bytes(self.cfg, tokens.shape[-1]) * (1 if loss is None else 2)
        size = max(1, budget // per_snapshot)
        for start in range(0, len(self), size):
            chunk = slice(start, min(start + size, len(self)))
            model, part = self.model(chunk), tokens[chunk] if tokens.ndim == 3 else tokens
            with model.hooks(forward=hooks(chunk) if hooks else None):
                found = model.run_with_cache(part, names, loss)
            yield found
