"""Measures in a separate process, which outlives the app that started it.

As with training, everything that is known of it is on disk, so any app that reads the same folder can watch it and stop
it. The process is that of the command ``measure``.
"""

import dataclasses
from typing import Any

from explorer.errors import UserError
from explorer.measures.measure import Measure, files_of
from explorer.runs import Run
from explorer.runs.files import last_line
from explorer.runs.jobs import launched, wait_for


def start(run: Run, measure: Measure[Any], settings: Any) -> None:
    """Measure, or go on, in a separate process. Returns when that has begun.

    Args:
        run: in a folder of this machine.
        measure: which nobody is computing.
        settings: of the measure.

    Raises:
        UserError: it is being measured, one of its files is a link to elsewhere, or the process failed at its start.
    """
    files = files_of(run, measure, settings)
    files.check_inside()
    if files.is_measuring():
        raise UserError(f"{run.name} is being measured already.")
    sets = [f"{name}={value}" for name, value in dataclasses.asdict(settings).items()]
    words = ["explorer", "measure", measure.name, run.name, "--checkpoints", str(run.runs.root.resolve())]
    try:
        files.folder.mkdir(exist_ok=True)
        process = launched([*words, *(word for each in sets for word in ("--set", each))], files.log)
    except OSError as error:
        raise UserError(
            f"{run.name} cannot be measured: {error.strerror}; see that {files.folder} can be written to."
        ) from error
    silent = f"its process ended without a word; start it again, or read {files.log}."
    wait_for(process, files.is_measuring, f"{run.name} could not be measured", lambda: last_line(files.log) or silent)
