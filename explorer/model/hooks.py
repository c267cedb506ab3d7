"""Models in which every intermediate activation has a name, and can be read and replaced by hooks.

Every weight of a `HookedModel` may have a leading axis, ``snapshot``: the model is then a stack, on which hooks,
activation caches and gradients work as on one model.
"""

import difflib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from explorer.errors import UserError, quoted

Hook = Callable[[Tensor, str], Tensor | None]
Direction = Literal["forward", "backward"]
Model = TypeVar("Model", bound="HookedModel")
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")


class _ThreadHooks(threading.local):
    """The hooks that this thread has added, by hook point.

    They belong to the thread, not to the model, so browser sessions that share a model do not run each other's hooks.
    """

    def __init__(self) -> None:
        self.at: WeakKeyDictionary[HookPoint, list[_Registered]] = WeakKeyDictionary()


@dataclass(eq=False)
class _Registered:
    hook: Hook
    direction: Direction


_hooks = _ThreadHooks()


class HookPoint(nn.Module):
    """An identity function with a name, at which hooks read or replace activations and gradients.

    An activation may be changed in place: it is never a view of weights.
    """

    name = ""

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The activation, or what forward hooks replace it by.

        Args:
            x: of any shape.
        """
        registered = _hooks.at.get(self)
        if not registered:
            return x
        for entry in tuple(registered):
            if entry.direction == "forward":
                replaced = entry.hook(x, self.name)
                x = x if replaced is None else replaced
        backward = [entry.hook for entry in registered if entry.direction == "backward"]
        if backward and torch.is_grad_enabled():
            # A separate graph node, so that hooks at two hook points with the same tensor keep their order.
            x = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
            for hook in backward:
                x.register_hook(lambda grad, hook=hook: hook(grad, self.name))
        return x

    @property
    def listening(self) -> bool:
        """Whether this thread has added a hook here."""
        return bool(_hooks.at.get(self))


class HookHandle:
    """A hook that has been added; `remove` may be called more than once."""

    def __init__(self, point: HookPoint, hook: Hook, direction: Direction):
        self._entry = _Registered(hook, direction)
        self._registered = _hooks.at.setdefault(point, [])
        self._registered.append(self._entry)

    def remove(self) -> None:
        if self._entry in self._registered:
            self._registered.remove(self._entry)


def _check_direction(direction: str) -> None:
    if direction not in DIRECTIONS:
        raise UserError(f"A hook's direction is 'forward' or 'backward', not {quoted(direction)}.")


def hook_axes(name: str) -> tuple[str, ...]:
    """The axes after ``batch`` of an activation or its gradient, e.g. ``("head", "query", "key")``.

    Args:
        name: of the hook point; may end in ``_grad``.
    """
    place = name.rsplit(".", 1)[-1].removesuffix("_grad")
    if place in ("hook_pattern", "hook_attn_scores"):
        return ("head", "query", "key")
    if place in ("hook_q", "hook_k", "hook_v", "hook_z"):
        return ("pos", "head", "d_head")
    if place == "hook_result":
        return ("pos", "head", "d_model")
    if place in ("hook_pre", "hook_post"):
        return ("pos", "d_mlp")
    if place == "hook_scale":
        return ("pos", "one")
    return ("pos", "d_model")


class HookedModel(nn.Module):
    """A model with hook points, built from a configuration."""

    def name_points(self) -> None:
        """Set the name of every hook point; to be called at the end of ``__init__``."""
        self._points: dict[str, HookPoint] = {}
        for name, module in self.named_modules():
            if isinstance(module, HookPoint):
                module.name = name
                self._points[name] = module

    @classmethod
    def from_weights(cls: type[Model], cfg: Any, weights: Mapping[str, Tensor]) -> Model:
        """A new model on given weights, which are not copied and do not require gradients.

        Args:
            cfg: its configuration.
            weights: by name as in `state_dict`; all of them may have a leading snapshot axis.

        Raises:
            UserError: names are missing or unexpected, or a shape does not fit.
        """
        with torch.device("meta"):
            model = cls(cfg)
        check_weights(shapes_of(model), weights, stacked=True)
        for name, weight in weights.items():
            path, leaf = name.rsplit(".", 1)
            owner = model.get_submodule(path)
            if leaf in owner._parameters:
                weight = nn.Parameter(weight, requires_grad=False)
            setattr(owner, leaf, weight)
        return model

    # --- Hooks and cache ---

    @property
    def hook_names(self) -> tuple[str, ...]:
        """Every hook point, in the order in which activations are computed."""
        return tuple(self._points)

    @property
    def listening(self) -> tuple[str, ...]:
        """The hook points at which this thread has a hook."""
        hooked = [point for point, hooks in _hooks.at.items() if hooks]
        return tuple(point.name for point in hooked if self._points.get(point.name) is point)

    def _point(self, name: str) -> HookPoint:
        if name not in self._points:
            near = difflib.get_close_matches(str(name), self._points, n=1) or ["blocks.0.attn.hook_pattern"]
            raise UserError(f"There is no hook point {quoted(name)} in this model; did you mean {near[0]!r}?")
        return self._points[name]

    def add_hook(self, name: str, hook: Hook, direction: Direction = "forward") -> HookHandle:
        """Add a hook for the forward passes of this thread. Prefer `hooks`, which removes them again.

        Args:
            name: of the hook point.
            hook: called with the activation, or its gradient, and the name. If it returns a tensor, that replaces the
                activation or gradient. Hooks at one hook point run in the order in which they were added.
            direction: "forward" for activations, "backward" for gradients.

        Raises:
            UserError: there is no such hook point or direction.
        """
        _check_direction(direction)
        return HookHandle(self._point(name), hook, direction)

    def remove_hooks(self, name: str | None = None, direction: Direction | None = None) -> None:
        """Remove hooks of this thread from this model; without arguments, all of them.

        Args:
            name: of the hook point whose hooks are removed; None for all hook points.
            direction: "forward" or "backward", to remove only the hooks on activations or on gradients; None for both.

        Raises:
            UserError: there is no such hook point or direction.
        """
        if direction is not None:
            _check_direction(direction)
        for point in self._points.values() if name is None else (self._point(name),):
            registered = _hooks.at.get(point, [])
            registered[:] = [entry for entry in registered if direction not in (None, entry.direction)]

    @contextmanager
    def hooks(
        self: Model, forward: Mapping[str, Hook] | None = None, backward: Mapping[str, Hook] | None = None
    ) -> Iterator[Model]:
        """Add hooks for the duration of a ``with`` block.

        Args:
            forward, backward: name -> hook, as in `add_hook`.

        Raises:
            UserError: no such hook point.
        """
        with ExitStack() as stack:
            for direction, named in zip(DIRECTIONS, (forward or {}, backward or {}), strict=True):
                for name, hook in named.items():
                    stack.callback(self.add_hook(name, hook, direction).remove)
            yield self

    def run_with_cache(
        self,
        tokens: Int[Tensor, "... batch pos"],
        names: Iterable[str] | None = None,
        loss: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Float[Tensor, "... batch pos d_vocab_out"], dict[str, Tensor]]:
        """One forward pass, and its activation cache.

        Args:
            tokens: (batch pos), for a stack also (snapshot batch pos).
            names: the hook points to cache; None for all.
            loss: logits -> loss. If given, the cache also holds the gradient of its sum at each activation, under
                ``name + "_grad"``; for a stack, each snapshot's own.

        Returns:
            Logits (... batch pos d_vocab_out), and name -> activation, all detached. The ``.grad`` of weights does not
            change.

        Raises:
            UserError: no such hook point.
        """
        seen: dict[str, Tensor] = {}

        def keep(x: Tensor, name: str) -> Tensor:
            if loss is not None and not x.requires_grad:
                x = x.detach().requires_grad_()
            seen[name] = x
            return x

        names = self.hook_names if names is None else tuple(names)
        with torch.set_grad_enabled(loss is not None), self.hooks(forward=dict.fromkeys(names, keep)):
            logits = self(tokens)
            cache = {name: x.detach() for name, x in seen.items()}
            if loss is not None and seen:
                grads = torch.autograd.grad(loss(logits).sum(), list(seen.values()), allow_unused=True)
                for (name, x), grad in zip(seen.items(), grads, strict=True):
                    cache[f"{name}_grad"] = torch.zeros_like(x) if grad is None else grad
        return logits.detach(), cache


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of all weights.

    Args:
        model: any module.

    Returns:
        Name -> shape, as in `state_dict`.
    """
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}


