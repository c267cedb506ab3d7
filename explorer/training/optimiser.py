"""The optimisers, by torch's functions: the overhead of its classes takes longer than a small step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from explorer.settings import TrainingConfig

EPS = 1e-8  # of AdamW


class Optimiser(ABC):
    """One optimiser, for one list of weights.

    Attributes:
        moments: name -> (weight,) what it remembers of each weight; it determines all updates to come.
    """

    moments: Mapping[str, Sequence[Tensor]]

    @abstractmethod
    def improve(self, weights: list[Tensor], gradients: list[Tensor], lr: float) -> None:
        """Change the weights by one update.

        Args:
            weights: always the same.
            gradients: (weight,) contiguous, as the fused kernels ignore strides.
            lr: learning rate of this update.
        """


class AdamW(Optimiser):
    """As `torch.optim.AdamW`: weights decay by lr times weight_decay, apart from their gradients."""

    def __init__(self, training: TrainingConfig, weights: Sequence[Tensor]):
        self._training = training
        self._steps = [torch.zeros((), device=weight.device) for weight in weights]
        self._averages, self._squares = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
        self.moments = {"step": self._steps, "exp_avg": self._averages, "exp_avg_sq": self._squares}

    def improve(self, weights: list[Tensor], gradients: list[Tensor], lr: float) -> None:
        training = self._training
        adamw(
            weights,
            gradients,
            self._averages,
            self._squares,
            [],
            self._steps,
            lr=lr,
            beta1=training.beta1,
            beta2=training.beta2,
            weight_decay=training.weight_decay,
            eps=EPS,
            fused=True,
            amsgrad=False,
            maximize=False,
        )


class SGD(Optimiser):
    """As `torch.optim.SGD`: weight_decay times each weight is added to its gradient, and so enters the momentum."""

    def __init__(self, training: TrainingConfig, weights: Sequence[Tensor]):
        self._training = training
        # Averages of 0 before the first update give what torch does, which has none then.
        averages = [torch.zeros_like(weight) for weight in weights] if training.momentum else []
        self._averages: list[Tensor | None] = [*averages] or [None for _ in weights]
        self.moments = {"momentum": averages} if averages else {}

    def improve(self, weights: list[Tensor], gradients: list[Tensor], lr: float) -> None:
        sgd(
            weights,
            gradients,
            self._averages,
            lr=lr,
            momentum=self._training.momentum,
            weight_decay=self._training.weight_decay,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            fused=True,
        )


OPTIMISERS: Mapping[str, type[AdamW] | type[SGD]] = {"adamw": AdamW, "sgd": SGD}


def n_moments(training: TrainingConfig) -> int:
    """How many tensors of the size of the weights the optimiser remembers.

    Args:
        training: the settings of the run.
    """
    return 2 if training.optimiser == "adamw" else int(training.momentum > 0)
