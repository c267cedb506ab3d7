"""How a run is trained, and how settings are read from text and JSON that nobody has checked."""

import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

from explorer.errors import UserError, quoted


def setting(about: str, low: float | None = None, high: float | None = None, *, default: Any = MISSING) -> Any:
    """A field of a dataclass of settings: what it means, for people, and between which values it must lie."""
    return field(default=default, metadata={"about": about, "low": low, "high": high})


def check_settings(settings: Any) -> None:
    """See that every setting of a dataclass lies within its limits.

    Raises:
        UserError: one does not; the sentence names it and what it may be.
    """
    kinds = _kinds(type(settings))
    for known in fields(settings):
        value, low, high = getattr(settings, known.name), known.metadata.get("low"), known.metadata.get("high")
        if low is not None and not low <= value <= high:
            raise UserError(f"{known.name} is {value}; it must lie between {low:,} and {high:,}.")
        choices = typing.get_args(kinds[known.name])
        if choices and value not in choices:
            raise UserError(f"{known.name} is {quoted(value)}; it must be one of {', '.join(choices)}.")


@dataclass(frozen=True)
class TrainingConfig:
    """One training: AdamW with a linear warm-up, and when to keep a snapshot."""

    steps: int = setting("updates", 1, 10_000_000, default=2000)
    batch_size: int = setting("examples of each update", 1, 1_000_000, default=64)
    finite: int = setting("training examples, drawn once; 0: fresh ones at each update", 0, 10_000_000, default=0)
    full_batch: bool = setting("finite data: all of it at each update, not shuffled batches", default=True)
    test_batch_size: int = setting("unseen examples at each test", 1, 1_000_000, default=64)
    test_every: int = setting("updates between tests on unseen data", 1, 10_000_000, default=1)
    stop_below: float = setting("loss on unseen data below which training ends; 0: never", 0, 100, default=0.0)
    seed: int = setting("of weights and training data; test data use the next", 0, 2**32 - 2, default=0)
    lr: float = setting("learning rate", 0, 100, default=1e-3)
    weight_decay: float = setting("of AdamW, times the learning rate", 0, 1000, default=0.1)
    beta1: float = setting("of AdamW's average of gradients", 0, 0.999999, default=0.9)
    beta2: float = setting("of AdamW's average of their squares", 0, 0.999999, default=0.98)
    warmup: int = setting("updates until the full learning rate; the first has none", 0, 10_000_000, default=10)
    cooldown: float = setting("share of all updates at the end over which the rate falls to nothing", 0, 1, default=0.0)
    snapshot_every: int = setting("updates between snapshots; 0: where the losses move", 0, 10_000_000, default=0)
    snapshot_moved: float = setting(
        "nats that a smoothed loss may move before the next snapshot", 0.001, 100, default=0.2
    )
    snapshot_share: float = setting(
        "share of all updates that may pass before the next snapshot", 0.0001, 1, default=0.04
    )
    snapshot_dtype: Literal["float32", "float16"] = setting(
        "of the weights on disk; float16 only where losses stay within 1 %", default="float32"
    )

    def __post_init__(self) -> None:
        check_settings(self)


def from_dict(cls: type, values: Any, what: str) -> Any:
    """Build the configuration dataclass ``cls`` from parsed JSON, believing nothing.

    Args:
        what: where the values come from, for the sentence.

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
    kind = str if typing.get_origin(kind) is Literal else kind  # which texts are allowed, the class itself checks
    if kind is float and type(value) is int and abs(value) < 10**300:
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise UserError(f"{what} sets {name} to {quoted(value)}; it must be {_described(kind)}.")
    return value


def _described(kind: Any) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]


def parse_assignments(assignments: Iterable[str], classes: Iterable[type]) -> list[dict[str, Any]]:
    """Read ``KEY=VALUE`` texts as settings of the dataclasses that know the keys.

    Returns:
        One dictionary per class, in their order.

    Raises:
        UserError: no equals sign, a key that no class knows, a value that is not of the key's type.
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


def _kinds(cls: type) -> dict[str, Any]:
    """The settings of a dataclass and their types."""
    types_by_name = typing.get_type_hints(cls)
    return {one.name: types_by_name[one.name] for one in fields(cls)}


def _parsed(text: str, kind: Any, name: str) -> Any:
    if typing.get_origin(kind) is Literal or kind is str:
        return text
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError):
        raise UserError(f"{name} is {quoted(text)}; it must be {_described(kind)}.") from None
