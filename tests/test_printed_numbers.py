"""Every number on every page of the shipped runs is what a plain recomputation in float64 gives, at three snapshots.

All values of all options are opened, alone or together; where there are too many, `SAMPLED` says which. `tests.printed`
recomputes the panels with `tests.plain`, and a view, an option or a panel that it does not know fails here.
"""

import importlib
import pkgutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from explorer.options import Choice, Context, Option, Several, Switch, options_of, resolve
from explorer.runs import Runs
from explorer.views import get_view, sampling
from explorer.views.sampling import SampledView
from explorer.views.subject import Subject
from explorer.views.view import Choices, Note
from tests import printed
from tests.conftest import RUN_VIEWS, SHIPPED
from tests.plain.model import cross_entropy, forward
from tests.plain.run import PlainRun
from tests.plain.tasks import by_token
from tests.printed.expected import numbers_in, rounds_to
from tests.printed.page import ITEMS, Page, is_not_recomputed, recomputation

NAMES = Runs(SHIPPED).names()
for module in pkgutil.iter_modules(printed.__path__):  # each registers what it recomputes
    importlib.import_module(f"{printed.__name__}.{module.name}")


@lru_cache(maxsize=16)
def loaded(name: str) -> tuple[PlainRun, Subject]:
    return PlainRun(SHIPPED / name), Subject.load(Runs(SHIPPED).open(name))


# --- Which pages are opened ---


def first(option: Option, context: Context) -> list[str]:
    return [option.text_of(option.default(context))]


def ends(option: Option, context: Context) -> list[str]:
    """The first and the last choice."""
    assert isinstance(option, Choice)
    values = list(option.choices_at(context))
    return [option.text_of(value) for value in dict.fromkeys((values[0], values[-1]))] if values else [""]


def last(option: Option, context: Context) -> str:
    """The last of several choices."""
    assert isinstance(option, Several)
    return option.text_of((list(option.choices_at(context))[-1],))


def _choices(option: Option, context: Context) -> Iterator[str]:
    assert isinstance(option, Choice)
    return (option.text_of(value) for value in option.choices_at(context))


def forms(option: Option, context: Context) -> list[str]:
    """All for one hook point of each shape, the first for the others and for runs whose siblings have the same."""
    if context.subject.name in LARGE:
        return first(option, context)
    shapes = ("blocks.0.hook_resid_post", "attn.hook_pattern", "attn.hook_z", "mlp.hook_post")
    hook = context.chosen["hook"].removeprefix("blocks.0.")
    return [*_choices(option, context)] if f"blocks.0.{hook}" in shapes or hook in shapes else first(option, context)


def grafted(option: Option, context: Context) -> list[str]:
    """The parts whose matrices ship, and another."""
    kept = context.subject.run.folder / "measures"
    choices = [*_choices(option, context)]
    return [
        part
        for part in choices
        if part == choices[-1] or (kept / f"grafts-{part.replace(' ', '-')}.safetensors").exists()
    ]


PAIR_HOOKS = ("hook_pattern", "hook_z", "mlp.hook_post")
SAMPLED: Mapping[tuple[str, str], Callable[[Option, Context], list[str]]] = {
    ("activations", "form"): forms,
    ("activations", "heads"): first,
    ("activations", "positions"): first,
    ("activations", "units"): first,
    ("activations", "across"): first,
    ("activations", "up"): first,
    ("activations", "colour"): lambda option, context: (
        first(option, context) if context.chosen["form"] == "scatter" else [*_choices(option, context)]
    ),
    ("activations", "first"): first,
    ("activations", "last"): first,
    ("components", "answer"): ends,
    ("compare", "beside"): first,
    ("fourier", "answer"): ends,
    ("fourier", "basis"): lambda option, context: ["on" if context.chosen["show"] == "frequencies" else "off"],
    ("fourier", "channels"): first,
    ("fourier", "hook"): lambda option, context: [
        hook for hook in _choices(option, context) if hook.startswith("blocks.0.") and hook.endswith(PAIR_HOOKS)
    ],
    ("fourier", "head"): first,
    ("fourier", "position"): first,
    ("fourier", "key"): first,
    ("fourier", "unit"): lambda option, context: ["3"],
    ("cut", "answer"): lambda option, context: (
        ends(option, context) if context.chosen["exchange"] == "heads" else first(option, context)
    ),
    ("cut", "off"): first,
    ("cut", "second"): first,
    ("leads", "fall"): ends,
    ("complexity", "part"): ends,
    ("grafts", "part"): grafted,
    ("grafts", "token"): ends,
    ("losses", "smoothing"): ends,
    ("overview", "without"): lambda option, context: ["", last(option, context)],
}


LARGE = (
    "addition",
    "induction",
    "skip-trigram",
)  # measured on samples at the three snapshots alone, and on the first part of them
WITHOUT_EXAMPLE = ("compare", "cut")  # which are slow, and show of the example what Watch shows


def texts(view: str, name: str, option: Option, context: Context) -> list[str]:
    """The values of an option that are opened, as in a link."""
    if not option.has_effect(context):
        return []
    if (view, name) in SAMPLED:
        return SAMPLED[view, name](option, context)
    if isinstance(option, Switch):
        return ["off", "on"]
    assert isinstance(option, Choice), f"say in SAMPLED which values of {view}'s option {name} are opened"
    return [*_choices(option, context)]


def scenes(view: str, subject: Subject, example: str) -> list[dict[str, str]]:
    """The options of every page of a view that is opened."""
    found: list[tuple[dict[str, str], dict[str, Any]]] = [({}, {})]
    for name, option in options_of(get_view(view).options_type).items():
        extended = []
        for chosen, values in found:
            context = Context(subject, example, values)
            for text in texts(view, name, option, context) or [None]:
                value = option.default(context) if text is None else option.read(context, text)[0]
                extended.append((chosen if text is None else {**chosen, name: text}, {**values, name: value}))
        found = extended
    return [chosen for chosen, _ in found]


