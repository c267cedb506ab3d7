"""Each part of the project knows one thing: the walls of the layout, read from the imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "explorer").rglob("*.py"), ROOT / "streamlit_app.py"])

# What each part may import of the project besides itself and `errors`; a part not listed may import nothing.
MAY_IMPORT = {
    "errors": set(),
    "settings": set(),
    "model": {"settings"},
    "tasks": {"model", "settings"},
    "training": {"model", "settings", "tasks"},
    "runs": {"model", "settings", "tasks"},
    "runs.recorder": {"model", "runs", "settings", "tasks", "training"},
    "runs.jobs": {"runs", "runs.recorder"},
    "analysis": {"model", "tasks"},
    "film": set(),
    "film.player": {"film"},
    "scene": set(),
    "views": {"analysis", "film", "model", "runs", "scene", "settings", "tasks"},
    "pages": {
        "film",
        "film.player",
        "model",
        "runs",
        "runs.jobs",
        "runs.recorder",
        "scene",
        "settings",
        "tasks",
        "training",
        "views",
    },
    "cli": {"analysis", "film", "model", "runs", "runs.recorder", "scene", "settings", "tasks", "training", "views"},
    "explorer": {"model", "runs", "runs.recorder", "scene", "settings", "tasks", "cli"},
    "streamlit_app": {"pages"},
}
KNOWN_BY = {
    "streamlit": {"pages", "film.player", "streamlit_app"},
    "plotly": {"film"},
    "safetensors": {"runs"},
    "tqdm": {"cli"},
    "psutil": {"training"},
}


def part(dotted: str) -> str:
    """The part of the project to which ``explorer.x.y`` belongs."""
    names = dotted.split(".")
    names = names[1:] if names[0] == "explorer" else names
    return ".".join(names[:2]) if names[:1] == ["film"] else (names or [""])[0]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write whole names"
            # "from explorer import runs" imports explorer.runs; "from explorer.runs import Run" does as well.
            is_package = (ROOT / Path(*node.module.split("."))).is_dir()
            found |= {f"{node.module}.{alias.name}" if is_package else node.module for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    here = part(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for name in imports(path):
        if name.split(".")[0] == "explorer":
            assert part(name) in MAY_IMPORT.get(here, set()), f"{here} imports {name}"
        for library, parts in KNOWN_BY.items():
            if name.split(".")[0] == library:
                assert here in parts, f"{here} imports {library}"


def test_no_code_outside_tasks_asks_which_task_it_is():
    for path in FILES:
        if "tasks" not in path.parts:
            names = {alias for alias in imports(path) if alias.startswith("explorer.tasks.")}
            assert names <= {
                "explorer.tasks.task_named",
                "explorer.tasks.TASKS",
                "explorer.tasks.task",
                "explorer.tasks.data",
            }, path
