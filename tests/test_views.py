"""Films of a run have the values of the measures."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from explorer.errors import UserError
from explorer.film.panels.columns import Columns
from explorer.film.panels.heatmaps import Heatmaps
from explorer.film.panels.raster import Raster
from explorer.film.panels.scatter import Scatter
from explorer.options import resolve
from explorer.runs import Runs, recorder
from explorer.tasks.modular_addition import ModularAddition
from explorer.views import (
    activation_curves,
    activations,
    heads,
    losses,
    overview,
    panels,
)
from explorer.views.activation_points import Points
from explorer.views.classes import class_films
from explorer.views.subject import Subject
from explorer.views.view import last
from tests.conftest import FINITE, MODEL, SHIPPED, TASK
from tests.films import of, values

# --- Phase changes ---


def test_falls_of_addition_agree_in_table_seismograph_and_flags(shipped):
    found = losses.phases(shipped)
    main = [phase for phase in found if phase.is_deepest]
    assert [phase.label for phase in main] == ["100k", "10k", "tens", "thousands", "units", "hundreds"]
    assert all(phase.begins <= phase.steepest <= phase.ends for phase in found)
    assert [phase.what for phase in found if phase.name == "100k"] == ["deepest fall", "fall"]
    assert found[0].share == pytest.approx(found[0].depth / np.log(10))
    raster = losses.seismograph(shipped)
    assert raster.rows == [phase.label for phase in main]
    assert raster.marks.tolist() == [phase.steepest for phase in main]
    assert 0.9 < raster.values[-1, 0] < 1.2
    assert raster.values[:, -1].max() < 0.05
    flags = {mark.label: mark.step for mark in overview.film(shipped, "12345+67890").panels[1].marks}
    assert flags == {f"{phase.label}: falls by {phase.depth:.1f} nats, steepest": phase.steepest for phase in main}


def test_the_table_has_every_change_and_says_what_smoothing_does(shipped):
    view = losses.LossesView()
    options, _ = resolve(losses.Options, shipped, shipped.first_example, {})
    caption, table = view.below(shipped, "1+1", replace(options, smoothing=0.95))[1:]
    found = losses.phases(shipped)
    assert table.columns["digit"] == [phase.label for phase in found]
    assert table.columns["width"] == [phase.ends - phase.begins for phase in found]
    assert table.columns["depth"] == [phase.before - phase.after for phase in found]  # all of them fall
    assert "a width below 10 steps is not resolved" in caption.text
    assert "Smoothing over beta = 0.95 spreads a sudden fall over about 64 steps" in caption.text
    assert "Smoothing" not in view.below(shipped, "1+1", replace(options, smoothing=0.0))[1].text
    assert losses.film(shipped, "1+1", 0.99).panels[0].smoothing == 0.99


def test_losses_measured_every_few_steps_are_told_in_steps():
    """Test losses of modular addition were measured every tenth step, training losses at every step."""
    subject = Subject.load(Runs(SHIPPED).open("modular-addition"))
    train, test, rise = losses.phases(subject)
    assert (train.label, train.what) == ("answer, train", "deepest fall")
    assert train.steepest == pytest.approx(161, abs=5)
    assert (test.label, test.what) == ("answer, test", "deepest fall")
    assert test.begins == pytest.approx(1550, abs=50)
    assert test.ends == pytest.approx(6900, abs=50)
    assert (rise.label, rise.what) == ("answer, test", "rise")
    assert rise.depth == pytest.approx(22.3, abs=0.5)
    options, _ = resolve(losses.Options, subject, subject.first_example, {})
    caption = losses.LossesView().below(subject, "1+1", options)[1].text
    assert "100 steps (test) or 10 steps (train)" in caption


def test_a_loss_that_is_not_a_number_leaves_a_gap_with_a_flag(shipped):
    """A token that does not occur in a batch has no loss there either, which is no such gap."""
    metrics = {name: values.clone() for name, values in shipped.metrics.items()}
    metrics["train_loss"][500:601] = torch.nan
    metrics["train_loss_per_token"][500:601] = torch.nan
    metrics["train_loss"][2900:] = torch.nan
    metrics["train_loss_per_token"][100:110, 0] = torch.nan
    panel = panels.losses(replace(shipped, metrics=metrics))
    gaps = [(mark.label, mark.step, mark.until) for mark in panel.marks if mark.until is not None]
    assert gaps == [("all: the loss is NaN", 500, 600), ("all: the loss is NaN", 2900, 2999)]
    for line in panel.lines:
        assert np.isnan(line.smoothed).nonzero()[0].tolist() == [*range(500, 601), *range(2900, 3000)]
    whole = panels.losses(shipped)
    assert all(mark.until is None for mark in whole.marks)
    assert not any(np.isnan(line.smoothed).any() for line in whole.lines)
    shapes = panel.figure(0, shipped.steps).layout.shapes
    assert [(shape.x0, shape.x1) for shape in shapes if shape.type == "rect"] == [(500, 600), (2900, 2999)]


def test_classes_are_measured_on_unseen_examples_only():
    """Of the training pairs, half would be right from step 250 on."""
    subject = Subject.load(Runs(SHIPPED).open("modular-addition"))
    _, losses, right = last(class_films(subject)).panels
    early = [i for i, step in enumerate(subject.steps) if 500 < step < 2000]
    assert max(line.values[early].max() for line in right.lines) < 0.1
    assert min(line.values[early].min() for line in losses.lines) > 10
    assert min(line.values[-1] for line in right.lines) > 0.99


def test_losses_that_do_not_change_have_no_row_and_no_mark(tmp_path):
    run = recorder.create(Runs(tmp_path), "flat", TASK, MODEL, replace(FINITE, lr=0.0))
    recorder.train(run)
    subject = Subject.load(run)
    assert [phase for phase in losses.phases(subject) if phase.kind == "train"] == []
    assert np.isnan(losses.seismograph(subject).marks).all()


def test_every_class_of_sums_has_a_loss_and_an_accuracy(shipped):
    _, losses, right = last(class_films(shipped)).panels
    names = [line.label.split(":")[0] for line in losses.lines]
    assert names == ["S0", "S1", "S2", "S3", "S4", "S5"]
    for panel in (losses, right):
        assert all(len(line.values) == len(shipped.steps) for line in panel.lines)
    assert right.lines[0].values[-1] > 0.9  # without carries
    assert max(line.values[0] for line in right.lines) == 0
    assert losses.lines[1].values[-1] < losses.lines[5].values[-1]  # a carry through four nines is harder


def test_classes_are_of_what_was_chosen():
    subject = Subject.load(Runs(SHIPPED).open("skip-trigram"))
    first, by_trigger = (last(class_films(subject, by)).panels[1] for by in (None, "trigger"))
    assert [line.label.split(":")[0] for line in first.lines] == ["early", "middle", "late"]
    assert [line.label for line in by_trigger.lines][2] == "C → 2: the trigger is C"
    assert max(line.values[-1] for line in by_trigger.lines) < 0.01
    asked = {"show": "kinds", "classes": "trigger"}
    options, problems = resolve(losses.Options, subject, subject.first_example, asked)
    assert (options.classes, problems) == ("trigger", [])
    assert len(losses.LossesView().film(subject, "", options).panels[1].lines) == 10


def test_a_task_without_classes_is_refused(copies):
    with pytest.raises(UserError, match="has no classes of texts"):
        class_films(copies)


# --- Attention and activations ---


@pytest.mark.parametrize("kind", heads.QUANTITIES)
def test_attention_of_one_example_is_that_of_the_hook_point(subject, kind):
    _, maps = heads.example_film(subject, "48+76", kind).panels
    example = subject.task.encode("48+76")
    hook = f"blocks.1.attn.{heads.QUANTITIES[kind].hook}"
    loss = subject.loss_on(example.batch) if kind == "gradient" else None
    _, cache = subject.ensemble.run(example.tokens[None], [hook.removesuffix("_grad")], loss)
    expected = cache[hook][:, 0, 1]  # (snapshot query key) of L1H1
    seen = torch.tril(torch.ones(expected.shape[-2:])).bool()
    assert maps.maps == ["L0H0", "L0H1", "L1H0", "L1H1"]
    np.testing.assert_allclose(maps.values[:, 3][:, seen], expected[:, seen], rtol=1e-4, atol=1e-7)
    assert np.isnan(maps.values[:, 3][:, ~seen]).all()


def test_attention_is_averaged_over_the_examples_of_a_class():
    """Those with a chosen trigger: their attention, and no other's, is what is shown."""
    subject = Subject.load(Runs(SHIPPED).open("skip-trigram"))
    asked = {"show": "mean", "among": "C → 2"}
    options, problems = resolve(heads.Options, subject, subject.first_example, asked)
    assert problems == []
    maps = heads.Heads().film(subject, "", options).panels[1]
    assert maps.title.endswith(" unseen examples of the class C → 2: the trigger is C")
    n = int(maps.title.split(" over ")[1].split()[0])
    texts = subject.task.classes(n, subject.info.training.seed + 1)["trigger"].batch.tokens[2 * n : 3 * n]
    assert (texts == subject.task.tokens.index("C")).sum(1).tolist() == [1] * n
    _, cache = subject.ensemble.run(texts, ["blocks.0.attn.hook_pattern"])
    expected = cache["blocks.0.attn.hook_pattern"].mean(1)[:, 0, -1]  # from the end
    np.testing.assert_allclose(maps.values[:, 0, -1], expected, rtol=1e-4, atol=1e-7)


