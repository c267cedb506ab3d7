"""The measures that ship with the runs that ship."""

from collections.abc import Mapping, Sequence
from typing import Any

Wanted = tuple[str, Mapping[str, Any]]  # name of a measure, and the settings that are not the ones that suit the run


def _grafts(*parts: str) -> tuple[Wanted, ...]:
    return ("parts", {}), *(("grafts", {"part": part}) for part in parts)


SHIPPED: Mapping[str, Sequence[Wanted]] = {  # name of the run -> its measures, in their order
    "addition": _grafts("embeddings"),
    "addition-finite": _grafts("embeddings"),
    "skip-trigram": _grafts("embeddings"),
    "skip-trigram-finite": _grafts("embeddings"),
    "induction": (*_grafts("embeddings", "L0 attention"), ("sharpness", {})),
    "induction-finite": (*_grafts("embeddings", "L0 attention", "L1 attention"), ("sharpness", {})),
    "modular-addition": (
        *_grafts("embeddings", "all attention", "L0 MLP", "unembedding"),
        ("sharpness", {}),
        ("calibration", {}),  # first: it chooses the settings of the next
        ("complexity", {}),
    ),
}
