"""Scenes as values and as lines of text, and the options of views."""

from dataclasses import dataclass
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as some

from explorer.errors import UserError
from explorer.options import choice, free_text, number, options_of, resolve, several, switch, texts_of
from explorer.scene import COMMON, MAX_LENGTH, Scene, read

NAMES = some.from_regex(r"[a-z][a-z0-9-]{0,12}", fullmatch=True)
TEXTS = some.text(max_size=40).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))
SWITCHES = some.sampled_from(
    ["losses.log", "losses.smooth:off", "patterns.enlarged:L1H0", "norms.hidden:a%20b,c", "plane.cell:2-3"]
)
SCENES = some.builds(
    Scene,
    view=NAMES,
    run=some.none() | TEXTS,
    step=some.none() | some.integers(0, 10**9),
    example=some.none() | TEXTS,
    options=some.dictionaries(NAMES.filter(lambda name: name not in COMMON), TEXTS, max_size=5).map(
        lambda found: tuple(sorted(found.items()))
    ),
    player=some.sets(SWITCHES).map(lambda found: " ".join(sorted(found))),
)


# --- The line ---


@given(SCENES)
def test_a_scene_is_equal_after_writing_and_reading(scene):
    assert read(str(scene)) == (scene, [])


@given(SCENES)
def test_a_complete_url_is_the_same_scene(scene):
    assert read(f"http://localhost:8501/base/{scene}") == (scene, [])


@given(some.text(max_size=200))
def test_any_line_reads_as_a_scene_that_can_be_written_and_read(line):
    """Invalid parts are reported; the rest is a scene like any other."""
    scene, _ = read(line, "overview")
    if scene.view.isidentifier():
        assert read(str(scene)) == (scene, [])


@given(some.dictionaries(some.sampled_from(["show", "layer", "all", "neuron", "typed", "foo"]), TEXTS, max_size=6))
def test_any_texts_resolve_to_options_that_are_equal_after_writing_and_reading(texts):
    options, _ = resolve(Options, Run(), "abc", texts)
    written = dict(texts_of(options, Run(), "abc"))
    assert resolve(Options, Run(), "abc", written) == (options, [])


def test_a_line_is_legible():
    scene = Scene("heads", "induction", 980, "abcd, abcd", (("show", "heads"),), "losses.log patterns.rescale")
    assert str(scene) == (
        "heads?run=induction&step=980&example=abcd,+abcd&show=heads&player=losses.log+patterns.rescale"
    )
    assert parse_qsl(scene.query)[2] == ("example", "abcd, abcd")
    assert str(Scene("overview")) == "overview"


@pytest.mark.parametrize(
    ("line", "messages"),
    [
        ("heads?run=a&run=b", ["'run' is given 2 times; give it once."]),
        ("heads?step=1&step=2&step=3&show=a&show=b", ["'step' is given 3 times", "'show' is given 2 times"]),
        ("heads?step=ten", ["step is 'ten'; it must be a whole number, such as 0."]),
        ("heads?step=-1", ["step is '-1'"]),
        ("heads?step=٣", ["step is '٣'"]),
        ("heads?step=99999999999", ["step is '99999999999'"]),
        (
            "heads?player=__proto__.hidden:x+a.log:on",
            ["'__proto__.hidden:x' is no switch", "'a.log:on' is no switch"],
        ),
        ("heads?player=x+y.z", ["'x' is no switch of a panel", "'y.z' is no switch of a panel"]),
        ("heads?" + "a=1&" * 100, ["The link has 100 parameters; at most 64 are read."]),
        ("heads?example=" + "a" * MAX_LENGTH, ["The link has 65,550 characters; at most 65,536 are read."]),
        ("http://[/heads", ["no link to a view; write it as VIEW?run=RUN&step=STEP."]),
    ],
)
def test_each_invalid_part_is_reported_and_has_its_default(line, messages):
    scene, problems = read(line)
    assert len(problems) == len(messages)
    assert all(message in problem for message, problem in zip(messages, problems, strict=True))
    assert (scene.run, scene.step, scene.example, scene.options, scene.player) == (None, None, None, (), "")


def test_a_url_without_a_view_is_of_the_default_view():
    assert read("http://localhost:8501/?run=a", "overview") == (Scene("overview", "a"), [])


