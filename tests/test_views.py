"""Films of a run: what they say is what the measures say."""

import math

import numpy as np
import pytest
import torch

from explorer.analysis.answers import greedy_answers
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels.columns import Columns
from explorer.film.panels.curves import Curves
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.raster import Raster
from explorer.film.panels.scatter import Scatter
from explorer.film.panels.tokens import Tokens
from explorer.runs import Runs, recorder
from explorer.tasks.addition import Addition
from explorer.tasks.induction import Induction
from explorer.views import (
    activations,
    attention,
    attribution,
    circuits,
    compare,
    fourier,
    interventions,
    phase_changes,
    watch,
    weights,
)
from explorer.views.subject import Subject
from tests.conftest import SHIPPED, TRAINING


@pytest.fixture(scope="module")
def subject(small) -> Subject:
    return Subject.load(small)


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> Subject:
    """A small run of induction."""
    task = Induction(stretch=8, interval=12)
    model = task.model_config(d_model=16, n_heads=2, d_head=8, n_layers=2, attn_only=True)
    run = recorder.create(Runs(tmp_path_factory.mktemp("copies")), "copies", task, model, TRAINING)
    recorder.train(run)
    return Subject.load(run)


@pytest.fixture(scope="module")
def shipped() -> Subject:
    return Subject.load(Runs(SHIPPED).open("addition"))


def of(kind: type, film: Film) -> list:
    return [panel for panel in film.panels if isinstance(panel, kind)]


def values(panel: Curves) -> dict[str, np.ndarray]:
    return {line.label: line.values for line in panel.lines}


# --- Phase changes ---


def test_onsets_of_addition_are_ordered_as_its_curves_show(shipped):
    found = phase_changes.phases(shipped)
    assert [phase.name for phase in found] == ["100k", "10k", "tens", "thousands", "units", "hundreds"]
    assert all(phase.onset is not None and phase.ends > phase.onset for phase in found)
    assert [phase.width for phase in found[1:]] == [phase.ends - phase.begins for phase in found[1:]]
    assert found[0].begins is None  # it begins below, as it is only ever 0 or 1
    raster = phase_changes.seismograph(shipped)
    assert raster.rows == [phase.name for phase in found]
    assert raster.onsets.tolist() == [phase.onset for phase in found]
    assert 0.9 < raster.values[-1, 0] < 1.2
    assert raster.values[:, -1].max() < 0.05
    flags = {mark.label: mark.step for mark in watch.film(shipped, "12345+67890").panels[1].marks}
    assert flags == {f"{phase.name}: onset": phase.onset for phase in found}


def test_smoothing_leaves_onsets_where_they_are_and_stands_in_the_film(shipped):
    rough, smooth = (phase_changes.phases(shipped, beta) for beta in (0.5, 0.98))
    settled = {phase.name: phase.onset for phase in smooth}
    for phase in rough:
        assert settled[phase.name] == pytest.approx(phase.onset, abs=40), phase.name
    assert phase_changes.film(shipped, "1+1", 0.99).panels[0].smoothing == 0.99


def test_losses_that_are_measured_now_and_then_are_smoothed_by_steps():
    """Unseen pairs every tenth step, learnt ones at every step: one smoothing moves neither by much."""
    subject = Subject.load(Runs(SHIPPED).open("modular-addition"))
    onsets = {beta: {p.name: p.onset for p in phase_changes.phases(subject, beta)} for beta in (0.0, 0.9, 0.99)}
    for name, onset in onsets[0.0].items():
        assert onsets[0.9][name] == pytest.approx(onset, abs=20)
        assert onsets[0.99][name] == pytest.approx(onset, abs=120)


def test_kinds_are_measured_on_unseen_examples_only():
    """Half of the learnt pairs would be right from step 250 on."""
    subject = Subject.load(Runs(SHIPPED).open("modular-addition"))
    _, losses, right = phase_changes.class_film(subject).panels
    early = [i for i, step in enumerate(subject.steps) if 500 < step < 2000]
    assert max(line.values[early].max() for line in right.lines) < 0.1
    assert min(line.values[early].min() for line in losses.lines) > 10
    assert min(line.values[-1] for line in right.lines) > 0.99


