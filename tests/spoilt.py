"""Helpers of the tests with snapshots that cannot be computed with."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from explorer.options import Choice, Context, Several, Switch, options_of
from explorer.runs import Run, Runs
from explorer.runs.files import CHECKSUM
from explorer.views.subject import Subject
from explorer.views.view import View
from tests.conftest import RUN_VIEWS

HOW: dict[str, Callable[[Tensor], Tensor]] = {
    "nan": lambda weight: torch.full_like(weight, torch.nan),
    "infinite": lambda weight: torch.full_like(weight, -torch.inf),
    "logits overflow": lambda weight: weight * 1e10,
    "norms overflow": lambda weight: weight * 1e30,
}
MOST_CHOICES = 6  # of an option that are all tried; of more, the first and the last


def rewrite(path: Path, change: Callable[[str, Tensor], Tensor]) -> None:
    """Change the weights in a snapshot file."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    metadata.pop(CHECKSUM, None)
    save_file({name: change(name, weight) for name, weight in load_file(path).items()}, path, metadata)


def spoil(run: Run, step: int, how: str) -> None:
    """Make a snapshot one that cannot be computed with."""
    rewrite(run.snapshot_file(step), lambda name, weight: HOW[how](weight))


def without(run: Run, step: int, folder: Path) -> Run:
    """A copy of a run, in another folder, that never had the snapshot at a step."""
    shutil.copytree(run.folder, folder / run.name)
    copy = Runs(folder).open(run.name)
    copy.snapshot_file(step).unlink()
    values = json.loads(copy.info_file.read_text())
    values["snapshots"].remove(step)
    copy.info_file.write_text(json.dumps(values))
    return copy


def every_way(subject: Subject, *views: View[Any]) -> Iterator[tuple[View[Any], Any]]:
    """Some or all views of a run, with everything that can be chosen to be shown of it."""
    for view in views or RUN_VIEWS.values():
        yield from ((view, view.options_type(**values)) for values in _chosen(view, subject, {}))


def _chosen(view: View[Any], subject: Subject, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    declared = options_of(view.options_type)
    if len(values) == len(declared):
        yield values
        return
    name = list(declared)[len(values)]
    option, context = declared[name], Context(subject, subject.first_example, values)
    tried = [option.default(context)]
    if option.has_effect(context):
        match option:
            case Choice(place="end"):  # of a table below the film
                pass
            case Choice():
                choices = list(option.choices_at(context))
                tried = choices if len(choices) <= MOST_CHOICES else [tried[0], choices[-1]]
            case Switch():
                tried = [False, True]
            case Several() if not any(isinstance(value, tuple) and value for value in values.values()):  # one at a time
                tried = list(dict.fromkeys([tried[0], tuple(option.choices_at(context))[-1:]]))
    for value in tried:
        yield from _chosen(view, subject, {**values, name: value})
