"""Whatever is typed, linked or found in a file is read as what it says, or refused in a sentence: drawn at random."""

import dataclasses
import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays

from explorer.errors import UserError, listed, printable, quoted
from explorer.film.film import Film
from explorer.film.panels.bars import Bars
from explorer.film.panels.curves import Curves, Line
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.raster import Raster
from explorer.film.panels.scatter import Scatter
from explorer.pages.plain import code, plain
from explorer.runs import RunInfo, Runs, recorder
from explorer.runs.info import STATUSES
from explorer.runs.store import NAME
from explorer.scene import read
from explorer.settings import TrainingConfig
from explorer.tasks import TASKS
from explorer.tasks.data import Example
from explorer.tasks.task import Task
from explorer.views import all_views
from explorer.views.opening import open_scene
from tests.films import panels_of
from tests.mutations import KINDS, TEXTS

MANY = settings(max_examples=250, deadline=None)  # of each of four tasks
THOUSAND = settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

HOSTILE = some.sampled_from([text for text in TEXTS if "\ud800" not in text])
ANY_TEXT = (
    some.text(max_size=300) | HOSTILE | some.text(alphabet="0123456789+=-, abcjABCJK^/\\.~\u202e\0<&", max_size=60)
)
TASKS_HERE: list[Task] = [TASKS[name](**task) for name, (task, _, _) in KINDS.items()]
TASKS_HERE += [task() for _, task in sorted(TASKS.items())]
each_task = pytest.mark.parametrize("task", TASKS_HERE, ids=lambda task: f"{task.title}, {task.n_ctx} tokens")


def is_sentence(text: str) -> bool:
    """Whether a text is one line that can be shown as it is."""
    return text.isprintable() and len(text) < 1000 and text.endswith(".")


def tried(attempt: Callable[[], Any]) -> tuple[Any, str]:
    """What a call returns, and the sentence with which it is refused."""
    try:
        return attempt(), ""
    except UserError as error:
        return None, str(error)


def assert_example(task: Task, example: Example) -> None:
    """It fits the model, and its own text is the same example."""
    assert example.tokens.dtype == torch.int64
    assert 0 < len(example.tokens) <= task.n_ctx
    assert int(example.tokens.min()) >= 0
    assert int(example.tokens.max()) < len(task.tokens)
    assert int(example.targets.max()) < len(task.answer_tokens)
    assert example.text.isprintable()
    again = task.encode(example.text)
    assert torch.equal(again.tokens, example.tokens)
    assert torch.equal(again.targets, example.targets)
    assert again.text == example.text
    for answer in (example.targets, example.targets * 0):
        assert all(line.isprintable() for line in task.written(example, answer.tolist()).split("\n"))


# --- Typed examples ---


@each_task
@MANY
@given(text=ANY_TEXT)
def test_any_text_is_an_example_or_refused_in_a_sentence(task, text):
    example, refusal = tried(lambda: task.encode(text))
    if example is None:
        assert is_sentence(refusal), refusal
    else:
        assert_example(task, example)


@some.composite
def valid_texts(draw: Any, task: Task) -> str:
    """Examples as somebody may type them: those of the task with some characters repeated, exchanged or moved."""
    text = list(draw(some.sampled_from(list(task.examples.values()))))
    for _ in range(draw(some.integers(0, 3))):
        one, other = (draw(some.integers(0, len(text) - 1)) for _ in range(2))
        text[one], text[other] = draw(some.sampled_from([(text[other], text[one]), (text[one], text[one])]))
    return " " * draw(some.integers(0, 2)) + "".join(text)


@each_task
@MANY
@given(data=some.data())
def test_examples_are_equal_after_writing_and_reading(task, data):
    text = data.draw(valid_texts(task))
    example, refusal = tried(lambda: task.encode(text))
    if example is None:
        assert is_sentence(refusal), refusal
    else:
        assert_example(task, example)


# --- Names of runs, and scenes ---


@THOUSAND
@given(name=ANY_TEXT)
def test_a_name_that_cannot_be_that_of_a_run_is_neither_read_nor_made(root, name):
    assume(not NAME.fullmatch(name))
    runs, (task, model, _) = Runs(root), KINDS["addition"]
    kind = TASKS["addition"](**task)
    for attempt in (
        lambda: runs.open(name),
        lambda: recorder.create(runs, name, kind, kind.model_config(**model), TrainingConfig(steps=1), threads=1),
    ):
        with pytest.raises(UserError) as refused:
            attempt()
        assert is_sentence(str(refused.value))
    assert [path.name for path in root.iterdir()] == ["small"]