def test_a_mean_over_a_class_leaves_out_what_was_trained_on(tmp_path):
    """All pairs but one."""
    task = ModularAddition(p=5, train_share=0.96)
    model = task.model_config(d_model=8, n_heads=1, d_head=8, d_mlp=8)
    run = recorder.create(Runs(tmp_path), "pairs", task, model, replace(FINITE, finite=0))
    recorder.train(run)
    subject = Subject.load(run)
    ((x, y, _),) = subject.unseen().tokens.tolist()
    names = ["x + y < 5", "x + y ≥ 5"]
    assert list(heads.among(subject)) == ["unseen", *names]
    with pytest.raises(UserError, match="is in the training data; choose another class"):
        heads.mean_film(subject, "pattern", names[x + y < 5])


def test_repeats_are_outlined_where_induction_heads_attend(copies):
    example = copies.task.encode("abcdefgh..0123abcdefgh")
    _, maps = heads.example_film(copies, example.text, "pattern").panels
    assert maps.outlines == [(15, 2, 8, 8)]  # a at position 15 attends to b at position 2
    assert example.tokens[15] == example.tokens[1]


def test_repeated_tokens_are_offered_only_if_context_and_vocabulary_suffice(subject, copies):
    assert heads.datasets(copies) == heads.DATASETS
    assert heads.datasets(subject) == {"unseen": "unseen examples"}
    with pytest.raises(UserError, match="choose unseen examples instead"):
        heads.scores_films(subject, "repeated")
    panels = last(heads.scores_films(copies, "repeated")).panels[1:]
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


