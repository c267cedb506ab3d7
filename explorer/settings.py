"""Settings: how a run is trained, and how settings are read from untrusted text and JSON."""

import functools
import math
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal

from explorer.errors import UserError, quoted

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # of a run or of a sweep, and so of its folder
Values = Mapping[str, Any]  # all settings of a run by name, and "same_examples": whether its data are finite


def setting(
    about: str,
    low: float | None = None,
    high: float | None = None,
    *,
    default: Any = MISSING,
    label: str = "",
    when: Callable[[Values], bool] = lambda values: True,
) -> Any:
    """A field of a dataclass of settings.

    Args:
        about: what it means, and its unit.
        low, high: its limits, both included; None if it has none.
        default: its value if none is given.
        label: its name in plain words, if it is among the few that matter most.
        when: whether it has an effect beside the values of the other settings.
    """
    return field(default=default, metadata={"about": about, "low": low, "high": high, "label": label, "when": when})


def check_settings(settings: Any) -> None:
    """See that every setting of a dataclass is within its limits.

    Args:
        settings: an instance of a dataclass whose fields are made by `setting`.

    Raises:
        UserError: one is not; the sentence names it and its limits.
    """
    kinds = _kinds(settings.__class__)
    for known in fields(settings):
        value, low, high = getattr(settings, known.name), known.metadata.get("low"), known.metadata.get("high")
        if low is not None and not low <= value <= high:
            shown = str(value) if len(str(value)) <= 40 else f"{str(value)[:40]}…"
            raise UserError(f"{known.name} is {shown}; it must lie between {low:,} and {high:,}.")
        choices = typing.get_args(kinds[known.name])
        if choices and value not in choices:
            raise UserError(f"{known.name} is {quoted(value)}; it must be one of {', '.join(choices)}.")


def _with_adamw(values: Values) -> bool:
    return bool(values["optimiser"] == "adamw")


def _with_all_snapshots(values: Values) -> bool:
    return values["keep"] == "all"


def _with_snapshots_that_follow(values: Values) -> bool:
    return _with_all_snapshots(values) and not values["snapshot_every"]


@dataclass(frozen=True)
class TrainingConfig:
    """One training: its data, its optimiser, and when to keep a snapshot."""

    steps: int = setting("updates", 1, 10_000_000, default=2000, label="Steps")
    batch_size: int = setting(
        "examples of each update",
        1,
        1_000_000,
        default=64,
        when=lambda values: not (values["same_examples"] and values["full_batch"]),
    )
    finite: int = setting(
        "training examples, drawn once; 0: new ones at every step",
        0,
        10_000_000,
        default=0,
        label="Training examples",
        when=lambda values: values["same_examples"],
    )
    full_batch: bool = setting(
        "all training examples in each update, instead of shuffled batches of them",
        default=True,
        when=lambda values: values["same_examples"],
    )
    test_batch_size: int = setting(
        "unseen examples at each test",
        1,
        1_000_000,
        default=64,
        when=lambda values: values["same_examples"] or values["snapshot_dtype"] == "float16",
    )
    test_every: int = setting(
        "updates between tests on unseen data", 1, 10_000_000, default=1, when=lambda values: values["same_examples"]
    )
    stop_below: float = setting("loss on unseen data below which training ends; 0: never", 0, 100, default=0.0)
    seed: int = setting("of weights and training data; test data use seed + 1", 0, 2**32 - 2, default=0, label="Seed")
    optimiser: Literal["adamw", "sgd"] = setting("AdamW, or stochastic gradient descent", default="adamw")
    lr: float = setting("learning rate", 0, 100, default=1e-3, label="Learning rate")
    weight_decay: float = setting(
        "times the learning rate; AdamW applies it to the weights, SGD adds it to their gradients",
        0,
        1000,
        default=0.1,
        label="Weight decay",
    )
    momentum: float = setting(
        "of SGD: share of the last update that is repeated",
        0,
        0.999999,
        default=0.0,
        when=lambda values: values["optimiser"] == "sgd",
    )
    beta1: float = setting("of AdamW's average of gradients", 0, 0.999999, default=0.9, when=_with_adamw)
    beta2: float = setting("of AdamW's average of squared gradients", 0, 0.999999, default=0.98, when=_with_adamw)
    warmup: int = setting("updates until the full learning rate; it is 0 in the first", 0, 10_000_000, default=10)
    cooldown: float = setting("share of all updates at the end over which lr falls to 0", 0, 1, default=0.0)
    keep: Literal["all", "ends", "losses"] = setting(
        "all snapshots; only the first and the last; or losses only, and no weights", default="all"
    )
    snapshot_every: int = setting(
        "updates between snapshots; 0: where the losses move", 0, 10_000_000, default=0, when=_with_all_snapshots
    )
    snapshot_moved: float = setting(
        "nats that a smoothed loss may move before the next snapshot",
        0.001,
        100,
        default=0.2,
        when=_with_snapshots_that_follow,
    )
    snapshot_share: float = setting(
        "share of all updates that may pass before the next snapshot",
        0.0001,
        1,
        default=0.04,
        when=_with_snapshots_that_follow,
    )
    snapshot_dtype: Literal["float32", "float16"] = setting(
        "of the weights on disk; float16 only where losses stay within 1 %", default="float32"
    )

    def __post_init__(self) -> None:
        check_settings(self)


