"""A thousand run folders with something wrong in them: each is answered by a sentence, or by a right picture.

Each mutation is opened, shown through every view that applies, and each film packed: with the default options, and one
view, in turn, also with others. Films of runs that have the same weights in memory are made once, and where only losses
differ, those of the views that show them.
"""

import contextlib
import hashlib
import json
import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer.cli.main import main
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.options import resolve
from explorer.pages.run_cards import card
from explorer.runs import Run, Runs, recorder
from explorer.views import get_view
from explorer.views.subject import Subject
from explorer.views.view import View
from tests.conftest import RUN_VIEWS
from tests.films import unpacked
from tests.mutations import KINDS, make_runs, mutated, weights_of
from tests.spoilt import every_way

GROUPS, EACH = 20, 50
DECOMPOSITIONS = ("eigvals", "eig", "eigh", "svd", "svdvals", "qr")
SHOW_LOSSES = ("overview", "losses", "compare")
Way = tuple[View[Any], Any]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder with runs of all tasks in ``runs``, and with what no run may touch in ``outside``."""
    base = tmp_path_factory.mktemp("corruption")
    (base / "outside").mkdir()
    (base / "outside" / "secret.txt").write_text("secret")
    make_runs(base / "runs")
    shutil.copy(next((base / "runs" / "addition" / "snapshots").iterdir()), base / "outside" / "snapshot.safetensors")
    return base


@pytest.fixture(scope="module")
def whole(base) -> dict[str, Subject]:
    """The runs as they were."""
    return {name: Subject.load(Runs(base / "runs").open(name)) for name in KINDS}


@pytest.fixture(scope="module")
def made() -> set[object]:
    """What films have been made of."""
    return set()


@pytest.fixture(autouse=True)
def finite_decompositions(monkeypatch) -> None:
    """LAPACK is never given numbers that are not finite."""
    for name in DECOMPOSITIONS:
        function = getattr(torch.linalg, name)

        def checked(matrix, *args, function=function, **options):
            assert matrix.isfinite().all()
            return function(matrix, *args, **options)

        monkeypatch.setattr(torch.linalg, name, checked)


def contents(folder: Path) -> dict[str, object]:
    """What is in a folder: for each path the bytes, or what else it is."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else "" for path in folder.rglob("*")}


@contextlib.contextmanager
def answered() -> Iterator[None]:
    """All goes well, or a sentence says why not."""
    said = ""
    try:
        yield
    except UserError as error:
        said = str(error)
    assert not said or is_sentence(said), said


def is_sentence(text: str) -> bool:
    """Whether a text is fit to be shown as it is."""
    return 0 < len(text) < 1500 and text.isprintable() and text[-1] in ".!" and "secret" not in text


def digest(tensors: Mapping[str, torch.Tensor]) -> bytes:
    numbers = hashlib.sha1()
    for name, values in sorted(tensors.items()):
        numbers.update(name.encode() + str(tuple(values.shape)).encode() + values.contiguous().numpy().tobytes())
    return numbers.digest()


def ways(subject: Subject, number: int, made: set[object]) -> list[Way]:
    """The views that have not been seen yet with what is in memory, and the options to show them with."""
    info = subject.info
    settings = (subject.frames, subject.gaps, info.task, info.model, info.training)
    weights, losses = ((*settings, digest(tensors)) for tensors in (subject.ensemble.weights, subject.metrics))
    views = [] if losses in made else [get_view(name) for name in SHOW_LOSSES]
    views = views if weights in made else list(RUN_VIEWS.values())
    made |= {weights, losses}
    found: list[Way] = []
    for place, view in enumerate(views):
        offered = [options for other, options in every_way(subject, view)] if place == number % len(views) else []
        defaults, _ = resolve(view.options_type, subject, subject.first_example, {})
        found += [(view, defaults), *((view, options) for options in offered[number % 7 :: 7][:2])]
    return found


def check_film(film: Film, subject: Subject) -> None:
    header = unpacked(b"\x02\0\0\0{}" + film.packed)
    assert header["steps"] == list(subject.frames)
    assert len(header["panels"]) == len(film.panels)


def show(subject: Subject, partner: Subject, number: int, made: set[object]) -> None:
    example = subject.first_example
    for view, options in ways(subject, number, made):
        if view.unavailable(subject, example, options):
            continue
        with contextlib.suppress(UserError):  # such as a neuron of a model without any
            second = partner if view.second_run(options) else None
            check_film(view.whole_film(subject, example, options, second), subject)
            list(view.above(subject, example, options)), list(view.below(subject, example, options))


def check_opened(run: Run, before: Subject, untouched: dict[str, Any]) -> Subject:
    """Open a run: what was not touched is as it was, and all that is missing is told."""
    subject = Subject.load(run)
    assert all(map(is_sentence, subject.problems)), subject.problems
    told = " ".join(subject.problems)
    for step in before.frames:
        name = run.snapshot_file(step).name
        if step in subject.steps and name in untouched:
            place = subject.steps.index(step)
            for weight, values in untouched[name].items():
                assert torch.equal(subject.ensemble.weights[weight][place], values.float()), (name, weight)
        if step not in subject.steps:
            assert name in told or f"{step}" in told, told
    return subject


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("group", range(GROUPS))
def test_every_mutation_is_answered(base, whole, made, capsys, group):
    rng = random.Random(group)
    outside = contents(base / "outside")
    for number in range(group * EACH, (group + 1) * EACH):
        name = list(KINDS)[number % len(KINDS)]
        root = base / "mutated"
        shutil.copytree(base / "runs" / name, root / name)
        how = mutated(rng, root / name, number // len(KINDS))
        partner = list(KINDS)[(number + 1) % len(KINDS)]
        try:
            check_mutation(base, root, name, whole[name], whole[partner], made, number, capsys)
        except Exception as error:
            error.add_note(f"mutation {number} of {name}: {how}")
            raise
        finally:
            shutil.rmtree(root)
        assert contents(base / "outside") == outside
        assert sorted(path.name for path in base.iterdir()) == ["outside", "runs"]


def check_mutation(
    base: Path, root: Path, name: str, before: Subject, partner: Subject, made: set[object], number: int, capsys: Any
) -> None:
    run = Run(root / name)
    pristine = weights_of(Run(base / "runs" / name))
    untouched = {
        file: weights
        for file, weights in pristine.items()
        if (path := run.snapshots_folder / file).is_file()
        and path.read_bytes() == (base / "runs" / name / "snapshots" / file).read_bytes()
    }
    files = sorted(path.name for path in root.rglob("*"))
    with answered():
        show(check_opened(Runs(root).open(name), before, untouched), partner, number, made)
    with answered():
        summary = card(Runs(root).open(name))
        assert all(text.isprintable() for text in (summary.title, summary.progress, summary.about))
    for command in (["runs", "--json"], ["runs"], ["phases", name, "--json"]):
        status = main([*command, "--checkpoints", str(root)])
        printed = capsys.readouterr()
        assert status in (0, 2)
        assert all(map(is_sentence, printed.err.splitlines())), printed.err
        if command[-1] == "--json" and status == 0:
            json.loads(printed.out, parse_constant=pytest.fail)
    left = sorted(path.name for path in root.rglob("*"))
    assert [one for one in left if one != ".lock"] == [one for one in files if one != ".lock"]
    state = run.resume_file
    if not state.is_file() or state.read_bytes() != (base / "runs" / name / state.name).read_bytes():
        with answered():
            assert recorder.train(run, device="cpu").status == "done"
