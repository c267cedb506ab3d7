"""The training loop. It knows neither disk nor screen: whoever drives it keeps what it yields.

Row ``i`` of everything recorded is measured on the batch of update ``i`` before that update, with the weights of
step ``i``. `Training` may be stopped between any two updates and put back from `state`: what follows is bit for bit
what would have followed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.errors import UserError, quoted
from explorer.settings import TrainingConfig
from explorer.tasks.base import Task
from explorer.transformer import ModelConfig, Transformer

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps of each weight
SMOOTHING = 0.9  # of the exponential average of losses that decides when to keep a snapshot


@dataclass(frozen=True)
class Measured:
    """The losses of one step, in nats. ``test`` and its tokens are None for infinite data."""

    step: int
    loss: float
    per_token: Tensor  # (token,) float64
    test_loss: float | None = None
    test_per_token: Tensor | None = None  # (token,) float64


class SnapshotSchedule:
    """Says at which steps to keep the weights.

    With ``snapshot_every`` at a fixed interval. Otherwise where the model changes: when a smoothed per-token loss
    has moved by ``snapshot_moved`` since the last snapshot, or ``snapshot_share`` of all steps have passed. Step 0
    and the last step always.
    """

    def __init__(self, training: TrainingConfig):
        self._training = training
        self._last = 0
        self._smoothed: Tensor | None = None  # (token,) of train and test losses together
        self._at_last: Tensor | None = None

    def wants(self, step: int, losses: Tensor) -> bool:
        """Whether to keep the weights of ``step``, given the losses measured one update before."""
        smoothed = losses if self._smoothed is None else SMOOTHING * self._smoothed + (1 - SMOOTHING) * losses
        self._smoothed = smoothed
        if self._at_last is None:
            self._at_last = smoothed
        training = self._training
        if training.snapshot_every:
            due = step % training.snapshot_every == 0
        else:
            moved = (smoothed - self._at_last).abs().nan_to_num().max() >= training.snapshot_moved
            due = bool(moved) or step - self._last >= training.snapshot_share * training.steps
        if due or step == training.steps:
            self._last, self._at_last = step, smoothed
            return True
        return False

    def state(self) -> Tensor:
        """(3, token): the last snapshot's step, the smoothed losses then and now; empty before the first."""
        if self._smoothed is None:
            return torch.empty(0, dtype=torch.float64)
        return torch.stack([torch.full_like(self._smoothed, self._last), self._at_last, self._smoothed])

    def restore(self, state: Tensor) -> None:
        if state.numel():
            self._last, self._at_last, self._smoothed = int(state[0, 0]), state[1], state[2]


def learning_rate(training: TrainingConfig, step: int) -> float:
    """The learning rate of update ``step``: linear warm-up from nothing, constant, linear cool-down to nothing."""
    up = min(step / training.warmup, 1) if training.warmup else 1
    cooling = training.cooldown * training.steps
    down = min((training.steps - step) / cooling, 1) if cooling else 1
    return training.lr * up * down


class Training:
    """One training, from its first step or from a state that was kept."""

    def __init__(self, task: Task, model_config: ModelConfig, training: TrainingConfig):
        self.task, self.training = task, training
        self.step = 0
        self.model = Transformer(model_config, seed=training.seed)
        self.schedule = SnapshotSchedule(training)
        self._optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=training.lr,
            betas=(training.beta1, training.beta2),
            weight_decay=training.weight_decay,
            fused=True,
        )
        self._train = task.train_stream(training)
        self._test = task.test_stream(training) if training.finite else None

    def updates(self) -> Iterator[tuple[Measured, bool]]:
        """Train to the last step, one update each turn.

        Yields:
            What was measured before the update, and whether the weights after it are due to be kept.
        """
        while self.step < self.training.steps:
            measured = self._update()
            self.step += 1
            losses = measured.per_token
            if measured.test_per_token is not None:
                losses = torch.cat([losses, measured.test_per_token])
            yield measured, self.schedule.wants(self.step, losses)

    def _update(self) -> Measured:
        training, task = self.training, self.task
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(training, self.step)
        batch = self._train.next()
        losses = task.losses(self.model(batch.tokens), batch)
        loss = losses.mean()
        if not loss.isfinite():
            raise UserError(
                f"The loss is {loss.item()} at step {self.step}: this training diverged; a smaller lr than "
                f"{training.lr} may help."
            )
        self._optimiser.zero_grad()
        loss.backward()
        test_loss = test_per_token = None
        if self._test is not None:
            with torch.no_grad():
                test = self._test.next()
                test_losses = task.losses(self.model(test.tokens), test)
                test_loss, test_per_token = test_losses.mean().item(), task.per_token(test_losses, test)
        self._optimiser.step()
        per_token = task.per_token(losses.detach(), batch)
        return Measured(self.step, loss.item(), per_token, test_loss, test_per_token)

    def weights(self) -> dict[str, Tensor]:
        """A copy of the weights as they are now: the live ones go on changing."""
        return {name: weight.detach().clone() for name, weight in self.model.state_dict().items()}

    def state(self) -> dict[str, Tensor]:
        """All that decides what follows, as named tensors."""
        state = {f"weights.{name}": weight for name, weight in self.weights().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self._optimiser.state.get(parameter, {}).items():
                state[f"optimiser.{key}.{name}"] = value.detach().clone()
        state["step"] = torch.tensor(self.step)
        state["schedule"] = self.schedule.state()
        state["train_stream"] = self._train.state()
        if self._test is not None:
            state["test_stream"] = self._test.state()
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to a `state`.

        Raises:
            UserError: it is not the state of such a training.
        """
        self._check(state)
        self.model.load_state_dict(
            {name.removeprefix("weights."): v for name, v in state.items() if name.startswith("weights.")}
        )
        self.step = int(state["step"])
        for name, parameter in self.model.named_parameters():
            if self.step:
                self._optimiser.state[parameter] = {key: state[f"optimiser.{key}.{name}"].clone() for key in MOMENTS}
        self.schedule.restore(state["schedule"])
        self._train.restore(state["train_stream"])
        if self._test is not None:
            self._test.restore(state["test_stream"])

    def _check(self, state: dict[str, Tensor]) -> None:
        """See that ``state`` has the names, shapes and types of this training's own."""
        expected = self.state()
        step = state.get("step")
        if step is None or step.shape or not 0 <= int(step) <= self.training.steps:
            raise UserError("The state does not say at which step of this training it was taken.")
        if int(step):
            for name, parameter in self.model.named_parameters():
                expected |= {f"optimiser.{key}.{name}": parameter for key in MOMENTS[1:]}
                expected[f"optimiser.{MOMENTS[0]}.{name}"] = torch.zeros(())
            n_losses = len(self.task.loss_names) * (1 if self._test is None else 2)
            expected["schedule"] = torch.zeros(3, n_losses, dtype=torch.float64)
        if missing := sorted(expected.keys() - state.keys()):
            raise UserError(f"The state lacks {quoted(', '.join(missing), 200)}; it is not one of this training.")
        for name, tensor in expected.items():
            if (state[name].shape, state[name].dtype) != (tensor.shape, tensor.dtype):
                raise UserError(
                    f"{name} in the state has shape {tuple(state[name].shape)} and type {state[name].dtype}; this "
                    f"training has {tuple(tensor.shape)} and {tensor.dtype}."
                )
