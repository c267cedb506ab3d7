"""The memory of a training, estimated before it starts."""

import functools

import psutil
import torch
from torch import Tensor

from explorer.errors import UserError
from explorer.model.architectures import n_weights, new_model
from explorer.model.fast_forward import logits_at
from explorer.model.transformer import ModelConfig
from explorer.settings import TrainingConfig
from explorer.tasks.task import Task


def memory_needed(task: Task, model_config: ModelConfig, training: TrainingConfig) -> int:
    """The peak memory of a training, estimated from shapes.

    It is the sum of
    - the weights, their gradients and AdamW's two moments, with copies of them while they are written,
    - three times the activations that are saved for the backward pass, which itself needs twice as much; or those of a
      test, if that is more,
    - the logits and their gradients, in float64,
    - the training data, which are drawn again for tests and for the check of half precision.

    Args:
        task: that is trained.
        model_config: of the model.
        training: the settings of the run.

    Returns:
        Bytes.
    """
    examples = task.n_train(training)
    batch = examples if examples and training.full_batch else training.batch_size
    test = task.n_test(training) if examples else 0
    train, tested = (saved_bytes(task, model_config, max(n, 1)) for n in (batch, test))
    one = task.endless_stream(1, 0).next()
    row = sum(values.nbytes for values in (one.tokens, one.positions, one.targets, *one.extra.values()))
    logits = max(batch, test) * one.positions.shape[1] * model_config.d_vocab_out
    weights, data = 4 * 10 * n_weights(model_config), row * (4 * examples + batch + 2 * test)
    return weights + max(3 * train, tested) + 2 * 8 * logits + data


@functools.lru_cache(maxsize=256)
def saved_bytes(task: Task, model_config: ModelConfig, n_examples: int) -> int:
    """The memory of the tensors that a forward pass saves for its backward pass.

    It is measured on the meta device, where fused attention is not available and attention patterns are saved as well:
    with many positions the result is too high, by a factor of up to about two.

    Args:
        task: that is trained.
        model_config: of the model.
        n_examples: of the batch.

    Returns:
        Bytes.
    """
    meta, kept = torch.device("meta"), {}
    batch = task.endless_stream(1, 0).next().to(meta).rows(torch.zeros(n_examples, dtype=torch.int64, device=meta))
    with meta:
        model = new_model(model_config)

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        task.losses(logits_at(model, batch.tokens, batch.positions), batch)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def check_memory(task: Task, model_config: ModelConfig, training: TrainingConfig) -> None:
    """Check that a training fits into the memory that is free now.

    Args:
        task: that is trained.
        model_config: of the model.
        training: the settings of the run.

    Raises:
        UserError: it does not; the sentence states the estimate.
    """
    needed, free = memory_needed(task, model_config, training), psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"This training would take about {needed / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} GiB are "
            f"free; make the model, batch_size or the training data smaller."
        )
