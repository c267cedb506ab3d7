"""The snapshots of a run as one stack of weights, which runs as one batched model.

Axes: ``snapshot`` in front, then as in `explorer.model.transformer`.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.model.architectures import activation_bytes, model_from_weights
from explorer.model.fast_forward import logits_at
from explorer.model.hooks import Hook, HookedModel
from explorer.model.transformer import ModelConfig

MEMORY_BUDGET = 128 * 2**20  # bytes of the activations of one pass; with more, they do not fit into processor caches
Hooks = Callable[[slice], Mapping[str, Hook]]  # slice of snapshots -> hook point -> hook


def _laid_out(name: str, weight: Tensor) -> Tensor:
    """The same weight; the memory of W_Q, W_K and W_V (snapshot head d_model d_head) has the order snapshot, d_model,
    head, d_head.

    The weights of all heads of a snapshot are then one matrix (d_model (head d_head)), which a matrix product reads
    without a copy. Otherwise each forward pass would copy them.
    """
    return weight.transpose(1, 2).contiguous().transpose(1, 2) if _is_projection(name) else weight


def _is_projection(name: str) -> bool:
    return name.rsplit(".", 1)[-1] in ("W_Q", "W_K", "W_V")


class _Memory:
    """The weights of several snapshots, with spare capacity for later ones.

    Written memory is never overwritten, so ensembles of the first snapshots stay valid when later ones are appended.
    """

    def __init__(self, weights: Mapping[str, Tensor], capacity: int):
        self._lock = threading.Lock()
        self._capacity, self._used = capacity, 0
        self._weights = {
            name: self._laid_out_empty(name, (capacity, *weight.shape[1:]), weight) for name, weight in weights.items()
        }

    @staticmethod
    def _laid_out_empty(name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        if _is_projection(name):
            snapshot, head, d_model, d_head = shape
            return like.new_empty(snapshot, d_model, head, d_head).transpose(1, 2)
        return like.new_empty(shape)

    def append(self, after: int, weights: Mapping[str, Tensor]) -> bool:
        """Write snapshots after the first ``after``; False if others are there or the capacity is too small."""
        n = len(next(iter(weights.values())))
        with self._lock:
            if after != self._used or after + n > self._capacity:
                return False
            for name, weight in weights.items():
                self._weights[name][after : after + n] = weight
            self._used += n
            return True

    def first(self, n: int) -> dict[str, Tensor]:
        """The weights of the first ``n`` snapshots, (snapshot, ...), without a copy."""
        return {name: weight[:n] for name, weight in self._weights.items()}


class Ensemble:
    """All snapshots of one run as one stack.

    Attributes:
        cfg: the model's shape.
        steps: the step of each snapshot, ascending.
        weights: name -> (snapshot, ...) tensor, shared and never written to.
    """

    def __init__(self, cfg: ModelConfig, steps: Sequence[int], weights: Mapping[str, Tensor]):
        self.cfg, self.steps = cfg, tuple(steps)
        self.weights = {name: _laid_out(name, weight) for name, weight in weights.items()}
        self._memory: _Memory | None = None  # of the weights, if `gathered` or `followed_by` made it

    @classmethod
    def gathered(cls, cfg: ModelConfig, snapshots: Iterable[tuple[int, Mapping[str, Tensor]]], most: int) -> "Ensemble":
        """The stack of snapshots that come one after another, each of which may be forgotten before the next one comes.

        Args:
            cfg: the model's shape.
            snapshots: (step, weights by name) of each, with ascending steps; the weights become float32.
            most: how many there may be; memory is allocated for as many.
        """
        memory, steps = None, list[int]()
        for step, weights in snapshots:
            one = {name: weight.float()[None] for name, weight in weights.items()}
            memory = memory or _Memory(one, most)
            memory.append(len(steps), one)
            steps.append(step)
            del weights, one  # before the next snapshot is read
        stack = cls(cfg, steps, {} if memory is None else memory.first(len(steps)))
        stack._memory = memory
        return stack

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def nbytes(self) -> int:
        """The bytes of memory that its weights take, with their spare capacity."""
        storages = {weight.untyped_storage().data_ptr(): weight.untyped_storage() for weight in self.weights.values()}
        return sum(storage.nbytes() for storage in storages.values())

    def model(self, snapshots: slice = slice(None)) -> HookedModel:
        """A new model on the shared weights of some snapshots.

        Args:
            snapshots: slice of the snapshot axis.
        """
        return model_from_weights(self.cfg, {name: w[snapshots] for name, w in self.weights.items()})

    def _alone(self, snapshot: int) -> HookedModel:
        """The model of one snapshot, without a snapshot axis."""
        return model_from_weights(self.cfg, {name: w[snapshot] for name, w in self.weights.items()})

    def select(self, snapshots: slice | list[int]) -> "Ensemble":
        """The ensemble of some of the snapshots.

        Args:
            snapshots: slice of the snapshot axis, which shares the weights, or places on it, which copies them.
        """
        places = range(len(self))[snapshots] if isinstance(snapshots, slice) else snapshots
        weights = {name: weight[snapshots] for name, weight in self.weights.items()}
        return Ensemble(self.cfg, [self.steps[place] for place in places], weights)

    def followed_by(self, later: "Ensemble") -> "Ensemble":
        """An ensemble of these snapshots and then those of ``later``.

        A run that is being trained grows by a few snapshots at a time. So twice the memory is allocated, and later
        snapshots are appended in place; everything is copied only when the capacity is used up.

        Args:
            later: snapshots of the same run, with later steps.
        """
        memory, steps = self._memory, self.steps + later.steps
        if memory is None or not memory.append(len(self), later.weights):
            memory = _Memory(self.weights, 2 * len(steps))
            memory.append(0, self.weights)
            memory.append(len(self), later.weights)
        grown = Ensemble(self.cfg, steps, memory.first(len(steps)))
        grown._memory = memory
        return grown

    def run(
        self,
        tokens: Int[Tensor, "... batch pos"],
        names: Iterable[str] = (),
        loss: Callable[[Tensor], Tensor] | None = None,
        budget: int = MEMORY_BUDGET,
        hooks: Hooks | None = None,
    ) -> tuple[Float[Tensor, "snapshot batch pos d_vocab_out"], dict[str, Tensor]]:
        """One forward pass of every snapshot.

        Args:
            tokens: (batch pos), the same for all, or (snapshot batch pos).
            names: the hook points to cache.
            loss: logits (snapshot batch pos d_vocab_out) -> loss, any shape; adds each activation's gradient to the
                cache, under ``name + "_grad"``.
            budget: as for `passes`; does not include what is returned.
            hooks: as for `passes`.

        Returns:
            logits (snapshot batch pos d_vocab_out), and name -> activation with ``snapshot`` in front.

        Raises:
            UserError: no such hook point.
        """
        logits, caches = zip(*self.passes(tokens, names, loss, budget, hooks), strict=True)
        return torch.cat(logits), {name: torch.cat([cache[name] for cache in caches]) for name in caches[0]}

    @torch.no_grad()
    def logits_at(
        self, tokens: Int[Tensor, "batch pos"], positions: Int[Tensor, "batch query"]
    ) -> Float[Tensor, "snapshot batch query d_vocab_out"]:
        """The logits of every snapshot at some positions, by the pass that trains, which is faster on many examples.

        Args:
            tokens: the examples.
            positions: of each example.
        """
        models = (self._alone(i) for i in range(len(self)))
        return torch.stack([logits_at(one, tokens, positions) for one in models])

    def passes(
        self,
        tokens: Int[Tensor, "... batch pos"],
        names: Iterable[str] = (),
        loss: Callable[[Tensor], Tensor] | None = None,
        budget: int = MEMORY_BUDGET,
        hooks: Hooks | None = None,
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """As `run`, but for some snapshots at a time, so that not all activations are in memory at once.

        Args:
            tokens, names, loss: as for `run`.
            budget: bytes of activations, and of their gradients, in one pass; as many snapshots are run at once as
                fit, and at least one.
            hooks: slice of the snapshots in a pass -> name -> forward hook. A hook is given the activation with
                ``snapshot`` in front; the cache holds what it returns.

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
