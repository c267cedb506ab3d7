"""Films of the inside of a model, and of two runs, have the values of the measures."""

import numpy as np
import pytest
import torch

from explorer.analysis.answers import greedy_answers
from explorer.analysis.fourier import basis as fourier_basis
from explorer.analysis.fourier_2d import transform_2d
from explorer.errors import UserError
from explorer.film.panels.columns import Columns
from explorer.film.panels.curves import Curves
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.scatter import Scatter
from explorer.film.panels.text import Text
from explorer.film.panels.tokens import Tokens
from explorer.options import resolve
from explorer.runs import Runs
from explorer.views import (
    circuits,
    compare,
    components,
    cut,
    fourier,
    patching,
    weights,
)
from explorer.views.fourier_pairs import Entry
from explorer.views.subject import Subject
from explorer.views.view import last
from tests.conftest import SHIPPED
from tests.films import of, values

# --- Attribution, circuits, Fourier, weights ---


@pytest.mark.parametrize("form", components.FORMS)
def test_attributions_in_the_film_sum_to_the_logit(subject, form):
    film = components.film(subject, "48+76", 1, form)
    (columns,), (_, curves) = of(Columns, film), of(Curves, film)
    lines = values(curves)
    np.testing.assert_allclose(columns.values[:, 0].sum(-1), lines.pop("sum"), atol=1e-4)
    assert list(lines) == list(columns.categories)
    (lens,) = of(Heatmaps, film)
    assert lens.rows[-1] == "after block 1"
    assert (lens.low, lens.high, lens.full_colour_at) == (0, 1, None)  # a colour is the same probability everywhere


def test_every_available_circuit_is_shown(subject, copies):
    assert "composition" in circuits.available(copies)
    for run, text in ((subject, "48+76"), (copies, "abcabc")):
        for what in circuits.available(run):
            film = circuits.film(run, what, 9, text)  # clipped to the last layer
            assert len(film.panels) > 1


def test_digits_have_frequency_panels(subject):
    assert list(fourier.available(subject.info)) == list(fourier.MEASURES)
    assert fourier.answers(subject) == ("units", "tens")
    film = fourier.film(subject, "logits", "tens")
    (maps,) = of(Heatmaps, film)
    assert list(maps.rows) == list(maps.columns)
    assert maps.rows[-1] == "alternating"
    np.testing.assert_allclose(np.nansum(maps.values, (-1, -2)), 1, atol=1e-5)
    assert len(of(Scatter, fourier.film(subject, "circles", ""))) == 3


def test_large_grids_use_fewer_snapshots(subject, monkeypatch):
    whole = fourier.film(subject, "pairs", "units")
    monkeypatch.setattr(fourier, "MAX_PAIRS", 300)
    few = fourier.film(subject, "pairs", "units")
    assert few.steps == (0, 20, 40)
    for one, every in zip(of(Heatmaps, few), of(Heatmaps, whole), strict=True):
        np.testing.assert_allclose(one.values, every.values[::2], rtol=1e-4, atol=1e-6)


def test_an_entry_of_any_activation_is_shown_by_pair(subject):
    """Two-digit sums: position 2 is +, and the tens are at positions 0 and 3."""
    grid = subject.task.cycle.grids["tens"]
    hooks = ["blocks.1.attn.hook_pattern", "blocks.0.attn.hook_v", "blocks.0.hook_resid_mid"]
    _, cache = subject.ensemble.run(grid.batch.tokens, hooks)
    entries = [Entry(hooks[0], 5, head=1, key=3), Entry(hooks[1], 3, head=1, unit=4), Entry(hooks[2], 5, unit=7)]
    expected = [cache[hooks[0]][:, :, 1, 5, 3], cache[hooks[1]][:, :, 3, 1, 4], cache[hooks[2]][:, :, 5, 7]]
    names = ["L1H1, from = (5) to y (3)", "L0H1, d_head 4, at y (3)", "d_model 7, at = (5)"]
    for entry, values_, name in zip(entries, expected, names, strict=True):
        losses, shown = of(Heatmaps, fourier.film(subject, "pairs", "tens", fourier.Detail(entry=entry)))
        assert shown.title == f"{entry.hook}, {name} of tens, all 100 pairs"
        assert losses.title.startswith("Loss of tens, all 100 pairs")
        np.testing.assert_allclose(shown.values[:, 0], values_.unflatten(1, (10, 10)), rtol=1e-4, atol=1e-6)