def test_where_nothing_falls_there_is_no_onset():
    subject = Subject.load(Runs(SHIPPED).open("induction-finite"))
    found = phase_changes.phases(subject)
    assert {phase.onset for phase in found if phase.name.endswith("test")} == {None}
    onsets = phase_changes.seismograph(subject).onsets
    assert np.isnan(onsets).sum() >= 30
    assert np.isfinite(onsets[: np.isfinite(onsets).sum()]).all()  # those that fall stand first


def test_every_kind_of_sum_has_a_loss_and_a_share_of_right_answers(shipped):
    _, losses, right = phase_changes.class_film(shipped).panels
    names = [line.label.split(":")[0] for line in losses.lines]
    assert names == ["S0", "S1", "S2", "S3", "S4", "S5"]
    for panel in (losses, right):
        assert all(len(line.values) == len(shipped.steps) for line in panel.lines)
    assert right.lines[0].values[-1] > 0.9  # without carries
    assert max(line.values[0] for line in right.lines) == 0
    assert losses.lines[1].values[-1] < losses.lines[5].values[-1]  # a carry through four nines is harder


def test_a_task_without_kinds_says_so(copies):
    with pytest.raises(UserError, match="tells no kinds of text apart"):
        phase_changes.class_film(copies)


# --- Attention and activations ---


@pytest.mark.parametrize("kind", attention.KINDS)
def test_attention_of_one_example_is_that_of_the_hook_point(subject, kind):
    _, maps = attention.example_film(subject, "48+76", kind).panels
    example = subject.task.encode("48+76")
    hook = f"blocks.1.attn.{attention.KINDS[kind]}"
    loss = subject.loss_on(example.batch) if kind == "gradient" else None
    _, cache = subject.ensemble.run(example.tokens[None], [hook.removesuffix("_grad")], loss)
    expected = cache[hook][:, 0, 1]  # (snapshot query key) of L1H1
    seen = torch.tril(torch.ones(expected.shape[-2:])).bool()
    assert maps.maps == ["L0H0", "L0H1", "L1H0", "L1H1"]
    np.testing.assert_allclose(maps.values[:, 3][:, seen], expected[:, seen], rtol=1e-4, atol=1e-7)
    assert np.isnan(maps.values[:, 3][:, ~seen]).all()


def test_stretches_that_come_again_are_outlined_where_induction_heads_look(copies):
    example = copies.task.encode("abcdefgh..0123abcdefgh")
    _, maps = attention.example_film(copies, example.text, "pattern").panels
    assert maps.outlines == [(15, 2, 8, 8)]  # a at position 15 looks at b, which is at 2
    assert example.tokens[15] == example.tokens[1]


def test_repeated_tokens_are_a_probe_only_where_there_are_enough(subject, copies):
    assert attention.probes(copies) == attention.PROBES
    assert attention.probes(subject) == attention.PROBES[1:]
    with pytest.raises(UserError, match="choose unseen examples instead"):
        attention.scores_film(subject, attention.PROBES[0])
    panels = attention.scores_film(copies, attention.PROBES[0]).panels[1:]
    assert [panel.title.split(",")[0] for panel in panels] == [
        "Previous token score",
        "Duplicate token score",
        "Prefix matching score",
        "Entropy",
    ]


def test_chosen_heads_positions_and_units_are_those_shown(subject):
    hook = "blocks.0.attn.hook_v"
    whole = activations.film(subject, "48+76", hook, "activation").panels[1]
    some = activations.film(subject, "48+76", hook, "activation", heads=(1,), positions=(2, 0), units=(7,)).panels[1]
    assert (some.maps, list(some.rows), list(some.columns)) == (("L0H1",), ["4", "+"], ["7"])
    assert some.title.endswith("; L0H1; position 4 (0), + (2); d_head 7")
    np.testing.assert_array_equal(some.values[:, 0, :, 0], whole.values[:, 1, [0, 2], 7])


def test_what_is_chosen_and_not_there_does_not_count(subject):
    shown = activations.film(subject, "48+76", "hook_embed", "activation", heads=(3,), positions=(99,)).panels[1]
    assert shown.values.shape == (5, 1, 9, 16)