@THOUSAND
@given(line=ANY_TEXT)
def test_any_line_is_a_scene_or_gets_sentences(line):
    scene, problems = read(line, "overview")
    assert all(problem.isprintable() and len(problem) < 300 for problem in problems)
    if "/" not in scene.view and "?" not in scene.view and scene.view.isprintable() and scene.view.isascii():
        again, _ = read(str(scene))
        assert dataclasses.replace(again, view=scene.view) == scene


PARTS = ["run", "step", "example", "player", "show", "on", "layer", "heads", "beside", "align", "neuron", "off", "what"]
PAIRS = some.lists(
    some.tuples(some.sampled_from(PARTS), some.sampled_from(["small", "40", "1+2", "one", "0", "1e999"]) | ANY_TEXT),
    max_size=4,
)


@FEW
@given(view=some.sampled_from([*all_views(), "..", "nope", ""]), pairs=PAIRS)
def test_any_parameters_open_a_view_or_get_a_sentence_each(root, view, pairs):
    line = f"{view}?{urlencode([('run', 'small'), *pairs], errors='replace')}"
    opened, refusal = tried(lambda: open_scene(line, Runs(root)))
    assert all(sentence.isprintable() and len(sentence) < 500 for sentence in refusal.split("\n"))
    if opened is not None:
        assert open_scene(str(opened.scene), Runs(root)).scene == opened.scene
    assert [path.name for path in root.iterdir()] == ["small"]


# --- run.json ---

JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=20) | HOSTILE,
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
TRAININGS = some.builds(
    TrainingConfig,
    steps=some.integers(1, 10**7),
    batch_size=some.integers(1, 10**6),
    lr=some.floats(0, 100),
    seed=some.integers(0, 2**32 - 2),
    optimiser=some.sampled_from(["adamw", "sgd"]),
    full_batch=some.booleans(),
)


@some.composite
def infos(draw: Any) -> RunInfo:
    name = draw(some.sampled_from(sorted(KINDS)))
    task, training = TASKS[name](**KINDS[name][0]), draw(TRAININGS)
    steps = some.integers(0, training.steps)
    return RunInfo(
        task,
        task.model_config(**KINDS[name][1]),
        training,
        preset=draw(some.text(alphabet=string.ascii_letters, max_size=20)),
        status=draw(some.sampled_from(STATUSES)),
        steps_done=draw(steps),
        snapshots=tuple(sorted(draw(some.sets(steps, max_size=5)))),
        message=printable(draw(some.text(max_size=600))),
        steps_per_second=draw(some.just(0.0) | some.floats(1e-5, 1e8)),
        threads=draw(some.integers(0, 1024)),
        ended_at=tuple(sorted(draw(some.sets(some.integers(0, training.steps - 1), max_size=3)))),
    )


@MANY
@given(info=infos())
def test_what_a_run_is_is_equal_after_writing_and_reading(info):
    assert RunInfo.from_json(json.loads(json.dumps(info.to_json())), "run.json") == info


@pytest.mark.usefixtures("unchecked")
@THOUSAND
@given(info=infos(), data=some.data())
def test_any_json_describes_a_run_or_is_refused_in_a_sentence(info, data):
    values = info.to_json()
    part = data.draw(some.sampled_from([values, values["task"], values["model"], values["training"]]))
    part[data.draw(some.sampled_from(sorted(part)) | some.text(max_size=10))] = data.draw(JSON)
    for given_values in (values, data.draw(JSON)):
        found, refusal = tried(lambda values=given_values: RunInfo.from_json(values, "run.json"))
        assert found is not None or is_sentence(refusal), refusal
        if found is not None:
            assert (found.message + found.preset).isprintable()
            assert RunInfo.from_json(json.loads(json.dumps(found.to_json())), "run.json") == found


# --- Films ---

NUMBERS = some.floats(width=32) | some.sampled_from([np.nan, np.inf, -np.inf, 3e38, -0.0])
WIDE = NUMBERS | some.sampled_from([1e300, -1e300, 1e-300])


def values(*shape: int) -> some.SearchStrategy[np.ndarray]:
    return arrays.arrays(np.float32, shape, elements=NUMBERS) | arrays.arrays(np.float64, shape, elements=WIDE)


