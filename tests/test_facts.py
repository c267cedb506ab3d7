"""The figures of the README and of the run cards are those of the shipped runs."""

import json

import pytest

from benchmarks.facts import FACTS, FILLED, MEASURES, TEXTS, filled, measured


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_texts_state_the_figures_of_the_file(path):
    facts, text = json.loads(FACTS.read_text(encoding="utf-8")), path.read_text(encoding="utf-8")
    assert filled(text, facts) == text
    assert FILLED.search(text)


@pytest.mark.parametrize("run", [name for name in MEASURES if name != "addition"])
def test_the_figures_of_the_file_are_those_of_the_run(run):
    kept = json.loads(FACTS.read_text(encoding="utf-8"))
    assert measured(run) == {name: value for name, value in kept.items() if name.split(".")[0] == run}