def test_values_over_training_are_coloured_by_the_chosen_axis(subject):
    hook, selection = "blocks.0.attn.hook_v", ((0, 1), (2, 5), (3, 4, 5))
    for colour, groups in (
        ("head", ["head L0H0", "head L0H1"]),
        ("position", ["position + (2)", "position = (5)"]),
        ("unit", ["d_head 3", "d_head 4", "d_head 5"]),
    ):
        film = activations.film(subject, "48+76", hook, "activation", "training", *selection, colour)
        panel = film.panels[-1]
        assert panel.title.startswith(f"Values by {groups[0].split()[0]}, {hook} on 48+76")
        assert len(panel.lines) == 12
        by_group = {line.group: line.colour for line in panel.lines}
        assert (list(by_group), list(by_group.values())) == (groups, list(range(len(groups))))
    _, cache = subject.ensemble.run(subject.task.encode("48+76").tokens[None], [hook])
    line = values(panel)["L0H1 = (5) d_head 4"]
    np.testing.assert_allclose(line, cache[hook][:, 0, 5, 1, 4], rtol=1e-4, atol=1e-6)


def test_many_values_over_training_are_summarised_by_group(subject, monkeypatch):
    hook = "blocks.0.attn.hook_v"
    monkeypatch.setattr(activation_curves, "MAX_CURVES", 100)
    example = subject.task.encode("48+76")
    _, cache = subject.ensemble.run(example.tokens[None], [hook])
    by_unit = activations.film(subject, "48+76", hook, "activation", "training", colour="unit").panels[-1]
    assert len(by_unit.lines) == 8
    expected = cache[hook][:, 0].square().mean((1, 2)).sqrt()  # (snapshot unit)
    np.testing.assert_allclose(np.stack([line.values for line in by_unit.lines], 1), expected, rtol=1e-4)
    (rows,) = of(
        Raster, activations.film(subject, "48+76", "blocks.0.mlp.hook_post", "activation", "training", colour="unit")
    )
    assert (len(rows.rows), rows.scale, rows.low) == (32, "sequential", 0)


