"""Helpers of the tests of films."""

import json
from typing import Any

import numpy as np

from explorer.film.film import Film
from explorer.film.panels.curves import Curves


def of(kind: type, film: Film) -> list:
    """The panels of a kind."""
    return [panel for panel in film.panels if isinstance(panel, kind)]


def values(panel: Curves) -> dict[str, np.ndarray]:
    """The values of each curve by its label."""
    return {line.label: line.values for line in panel.lines}


def unpacked(message: bytes) -> dict:
    """The JSON headers of a player's message, where it should stand and its film, as one."""
    found: dict = {}
    for _ in range(2):
        end = 4 + int.from_bytes(message[:4], "little")
        found |= json.loads(message[4:end])
        message = message[end:]
    return found


def panels_of(packed: bytes) -> dict[str, dict]:
    """The panels of a packed film by their ids, with their arrays."""
    start = 4 + int.from_bytes(packed[:4], "little")

    def whole(thing: Any) -> Any:
        if isinstance(thing, dict) and thing.keys() == {"at", "dtype", "shape"}:
            n = int(np.prod(thing["shape"]))
            return np.frombuffer(packed, f"<{thing['dtype']}", n, start + thing["at"]).reshape(thing["shape"])
        if isinstance(thing, dict):
            return {name: whole(value) for name, value in thing.items()}
        return [whole(item) for item in thing] if isinstance(thing, list) else thing

    return {panel["id"]: whole(panel) for panel in json.loads(packed[4:start])["panels"]}
