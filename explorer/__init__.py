"""See a small transformer learn, snapshot by snapshot.

>>> import explorer
>>> run = explorer.Runs("checkpoints").open("addition")
>>> model = run.model(step=640)
>>> logits, cache = model.run_with_cache(run.info().task.encode("12345+67890").batch.tokens)
>>> cache["blocks.0.attn.hook_pattern"]  # (batch head query key)
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explorer.errors import UserError
    from explorer.model.ensemble import Ensemble
    from explorer.model.transformer import ModelConfig, Transformer
    from explorer.runs import Run, RunInfo, Runs
    from explorer.runs.recorder import create, train
    from explorer.scene import Scene
    from explorer.settings import TrainingConfig
    from explorer.tasks import TASKS

# Threads that wait for each other in a parallel sum go to sleep soon. By default they spin, and two runs on the same
# cores would take each other's time. It is read once, when torch is loaded; a value from outside is kept.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__all__ = [
    "TASKS",
    "Ensemble",
    "ModelConfig",
    "Run",
    "RunInfo",
    "Runs",
    "Scene",
    "TrainingConfig",
    "Transformer",
    "UserError",
    "create",
    "train",
]
_MODULES = {
    "TASKS": "explorer.tasks",
    "Ensemble": "explorer.model.ensemble",
    "ModelConfig": "explorer.model.transformer",
    "Run": "explorer.runs",
    "RunInfo": "explorer.runs",
    "Runs": "explorer.runs",
    "Scene": "explorer.scene",
    "TrainingConfig": "explorer.settings",
    "Transformer": "explorer.model.transformer",
    "UserError": "explorer.errors",
    "create": "explorer.runs.recorder",
    "train": "explorer.runs.recorder",
}


def __getattr__(name: str) -> Any:
    """Import a name of the public interface when it is first used, so that ``import explorer`` does not load torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
