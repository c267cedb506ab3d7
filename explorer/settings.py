"""How a run is trained, and how settings are read from text and JSON that nobody has checked."""

import dataclasses
import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from explorer.errors import UserError, quoted


@dataclass(frozen=True)
class TrainingConfig:
    """One training: AdamW with a linear warm-up, and when to keep a snapshot."""

    steps: int = 2000  # updates
    batch_size: int = 64  # examples per update (infinite data)
    finite: int = 0  # training examples drawn once and used in full each update; 0: fresh ones each update
    test_batch_size: int = 64  # fresh examples per update that finite runs are tested on
    seed: int = 0  # weights and training data; test data use seed + 1
    lr: float = 1e-3
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.98
    warmup: int = 10  # updates until the full learning rate; the first has none
    cooldown: float = 0.0  # share of all updates at the end over which the learning rate falls to nothing
    snapshot_every: int = 0  # updates between snapshots; 0: where the losses move
    snapshot_moved: float = 0.2  # nats that any smoothed per-token loss may move before the next snapshot
    snapshot_share: float = 0.04  # share of all updates that may pass before the next snapshot
    snapshot_dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self):
        limits = {
            "steps": (1, 10_000_000),
            "batch_size": (1, 1_000_000),
            "finite": (0, 10_000_000),
            "test_batch_size": (1, 1_000_000),
            "seed": (0, 2**32 - 2),
            "lr": (0, 100),
            "weight_decay": (0, 1000),
            "beta1": (0, 0.999999),
            "beta2": (0, 0.999999),
            "warmup": (0, 10_000_000),
            "cooldown": (0, 1),
            "snapshot_every": (0, 10_000_000),
            "snapshot_moved": (0.001, 100),
            "snapshot_share": (0.0001, 1),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise UserError(f"{name} is {getattr(self, name)}; it must lie between {low:,} and {high:,}.")
        if self.snapshot_dtype not in ("float32", "float16"):
            raise UserError(f"snapshot_dtype is {quoted(self.snapshot_dtype)}; it must be float32 or float16.")


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
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if unknown := sorted(values.keys() - fields.keys()):
        raise UserError(f"{what} has the unknown setting {quoted(unknown[0])}; known are {', '.join(fields)}.")
    for name, field in fields.items():
        if name not in values and field.default is dataclasses.MISSING:
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
    return {field.name: types_by_name[field.name] for field in dataclasses.fields(cls)}


def _parsed(text: str, kind: Any, name: str) -> Any:
    if typing.get_origin(kind) is Literal or kind is str:
        return text
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError):
        raise UserError(f"{name} is {quoted(text)}; it must be {_described(kind)}.") from None
