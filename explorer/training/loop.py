"""The training loop. It neither writes files nor displays anything: it yields its measurements to the caller.

Row ``i`` of everything recorded is measured on the batch of update ``i``, before that update, with the weights of step
``i``. A `Training` may be stopped between any two updates and restored from its `state`: the remaining training is then
bit for bit the same as without the interruption.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from explorer.errors import UserError, quoted
from explorer.model.architectures import new_model
from explorer.model.fast_forward import logits_at
from explorer.model.hooks import HookedModel
from explorer.model.transformer import ModelConfig
from explorer.settings import TrainingConfig
from explorer.tasks.data import Batch, Stream
from explorer.tasks.task import Task
from explorer.training.measuring import measured_on
from explorer.training.optimiser import OPTIMISERS, Optimiser
from explorer.training.process import device_named
from explorer.training.schedule import SnapshotSchedule, learning_rate


@dataclass(frozen=True, eq=False)
class Measured:
    """The losses of one step, in nats, and the task's measures. Test losses are None at a step without a test."""

    step: int
    loss: float
    per_token: Tensor  # (token,) float64; nan for a token that does not occur in the batch
    test_loss: float | None = None
    test_per_token: Tensor | None = None  # (token,) float64
    measures: Mapping[str, Tensor] = field(default_factory=dict)  # name -> (line,); those of the test as "test_" + name


@dataclass(frozen=True, eq=False)
class Learnt:
    """What is known of a batch before an update: of one model, or of each of a stack, with a leading axis."""

    measured: Mapping[str, Tensor]  # "loss" -> (...), "per_token" -> (... token), and the task's measures (... line)
    gradients: Sequence[Tensor]  # (weight,) of each model's mean loss


