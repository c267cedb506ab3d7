"""Runs that are planned or not done yet."""

from dataclasses import dataclass, replace
from typing import Any

from explorer.errors import UserError
from explorer.model.architectures import n_weights
from explorer.model.transformer import ModelConfig
from explorer.runs import Run, RunInfo, Runs
from explorer.settings import TrainingConfig
from explorer.tasks.task import Task
from explorer.training.memory import memory_needed


@dataclass(frozen=True)
class Plan:
    """A run that could be trained."""

    task: Task
    model: ModelConfig
    training: TrainingConfig
    preset: str  # "" where settings are not those of a preset

    @classmethod
    def made(
        cls, kind: type[Task], preset: str, task: dict[str, Any], model: dict[str, Any], training: dict[str, Any]
    ) -> "Plan":
        """Of settings that somebody chose, beginning with a preset.

        Raises:
            UserError: they do not fit together.
        """
        one = kind(**task)
        plan = cls(one, one.model_config(**model), TrainingConfig(**training), preset)
        given = kind.preset(preset)
        usual = kind(**given.task)
        as_given = (usual, usual.model_config(**given.model), given.training)
        same = (plan.task, plan.model, plan.training) == as_given
        return plan if same else replace(plan, preset="")

    def about(self) -> str:
        """What it would take, in a line."""
        memory = memory_needed(self.task, self.model, self.training) / 2**20
        size = f"{memory:,.0f} MiB" if memory < 1024 else f"{memory / 1024:,.1f} GiB"
        return f"{n_weights(self.model):,} weights, about {size} of memory, {self.training.steps:,} steps"


def free_name(runs: Runs, task: Task, training: TrainingConfig) -> str:
    """A name for a new run that no run has."""
    first = task.run_name(training)
    taken, name, number = set(runs.names()), first, 2
    while name in taken:
        name, number = f"{first}-{number}", number + 1
    return name


def unfinished(runs: Runs) -> list[tuple[Run, RunInfo]]:
    """The runs that are not done, by name."""
    found = []
    for name in runs.names():
        try:
            run = runs.open(name)
            info = run.info()
        except UserError:
            continue  # the page of all runs says what is wrong with it
        if info.status != "done":
            found.append((run, info))
    return found


def progress(name: str, info: RunInfo) -> str:
    """How far a run is, in a line."""
    said = f"{name}: {info.status}, step {info.steps_done:,} of {info.training.steps:,}"
    if info.status == "running" and info.steps_per_second:
        left = round((info.training.steps - info.steps_done) / info.steps_per_second)
        time = f"{left // 60}:{left % 60:02}" if left < 3600 else f"{left // 3600:,} h {left % 3600 // 60} min"
        said += f", {info.steps_per_second:,.3g} steps a second, {time} left"
    return said + (f". {info.message}" if info.message else "")
