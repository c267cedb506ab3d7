"""Which task a model of unknown origin was trained on."""

from collections.abc import Mapping
from typing import Any

from explorer.errors import UserError, listed
from explorer.tasks import KINDS, TASKS, kind_named
from explorer.tasks.task import Task


def matching(model: Mapping[str, Any], name: str, settings: Mapping[str, Any], shown: str) -> Task:
    """The task that a model fits: of those that are trained here, or else plain tokens.

    Args:
        model: its ``d_vocab``, ``d_vocab_out`` and, if it is known, ``n_ctx``.
        name: of the task; "" if nobody says.
        settings: of the named task; empty for those that fit.
        shown: where the model comes from, for error messages.

    Raises:
        UserError: there is no such task, the model does not fit it, or several would fit.
    """
    if name:
        kind = kind_named(name)
        candidates = [kind(**settings)] if settings else kind.fitting(model)
        fitting = [task for task in candidates if not _misfit(task, model)] or candidates
    else:
        trained = [task for kind in TASKS.values() for task in kind.fitting(model) if not _misfit(task, model)]
        others = (kind for other, kind in KINDS.items() if other not in TASKS)
        fitting = trained or [task for kind in others for task in kind.fitting(model)]
    if len(fitting) != 1:
        likely = listed([task.name for task in fitting] or sorted(KINDS))
        raise UserError(f"By its shapes, {shown} can be a model of {likely}; say which with a task.")
    (task,) = fitting
    if misfit := _misfit(task, model):
        raise UserError(f"{shown} has {misfit}; name another task.")
    return task


def _misfit(task: Task, model: Mapping[str, Any]) -> str:
    """What a model has and what the task would have, where that differs; "" if the model fits."""
    widths = {"d_vocab": len(task.tokens), "d_vocab_out": len(task.answer_tokens), "n_ctx": task.n_ctx}
    for name, width in widths.items():
        if model.get(name, width) != width:
            return f"{name} {model[name]:,}; for {task.title} it is {width:,}"
    return ""