def from_dict(cls: type, values: Any, what: str) -> Any:
    """Build a dataclass of settings from untrusted parsed JSON.

    Args:
        cls: the dataclass.
        values: the JSON.
        what: where it comes from, for error messages.

    Raises:
        UserError: not an object, unknown or missing names, a wrong type, a value out of range.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{what} should hold an object with the settings of {cls.__name__}.")
    kinds = _kinds(cls)
    known = {one.name: one for one in fields(cls)}
    if unknown := sorted(values.keys() - known.keys()):
        raise UserError(f"{what} has the unknown setting {quoted(unknown[0])}; known are {', '.join(known)}.")
    for name, one in known.items():
        if name not in values and one.default is MISSING:
            raise UserError(f"{what} lacks the setting {name}.")
    return cls(**{name: _checked(value, kinds[name], name, what) for name, value in values.items()})


def _checked(value: Any, kind: Any, name: str, what: str) -> Any:
    kind = str if typing.get_origin(kind) is Literal else kind  # the class itself checks which texts are allowed
    if kind is float and type(value) is int and abs(value) < 10**300:
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise UserError(f"{what} sets {name} to {quoted(value)}; it must be {_described(kind)}.")
    return value


def _described(kind: Any) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]


def parse_assignments(assignments: Iterable[str], classes: Iterable[type]) -> list[dict[str, Any]]:
    """Read ``KEY=VALUE`` texts as settings of dataclasses.

    Args:
        assignments: the texts.
        classes: the dataclasses; a key sets the field of that name in each that has it.

    Returns:
        The settings given for each class, in the order of the classes.

    Raises:
        UserError: a text has no equals sign, no class has its key, or its value has the wrong type.
    """
    kinds = [_kinds(cls) for cls in classes]
    found: list[dict[str, Any]] = [{} for _ in kinds]
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {quoted(text)} has no '='; write it as KEY=VALUE, for example --set lr=0.001.")
        owners = [i for i, known in enumerate(kinds) if key in known]
        if not owners:
            raise UserError(f"There is no setting {quoted(key)}; known are {', '.join(n for k in kinds for n in k)}.")
        for i in owners:
            found[i][key] = _parsed(value, kinds[i][key], key)
    return found


@functools.cache
def _kinds(cls: type) -> Mapping[str, Any]:
    """The settings of a dataclass and their types."""
    types_by_name = typing.get_type_hints(cls)
    return MappingProxyType({one.name: types_by_name[one.name] for one in fields(cls)})


def _parsed(text: str, kind: Any, name: str) -> Any:
    if typing.get_origin(kind) is Literal or kind is str:
        return text
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError):
        raise UserError(f"{name} is {quoted(text)}; it must be {_described(kind)}.") from None
