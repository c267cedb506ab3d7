"""What metrics.safetensors holds."""

from collections.abc import Mapping

import torch
from torch import Tensor

from explorer.errors import UserError
from explorer.runs.files import Source, read_tensors
from explorer.runs.info import RunInfo


def read_metrics(source: Source, shown: str, info: RunInfo) -> dict[str, Tensor]:
    """Read and check the losses and measures of a run.

    Args:
        source: the file, or what opens it.
        shown: its name in error messages.
        info: of the run.

    Returns:
        Name -> (step ...), for tests (test ...); losses in nats. Measures that the task does not have are left out.

    Raises:
        UserError: the file is missing or damaged, or does not hold what was measured in this run.
    """
    found, _ = read_tensors(source, shown, lambda found, _: _check(found, info, shown))
    tested, last = found.get("test_step", torch.empty(0, dtype=torch.int64)), _last(info)
    if len(tested) and not (tested[0] >= 0 and (tested.diff() > 0).all() and tested[-1] <= last):
        raise UserError(f"The test_step of {shown} does not ascend from 0 to at most {last:,}; restore the file.")
    allowed = _allowed(found, info)
    return {name: values for name, values in found.items() if name in allowed}


def _last(info: RunInfo) -> int:
    """The last step at which something is measured: after the last update only of a run that was not trained here."""
    return info.training.steps - (not info.origin)


def _check(found: Mapping[str, Tensor], info: RunInfo, shown: str) -> None:
    """Refuse metrics with other names, types or shapes than those of the run, or with more rows than it has steps."""
    allowed = _allowed(found, info)
    required = {"train_loss", "train_loss_per_token"}
    if "test_loss" in found:
        required |= {"test_step", "test_loss", "test_loss_per_token"}
    fits = required <= found.keys() and all(
        (values.dtype, tuple(values.shape)) == allowed[name] and len(values) <= _last(info) + 1
        for name, values in found.items()
        if name in allowed
    )
    if not fits:
        raise UserError(f"{shown} does not hold the losses of this run; restore the file.")


def _allowed(found: Mapping[str, Tensor], info: RunInfo) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Name -> type and shape, with as many rows as the losses in ``found`` have."""
    steps, tests = ((*found.get(name, torch.empty(0)).shape, 0)[0] for name in ("train_loss", "test_loss"))
    f32, f64, tokens = torch.float32, torch.float64, len(info.task.loss_names)
    allowed = {"train_loss": (f64, (steps,)), "train_loss_per_token": (f32, (steps, tokens))}
    if "test_loss" in found:
        allowed |= {"test_step": (torch.int64, (tests,)), "test_loss": (f64, (tests,))}
        allowed["test_loss_per_token"] = (f32, (tests, tokens))
    for name, measure in info.task.measures.items():
        allowed |= {name: (f32, (steps, len(measure.lines))), f"test_{name}": (f32, (tests, len(measure.lines)))}
    return allowed