class Training:
    """One training, from its first step or from a saved state.

    Initial weights and data are drawn on the CPU, whatever the device. The seed determines a run on the CPU bit for
    bit; on a GPU, where the order of additions varies, up to rounding.

    Args:
        task: that is trained.
        model_config: of the model.
        training: the settings of the run.
        device: one of `process.DEVICES`.

    Raises:
        UserError: the settings do not fit the task, or there is no such device.
    """

    def __init__(self, task: Task, model_config: ModelConfig, training: TrainingConfig, device: str = "cpu"):
        self.task, self.model_config, self.training = task, model_config, training
        self.device = device_named(device)
        self.step = 0
        self.model = new_model(model_config, training.seed).to(self.device)
        self.schedule = SnapshotSchedule(training)
        self._weights: list[Tensor] = list(self.model.parameters())
        self._optimiser: Optimiser = OPTIMISERS[training.optimiser](training, self._weights)
        self._train = task.train_stream(training)
        self._test = task.test_stream(training) if task.n_train(training) else None
        self._over = False  # whether a loss below stop_below has ended training before the last step

    def updates(self) -> Iterator[tuple[Measured, bool]]:
        """Train to the last step, one update for each item.

        Yields:
            The measurements before the update, and whether a snapshot of the weights after it is due.

        Raises:
            UserError: a loss or a weight is not finite.
        """
        while not self.over:
            yield self.taken(learn(self.model, self.task, self.drawn(), self._weights))

    def drawn(self) -> Batch:
        """The batch of the next update."""
        return self._train.next().to(self.device)

    def taken(self, learnt: Learnt) -> tuple[Measured, bool]:
        """Take one update.

        Args:
            learnt: from the batch that `drawn` returned.

        Returns:
            An item of `updates`.

        Raises:
            UserError: the loss or a weight is not finite.
        """
        training, found = self.training, dict(learnt.measured)
        with torch.no_grad():
            if self._test is not None and self.step % training.test_every == 0:
                found |= {f"test_{name}": values for name, values in self._tested(self._test).items()}
            gradients = [gradient.contiguous() for gradient in learnt.gradients]
            self._optimiser.improve(self._weights, gradients, learning_rate(training, self.step))
        measured = self._measured(found)
        self.step += 1
        losses = measured.per_token
        if self._test is not None:
            tested = measured.test_per_token
            losses = torch.cat([losses, torch.full_like(losses, torch.nan) if tested is None else tested])
        due = self.schedule.wants(self.step, losses)
        unseen = measured.loss if self._test is None else measured.test_loss
        self._over = unseen is not None and unseen < training.stop_below
        if (due or self.over) and not all(weight.isfinite().all() for weight in self._weights):
            raise UserError(self._diverged("Some weights are no longer finite"))
        return measured, due or (self._over and self.schedule.wants_first)

    def move(self, memory: Mapping[str, Tensor]) -> None:
        """Keep the weights in other memory from now on.

        Args:
            memory: name -> memory of the shape of one weight, to which that is copied.
        """
        for name, weight in self.model.named_parameters():
            weight.data = memory[name].copy_(weight.data)

    @property
    def over(self) -> bool:
        """Whether training is complete."""
        return self._over or self.step >= self.training.steps

    def _moments(self) -> dict[str, Tensor]:
        """What the optimiser remembers of each weight, by the names in `state`."""
        names = [name for name, _ in self.model.named_parameters()]
        return {
            f"optimiser.{key}.{name}": moment
            for key, moments in self._optimiser.moments.items()
            for name, moment in zip(names, moments, strict=True)
        }

    def _tested(self, stream: Stream) -> dict[str, Tensor]:
        """Losses and measures of one test batch."""
        batch = stream.next().to(self.device)
        return _measures(self.task, batch, *measured_on(self.model, self.task, batch), {})

    def _measured(self, found: Mapping[str, Tensor]) -> Measured:
        """The row of this step. Only here the CPU waits for a GPU, when the whole update is queued there.

        Raises:
            UserError: the loss is not finite.
        """
        if self.device.type != "cpu":
            numbers = torch.cat([values.double().flatten() for values in found.values()]).cpu()
            parts = numbers.split([values.numel() for values in found.values()])
            found = {name: part.view(found[name].shape) for name, part in zip(found, parts, strict=True)}
        measures = {name: values.detach() for name, values in found.items()}
        loss, per_token = measures.pop("loss").item(), measures.pop("per_token")
        if not math.isfinite(loss):
            raise UserError(self._diverged(f"The loss is {loss}"))
        test_loss, test_per_token = measures.pop("test_loss", None), measures.pop("test_per_token", None)
        return Measured(
            self.step, loss, per_token, None if test_loss is None else test_loss.item(), test_per_token, measures
        )

    def _diverged(self, sign: str) -> str:
        return f"{sign} at step {self.step}: this training diverged; a smaller lr than {self.training.lr} may help."

    def weights(self) -> dict[str, Tensor]:
        """A copy of the current weights on the CPU."""
        return {name: _copy(weight) for name, weight in self.model.state_dict().items()}

    def state(self) -> dict[str, Tensor]:
        """A copy of everything that determines the remaining training, as named tensors on the CPU."""
        state = {f"weights.{name}": weight for name, weight in self.weights().items()}
        if self.step:
            state |= {name: _copy(moment) for name, moment in self._moments().items()}
        state["step"] = torch.tensor(self.step)
        state["over"] = torch.tensor(self._over)
        state["schedule"] = self.schedule.state()
        state["train_stream"] = self._train.state()
        if self._test is not None:
            state["test_stream"] = self._test.state()
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`.

        Args:
            state: of a training with the same task, model and settings.

        Raises:
            UserError: it is not such a state.
        """
        self._check(state)
        self.model.load_state_dict(weights_in(state))
        self.step, self._over = int(state["step"]), bool(state["over"])
        for name, moment in self._moments().items():
            moment.copy_(state[name] if self.step else torch.zeros(()))
        self.schedule.restore(state["schedule"])
        self._train.restore(state["train_stream"])
        if self._test is not None:
            self._test.restore(state["test_stream"])

    def _check(self, state: dict[str, Tensor]) -> None:
        """Check that ``state`` has the names, shapes and types of this training's state."""
        expected = self.state()
        step = state.get("step")
        if step is None or step.shape or not 0 <= int(step) <= self.training.steps:
            raise UserError("The state has no valid step of this training.")
        if int(step):
            expected |= self._moments()
            n_losses = len(self.task.loss_names) * (1 if self._test is None else 2)
            expected["schedule"] = self.schedule.empty_state(n_losses)
        if missing := sorted(expected.keys() - state.keys()):
            raise UserError(f"The state lacks {quoted(', '.join(missing), 200)}; it is not one of this training.")
        for name, tensor in expected.items():
            if name == "schedule" and not self.schedule.follows:
                continue
            if (state[name].shape, state[name].dtype) != (tensor.shape, tensor.dtype):
                raise UserError(
                    f"{name} in the state has shape {tuple(state[name].shape)} and type {state[name].dtype}; this "
                    f"training has {tuple(tensor.shape)} and {tensor.dtype}."
                )


def weights_in(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in a state of a training.

    Args:
        state: as `Training.state` returns it.

    Returns:
        Name -> weight, as in `state_dict`.
    """
    return {name.removeprefix("weights."): tensor for name, tensor in state.items() if name.startswith("weights.")}


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def learn(model: HookedModel, task: Task, batch: Batch, weights: Sequence[Tensor]) -> Learnt:
    """What one update of a model, or of each of a stack, needs to know of its batch.

    Args:
        model: one model, or a stack.
        task: that is trained.
        batch: its examples; for a stack, those of all models, with a leading axis.
        weights: of the model.
    """
    gradients: dict[str, Tensor] = {}

    def watch(gradient: Tensor, name: str) -> None:
        gradients[name] = gradient

    with model.hooks(backward=dict.fromkeys(task.watched_gradients, watch)):
        logits = logits_at(model, batch.tokens, batch.positions)
    losses = task.losses(logits, batch)
    of_weights = torch.autograd.grad(losses.mean((-2, -1)).sum(), weights)
    with torch.no_grad():
        return Learnt(_measures(task, batch, logits, losses, gradients), of_weights)


def _measures(
    task: Task, batch: Batch, logits: Tensor, losses: Tensor, gradients: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """All that is recorded of a batch, by name. Arguments as for `Task.measure`, and the losses."""
    mean, per_token = losses.mean((-2, -1)), task.per_token(losses, batch)
    return {"loss": mean, "per_token": per_token, **task.measure(logits, batch, gradients)}
