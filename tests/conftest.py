"""What several tests need: a small run that was really trained, and stacks of models that were not."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jaxtyping
import pytest
import torch
from safetensors.torch import load_file

from explorer.measures import complexity as complexity_measure
from explorer.model.architectures import weight_shapes
from explorer.model.ensemble import Ensemble
from explorer.model.transformer import ModelConfig
from explorer.runs import Run, Runs, recorder
from explorer.settings import TrainingConfig
from explorer.tasks.addition import Addition
from explorer.tasks.induction import Induction
from explorer.views import all_views
from explorer.views.subject import Subject
from tests.stacks import CONFIGS, stack

pytest_plugins = ["tests.browser", "tests.pages", "tests.remote"]
pytest.register_assert_rewrite("tests.printed")

# Small tensors on shared cores: a second thread only waits, here and in the processes that tests start.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

RUN_VIEWS = {name: view for name, view in all_views().items() if not view.of_sweeps}
SHIPPED = Path(__file__).parents[1] / "checkpoints"
TASK = Addition(n_digits=2)
MODEL = TASK.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32, n_layers=2)
TRAINING = TrainingConfig(steps=40, batch_size=16, seed=3, snapshot_every=10)
FINITE = TrainingConfig(steps=30, finite=40, test_batch_size=8, seed=1, snapshot_every=10)
LONG = replace(TRAINING, steps=100_000, snapshot_every=1000)


def until(done: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    for _ in range(6000):
        if done():
            return
        time.sleep(0.01)
    raise AssertionError("nothing happened for a minute")


def same(one: Run, other: Run) -> bool:
    """Whether two runs have the same metrics and the same snapshots, bit for bit."""
    files = ["metrics.safetensors", *(f"snapshots/step-{step:06d}.safetensors" for step in other.steps())]
    if one.steps() != other.steps():
        return False
    for name in files:
        ours, theirs = load_file(one.folder / name), load_file(other.folder / name)
        if {k: v.numpy().tobytes() for k, v in ours.items()} != {k: v.numpy().tobytes() for k, v in theirs.items()}:
            return False
    return True


def random_ensemble(cfg: ModelConfig, n: int = 3) -> Ensemble:
    """``n`` snapshots of which every weight is random, also those that are drawn as zeros or ones."""
    rng = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(n, *shape, generator=rng) / 3 for name, shape in weight_shapes(cfg).items()}
    return Ensemble(cfg, range(n), weights)


@pytest.fixture(autouse=True)
def own_main_module(monkeypatch) -> None:
    """AppTest puts the page in place of the main module, which every process that is spawned later would import."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    """A folder with one small run of two-digit addition, ``small``: 40 steps, 5 snapshots. Not to be changed."""
    root = tmp_path_factory.mktemp("checkpoints")
    recorder.train(recorder.create(Runs(root), "small", TASK, MODEL, TRAINING))
    return root


@pytest.fixture(scope="session")
def small(root) -> Run:
    return Runs(root).open("small")


@pytest.fixture
def copied(root, tmp_path) -> Run:
    """A copy of the small run that may be spoilt."""
    shutil.copytree(root / "small", tmp_path / "small")
    return Runs(tmp_path).open("small")


@pytest.fixture
def few(monkeypatch) -> int:
    """The loss of a run on new examples is sampled on few of them."""
    monkeypatch.setattr(complexity_measure, "EXAMPLES", 64)
    return 64


@pytest.fixture
def unchecked(monkeypatch) -> None:
    """Types in annotations are not checked while a test passes values of wrong types on purpose."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def tokens() -> torch.Tensor:
    """Five two-digit sums, (batch pos)."""
    return TASK.sample(5, torch.Generator().manual_seed(0)).tokens


@pytest.fixture(scope="session")
def subject(small) -> Subject:
    """The small run in memory."""
    return Subject.load(small)


@pytest.fixture(scope="session")
def copies(tmp_path_factory) -> Subject:
    """A small run of induction."""
    task = Induction(stretch=8, interval=12)
    model = task.model_config(d_model=16, n_heads=2, d_head=8, n_layers=2, attn_only=True)
    run = recorder.create(Runs(tmp_path_factory.mktemp("copies")), "copies", task, model, TRAINING)
    recorder.train(run)
    return Subject.load(run)


@pytest.fixture(scope="session")
def shipped() -> Subject:
    """The shipped run of addition on infinite data."""
    return Subject.load(Runs(SHIPPED).open("addition"))


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, also where the tests were started in the background, with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def ensemble(request) -> Ensemble:
    """A stack of each kind of model in turn."""
    return stack(request.param)


@pytest.fixture
def one_by_one(monkeypatch):
    """Every pass takes a single snapshot."""
    monkeypatch.setattr("explorer.model.ensemble.activation_bytes", lambda cfg, n_pos: 2**60)