def test_signed_terms_are_those_of_single_logits_and_neurons(subject):
    grid = subject.task.cycle.grids["units"]
    logits, _ = subject.ensemble.run(grid.batch.tokens)
    expected = transform_2d(grid.batch.at_answers(logits)[:, :, 0].double(), 10)[..., [3, 0]].movedim(-1, 1).numpy()
    film = fourier.film(subject, "single", "units", fourier.Detail("logits", (3, 0, 99)))
    (maps,) = of(Heatmaps, film)
    assert maps.maps == ["logit of 3", "logit of 0"]
    assert maps.scale == "diverging"
    assert np.isnan(maps.values[..., 0, 0]).all()
    np.testing.assert_allclose(maps.values[..., 1:, :], expected[..., 1:, :], rtol=1e-3, atol=1e-4)
    tables = of(Text, film)
    assert [table.title.split(";")[0] for table in tables] == [
        "Largest terms of logit of 3",
        "Largest terms of logit of 0",
    ]
    largest = np.unravel_index(np.abs(expected[-1, 0]).argmax(), (10, 10))
    x, y = (fourier_basis(10)[0][i] for i in largest)
    first = tables[0].blocks[-1].split("\n")[2].split()
    assert " ".join(first).startswith(f"{x} {y} {expected[-1, 0][largest]:.4g}")
    default = fourier.film(subject, "single", "units", fourier.Detail("neurons"))
    assert len(of(Heatmaps, default)[0].maps) == 4
    assert [panel.title.split(" along")[0] for panel in of(Curves, default)[1:]] == of(Heatmaps, default)[0].maps


def test_the_embeddings_of_numbers_are_compared_with_each_other(subject):
    (maps,) = of(Heatmaps, fourier.film(subject, "circles", ""))
    W_E = subject.ensemble.weights["embed.W_E"][:, :10]
    expected = torch.nn.functional.cosine_similarity(W_E[:, :, None], W_E[:, None], dim=-1)
    np.testing.assert_allclose(maps.values[:, 0], expected, atol=1e-5)


def test_options_of_a_pair_follow_its_hook_point(subject):
    texts = {"show": "pairs", "answer": "tens", "hook": "blocks.1.attn.hook_pattern", "head": "1", "key": "3"}
    options, problems = resolve(fourier.Options, subject, "48+76", texts)
    assert problems == []
    assert (options.position, options.key, options.head) == (6, 3, 1)  # position 6 predicts the tens
    later, problems = resolve(fourier.Options, subject, "48+76", {**texts, "position": "2"})
    assert problems == ["key is '3'; it can be 0, 1, 2."]  # the query does not see it
    assert later.key == 0
    mlp, problems = resolve(fourier.Options, subject, "48+76", {"show": "pairs", "unit": "31"})
    assert (mlp.hook, mlp.unit, mlp.head, mlp.key) == ("blocks.1.mlp.hook_post", 31, None, None)
    single, problems = resolve(fourier.Options, subject, "", {"show": "single", "source": "neurons", "channels": "3-5"})
    assert (single.channels, problems) == ((3, 4, 5), [])


def test_tasks_without_numbers_modulo_n_have_no_frequencies(copies):
    assert fourier.available(copies.info) == {}
    with pytest.raises(UserError, match="not numbers modulo n"):
        fourier.film(copies, "frequencies", "")


def test_the_path_of_the_weights_ends_where_training_does(subject):
    film = weights.film(subject)
    (path,) = of(Scatter, film)
    assert path.x.shape == (5, 1)
    norms = values(of(Curves, film)[1])
    parts = [line for name, line in norms.items() if name != "total"]
    np.testing.assert_allclose(np.sqrt(sum(part**2 for part in parts)), norms["total"], rtol=1e-4)


# --- Interventions ---


def test_ablating_nothing_shows_the_same_model_twice(subject):
    film = last(cut.ablation_films(subject, "48+76", (), "zero"))
    whole, without = of(Tokens, film)
    np.testing.assert_array_equal(whole.answers, without.answers)
    one, other = values(of(Curves, film)[0]).values()
    np.testing.assert_array_equal(one, other)
    assert max(np.abs(line.values).max() for line in of(Curves, film)[1].lines) == 0


def test_ablation_changes_answers_and_losses(shipped):
    film = last(cut.ablation_films(shipped, "12345+67890", ("L0 MLP",), "zero"))
    whole, without = of(Tokens, film)
    assert (whole.answers[-1] == whole.targets).all()
    assert (without.answers[-1] != without.targets).any()
    one, other = values(of(Curves, film)[0]).values()
    assert other[-1] > one[-1] + 1


