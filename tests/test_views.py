"""Films of a run have the values of the measures."""

import numpy as np
import pytest
import torch

from explorer.errors import UserError
from explorer.film.panels.columns import Columns
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.raster import Raster
from explorer.runs import Runs
from explorer.views import (
    activations,
    attention,
    phase_changes,
    watch,
)
from explorer.views.subject import Subject
from tests.conftest import SHIPPED
from tests.films import of, values

# --- Phase changes ---


def test_onsets_of_addition_agree_in_table_seismograph_and_flags(shipped):
    found = phase_changes.phases(shipped)
    assert [phase.name for phase in found] == ["100k", "10k", "tens", "thousands", "units", "hundreds"]
    assert all(phase.onset is not None and phase.ends > phase.onset for phase in found)
    assert [phase.width for phase in found[1:]] == [phase.ends - phase.begins for phase in found[1:]]
    assert found[0].begins is None  # the loss starts below that level: this digit is 0 or 1
    raster = phase_changes.seismograph(shipped)
    assert raster.rows == [phase.name for phase in found]
    assert raster.onsets.tolist() == [phase.onset for phase in found]
    assert 0.9 < raster.values[-1, 0] < 1.2
    assert raster.values[:, -1].max() < 0.05
    flags = {mark.label: mark.step for mark in watch.film(shipped, "12345+67890").panels[1].marks}
    assert flags == {f"{phase.name}: onset": phase.onset for phase in found}


def test_smoothing_does_not_move_onsets_and_is_passed_to_the_film(shipped):
    rough, smooth = (phase_changes.phases(shipped, beta) for beta in (0.5, 0.98))
    onsets = {phase.name: phase.onset for phase in smooth}
    for phase in rough:
        assert onsets[phase.name] == pytest.approx(phase.onset, abs=40), phase.name
    assert phase_changes.film(shipped, "1+1", 0.99).panels[0].smoothing == 0.99


def test_smoothing_is_per_step_for_losses_measured_every_few_steps():
    """Test losses every tenth step, training losses at every step: the same smoothing shifts neither onset by much."""
    subject = Subject.load(Runs(SHIPPED).open("modular-addition"))
    onsets = {beta: {p.name: p.onset for p in phase_changes.phases(subject, beta)} for beta in (0.0, 0.9, 0.99)}
    for name, onset in onsets[0.0].items():
        assert onsets[0.9][name] == pytest.approx(onset, abs=20)
        assert onsets[0.99][name] == pytest.approx(onset, abs=120)


def test_classes_are_measured_on_unseen_examples_only():
    """Of the training pairs, half would be right from step 250 on."""
    subject = Subject.load(Runs(SHIPPED).open("modular-addition"))
    _, losses, right = phase_changes.class_film(subject).panels
    early = [i for i, step in enumerate(subject.steps) if 500 < step < 2000]
    assert max(line.values[early].max() for line in right.lines) < 0.1
    assert min(line.values[early].min() for line in losses.lines) > 10
    assert min(line.values[-1] for line in right.lines) > 0.99


def test_losses_that_do_not_fall_have_no_onset():
    subject = Subject.load(Runs(SHIPPED).open("induction-finite"))
    found = phase_changes.phases(subject)
    assert {phase.onset for phase in found if phase.name.endswith("test")} == {None}
    onsets = phase_changes.seismograph(subject).onsets
    assert np.isnan(onsets).sum() >= 30
    assert np.isfinite(onsets[: np.isfinite(onsets).sum()]).all()  # losses that fall come first


def test_every_class_of_sums_has_a_loss_and_an_accuracy(shipped):
    _, losses, right = phase_changes.class_film(shipped).panels
    names = [line.label.split(":")[0] for line in losses.lines]
    assert names == ["S0", "S1", "S2", "S3", "S4", "S5"]
    for panel in (losses, right):
        assert all(len(line.values) == len(shipped.steps) for line in panel.lines)
    assert right.lines[0].values[-1] > 0.9  # without carries
    assert max(line.values[0] for line in right.lines) == 0
    assert losses.lines[1].values[-1] < losses.lines[5].values[-1]  # a carry through four nines is harder


def test_a_task_without_classes_is_refused(copies):
    with pytest.raises(UserError, match="has no classes of texts"):
        phase_changes.class_film(copies)


# --- Attention and activations ---


@pytest.mark.parametrize("kind", attention.QUANTITIES)
def test_attention_of_one_example_is_that_of_the_hook_point(subject, kind):
    _, maps = attention.example_film(subject, "48+76", kind).panels
    example = subject.task.encode("48+76")
    hook = f"blocks.1.attn.{attention.QUANTITIES[kind].hook}"
    loss = subject.loss_on(example.batch) if kind == "gradient" else None
    _, cache = subject.ensemble.run(example.tokens[None], [hook.removesuffix("_grad")], loss)
    expected = cache[hook][:, 0, 1]  # (snapshot query key) of L1H1
    seen = torch.tril(torch.ones(expected.shape[-2:])).bool()
    assert maps.maps == ["L0H0", "L0H1", "L1H0", "L1H1"]
    np.testing.assert_allclose(maps.values[:, 3][:, seen], expected[:, seen], rtol=1e-4, atol=1e-7)
    assert np.isnan(maps.values[:, 3][:, ~seen]).all()


