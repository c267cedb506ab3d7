"""The settings of a run that could be trained."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from explorer.model.architectures import n_weights
from explorer.model.transformer import ModelConfig
from explorer.settings import TrainingConfig
from explorer.tasks.task import Task
from explorer.training.memory import memory_needed


@dataclass(frozen=True)
class Plan:
    """All settings of a run."""

    task: Task
    model: ModelConfig
    training: TrainingConfig
    preset: str  # the name of the preset that all settings come from; "" if any differs

    @classmethod
    def from_preset(
        cls,
        kind: type[Task],
        preset: str,
        task: Mapping[str, Any],
        model: Mapping[str, Any],
        training: Mapping[str, Any],
    ) -> "Plan":
        """The settings of a preset with some changes.

        Args:
            kind: the task.
            preset: the name of one of its presets.
            task, model, training: the changed settings by name.

        Raises:
            UserError: there is no such preset, or the settings do not fit together.
        """
        given = kind.preset(preset)

        def made(task: Mapping[str, Any], model: Mapping[str, Any], training: Mapping[str, Any], name: str) -> Plan:
            one = kind(**{**given.task, **task})
            config = one.model_config(**{**given.model, **model})
            return cls(one, config, dataclasses.replace(given.training, **training), name)

        plan = made(task, model, training, preset)
        return plan if plan == made({}, {}, {}, preset) else dataclasses.replace(plan, preset="")

    @property
    def batch_size(self) -> int:
        """The examples of each update."""
        examples = self.task.n_train(self.training)
        return examples if examples and self.training.full_batch else self.training.batch_size

    def about(self) -> str:
        """Number of weights, estimated memory and steps, in one line."""
        memory = memory_needed(self.task, self.model, self.training) / 2**20
        size = f"{memory:,.0f} MiB" if memory < 1024 else f"{memory / 1024:,.1f} GiB"
        return f"{n_weights(self.model):,} weights, about {size} of memory, {self.training.steps:,} steps"