def opened(view: str, name: str, chosen: Mapping[str, str], example: str) -> Page | None:
    """The page of a view, or None if the run has no such page."""
    run, subject = loaded(name)
    shown = get_view(view)
    options, problems = resolve(shown.options_type, subject, example, chosen)
    assert not problems
    if shown.unavailable(subject, example, options):
        return None
    other = shown.second_run(options)
    second = loaded(other) if other else None
    is_large = run.task["name"] in LARGE and isinstance(shown, SampledView)
    shares_need_all = getattr(options, "do", "") == "patch"  # they are left out where the difference is small
    of = of_three(name) if is_large and not shares_need_all else subject
    films = shown.films(of, example, options, second[1] if second else None)
    film, _ = next(films) if is_large and not shares_need_all else deque(films, maxlen=1).pop()
    items = [*shown.above(subject, example, options), *shown.below(subject, example, options)]
    return Page(run, subject, shown, options, example, film, items, second)


@lru_cache(maxsize=16)
def of_three(name: str) -> Subject:
    """The run with three of its snapshots."""
    run, subject = loaded(name)
    places = [subject.steps.index(run.steps[place]) for place in run.three]
    return replace(subject, ensemble=subject.ensemble.select(places))


# --- The comparison ---


@pytest.mark.parametrize("view", RUN_VIEWS)
@pytest.mark.parametrize("run", NAMES)
def test_every_number_is_right(run, view, monkeypatch):
    plain, subject = loaded(run)
    if plain.task["name"] in LARGE:
        monkeypatch.setattr(sampling, "WORK", 2**26)  # so that the first parts of samples are small
    for chosen in scenes(view, subject, subject.first_example):
        page = opened(view, run, chosen, subject.first_example)
        if page is not None:
            compare_page(page, f"{view}?run={run}&" + "&".join(f"{name}={text}" for name, text in chosen.items()))


def compare_page(page: Page, link: str) -> None:
    for panel in page.film.panels:
        if is_not_recomputed(page.view.name, panel.id):
            continue
        try:
            expected = recomputation(page.view.name, panel.id)(page, panel.id)
            expected.compare(panel, page.frames)
            if expected.title is not None:
                assert expected.title in panel.title
            else:
                known = [value for value in vars(page.options).values() if isinstance(value, str)]
                shown = numbers_in(panel.title, [page.example, page.brief, *known])
                assert len(shown) == len(expected.numbers), f"{shown} in the title, {list(expected.numbers)} expected"
                for text, value in zip(shown, expected.numbers, strict=True):
                    rounds_to(text, value)
        except AssertionError as error:
            raise AssertionError(f"{link}, panel {panel.id}: {error}") from error
    for item in page.items:
        if isinstance(item, Choices) or (isinstance(item, Note) and not numbers_in(item.text)):
            continue
        assert (page.view.name, type(item)) in ITEMS, f"{link}: nobody checks {item}"
        try:
            ITEMS[page.view.name, type(item)](page, item)
        except AssertionError as error:
            raise AssertionError(f"{link}, {type(item).__name__}: {error}") from error


def test_a_panel_that_nobody_recomputes_fails():
    with pytest.raises(AssertionError, match="nobody recomputes the panel new of the view circuits"):
        recomputation("circuits", "new")
    wrong = replace(opened("weights", NAMES[0], {}, loaded(NAMES[0])[1].first_example), run=loaded(NAMES[1])[0])
    with pytest.raises(AssertionError, match="panel losses"):
        compare_page(wrong, "weights")


@pytest.mark.parametrize("run", NAMES)
def test_another_example_is_right_too(run):
    """On the pages that open with an example, with the default options."""
    subject = loaded(run)[1]
    example = subject.task.encode(list(subject.task.examples.values())[-1]).text
    for name, view in RUN_VIEWS.items():
        options, _ = resolve(view.options_type, subject, example, {})
        if view.uses_example(subject, options) and name not in WITHOUT_EXAMPLE:
            page = opened(name, run, {}, example)
            assert page
            compare_page(page, f"{name}?run={run}&example={example}")


@pytest.mark.parametrize("run", NAMES)
def test_recorded_losses_are_those_of_the_snapshots(run):
    """Row i was measured with the weights of step i on the i-th batch, which the task draws. Snapshots in float16 keep
    the loss within 1 %, as the recorder promises; it is measured in float64 here, and was in float32 with them."""
    plain, subject = loaded(run)
    stream, drawn = subject.task.train_stream(subject.info.training), 0
    is_fixed = subject.task.training_set(subject.info.training) is not None and plain.training.get("full_batch", True)
    for step in (plain.steps[0], plain.steps[plain.three[1]], plain.steps[-2]):  # nothing is measured after the last
        batch = stream.next()
        drawn += 1
        while drawn <= step and not is_fixed:
            batch = stream.next()
            drawn += 1
        tokens, positions, targets = (part.numpy() for part in (batch.tokens, batch.positions, batch.targets))
        found = forward(plain.model, plain.weights(step), tokens)
        losses = cross_entropy(found["logits"][np.arange(len(tokens))[:, None], positions], targets)
        of_tokens = np.nanmean(by_token(plain.task, losses, targets), 0)
        assert losses.mean() == pytest.approx(plain.metrics["train_loss"][step], rel=0.01), step
        np.testing.assert_allclose(of_tokens, plain.metrics["train_loss_per_token"][step], rtol=0.03, atol=1e-6)