def test_a_switch_is_given_once():
    scene, problems = read("overview?player=losses.log+losses.log:off+losses.log")
    assert (scene.player, problems) == ("losses.log", ["The switch 'losses.log' is given twice; give it once."])


def test_switches_of_the_player_are_parsed():
    scene, _ = read(
        "overview?player=losses.log+losses.smooth:off+patterns.enlarged:L1H0+a-b.hidden:units,c%2520d+plane.cell:2-3"
    )
    assert scene.switches == [
        ("a-b", "hidden", ["units", "c d"]),
        ("losses", "log", True),
        ("losses", "smooth", False),
        ("patterns", "enlarged", "L1H0"),
        ("plane", "cell", "2-3"),
    ]


# --- Options ---


class Run:
    """Stands for a loaded run."""

    layers = ("one", "two")


def _check(context, text):
    if "x" in text:
        raise UserError(f"{text!r} has an x; leave it out.")


def _parse_other(context, text):
    if not text.startswith("n"):
        raise UserError(f"There is no {text!r}; there are n1 to n9.")
    return text.lower()


@dataclass(frozen=True)
class Options:
    show: str = choice("Show", {"qk": "QK circuit", "ov": "OV circuit"})
    layer: int = choice(
        "Layer",
        lambda context: dict(enumerate(context.subject.layers)),
        when=lambda context: context.chosen["show"] == "ov",
    )
    all: tuple = several(
        "All", {1: "one", 2: "two", 3: "three"}, preferred=lambda context: (1,), parse_other=_parse_other
    )
    neuron: int = number("Neuron", 0, lambda context: len(context.example))
    basis: bool = switch("Basis")
    typed: str = free_text("Typed", _check, suggestions=lambda context: {context.example: "the same"})


def test_options_have_defaults_which_are_not_written():
    options, problems = resolve(Options, Run(), "abc", {})
    assert (options, problems) == (Options("qk", 0, (1,), 0, False, "abc"), [])
    assert texts_of(options, Run(), "abc") == ()


def test_options_are_read_and_written():
    texts = {"show": "ov", "layer": "1", "all": "3,2,n7", "neuron": "3", "basis": "on", "typed": "a, b"}
    options, problems = resolve(Options, Run(), "abc", texts)
    assert (options, problems) == (Options("ov", 1, (3, 2, "n7"), 3, True, "a, b"), [])
    assert dict(texts_of(options, Run(), "abc")) == texts


def test_an_option_without_effect_is_neither_read_nor_written():
    options, problems = resolve(Options, Run(), "abc", {"layer": "7"})
    assert (options.layer, problems) == (0, [])
    assert texts_of(Options("qk", 1, (1,), 0, False, "abc"), Run(), "abc") == ()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"show": "k"}, "show is 'k'; it can be qk, ov."),
        ({"show": "ov", "layer": "2"}, "layer is '2'; it can be 0, 1."),
        ({"neuron": "4"}, "neuron is '4'; it must be a whole number from 0 to 3."),
        ({"neuron": "1.5"}, "neuron is '1.5'; it must be a whole number from 0 to 3."),
        ({"basis": "yes"}, "basis is 'yes'; it can be on or off."),
        ({"typed": "x"}, "'x' has an x; leave it out."),
        ({"all": "9"}, "There is no '9'; there are n1 to n9."),
        ({"foo": "1"}, "There is no option 'foo'; there are show, layer, all, neuron, basis, typed."),
    ],
)
def test_an_invalid_option_is_reported_and_has_its_default(texts, message):
    options, problems = resolve(Options, Run(), "abc", texts)
    assert problems == [message]
    defaults, _ = resolve(Options, Run(), "abc", {name: text for name, text in texts.items() if name == "show"})
    assert options == (defaults if "all" not in texts else Options("qk", 0, (), 0, False, "abc"))


def test_valid_values_among_several_are_kept():
    options, problems = resolve(Options, Run(), "abc", {"all": "2,9,N3,2, ,8"})
    assert options.all == (2,)
    assert [problem[:15] for problem in problems] == ["There is no '8'", "There is no '9'", "There is no 'N3"]


def test_an_option_with_the_name_of_a_parameter_of_every_scene_is_refused():
    @dataclass(frozen=True)
    class Taken:
        step: int = number("Step", 0, 9)

    with pytest.raises(ValueError, match="No option may be called step"):
        options_of(Taken)