def test_keys_that_no_query_sees_have_no_curve(subject):
    hook, selection = "blocks.0.attn.hook_pattern", ((1,), (0, 1), (0, 1, 2))
    curves = activations.film(subject, "48+76", hook, "activation", "training", *selection).panels[-1]
    assert list(values(curves)) == ["L0H1 4 (0) key 4 (0)", "L0H1 8 (1) key 4 (0)", "L0H1 8 (1) key 8 (1)"]


def points(hook: str = "blocks.1.hook_resid_post", **changes) -> Points:
    defaults = {"is_gradient": False, "heads": (), "positions": (5,), "across": "PC1", "up": "3", "colour": "answer"}
    return Points(hook, **{**defaults, **changes})


def test_points_are_the_activations_of_unseen_examples(subject):
    (panel,) = of(Scatter, activations.points_film(subject, points()))
    batch = subject.unseen(500)
    _, cache = subject.ensemble.run(batch.tokens, ["blocks.1.hook_resid_post"])
    found = cache["blocks.1.hook_resid_post"][:, :, 5]
    np.testing.assert_allclose(panel.y, found[..., 3], rtol=1e-4, atol=1e-5)
    assert panel.y_axis == "d_model 3"
    share = panel.x[-1].var() / found[-1].var(0, correction=0).sum().item()
    assert panel.x_axis == f"PC1 ({share:.0%})"
    assert panel.title == (
        f"blocks.1.hook_resid_post; position = (5); {len(batch.tokens)} unseen examples; components of the final model"
    )
    answers = [panel.colouring.categories[place] for place in panel.colouring.values[0].astype(int)]
    assert answers == [str(token) for token in batch.targets[:, 0].tolist()]  # = predicts the hundreds


@pytest.mark.parametrize(
    ("colour", "name"),
    [("position", "position"), ("token", "token"), ("token-1", "token at position 1"), ("answer", "right answer")],
)
def test_points_are_coloured_by_what_is_chosen(subject, colour, name):
    (panel,) = of(Scatter, activations.points_film(subject, points(positions=(1, 6), colour=colour)))
    tokens = subject.unseen(500).tokens
    colouring = panel.colouring
    assert colouring.name == name
    assert colouring.values.shape == (1, 2 * len(tokens))
    if colour == "position":
        assert (set(colouring.values[0]), colouring.low, colouring.high) == ({1, 6}, 1, 6)
        return
    found = [colouring.categories[int(place)] for place in colouring.values[0]]
    written = [subject.task.tokens[token] for token in tokens[:, 1].tolist()]
    if colour == "answer":
        assert set(found[::2]) == {"no answer here"}
        assert colouring.categories[-1] == "no answer here"
    else:
        assert found[::2] == written
        assert (found[1::2] == written) == (colour == "token-1")


def test_points_coloured_by_loss_change_their_colour(subject):
    (panel,) = of(Scatter, activations.points_film(subject, points(positions=(1, 6), colour="loss")))
    batch = subject.unseen(500)
    logits, _ = subject.ensemble.run(batch.tokens)
    expected = subject.loss_on(batch)(logits).repeat_interleave(2, 1)
    np.testing.assert_allclose(panel.colouring.values, expected, rtol=1e-4)
    assert panel.colouring.high == pytest.approx(np.log(10))


def test_each_head_has_its_own_plane(subject, copies):
    film = activations.points_film(copies, points("blocks.1.attn.hook_pattern", positions=(), up="PC2", colour="loss"))
    planes = of(Scatter, film)
    assert [plane.id for plane in planes] == ["points-L1H0", "points-L1H1"]
    assert planes[0].title.endswith(f"unseen examples × {copies.task.n_ctx} positions; components of the final model")
    assert all(len(plane.labels) <= 1500 for plane in planes)
    (one,) = of(Scatter, activations.points_film(subject, points("blocks.1.attn.hook_z", heads=(1,), is_gradient=True)))
    assert one.title.startswith("gradient at blocks.1.attn.hook_z, L1H1; position = (5);")


def test_the_options_of_a_scatter_plot_follow_the_task(subject, copies):
    one, problems = resolve(activations.Options, subject, "48+76", {"form": "scatter"})
    assert (one.positions, one.across, one.up, one.colour, problems) == ((5,), "PC1", "PC2", "answer", [])
    other, _ = resolve(activations.Options, copies, "abcabc", {"form": "scatter"})
    assert (other.positions, other.colour) == ((), "position")  # answers are at other positions in every example
    _, problems = resolve(activations.Options, subject, "48+76", {"form": "scatter", "up": "999"})
    assert len(problems) == 1
    assert not activations.Activations().uses_example(subject, one)


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
