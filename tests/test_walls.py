"""Which part of the project may import which, which libraries each part may import, and how long a file may be."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "explorer").rglob("*.py"), ROOT / "streamlit_app.py"])
ANYWHERE = {"errors", "finding"}

# The parts that each part may import besides itself. A part is a folder, or a module that may import more than its
# folder.
MAY_IMPORT = {
    "errors": set(),
    "finding": set(),
    "settings": set(),
    "scene": set(),
    "glossary": set(),
    "options": {"scene"},
    "model": {"settings"},
    "tasks": {"model", "settings"},
    "training": {"model", "settings", "tasks"},
    "training.sweep": {"model", "settings", "tasks", "training"},
    "runs": {"interchange", "model", "settings", "tasks"},  # reading a run imports no training
    "runs.keeper": {"runs", "tasks", "training"},
    "runs.recorder": {"model", "runs", "runs.keeper", "settings", "tasks", "training"},
    "runs.jobs": {"runs", "runs.recorder"},
    "runs.sweeps": {"runs", "training.sweep"},
    "runs.shelf": {"runs", "runs.sweeps"},
    "sweeps": {
        "model",
        "runs",
        "runs.jobs",
        "runs.recorder",
        "runs.sweeps",
        "sweeps.outcomes",
        "training",
        "training.sweep",
    },
    # Looking at a sweep imports nothing that trains.
    "sweeps.outcomes": {"analysis", "runs", "runs.sweeps", "tasks"},
    "sweeps.leads": {"analysis", "runs", "runs.sweeps"},
    "measures": {"analysis", "model", "runs", "settings", "tasks", "training"},
    "measures.jobs": {"measures", "runs", "runs.jobs"},
    "interchange": {"model"},
    "runs.archive": {"runs", "runs.importing"},
    "runs.importing": {"interchange", "model", "runs", "runs.keeper", "settings", "tasks"},
    "analysis": {"model", "tasks"},
    "film": {"film.panels", "glossary"},
    "film.panels": {"film"},
    "film.player": {"film"},
    "views": {
        *("analysis", "film", "film.panels", "measures", "model", "options", "runs", "runs.sweeps", "scene"),
        *("sweeps.leads", "sweeps.outcomes", "tasks", "training.sweep"),
    },
    "stories": {"film", "film.panels", "options", "runs", "scene", "views"},
    "pages": {
        *("glossary", "measures", "measures.jobs"),
        *("analysis", "film", "film.panels", "film.player", "model", "options", "runs", "runs.importing", "runs.jobs"),
        *("runs.recorder", "runs.archive", "runs.shelf", "runs.sweeps", "sweeps", "sweeps.outcomes"),
        *("scene", "settings", "stories", "tasks", "training", "training.sweep", "views"),
    },
    "cli": {
        *("analysis", "film", "interchange", "measures", "model", "runs", "runs.archive", "runs.importing"),
        *("runs.recorder", "runs.sweeps", "sweeps", "sweeps.leads", "sweeps.outcomes"),
        *("scene", "settings", "stories", "tasks", "training", "training.sweep", "views"),
    },
    "streamlit_app": {"film", "pages", "scene", "views"},
    "__main__": {"cli"},
    "": {"model", "runs", "runs.recorder", "scene", "settings", "tasks"},  # the public interface
}
KNOWN_BY = {
    "streamlit": {"pages", "film.player", "streamlit_app"},
    "plotly": {"film.panels"},
    "safetensors": {"runs"},
    "cachetools": {"pages"},
    "markdown_it": {"stories"},
    "mdit_py_plugins": {"stories"},
    "yaml": {"runs", "stories"},
    "tqdm": {"cli"},
    "psutil": {"training"},
    "fsspec": {"runs"},
    "distributed": {"sweeps"},
    "tokenizers": {"tasks"},
}
LONGEST = {"py": 450, "js": 400}  # lines


def part(dotted: str) -> str:
    """The part of the project to which ``explorer.x.y`` belongs: the longest one that is listed."""
    names = dotted.split(".")
    names = names[1:] if names[0] == "explorer" else names
    names = names[:-1] if names[-1:] == ["__init__"] else names
    listed = [".".join(names[:n]) for n in range(len(names), -1, -1)]
    return next(one for one in listed if one in MAY_IMPORT)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write whole names"
            # "from explorer.runs import jobs" imports explorer.runs.jobs, "from explorer.runs import Run" does not.
            module = ROOT.joinpath(*(node.module or "").split("."))
            files = {path.stem for path in module.glob("*.py")} | {path.name for path in module.glob("*/")}
            inner = {alias.name for alias in node.names} & files
            found |= {f"{node.module}.{name}" for name in inner}
            if len(inner) < len(node.names):
                found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_part_imports_only_what_it_may(path):
    here = part(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for name in imports(path):
        if name.split(".")[0] == "explorer":
            assert part(name) in {here, *MAY_IMPORT[here], *ANYWHERE}, f"{here} imports {name}"
        for library, parts in KNOWN_BY.items():
            if name.split(".")[0] == library:
                assert here in parts, f"{here} imports {library}"


def test_parts_do_not_import_each_other_in_a_cycle():
    """A film and its kinds of panels are one part in two folders."""
    one = {"film.panels": "film"}
    graph = {name: {one.get(other, other) for other in others} for name, others in MAY_IMPORT.items()}
    graph["film"] = (graph["film"] | graph.pop("film.panels")) - {"film"}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the parts of a cycle
    assert set(order) == MAY_IMPORT.keys() - {"film.panels"}


def test_no_code_outside_tasks_asks_which_task_it_is():
    allowed = {"explorer.tasks", "explorer.tasks.task", "explorer.tasks.data", "explorer.tasks.losses"}
    allowed |= {"explorer.tasks.tokenizer"}
    for path in FILES:
        if "tasks" not in path.parts:
            assert {name for name in imports(path) if name.startswith("explorer.tasks")} <= allowed, path


def test_pages_run_parts_again_by_one_function_only():
    """Since that keeps the places of what follows on the page."""
    users = {path.name for path in FILES if "st.fragment(" in path.read_text(encoding="utf-8")}
    assert users == {"widgets.py"}


@pytest.mark.parametrize(("ending", "longest"), LONGEST.items())
def test_no_file_is_too_long_to_be_read_at_once(ending, longest):
    folders = [ROOT / name for name in ("explorer", "tests", "benchmarks")]
    lengths = {
        path: len(path.read_text(encoding="utf-8").splitlines())
        for folder in folders
        for path in folder.rglob(f"*.{ending}")
        if path.parent.name != "vendor"
    }
    assert lengths
    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > longest} == {}