def test_repeats_are_outlined_where_induction_heads_attend(copies):
    example = copies.task.encode("abcdefgh..0123abcdefgh")
    _, maps = attention.example_film(copies, example.text, "pattern").panels
    assert maps.outlines == [(15, 2, 8, 8)]  # a at position 15 attends to b at position 2
    assert example.tokens[15] == example.tokens[1]


def test_repeated_tokens_are_offered_only_if_context_and_vocabulary_suffice(subject, copies):
    assert attention.datasets(copies) == attention.DATASETS
    assert attention.datasets(subject) == {"unseen": "unseen examples"}
    with pytest.raises(UserError, match="choose unseen examples instead"):
        attention.scores_film(subject, "repeated")
    panels = attention.scores_film(copies, "repeated").panels[1:]
    assert [panel.title.split(",")[0] for panel in panels] == [
        "Previous token score",
        "Duplicate token score",
        "Prefix matching score",
        "Entropy",
    ]


def test_only_selected_heads_positions_and_units_are_shown(subject):
    hook = "blocks.0.attn.hook_v"
    whole = activations.film(subject, "48+76", hook, "activation").panels[1]
    some = activations.film(subject, "48+76", hook, "activation", heads=(1,), positions=(2, 0), units=(7,)).panels[1]
    assert (some.maps, list(some.rows), list(some.columns)) == (("L0H1",), ["4", "+"], ["7"])
    assert some.title.endswith("; L0H1; position 4 (0), + (2); d_head 7")
    np.testing.assert_array_equal(some.values[:, 0, :, 0], whole.values[:, 1, [0, 2], 7])


def test_selected_indices_that_do_not_exist_are_ignored(subject):
    shown = activations.film(subject, "48+76", "hook_embed", "activation", heads=(3,), positions=(99,)).panels[1]
    assert shown.values.shape == (5, 1, 9, 16)


def test_a_histogram_and_curves_are_of_the_same_values(subject):
    hook = "blocks.0.mlp.hook_post"
    (bars,) = of(Columns, activations.film(subject, "48+76", hook, "activation", "histogram"))
    np.testing.assert_allclose(bars.values.sum(-1), 1)
    curves = activations.film(subject, "48+76", hook, "activation", "training", positions=(5,), units=(3,))
    single = values(curves.panels[-1])
    _, cache = subject.ensemble.run(subject.task.encode("48+76").tokens[None], [hook])
    (line,) = single.values()
    np.testing.assert_allclose(line, cache[hook][:, 0, 5, 3], rtol=1e-4, atol=1e-6)


def test_a_single_unit_is_drawn_as_a_raster_over_many_positions(subject, copies):
    few = activations.film(subject, "48+76", "blocks.0.mlp.hook_post", "activation", "training", units=(3,))
    assert len(values(few.panels[-1])) == 9
    text = next(iter(copies.task.examples.values()))
    many = activations.film(copies, text, "blocks.1.attn.hook_z", "activation", "training", (1,), (), (3,))
    (raster,) = of(Raster, many)
    _, cache = copies.ensemble.run(copies.task.encode(text).tokens[None], ["blocks.1.attn.hook_z"])
    np.testing.assert_allclose(raster.values, cache["blocks.1.attn.hook_z"][:, 0, :, 1, 3].T, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", activations.KINDS)
def test_masked_keys_are_empty(subject, kind):
    film = activations.film(subject, "48+76", "blocks.0.attn.hook_pattern", kind)
    (maps,) = of(Heatmaps, film)
    assert np.isnan(maps.values[..., np.triu_indices(9, 1)[0], np.triu_indices(9, 1)[1]]).all()
    assert np.isfinite(maps.values[..., np.tril_indices(9)[0], np.tril_indices(9)[1]]).all()


def test_the_most_changed_units_come_first_and_need_two_snapshots(subject):
    found = activations.most_changed(subject, "blocks.0.attn.hook_z", 0, 40)
    assert [change for _, _, change in found] == sorted((change for _, _, change in found), reverse=True)
    assert {head for head, _, _ in found} <= {"L0H0", "L0H1"}
    assert found == activations.most_changed(subject, "blocks.0.attn.hook_z", 40, 0)
    with pytest.raises(UserError, match="Both snapshots are at step 40; choose two different ones"):
        activations.most_changed(subject, "blocks.0.attn.hook_z", 40, 40)