def check_weights(shapes: Mapping[str, tuple[int, ...]], weights: Mapping[str, Tensor], stacked: bool = False) -> None:
    """Check that weights have the right names, shapes and types.

    Args:
        shapes: name -> shape, of one model.
        weights: name -> tensor.
        stacked: accept weights that all have a leading snapshot axis.

    Raises:
        UserError: names are missing or unexpected, or a shape or type does not fit.
    """
    missing, unexpected = sorted(shapes.keys() - weights.keys()), sorted(weights.keys() - shapes.keys())
    if missing or unexpected:
        raise UserError(
            "The weights are not those of this model"
            + (f"; missing: {quoted(', '.join(missing), 200)}" if missing else "")
            + (f"; unexpected: {quoted(', '.join(unexpected), 200)}" if unexpected else "")
            + "."
        )
    snapshots = set()
    for name, shape in shapes.items():
        found, dtype = tuple(weights[name].shape), weights[name].dtype
        is_stack = stacked and found[1:] == shape
        if found != shape and not is_stack:
            raise UserError(f"{name} has shape {found} where this model has {shape}.")
        if dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise UserError(f"{name} holds {dtype} where weights are floating-point numbers.")
        snapshots.add(found[0] if is_stack else None)
    if len(snapshots) > 1:
        raise UserError("The weights do not all hold the same number of snapshots.")
