"""The training loop. It knows neither disk nor screen: whoever drives it keeps what it yields.

Row ``i`` of everything recorded is measured on the batch of update ``i`` before that update, with the weights of
step ``i``. `Training` may be stopped between any two updates and put back from `state`: what follows is bit for bit
what would have followed.
"""

import ctypes
import functools
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.optim.adamw import adamw

from explorer.errors import UserError, quoted
from explorer.model.architectures import new_model, weight_shapes
from explorer.model.fast_forward import asked_logits
from explorer.model.transformer import ModelConfig
from explorer.settings import TrainingConfig
from explorer.tasks.task import Task

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps of each weight
EPS = 1e-8  # of AdamW
DEVICES = ("auto", "cpu", "cuda")
LONG_STEP = 8 * 2**20  # bytes kept for gradients from which on a step is shared between threads
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
SMOOTHING = 0.9  # of the exponential average of losses that decides when to keep a snapshot


@dataclass(frozen=True)
class Measured:
    """The losses of one step, in nats, and the task's measures. What is of tests is None where none was made."""

    step: int
    loss: float
    per_token: Tensor  # (token,) float64; nan for a token that the batch has not
    test_loss: float | None = None
    test_per_token: Tensor | None = None  # (token,) float64
    measures: Mapping[str, Tensor] = field(default_factory=dict)  # name -> (line,); of tests as "test_" + name


class SnapshotSchedule:
    """Says at which steps to keep the weights.

    With ``snapshot_every`` at a fixed interval. Otherwise where the model changes: when a smoothed per-token loss
    has moved by ``snapshot_moved`` since the last snapshot, or ``snapshot_share`` of all steps have passed. Step 0
    and the last step always.
    """

    def __init__(self, training: TrainingConfig):
        self._training = training
        self._last = 0
        self._smoothed: np.ndarray | None = None  # (token,) of train and test losses together
        self._at_last: np.ndarray | None = None

    def wants(self, step: int, losses: Tensor) -> bool:
        """Whether to keep the weights of ``step``, given the losses measured one update before; nan for those that
        were not."""
        smoothed = losses = losses.numpy()  # a few numbers, on which numpy is quicker than torch
        if self._smoothed is not None:
            smoothed = SMOOTHING * self._smoothed + (1 - SMOOTHING) * losses
            smoothed = np.where(np.isnan(losses), self._smoothed, smoothed)
            smoothed = np.where(np.isnan(self._smoothed), losses, smoothed)
        self._smoothed = smoothed
        if self._at_last is None:
            self._at_last = smoothed
        self._at_last = np.where(np.isnan(self._at_last), smoothed, self._at_last)
        training = self._training
        if training.snapshot_every:
            due = step % training.snapshot_every == 0
        else:
            moved = np.nan_to_num(np.abs(smoothed - self._at_last)).max() >= training.snapshot_moved
            due = bool(moved) or step - self._last >= training.snapshot_share * training.steps
        if due or step == training.steps:
            self._last, self._at_last = step, smoothed
            return True
        return False

    def state(self) -> Tensor:
        """(3, token): the last snapshot's step, the smoothed losses then and now; empty before the first."""
        if self._smoothed is None:
            return torch.empty(0, dtype=torch.float64)
        last = np.full_like(self._smoothed, self._last)
        return torch.from_numpy(np.stack([last, self._at_last, self._smoothed]))

    def restore(self, state: Tensor) -> None:
        if state.numel():
            last, self._at_last, self._smoothed = state.numpy()
            self._last = int(last[0])


def learning_rate(training: TrainingConfig, step: int) -> float:
    """The learning rate of update ``step``: linear warm-up from nothing, constant, linear cool-down to nothing."""
    up = min(step / training.warmup, 1) if training.warmup else 1
    cooling = training.cooldown * training.steps
    down = min((training.steps - step) / cooling, 1) if cooling else 1
    return training.lr * up * down