def test_examples_that_differ_can_be_patched_and_others_are_refused(subject):
    answers = patching.differing_answers(subject, "48+76", "11+22")
    assert answers == {0: "hundreds: 1 or 0", 1: "tens: 2 or 3", 2: "units: 4 or 3"}
    for what in patching.patched_activations(subject):
        panel = patching.patch_film(subject, "48+76", "11+22", what, 1).panels[-1]
        shown = panel.values if isinstance(panel, Heatmaps) else np.stack([line.values for line in panel.lines])
        assert np.isfinite(shown).any()
    with pytest.raises(UserError, match="the same right answers"):
        patching.differing_answers(subject, "48+76", "76+48")
    with pytest.raises(UserError, match="same right answer at hundreds"):
        patching.patch_film(subject, "48+76", "50+75", "heads", 0)


def test_the_position_that_differs_is_always_patched():
    """Two texts of 42 positions differ in the first letter only; patching it restores the full answer."""
    subject = Subject.load(Runs(SHIPPED).open("skip-trigram"))
    one = subject.task.examples["B at the beginning"]
    other = patching.corrupted_examples(subject, one)["C instead of B"]
    (maps,) = of(Heatmaps, patching.patch_film(subject, one, other, "residual", 0))
    assert maps.columns[0] == "C (1)"
    assert maps.values[-1, 0, 0, 0] == pytest.approx(1, abs=1e-3)
    assert np.abs(maps.values[-1, 0, 0, 1:]).max() < 1e-3


def test_shares_of_tiny_logit_differences_are_hidden(shipped):
    panel = patching.patch_film(shipped, "12345+67890", "12345+87655", "heads", 0).panels[-1]
    shares = np.stack([line.values for line in panel.lines])
    assert np.isnan(shares[:, 0]).all()  # an untrained model has nearly no difference
    assert np.isfinite(shares[:, -1]).all()
    assert np.nanmax(np.abs(shares)) < 5


def test_examples_with_other_answer_positions_are_refused(copies):
    with pytest.raises(UserError, match="answers at different positions; type a second one of the same form"):
        patching.differing_answers(copies, "abcabc", "abcdabcd")


def test_offered_examples_can_be_patched(shipped):
    for text in shipped.task.examples.values():
        for other in patching.corrupted_examples(shipped, text).values():
            assert patching.differing_answers(shipped, text, other)
    induction = Subject.load(Runs(SHIPPED).open("induction"))
    first = next(iter(induction.task.examples.values()))
    assert list(patching.corrupted_examples(induction, first)) == ["other words"]


# --- Two runs ---


def test_runs_side_by_side_at_the_same_step(subject, shipped):
    film = compare.film(shipped, subject, "12+34", "step")
    other = next(panel for panel in film.panels if panel.title.startswith("small: loss"))
    expected = [min(subject.steps, key=lambda there: abs(there - step)) for step in shipped.steps]
    assert other.at.tolist() == expected
    answers = [panel for panel in film.panels if isinstance(panel, Tokens)]
    own = greedy_answers(subject.ensemble, subject.task.encode("12+34"))
    rows = [subject.steps.index(step) for step in expected]
    np.testing.assert_array_equal(answers[1].answers, own.tokens[rows])
    assert answers[0].prompt == list("00012+00034=")


def test_runs_side_by_side_at_the_same_loss():
    runs = Runs(SHIPPED)
    one, other = (Subject.load(runs.open(name)) for name in ("addition", "addition-finite"))
    film = compare.film(one, other, "12345+67890", "loss")
    at = next(panel.at for panel in film.panels if panel.title.startswith("addition-finite: loss"))
    assert (np.diff(at) >= 0).all()
    assert at[0] <= 10
    assert at[-1] == other.steps[-1]  # its loss never falls as far
    late = one.steps.index(max(step for step in one.steps if step <= 900))
    assert at[late] > 1400  # what one has learnt by then, the other learns after memorising
    assert film.panels[0].blocks[0].startswith("addition at step 0    addition-finite at step")


def test_runs_of_different_tasks_use_their_own_examples(subject, copies):
    film = compare.film(subject, copies, "48+76", "step")
    one, other = of(Tokens, film)
    assert one.prompt == list("48+76=")
    assert other.prompt[0] == "⊢"


def test_the_run_offered_for_comparison_has_the_same_task(subject, shipped):
    assert compare.default_partner(shipped, Runs(SHIPPED)) == "addition-finite"
    assert compare.default_partner(subject, Runs(SHIPPED)) == "addition"  # the same task with other settings
    assert compare.default_partner(subject, Runs(subject.run.folder.parent)) is None
