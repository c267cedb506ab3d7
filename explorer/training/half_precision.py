"""Whether the weights of a snapshot may be kept in float16: where the losses stay within `TOLERANCE`."""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from explorer.model.architectures import model_from_weights
from explorer.model.transformer import ModelConfig
from explorer.settings import TrainingConfig
from explorer.tasks.data import Batch
from explorer.tasks.task import Task
from explorer.training.measuring import measured_on

TOLERANCE = 0.01  # if float16 changes a loss by a larger share, weights are kept in float32
PROBE = 1024  # examples, at most, on which a loss is measured


def probes(task: Task, training: TrainingConfig) -> list[Batch]:
    """The examples on which losses are compared: unseen ones and, for finite data, training examples.

    Args:
        task: that is trained.
        training: the settings of the run.

    Returns:
        One or two batches of at most `PROBE` examples.
    """
    few = dataclasses.replace(training, test_batch_size=min(training.test_batch_size, PROBE))
    found = [task.test_stream(few).next()]
    if (examples := task.training_set(training)) is not None:
        found.append(examples)
    return [batch.rows(torch.arange(min(len(batch.tokens), PROBE))) for batch in found]  # copies, not views of all


def halved(
    task: Task, model_config: ModelConfig, weights: Mapping[str, Tensor], probes: Sequence[Batch]
) -> Mapping[str, Tensor]:
    """Weights in float16, if the loss on every probe changes by at most `TOLERANCE`.

    Args:
        task: that is trained.
        model_config: of the model.
        weights: by name, float32.
        probes: batches of the task.

    Returns:
        The weights by name, all of them in float16 or as they are given.
    """
    half = {name: weight.half() for name, weight in weights.items()}
    models = [
        model_from_weights(model_config, {name: weight.float() for name, weight in each.items()})
        for each in (half, weights)
    ]
    for probe in probes:
        rounded, exact = (measured_on(model, task, probe)[1].mean() for model in models)
        if not (rounded - exact).abs() <= TOLERANCE * exact:
            return weights
    return half