def test_a_histogram_and_curves_are_of_the_same_values(subject):
    hook = "blocks.0.mlp.hook_post"
    (bars,) = of(Columns, activations.film(subject, "48+76", hook, "activation", "histogram"))
    np.testing.assert_allclose(bars.values.sum(-1), 1)
    curves = activations.film(subject, "48+76", hook, "activation", "over training", positions=(5,), units=(3,))
    single = values(curves.panels[-1])
    _, cache = subject.ensemble.run(subject.task.encode("48+76").tokens[None], [hook])
    (line,) = single.values()
    np.testing.assert_allclose(line, cache[hook][:, 0, 5, 3], rtol=1e-4, atol=1e-6)


def test_one_unit_is_drawn_at_every_position_however_many(subject, copies):
    few = activations.film(subject, "48+76", "blocks.0.mlp.hook_post", "activation", "over training", units=(3,))
    assert len(values(few.panels[-1])) == 9
    text = next(iter(copies.task.examples.values()))
    many = activations.film(copies, text, "blocks.1.attn.hook_z", "activation", "over training", (1,), (), (3,))
    (raster,) = of(Raster, many)
    _, cache = copies.ensemble.run(copies.task.encode(text).tokens[None], ["blocks.1.attn.hook_z"])
    np.testing.assert_allclose(raster.values, cache["blocks.1.attn.hook_z"][:, 0, :, 1, 3].T, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", activations.KINDS)
def test_what_lies_in_the_future_is_no_attention(subject, kind):
    film = activations.film(subject, "48+76", "blocks.0.attn.hook_pattern", kind)
    (maps,) = of(Heatmaps, film)
    assert np.isnan(maps.values[..., np.triu_indices(9, 1)[0], np.triu_indices(9, 1)[1]]).all()
    assert np.isfinite(maps.values[..., np.tril_indices(9)[0], np.tril_indices(9)[1]]).all()


def test_the_most_changed_units_come_first_and_need_two_snapshots(subject):
    found = activations.most_changed(subject, "blocks.0.attn.hook_z", 0, 40)
    assert [change for _, _, change in found] == sorted((change for _, _, change in found), reverse=True)
    assert {head for head, _, _ in found} <= {"L0H0", "L0H1"}
    assert found == activations.most_changed(subject, "blocks.0.attn.hook_z", 40, 0)
    with pytest.raises(UserError, match="Both snapshots are at step 40; choose two"):
        activations.most_changed(subject, "blocks.0.attn.hook_z", 40, 40)


# --- Attribution, circuits, Fourier, weights ---


@pytest.mark.parametrize("form", attribution.FORMS)
def test_the_parts_of_a_logit_add_up_on_screen(subject, form):
    film = attribution.film(subject, "48+76", 1, form)
    (columns,), (_, curves) = of(Columns, film), of(Curves, film)
    lines = values(curves)
    np.testing.assert_allclose(columns.values[:, 0].sum(-1), lines.pop("sum"), atol=1e-4)
    assert list(lines) == list(columns.categories)
    (lens,) = of(Heatmaps, film)
    assert lens.rows[-1] == "after block 1"
    assert lens.values[:, 0, -1].max() <= 1


def test_every_circuit_that_is_possible_can_be_shown(subject, copies):
    assert "composition" in circuits.possible(copies)
    for run, text in ((subject, "48+76"), (copies, "abcabc")):
        for what in circuits.possible(run):
            film = circuits.film(run, what, 9, text)  # the last layer, where there are not so many
            assert len(film.panels) > 1


def test_digits_have_frequencies_and_columns(subject):
    assert fourier.possible(subject) == tuple(fourier.WHAT)
    assert fourier.answers(subject) == ("units", "tens")
    film = fourier.film(subject, "logits of two numbers", "tens")
    (maps,) = of(Heatmaps, film)
    assert list(maps.rows) == list(maps.columns)
    assert maps.rows[-1] == "alternating"
    np.testing.assert_allclose(np.nansum(maps.values, (-1, -2)), 1, atol=1e-5)
    assert len(of(Scatter, fourier.film(subject, "circles", ""))) == 3


def test_large_grids_are_looked_at_in_fewer_snapshots(subject, monkeypatch):
    whole = fourier.film(subject, "over both numbers", "units")
    monkeypatch.setattr(fourier, "MOST_PAIRS", 300)
    few = fourier.film(subject, "over both numbers", "units")
    assert few.steps == (0, 20, 40)
    for one, every in zip(of(Heatmaps, few), of(Heatmaps, whole), strict=True):
        np.testing.assert_allclose(one.values, every.values[::2], rtol=1e-4, atol=1e-6)


def test_what_does_not_go_around_has_no_frequencies(copies):
    assert fourier.possible(copies) == ()
    with pytest.raises(UserError, match="no numbers that go around"):
        fourier.film(copies, "frequencies", "")


def test_the_path_of_the_weights_ends_where_training_does(subject):
    film = weights.film(subject)
    (path,) = of(Scatter, film)
    assert path.x.shape == (5, 1)
    norms = values(of(Curves, film)[1])
    parts = [line for name, line in norms.items() if name != "total"]
    np.testing.assert_allclose(np.sqrt(sum(part**2 for part in parts)), norms["total"], rtol=1e-4)


# --- Interventions ---


def test_with_nothing_off_both_models_are_one(subject):
    film = interventions.off_film(subject, "48+76", (), "zero")
    whole, without = of(Tokens, film)
    np.testing.assert_array_equal(whole.answers, without.answers)
    one, other = values(of(Curves, film)[0]).values()
    np.testing.assert_array_equal(one, other)
    assert max(np.abs(line.values).max() for line in of(Curves, film)[1].lines) == 0


def test_a_part_that_is_off_changes_answers_losses_and_attention_above_it(shipped):
    film = interventions.off_film(shipped, "12345+67890", ("L0 MLP",), "zero")
    whole, without = of(Tokens, film)
    assert (whole.answers[-1] == whole.targets).all()
    assert (without.answers[-1] != without.targets).any()
    one, other = values(of(Curves, film)[0]).values()
    assert other[-1] > one[-1] + 1


def test_examples_that_differ_can_be_patched_and_others_are_refused(subject):
    answers = interventions.telling(subject, "48+76", "11+22")
    assert answers == {0: "hundreds: 1 or 0", 1: "tens: 2 or 3", 2: "units: 4 or 3"}
    for what in interventions.patches(subject):
        panel = interventions.patch_film(subject, "48+76", "11+22", what, 1).panels[-1]
        shown = panel.values if isinstance(panel, Heatmaps) else np.stack([line.values for line in panel.lines])
        assert np.isfinite(shown).any()
    with pytest.raises(UserError, match="the same right answers"):
        interventions.telling(subject, "48+76", "76+48")
    with pytest.raises(UserError, match="same right answer at hundreds"):
        interventions.patch_film(subject, "48+76", "50+75", "heads", 0)


def test_the_position_that_differs_is_always_patched():
    """Of 42 positions the first letter alone tells two texts apart, and brings the whole answer back."""
    subject = Subject.load(Runs(SHIPPED).open("skip-trigram"))
    one = subject.task.examples["B at the beginning"]
    other = interventions.partners(subject, one)["C instead of B"]
    (maps,) = of(Heatmaps, interventions.patch_film(subject, one, other, "residual stream", 0))
    assert maps.columns[0] == "C (1)"
    assert maps.values[-1, 0, 0, 0] == pytest.approx(1, abs=1e-3)
    assert np.abs(maps.values[-1, 0, 0, 1:]).max() < 1e-3


def test_shares_of_next_to_nothing_are_left_out(shipped):
    panel = interventions.patch_film(shipped, "12345+67890", "12345+87655", "heads", 0).panels[-1]
    shares = np.stack([line.values for line in panel.lines])
    assert np.isnan(shares[:, 0]).all()  # a new model knows no difference
    assert np.isfinite(shares[:, -1]).all()
    assert np.nanmax(np.abs(shares)) < 5


def test_examples_of_another_form_are_refused(copies):
    with pytest.raises(UserError, match="ask at different places"):
        interventions.telling(copies, "abcabc", "abcdabcd")


def test_named_partners_are_those_that_can_be_patched(shipped):
    for text in shipped.task.examples.values():
        for other in interventions.partners(shipped, text).values():
            assert interventions.telling(shipped, text, other)
    induction = Subject.load(Runs(SHIPPED).open("induction"))
    first = next(iter(induction.task.examples.values()))
    assert list(interventions.partners(induction, first)) == ["another stretch there"]


# --- Two runs ---


def test_runs_side_by_side_at_the_same_step(subject, shipped):
    film = compare.film(shipped, subject, "12+34", "aligned by step")
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
    film = compare.film(one, other, "12345+67890", "aligned by loss")
    at = next(panel.at for panel in film.panels if panel.title.startswith("addition-finite: loss"))
    assert (np.diff(at) >= 0).all()
    assert at[0] <= 10
    assert at[-1] == other.steps[-1]  # it never gets as far
    late = one.steps.index(max(step for step in one.steps if step <= 900))
    assert at[late] > 1400  # what one understands by then, the other does after it has memorised
    assert film.panels[0].blocks[0].startswith("addition at step 0    addition-finite at step")


def test_runs_of_different_tasks_answer_examples_of_their_own(subject, copies):
    film = compare.film(subject, copies, "48+76", "aligned by step")
    one, other = of(Tokens, film)
    assert one.prompt == list("48+76=")
    assert other.prompt[0] == "⊢"


def test_a_run_is_compared_with_one_of_its_task(subject, shipped):
    assert compare.partner(shipped, Runs(SHIPPED)) == "addition-finite"
    assert compare.partner(subject, Runs(SHIPPED)) == "addition"  # of other numbers, but of addition
    assert compare.partner(subject, Runs(subject.run.folder.parent)) is None


# --- Figures ---


@pytest.mark.parametrize("kind", [Curves, Raster, Heatmaps, Columns, Scatter])
def test_a_figure_of_each_kind_of_panel_has_its_values(shipped, kind):
    films = {
        Curves: lambda: weights.film(shipped),
        Raster: lambda: phase_changes.film(shipped, "12345+67890"),
        Heatmaps: lambda: attention.example_film(shipped, "12345+67890", "pattern"),
        Columns: lambda: attribution.film(shipped, "12345+67890", 0),
        Scatter: lambda: weights.film(shipped),
    }
    film = films[kind]()
    panel = of(kind, film)[-1]
    drawn = film.figure(panel.id, shipped.steps[7])
    data = drawn.data
    if kind is Curves:
        np.testing.assert_allclose(data[0].y, panel.lines[0].values)
        assert [trace.name for trace in data] == [line.label for line in panel.lines]
    elif kind is Raster:
        np.testing.assert_allclose(data[0].z, panel.values)
        np.testing.assert_allclose(data[1].x, panel.onsets)
    elif kind is Heatmaps:
        np.testing.assert_allclose(np.stack([trace.z for trace in data]), panel.values[7])
    elif kind is Columns:
        np.testing.assert_allclose(data[0].y, panel.values[7, 0])
    else:
        np.testing.assert_allclose(data[0].x, panel.x[:, 0])
    assert f"step {shipped.steps[7]:,}" in drawn.layout.title.text or kind in (Curves, Raster)


def test_every_panel_with_numbers_can_be_a_figure(subject, copies):
    for film in (
        watch.film(subject, "48+76"),
        phase_changes.film(copies, "abcabc"),
        fourier.film(subject, "circles", ""),
        fourier.film(subject, "progress", "units"),
        watch.film(copies, "abcabc"),
        compare.film(subject, copies, "48+76", "aligned by loss"),
    ):
        assert film.figures()
        for id in film.figures():
            assert film.figure(id, 20).data


def test_labels_are_shown_letter_by_letter(copies):
    """The token < is not the beginning of a tag."""
    film = attention.example_film(copies, "<b>ab<b>a", "pattern")
    drawn = film.figure(list(film.figures())[1], 0)
    assert drawn.layout.yaxis.ticktext[1] == "&lt; (1)"
    assert "&lt;b&gt;" in drawn.layout.title.text


def test_the_basis_and_its_gram_matrix(subject):
    basis, gram = fourier.basis_figures(subject)
    np.testing.assert_allclose(gram.data[0].z, np.eye(10), atol=1e-12)
    assert basis.data[0].z[0].tolist() == pytest.approx([1 / math.sqrt(10)] * 10)


def test_long_tasks_of_many_digits_have_panels_too(tmp_path):
    """Ten digits: six kinds of sum, ten columns, more lines than the palette has colours."""
    task = Addition(n_digits=10)
    run = recorder.create(
        Runs(tmp_path), "ten", task, task.model_config(d_model=8, n_heads=1, d_head=8, d_mlp=8), TRAINING
    )
    recorder.train(run)
    subject = Subject.load(run)
    text = next(iter(task.examples.values()))
    assert len(fourier.answers(subject)) == 10
    assert phase_changes.class_film(subject).panels
    assert phase_changes.film(subject, text).panels
    assert attribution.film(subject, text, 10).panels
