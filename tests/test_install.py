"""The project as an installed package: its command, its public interface, its files and its jobs."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import SHIPPED

ROOT = Path(__file__).parents[1]
PIP = [
    "-m",
    "pip",
    "install",
    "--quiet",
    "--no-deps",
    "--no-build-isolation",
    "--no-index",
    "--no-warn-script-location",
]


def called(*command: str | Path, where: Path) -> str:
    """What a command prints, in an environment that does not know where the project is."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EXPLORER"))}
    done = subprocess.run(command, cwd=where, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of what is installed, so that the build leaves nothing in the project itself."""
    project = tmp_path_factory.mktemp("project")
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    shutil.copytree(ROOT / "explorer", project / "explorer", ignore=shutil.ignore_patterns("__pycache__"))
    return project


@pytest.fixture(scope="module")
def python(project, tmp_path_factory) -> Path:
    """The interpreter of an environment into which the project was installed to be edited."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    packages = sysconfig.get_path("purelib", vars={"base": environment})
    (Path(packages) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    called(scripts / "python", *PIP, "-e", project, where=environment)
    return scripts / "python"


def test_the_command_runs_anywhere(python, tmp_path):
    command = python.with_name("explorer")
    rows = json.loads(called(command, "runs", "--json", "--checkpoints", SHIPPED, where=tmp_path))
    assert {"addition", "induction"} <= {row["name"] for row in rows}
    assert "explorer train addition" in called(command, "runs", where=tmp_path)


def test_import_is_light_and_gives_the_public_interface_when_it_is_used(python, project, tmp_path):
    program = (
        "import os, sys, explorer\n"
        "assert os.environ['GOMP_SPINCOUNT'] == '1000'\n"
        "assert not {'torch', 'numpy', 'streamlit'} & set(sys.modules)\n"
        "assert set(explorer.__all__) <= set(dir(explorer))\n"
        "for name in explorer.__all__: getattr(explorer, name)\n"
        "assert 'streamlit' not in sys.modules\n"
        f"run = explorer.Runs({str(SHIPPED)!r}).open('addition')\n"
        "print(explorer.__file__, type(run.model(0)).__name__, run.info().task == explorer.TASKS['addition']())\n"
    )
    there = project / "explorer" / "__init__.py"
    assert called(python, "-c", program, where=tmp_path).split() == [str(there), "Transformer", "True"]


def test_a_name_that_is_not_public_is_no_attribute():
    import explorer

    with pytest.raises(AttributeError, match="'explorer' has no attribute 'Rums'"):
        explorer.Rums  # noqa: B018


def test_jobs_run_from_an_installed_package(python, tmp_path):
    program = (
        "import explorer\n"
        "from explorer.runs import jobs\n"
        "task = explorer.TASKS['addition'](n_digits=2)\n"
        "model = task.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32)\n"
        "settings = explorer.TrainingConfig(steps=3, batch_size=4)\n"
        "run = explorer.create(explorer.Runs('runs'), 'job', task, model, settings)\n"
        "jobs.start(run)\n"
        "while run.is_training(): pass\n"
        "print(run.info().status, run.log.read_text())\n"
    )
    assert called(python, "-c", program, where=tmp_path).strip() == "done"


def test_an_installed_package_has_all_files_of_the_project(project, tmp_path):
    called(sys.executable, *PIP, "--target", tmp_path, project, where=tmp_path)
    files = {path.relative_to(project) for path in (project / "explorer").rglob("*.*") if path.is_file()}
    assert {path.suffix for path in files} >= {".py", ".js", ".css", ".svg"}
    assert not {str(path) for path in files if not (tmp_path / path).is_file()}
