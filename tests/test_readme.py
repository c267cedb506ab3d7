"""What the README names exists."""

import importlib
import re
from pathlib import Path

import pytest

from explorer.measures import all_measures
from explorer.tasks import TASKS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
TABLE = TEXT.split("## From the notebook")[1].split("\n## ")[0]
NAMED = re.compile(r"`((?:model|tasks|analysis|training)/\w+\.py)`(?:: ((?:`\w+`(?:,| with)? ?)+))?")


def test_pictures_and_files_exist():
    shown = re.findall(r"\]\((?!https?:)([^)]+)\)", TEXT)
    shown += re.findall(r"`((?:explorer|benchmarks|docs)/[\w./]+)`", TEXT)
    assert len(shown) > 7
    assert [path for path in shown if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(("path", "names"), NAMED.findall(TABLE), ids=lambda text: text.split(":")[0])
def test_the_table_of_the_notebook_names_functions_that_exist(path, names):
    module = importlib.import_module("explorer." + path.removesuffix(".py").replace("/", "."))
    found = re.findall(r"`(\w+)`", names)
    kinds = [module, *(value for value in vars(module).values() if isinstance(value, type))]
    assert [name for name in found if not any(hasattr(kind, name) for kind in kinds)] == []


def test_settings_that_the_readme_changes_are_settings_of_a_task_or_a_measure():
    fields = {name for task in TASKS.values() for name in task.__dataclass_fields__} | {"d_model", "n_heads"}
    fields |= {name for measure in all_measures().values() for name in measure.settings_type.__dataclass_fields__}
    changed = re.findall(r"--set (\w+)=", TEXT)
    assert len(changed) > 5
    assert set(changed) <= fields