def device_named(name: str) -> torch.device:
    """A device to train on; "auto" is the GPU if there is one.

    Raises:
        UserError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in DEVICES:
        raise UserError(f"There is no device {quoted(name)}; known are {', '.join(DEVICES)}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("torch sees no GPU on this machine; leave --device out, or install a torch that has CUDA.")
    return torch.device(name, 0) if name == "cuda" else torch.device(name)


class Training:
    """One training, from its first step or from a state that was kept.

    Its first weights and its data are drawn on the CPU, whatever the device. On the CPU one seed then means one run,
    to the bit; on a GPU, where sums are taken in any order, to rounding.
    """

    def __init__(self, task: Task, model_config: ModelConfig, training: TrainingConfig, device: str = "cpu"):
        """Raises UserError where the settings do not fit the task, or there is no such device."""
        self.task, self.training, self.device = task, training, device_named(device)
        self.step = 0
        self.model = new_model(model_config, training.seed).to(self.device)
        self.schedule = SnapshotSchedule(training)
        self._weights = list(self.model.parameters())
        self._steps = [torch.zeros((), device=self.device) for _ in self._weights]
        self._averages, self._squares = ([torch.zeros_like(weight) for weight in self._weights] for _ in range(2))
        self._train = task.train_stream(training)
        self._test = task.test_stream(training) if task.n_train(training) else None
        self._over = False  # ended before its last step

    def updates(self) -> Iterator[tuple[Measured, bool]]:
        """Train to the last step, one update each turn.

        Yields:
            What was measured before the update, and whether the weights after it are due to be kept.
        """
        while not self.over:
            measured = self._update()
            self.step += 1
            losses = measured.per_token
            if self._test is not None:
                tested = measured.test_per_token
                losses = torch.cat([losses, torch.full_like(losses, torch.nan) if tested is None else tested])
            due = self.schedule.wants(self.step, losses)
            unseen = measured.loss if self._test is None else measured.test_loss
            self._over = unseen is not None and unseen < self.training.stop_below
            if (due or self._over) and not all(weight.isfinite().all() for weight in self._weights):
                raise UserError(self._diverged("Some weights are no longer finite"))
            yield measured, due or self._over

    @property
    def over(self) -> bool:
        """Whether nothing is left to be trained."""
        return self._over or self.step >= self.training.steps

    def _update(self) -> Measured:
        task = self.task
        batch = self._train.next().to(self.device)
        gradients: dict[str, Tensor] = {}

        def watch(gradient: Tensor, name: str) -> None:
            gradients[name] = gradient

        with self.model.hooks(backward=dict.fromkeys(task.watched_gradients, watch)):
            logits = asked_logits(self.model, batch.tokens, batch.positions)
        losses = task.losses(logits, batch)
        loss = losses.mean()
        weight_gradients = torch.autograd.grad(loss, self._weights)
        with torch.no_grad():
            found = {"loss": loss, "per_token": task.per_token(losses, batch), **task.measure(logits, batch, gradients)}
            if self._test is not None and self.step % self.training.test_every == 0:
                found |= {f"test_{name}": values for name, values in self._tested().items()}
            self._improve(weight_gradients)
        return self._measured(found)

    def _improve(self, gradients: Sequence[Tensor]) -> None:
        """One step of AdamW, called as a function: the class takes longer to come to it than a small step takes."""
        training = self.training
        adamw(
            self._weights,
            [gradient.contiguous() for gradient in gradients],  # it goes through memory, not along axes
            self._averages,
            self._squares,
            [],
            self._steps,
            lr=learning_rate(training, self.step),
            beta1=training.beta1,
            beta2=training.beta2,
            weight_decay=training.weight_decay,
            eps=EPS,
            fused=True,
            amsgrad=False,
            maximize=False,
        )

    def _moments(self) -> dict[str, Tensor]:
        """What AdamW keeps of each weight, by the names that it has in a `state`."""
        names = [name for name, _ in self.model.named_parameters()]
        kept = dict(zip(MOMENTS, (self._steps, self._averages, self._squares), strict=True))
        return {
            f"optimiser.{key}.{name}": moment
            for key, moments in kept.items()
            for name, moment in zip(names, moments, strict=True)
        }

    def _tested(self) -> dict[str, Tensor]:
        """What one batch of unseen examples gives."""
        task, batch = self.task, self._test.next().to(self.device)
        logits = asked_logits(self.model, batch.tokens, batch.positions)
        losses = task.losses(logits, batch)
        return {"loss": losses.mean(), "per_token": task.per_token(losses, batch), **task.measure(logits, batch, {})}

    def _measured(self, found: Mapping[str, Tensor]) -> Measured:
        """The row of this step. Only here are results waited for, once, when the device has the whole update to do.

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
        """A copy of the weights as they are now, on the CPU: the live ones go on changing."""
        return {name: _copy(weight) for name, weight in self.model.state_dict().items()}

    def state(self) -> dict[str, Tensor]:
        """All that decides what follows, as named tensors."""
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
        """Go back to a `state`.

        Raises:
            UserError: it is not the state of such a training.
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
        """See that ``state`` has the names, shapes and types of this training's own."""
        expected = self.state()
        step = state.get("step")
        if step is None or step.shape or not 0 <= int(step) <= self.training.steps:
            raise UserError("The state does not say at which step of this training it was taken.")
        if int(step):
            expected |= self._moments()
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


