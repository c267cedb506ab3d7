"""The sweeps that ship: whole, small, and what their command trains."""

import itertools
import re

import numpy as np
import pytest

from explorer.runs import Runs
from explorer.runs.place import LEADS
from explorer.runs.shipping import MAX_FILE
from explorer.runs.sweeps import open_sweep, sweep_names
from explorer.sweeps.leads import read_leads
from explorer.sweeps.outcomes import read_outcomes
from explorer.tasks import TASKS
from explorer.training.loop import Training
from explorer.training.sweep import parsed
from explorer.views.over_training import falls
from tests.conftest import SHIPPED

MOST = 8 * 10**6  # bytes of all sweeps that ship
NAMES = sweep_names(Runs(SHIPPED))
README = (SHIPPED.parent / "README.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"explorer sweep (\S+)((?: --?[\w-]+ \S+)+) --name (\S+)( --leads)? --only-outcomes")


def test_they_are_small():
    files = [path for name in NAMES for path in (SHIPPED / name).iterdir()]
    assert {path.name for path in files} <= {"sweep.json", "outcomes.safetensors", LEADS, "about.md"}
    assert max(path.stat().st_size for path in files) <= MAX_FILE
    assert sum(path.stat().st_size for path in files) <= MOST


@pytest.mark.parametrize("name", NAMES)
def test_every_run_is_done(name):
    sweep = open_sweep(Runs(SHIPPED), name)
    outcomes = read_outcomes(sweep)
    assert outcomes.ended.all()
    assert not outcomes.problems
    assert len(sweep.about()) > 50


@pytest.mark.parametrize("name", NAMES)
def test_it_is_what_its_command_in_the_readme_trains(name):
    """The settings are those of the command, and so are the first losses of its first and its last run."""
    (found,) = [match for match in COMMAND.finditer(README) if match[3] == name]
    words = found[2].split()
    given = [(words[i], words[i + 1]) for i in range(0, len(words), 2)]
    over = [value for option, value in given if option == "--over"]
    options = dict(given)
    kind = TASKS[found[1]]
    steps = [f"steps={options['--steps']}"] if "--steps" in options else []
    preset = options.get("--preset", next(iter(kind.presets)))
    keep = options.get("--keep", "losses")
    plan = parsed(kind, preset, [*steps, f"keep={keep}"], over, options.get("--seeds", ""))
    sweep = open_sweep(Runs(SHIPPED), name)
    assert sweep.info().plan == plan
    kept = read_leads(sweep, falls(plan.cells()[0].plan.task))
    assert list(kept) == ([cell.name for cell in sweep.info().cells] if found[4] else [])

    outcomes = read_outcomes(sweep)
    cells = sweep.info().cells
    for place in (0, len(cells) - 1):
        chosen = cells[place].plan
        training = Training(chosen.task, chosen.model, chosen.training)
        first = int(outcomes.points[1])
        losses = [measured.loss for measured, _ in itertools.islice(training.updates(), first + 1)]
        assert outcomes.of["train"].loss[place, 0] == pytest.approx(losses[0], rel=1e-5)
        assert outcomes.of["train"].loss[place, 1] == pytest.approx(np.mean(losses[1:]), rel=1e-4)
