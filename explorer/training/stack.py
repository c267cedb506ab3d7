"""Several runs of one shape, trained as one stack: each update is one batched forward and backward pass.

Where calls cost more than arithmetic, as for a small model on a CPU or for any of these on a GPU, a stack takes little
more time than one run. Its runs may differ in everything but their shapes: in seed, learning rate, weight decay. Each
draws its own batches, and its `Training` does all the rest, so each has the results that it has by itself, up to
rounding; and bit for bit those that it has in a stack with any other runs. To that end a stack has at least two models,
since torch rounds the products of a single one in another way: a run that is left alone has a stand-in beside it.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch

from explorer.errors import UserError
from explorer.model.architectures import model_from_weights
from explorer.model.hooks import HookedModel
from explorer.tasks.data import Batch
from explorer.training.loop import Learnt, Measured, Training, learn
from explorer.training.plan import Plan


def shape_of(plan: Plan) -> Hashable:
    """What runs must have in common to be trained as one stack.

    Args:
        plan: the settings of a run.

    Returns:
        A value that is equal for two plans if they can.
    """
    return plan.task, plan.model, plan.batch_size


class Stack:
    """Trainings that take their updates together. Those that are over, or fail, leave it.

    Args:
        trainings: at least one; the plans of all have the same `shape_of`, and all are on one device.
    """

    def __init__(self, trainings: Sequence[Training]):
        self._trainings = [training for training in trainings if not training.over]
        self._gather()

    def _gather(self) -> None:
        """Make one stack of the weights. Those of each training become a part of it."""
        if not self._trainings:
            return
        states = _at_least_two([training.model.state_dict() for training in self._trainings])
        weights = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        for i, training in enumerate(self._trainings):
            training.move({name: weight[i] for name, weight in weights.items()})
        self._model: HookedModel = model_from_weights(self._trainings[0].model_config, weights).requires_grad_()
        self._weights = list(self._model.parameters())

    def leave(self, training: Training) -> None:
        """Take a training out, which goes on by itself or not at all.

        Args:
            training: one of the stack.
        """
        self._trainings.remove(training)
        training.move({name: weight.clone() for name, weight in training.model.named_parameters()})
        self._gather()

    def updates(self) -> Iterator[list[tuple[Training, tuple[Measured, bool] | UserError]]]:
        """Train all to their last steps.

        Yields:
            For one update of each: the training, and what `Training.taken` returned, or the error that it raised.
        """
        while self._trainings:
            batches = [training.drawn() for training in self._trainings]
            learnt = learn(self._model, self._trainings[0].task, _stacked(batches), self._weights)
            taken = list(self._taken(learnt))
            yield taken
            for training, outcome in taken:
                if training in self._trainings and (training.over or isinstance(outcome, UserError)):
                    self.leave(training)

    def _taken(self, learnt: Learnt) -> Iterator[tuple[Training, tuple[Measured, bool] | UserError]]:
        for i, training in enumerate(self._trainings):
            measured = {name: values[i] for name, values in learnt.measured.items()}
            outcome: tuple[Measured, bool] | UserError
            try:
                outcome = training.taken(Learnt(measured, [gradient[i] for gradient in learnt.gradients]))
            except UserError as error:  # it diverged; the others go on
                outcome = error
            yield training, outcome


def _stacked(batches: Sequence[Batch]) -> Batch:
    """The examples of all trainings, with a leading axis."""
    all_of = _at_least_two(list(batches))
    extra = {name: torch.stack([batch.extra[name] for batch in all_of]) for name in batches[0].extra}
    tokens, positions, targets = (
        torch.stack([getattr(batch, name) for batch in all_of]) for name in ("tokens", "positions", "targets")
    )
    return Batch(tokens, positions, targets, extra)


def _at_least_two(of_each: list[Any]) -> list[Any]:
    return of_each * 2 if len(of_each) == 1 else of_each
