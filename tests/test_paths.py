"""The film of path patching: circuits over training, what is not shown, and the graph that shows them."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from explorer.analysis.path_patching import circuit, edges
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels.curves import Curves
from explorer.film.panels.graph import Graph
from explorer.options import resolve
from explorer.views import cut, get_view, patching, paths
from tests.conftest import random_ensemble
from tests.films import of, values
from tests.stacks import TABLE

CLEAN, CORRUPTED, HUNDREDS = "12345+67890", "12345+87655", 3


@pytest.fixture(scope="module")
def films(shipped) -> list[tuple[Film, float]]:
    return list(paths.path_films(shipped, CLEAN, CORRUPTED, HUNDREDS))


def graph(values: list[list[float]], kept: list[list[float]]) -> Graph:
    """Tokens, a head, an MLP and the answer, with all edges between them."""
    ends = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    senders, receivers = zip(*ends, strict=True)
    return Graph(
        "paths",
        "Paths",
        nodes=["tokens", "L0H0", "L0 MLP", "answer"],
        rows=[0, 1, 2, 3],
        senders=senders,
        receivers=receivers,
        values=np.array(values, float),
        kept=np.array(kept, float),
        thickest_at=1.0,
        unit="share",
        empty="nothing here",
    )


# --- The film ---


def test_a_snapshot_has_the_effects_and_the_circuit_of_its_model(shipped, films):
    film, _ = films[-1]
    (panel,), curves = of(Graph, film), {one.id: one for one in of(Curves, film)}
    clean, corrupted = shipped.task.encode(CLEAN), shipped.task.encode(CORRUPTED)
    found = circuit(shipped.ensemble.select([len(shipped.steps) - 1]), clean, corrupted, HUNDREDS)
    np.testing.assert_allclose(panel.values[-1], found.effects[0], atol=1e-5)
    assert (panel.kept[-1] == found.kept[0].numpy()).all()
    assert values(curves["faithfulness"])["of the logit difference"][-1] == pytest.approx(float(found.faithfulness[0]))
    assert values(curves["circuit-size"])["edges"][-1] == found.kept[0].sum()
    named = [(panel.nodes[one], panel.nodes[other]) for one, other in zip(panel.senders, panel.receivers, strict=True)]
    assert named == [(edge.sender, edge.receiver) for edge in edges(shipped.info.model)]


def test_snapshots_at_which_the_examples_hardly_differ_have_no_shares_and_say_so(films):
    film, _ = films[-1]
    (panel,), curves = of(Graph, film), {one.id: one for one in of(Curves, film)}
    clean, corrupted = values(curves["logit-difference"]).values()
    distance = np.abs(clean - corrupted)
    is_shown = distance >= 0.1 * distance.max()
    assert 0 < is_shown.sum() < len(is_shown)
    for numbers in (panel.values, panel.kept, values(curves["faithfulness"])["of the logit difference"][:, None]):
        assert (np.isfinite(numbers).all(1) == is_shown).all()
        assert (np.isnan(numbers).all(1) == ~is_shown).all()
    for sentence, shown in zip(paths.told(film), is_shown, strict=True):
        assert ("differ by less than 10% of their largest difference in training" in sentence) != shown
        assert ("edges alone give" in sentence) == shown


def test_the_film_grows_from_few_snapshots_to_all_that_have_shares(films):
    known = [set(np.isfinite(of(Graph, film)[0].values[:, 0]).nonzero()[0].tolist()) for film, _ in films]
    assert all(before < after for before, after in itertools.pairwise(known))
    assert [share for _, share in films] == sorted({share for _, share in films})
    assert films[-1][1] == 1
    assert all(len(after - before) <= paths.PART for before, after in itertools.pairwise([set(), *known]))
    first = sorted(known[0])
    assert max(known[-1]) in first
    assert max(np.diff(first)) > 1  # spread over training
    assert paths.told(films[0][0])[min(known[-1] - known[0])] == "Not measured yet."


def test_examples_that_never_differ_have_no_shares_at_all(subject):
    """All weights are zero, and so are all logits."""
    ensemble = subject.ensemble
    weights = {name: weight * 0 for name, weight in ensemble.weights.items()}
    silent = replace(subject, ensemble=type(ensemble)(ensemble.cfg, ensemble.steps, weights))
    film, share = list(paths.path_films(silent, "48+76", "11+22", 1))[-1]
    assert share == 1
    assert np.isnan(of(Graph, film)[0].values).all()
    assert set(paths.told(film)) == {f"{paths.TOO_LITTLE[0].upper()}{paths.TOO_LITTLE[1:]}."}


def test_the_sentence_names_the_path_whose_weakest_edge_is_strongest(films):
    effects = [[0.9, 0.3, 0.8, 0.5, 0.1, -0.7]]
    for kept, path in (
        ([1, 1, 1, 1, 1, 1], ["tokens", "L0H0", "L0 MLP", "answer"]),
        ([1, 1, 0, 1, 1, 1], ["tokens", "answer"]),
        ([0, 1, 1, 0, 1, 1], ["tokens", "L0 MLP", "answer"]),  # nothing leads to the head
    ):
        assert paths.strongest_path(graph(effects, [kept]), 0) == path


def test_a_circuit_of_one_path_is_told_in_full(films):
    film, _ = films[-1]
    (panel,) = of(Graph, film)
    path = ["tokens", "L0H3", "L0 MLP", "answer"]
    ends = itertools.pairwise([panel.nodes.index(name) for name in path])
    every = list(zip(panel.senders, panel.receivers, strict=True))
    kept = np.zeros_like(panel.kept)
    kept[:, [every.index(edge) for edge in ends]] = 1
    told = paths.told(Film(film.steps, [replace(panel, kept=kept), *of(Curves, film)]))
    assert re.fullmatch(
        r"3 of 15 edges alone give \d+% of the \d+\.\d logits by which the two examples differ; the only path: "
        r"tokens → L0H3 → L0 MLP → answer\.",
        told[-1],
    )


def test_the_logits_by_which_examples_differ_have_no_sign(films):
    """At the first snapshots, the second example may give more of the answer than the first."""
    film, _ = films[-1]
    (panel,), curves = of(Graph, film), [one for one in of(Curves, film) if one.id != "logit-difference"]
    (pair,) = [one for one in of(Curves, film) if one.id == "logit-difference"]
    swapped = replace(pair, lines=pair.lines[::-1])
    told = paths.told(Film(film.steps, [panel, *curves, swapped]))
    assert told == paths.told(film)
    assert "edges alone give" in told[-1]


def test_a_film_of_something_else_has_no_such_sentences(subject):
    assert paths.told(patching.patch_film(subject, "48+76", "11+22", "heads", 1)) == []


# --- The choice ---


def test_paths_are_a_choice_of_what_is_patched(subject):
    view = get_view("cut")
    options, problems = resolve(view.options_type, subject, "48+76", {"do": "patch", "exchange": "paths"})
    assert problems == []
    film = view.whole_film(subject, "48+76", options)
    assert [panel.kind for panel in film.panels] == ["curves", "graph", "curves", "curves", "curves"]
    assert film.look == paths.told(film)


def test_a_table_model_has_no_paths(subject):
    table = replace(
        subject, info=replace(subject.info, model=TABLE), ensemble=random_ensemble(TABLE, len(subject.steps))
    )
    assert list(cut.exchanged(table)) == ["heads"]
    _, (problem,) = resolve(get_view("cut").options_type, table, "48+76", {"do": "patch", "exchange": "paths"})
    assert problem == "exchange is 'paths'; it can be heads."
    with pytest.raises(UserError, match="choose a run of a transformer"):
        next(paths.path_films(table, "48+76", "11+22", 1))


# --- The panel ---


def test_the_numbers_of_a_graph_have_names():
    panel = graph([[1, 2, 3, 4, 5, 6]], [[0, 1, 0, 1, 0, 1]])
    assert panel.value(0, (), ["L0H0", "L0 MLP"]) == 3
    assert panel.value(0, (), ["tokens", "#3"]) == 4
    for names, message in (
        (["tokens"], "a number of paths is SENDER/RECEIVER"),
        (["tokens", "L9H9"], "no node is called 'L9H9'"),
        (["answer", "tokens"], "no edge leads from answer to tokens"),
    ):
        with pytest.raises(LookupError, match=message):
            panel.value(0, (), names)


def test_a_frame_without_values_is_a_gap():
    panel = graph([[1, 2, 3, 4, 5, 6]] * 2, [[1] * 6, [0] * 6])
    (shown,) = Film((0, 20), [panel]).with_gaps([10]).panels
    assert list(shown.gaps) == [1]
    assert np.isnan(shown.values[1]).all()
    assert np.isnan(shown.kept[1]).all()
    np.testing.assert_array_equal(shown.values[[0, 2]], panel.values)


@pytest.mark.parametrize(
    "wrong",
    [
        {"values": np.zeros((2, 6)), "kept": np.zeros((2, 6))},
        {"values": np.zeros((1, 5)), "kept": np.zeros((1, 5))},
        {"rows": [0, 1, 2]},
        {"rows": [0, 1, 1, 2]},  # an edge within a row
        {"receivers": [1, 2, 2, 3, 3, 4]},
    ],
)
def test_a_graph_that_could_not_be_drawn_is_refused(wrong):
    panel = graph([[1, 2, 3, 4, 5, 6]], [[1] * 6])
    panel.check(1)
    with pytest.raises(ValueError, match="does not fit"):
        replace(panel, **wrong).check(1)