def in_float32(panel_values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return panel_values.astype(np.float32)


@MANY
@given(data=some.data(), frames=some.integers(1, 4))
def test_any_numbers_are_equal_after_packing_and_unpacking(data, frames):
    steps, low, high = np.arange(frames) * 3, data.draw(WIDE), data.draw(WIDE)
    maps, x, y, bars = (data.draw(values(frames, *shape)) for shape in ((2, 3, 2), (3,), (3,), (2, 4)))
    line, smoothed, interval = (data.draw(values(frames)) for _ in range(3))
    rows = data.draw(values(2, frames))
    film = Film(
        steps.tolist(),
        [
            Heatmaps("maps", "Maps", ["a", "b"], maps, list("rst"), list("cd"), "row", "column", low, high),
            Scatter("points", "Points", list("pqr"), x, y, "x", "y"),
            Curves("lines", "Lines", [Line("l", steps, line, 0, smoothed=smoothed, interval=interval)], smoothing=0.5),
            Raster("rows", "Rows", ["r", "s"], steps, rows, low=low, high=high, unit="nats"),
            Bars("bars", "Bars", bars, ["t", "u"], list("vwxy"), [0, 3]),
        ],
    )
    sent = panels_of(film.packed)
    packed = sent["maps"]
    places = np.arange(frames) if packed["frames"] is None else packed["frames"]
    cells = np.arange(6) if packed["cells"] is None else packed["cells"]
    received = np.full((frames, 2, 6), np.nan, np.float32)
    received[..., cells] = packed["values"][places]
    finite = in_float32(maps).reshape(frames, 2, 6)
    np.testing.assert_array_equal(received, np.where(np.isfinite(finite), finite, np.nan))
    np.testing.assert_array_equal(sent["points"]["x"], in_float32(x))
    np.testing.assert_array_equal(sent["points"]["y"], in_float32(y))
    np.testing.assert_array_equal(sent["rows"]["values"], in_float32(rows))
    np.testing.assert_array_equal(sent["bars"]["values"], in_float32(bars))
    (curve,) = sent["lines"]["lines"]
    np.testing.assert_array_equal(curve["raw"]["frames"], in_float32(line))
    np.testing.assert_array_equal(curve["raw"]["margins"], in_float32(interval))
    np.testing.assert_array_equal(curve["smoothed"]["values"], in_float32(smoothed))
    for panel in ("maps", "rows"):
        assert sent[panel]["low"] == (low if np.isfinite(low) else None)


# --- Text on a page and in a sentence ---


@THOUSAND
@given(text=ANY_TEXT)
def test_quoted_and_printable_text_is_one_short_line_without_marks_of_direction(text):
    for shown in (quoted(text), printable(text), listed([quoted(text)] * 20, 4)):
        assert shown.isprintable()
        assert len(shown) <= 1000
    assert quoted("\u202eevil\0") == r"'\u202eevil\x00'"


@THOUSAND
@given(text=ANY_TEXT)
def test_markdown_shows_any_text_literally(text):
    """Nothing that markdown, HTML or Streamlit's directives begin with is left without an escape."""
    escaped = plain(text)
    bare = escaped.replace("\\\\", "")
    for place, character in enumerate(bare):
        if character in "`*_[]<>&$:~#!|":
            assert bare[place - 1] == "\\", escaped
    assert escaped.replace("\u2060", "").count("\\") >= sum(text.count(one) for one in "`*_[]<>&$:")


@MANY
@given(text=some.text(alphabet="`a <", min_size=1, max_size=12).filter(str.strip))
def test_a_code_span_ends_at_its_own_end(text):
    fence = code(text)[: len(code(text)) - len(code(text).lstrip("`"))]
    inside = code(text)[len(fence) : -len(fence)]
    assert fence not in inside
    assert inside.strip() == text.strip()


def test_names_in_a_sentence():
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(list("abcde"), 4) == "a, b, c and 2 others"
    assert listed(list("abcd"), 4) == "a, b, c and d"


def test_paths_are_shown_without_marks_of_direction(tmp_path):
    folder = tmp_path / "\u202efiles"
    with pytest.raises(UserError) as refused:
        Runs(folder).open("x")
    assert is_sentence(str(refused.value))
    assert "files holds none yet" in str(refused.value)
    assert Runs(Path("x" * 5000)).root.name
    with pytest.raises(UserError, match=r"cannot be read as a folder of runs: File name too long\.$"):
        Runs(tmp_path / ("x" * 5000)).names()