def weights_in(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that a `Training.state` holds."""
    return {name.removeprefix("weights."): tensor for name, tensor in state.items() if name.startswith("weights.")}


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def memory_needed(task: Task, model_config: ModelConfig, training: TrainingConfig) -> int:
    """Bytes that a training takes at its peak, estimated from shapes without making anything.

    The weights, their gradients and AdamW's two averages, and copies of them while they are written; what a batch
    keeps for the way back, and twice as much there, or a test, whichever is more; its logits in float64; the training
    data, which are drawn again for tests and to check half precision.
    """
    examples = task.n_train(training)
    batch = examples if examples and training.full_batch else training.batch_size
    test = task.n_test(training) if examples else 0
    weights = sum(math.prod(shape) for shape in weight_shapes(model_config).values())
    learn, look = (_kept_for_gradients(task, model_config, max(n, 1)) for n in (batch, test))
    one = task.endless_stream(1, 0).next()
    row = sum(values.nbytes for values in (one.tokens, one.positions, one.targets, *one.extra.values()))
    logits = max(batch, test) * one.positions.shape[1] * model_config.d_vocab_out
    return 4 * 10 * weights + max(3 * learn, look) + 2 * 8 * logits + row * (3 * examples + batch + 2 * test)


@functools.lru_cache(maxsize=256)
def _kept_for_gradients(task: Task, model_config: ModelConfig, n_examples: int) -> int:
    """Bytes that the losses of a batch keep until their gradients are known, counted on tensors without memory.

    On these, attention also keeps its patterns, so with many positions the count is high, by up to about two.
    """
    meta, kept = torch.device("meta"), {}
    batch = task.endless_stream(1, 0).next().to(meta).rows(torch.zeros(n_examples, dtype=torch.int64, device=meta))
    with meta:
        model = new_model(model_config)

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        task.losses(asked_logits(model, batch.tokens, batch.positions), batch)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def threads_for(task: Task, model_config: ModelConfig, training: TrainingConfig) -> int:
    """How many threads to train with: all that torch has, or one where a step is over before another has woken up."""
    examples = task.n_train(training)
    batch = examples if examples and training.full_batch else training.batch_size
    is_long = _kept_for_gradients(task, model_config, max(batch, 1)) >= LONG_STEP
    return torch.get_num_threads() if is_long else 1


@contextmanager
def quick_process(threads: int) -> Iterator[None]:
    """Let this process compute on ``threads`` threads, with numbers too small for float32 to hold in full taken for 0,
    and from now on keep up to 2 GiB of memory that it has freed, which cannot be taken back."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    # Once data are memorised, averages of squared gradients sink below what float32 holds in full (1e-38); processors
    # compute with such numbers many times slower, and none of them is missed.
    torch.set_flush_denormal(True)
    _keep_freed_memory()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)


def _keep_freed_memory() -> None:
    """An update frees as much as the next one takes. glibc gives large parts back to the system each time, and to be
    given them again costs up to a tenth of the update. Other allocators are left as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_THRESHOLD, 2**25)  # the most that every glibc takes; larger parts still go back


def check_memory(task: Task, model_config: ModelConfig, training: TrainingConfig) -> None:
    """Refuse a training that would not fit in the memory that is free now.

    Raises:
        UserError: it would not; the sentence gives the estimate.
    """
    needed, free = memory_needed(task, model_config, training), psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"This training would take about {needed / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} GiB are "
            f"free; make the model, batch_size or the training data smaller."
        )
