"""The memory of a training, estimated before it starts."""

import functools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from explorer.errors import UserError
from explorer.model.architectures import n_weights, new_model
from explorer.model.fast_forward import logits_at
from explorer.model.transformer import ModelConfig
from explorer.settings import TrainingConfig
from explorer.tasks.task import Task
from explorer.training.half_precision import PROBE
from explorer.training.measuring import rows_at_once
from explorer.training.optimiser import n_moments

PROCESS = 300 * 2**20  # bytes of a process that has imported torch
FIRST = 2**25  # bytes that torch takes with its first operations, whatever they are
SLACK = 1.2  # times the tensors that exist: freed memory that does not fit what is needed next
DRAWING = 3  # times the size of a batch that is taken, besides it, while it is drawn


def memory_needed(task: Task, model_config: ModelConfig, training: TrainingConfig) -> int:
    """The peak memory of a training, estimated from shapes: what a process takes beyond importing torch.

    It is the sum of what is kept all the time, the weights, what the optimiser remembers of them and the training data;
    and of the larger of
    - drawing the training data, which is done again for tests and for the check of half precision,
    - an update and a test, since the memory that one has freed is kept, in blocks that rarely fit the other, while a
      snapshot, a copy of the weights and of what the optimiser remembers, is written, and checked if it may be in half
      precision.

    Args:
        task: that is trained.
        model_config: of the model.
        training: the settings of the run.

    Returns:
        Bytes.
    """
    examples = task.n_train(training)
    n_test = task.n_test(training) if examples else 0
    batch = examples if examples and training.full_batch else training.batch_size
    weights, row = 4 * n_weights(model_config), _row(task)
    state = weights * (1 + n_moments(training))
    update = peak_bytes(task, model_config, max(batch, 1), learns=True)
    if batch != examples:
        update += row * batch * (1 if examples else 1 + DRAWING)
    tested = measuring_bytes(task, model_config, n_test) + row * n_test * (1 + DRAWING)
    writing = state
    if training.snapshot_dtype == "float16":
        probe = min(PROBE, task.n_test(training))
        if examples:
            probe = max(probe, min(PROBE, examples))
        writing += weights * 3 // 2 + measuring_bytes(task, model_config, probe)
    drawing = row * examples * DRAWING
    rows = 2 * _recorded(task) * training.steps * (1 + bool(examples) / training.test_every)
    tensors = state + row * examples + max(drawing, writing + update + tested) + rows
    return FIRST + int(SLACK * tensors)


def _row(task: Task) -> int:
    """The bytes of one example."""
    one = task.endless_stream(1, 0).next()
    return sum(values.nbytes for values in (one.tokens, one.positions, one.targets, *one.extra.values()))


def _recorded(task: Task) -> int:
    """The bytes of what is recorded at each step."""
    return 8 + 4 * (len(task.loss_names) + sum(len(measure.lines) for measure in task.measures.values()))


def measuring_bytes(task: Task, model_config: ModelConfig, n_examples: int) -> int:
    """The memory of `measured_on`.

    Args:
        task: that is measured.
        model_config: of the model.
        n_examples: of the batch.

    Returns:
        Bytes: the activations of a part of the batch, and all logits and losses, twice while they are joined.
    """
    if not n_examples:
        return 0
    one = task.endless_stream(1, 0).next()
    answers = n_examples * one.positions.shape[1]
    part = min(n_examples, rows_at_once(one.tokens.shape[1]))
    found = answers * (4 * model_config.d_vocab_out + 8)
    return peak_bytes(task, model_config, part, learns=False) + found * (1 if part == n_examples else 2)


@functools.lru_cache(maxsize=256)
def peak_bytes(task: Task, model_config: ModelConfig, n_examples: int, learns: bool) -> int:
    """The largest sum of the sizes of all tensors that exist at a time during a forward pass.

    It is measured on the meta device, whose tensors have shapes but no values.

    Args:
        task: that is trained.
        model_config: of the model.
        n_examples: of the batch.
        learns: also during the backward pass; the gradients of the weights are among the tensors.

    Returns:
        Bytes.
    """
    meta = torch.device("meta")
    batch = task.endless_stream(1, 0).next().to(meta).rows(torch.zeros(n_examples, dtype=torch.int64, device=meta))
    with meta:
        model = new_model(model_config)
    watched = dict.fromkeys(task.watched_gradients if learns else (), lambda gradient, name: None)
    weights = list(model.parameters())
    with _Sizes() as sizes, _Fused(), torch.set_grad_enabled(learns), model.hooks(backward=watched):
        losses = task.losses(logits_at(model, batch.tokens, batch.positions), batch)
        if learns:
            kept = torch.autograd.grad(losses.mean(), weights)
            del kept
    return sizes.peak


class _Sizes(TorchDispatchMode):
    """Adds up the sizes of the tensors that exist.

    Attributes:
        peak: the largest sum so far, in bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            storage = tensor.untyped_storage() if isinstance(tensor, Tensor) else None
            if storage is not None and storage._cdata not in self._known:
                self._known.add(storage._cdata)
                self._now += storage.nbytes()
                self.peak = max(self.peak, self._now)
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        return made

    def _freed(self, storage: int, size: int) -> None:
        self._known.discard(storage)
        self._now -= size


class _Fused(TorchFunctionMode):
    """Gives fused attention, which the meta device lacks, the shapes that it has elsewhere."""

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is scaled_dot_product_attention:
            return _FusedAttention.apply(*args[:3])
        return func(*args, **(kwargs or {}))


class _FusedAttention(torch.autograd.Function):
    """Saves queries, keys, values and results for the backward pass, and no attention pattern."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        z = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, z)
        return z

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(x) for x in ctx.saved_tensors[:3])


def free_memory() -> int:
    """The bytes of memory that are free now."""
    return int(psutil.virtual_memory().available)


def check_memory(task: Task, model_config: ModelConfig, training: TrainingConfig) -> None:
    """Check that a training fits into the memory that is free now.

    Args:
        task: that is trained.
        model_config: of the model.
        training: the settings of the run.

    Raises:
        UserError: it does not; the sentence states the estimate.
    """
    needed, free = memory_needed(task, model_config, training), free_memory()
    if needed > free:
        raise UserError(
            f"This training would take about {needed / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} GiB are "
            f"free; make the model, batch_size, test_batch_size or the training data smaller."
        )
