"""Views of measures that take minutes, and of what led the falls."""

import shlex
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from explorer.analysis.grafts import graft_losses, grafted, measured_on, parts, token_losses
from explorer.cli.main import main
from explorer.film.panels.curves import Curves
from explorer.film.panels.pairs import Pairs
from explorer.film.panels.strip import Strip
from explorer.measures.grafts import Grafts, OfPart, Parts, single_parts
from explorer.measures.measure import Measured, NoSettings, files_of
from explorer.measures.sharpness import Sharpness, SharpnessSettings
from explorer.runs import Run, Runs, recorder
from explorer.views.leads import told, ways_to_test
from explorer.views.over_training import families
from explorer.views.subject import Subject
from explorer.views.view import Links, Table
from tests.conftest import SHIPPED, until
from tests.measuring import measure, shown, why
from tests.pages import go_to, grown, header, opening

FEW = SharpnessSettings(4)


@pytest.fixture(scope="module")
def measured(root, tmp_path_factory) -> Subject:
    """The small run, with all measures."""
    folder = tmp_path_factory.mktemp("measured")
    shutil.copytree(root / "small", folder / "small")
    run = Runs(folder).open("small")
    measure(run, (Parts(), NoSettings()), (Grafts(), OfPart("all attention")), (Sharpness(), SharpnessSettings()))
    return Subject.load(run)


# --- Grafts ---


def test_the_graft_matrix_is_the_loss_of_each_pair(measured):
    panels, film, _ = shown(measured, "grafts", part="all attention")
    batch = measured_on(Measured(measured.info, measured.ensemble).unseen(384))
    losses = token_losses(measured.info.model, measured.task, batch)
    shares, found = panels["share"], panels["graft"]
    assert isinstance(found, Pairs)
    own = [losses(grafted(measured.ensemble, (), i, i)).mean().item() for i in range(5)]
    for receiver, donor in ((0, 4), (4, 0), (2, 2), (3, 1)):
        weights = grafted(measured.ensemble, parts(measured.info.model)["all attention"], receiver, donor)
        expected = losses(weights).mean().item()
        assert found.values[receiver, donor] == pytest.approx(expected, rel=2e-3)
        if receiver != donor:
            share = (own[receiver] - expected) / (own[receiver] - own[donor])
            assert shares.values[receiver, donor] == pytest.approx(share, abs=0.05)
    assert film.steps == (0, 10, 20, 30, 40)
    assert np.isnan(shares.values.diagonal()).all()


def test_parts_alone_are_pairs_with_the_last_snapshot_on_more_examples(measured):
    panels, film, _ = shown(measured, "grafts", part="all attention")
    final, early = panels["with_final"], panels["final_with"]
    assert isinstance(final, Curves)
    batch = measured_on(Measured(measured.info, measured.ensemble).unseen(3072), 3072)
    assert len(batch.tokens) == 1024
    losses, attention = token_losses(measured.info.model, measured.task, batch), parts(measured.info.model)
    for panel, receiver, donor in ((final, 1, 4), (early, 4, 1)):
        (line,) = [line for line in panel.lines if line.label == "all attention"]
        expected = losses(grafted(measured.ensemble, attention["all attention"], receiver, donor)).mean().item()
        assert line.values[1] == pytest.approx(expected, rel=2e-3)
    everything, unchanged = (
        {line.label: line.values for line in final.lines}[name] for name in ("everything", "unchanged")
    )
    assert len(set(everything.tolist())) == 1
    assert everything[0] == unchanged[-1]
    assert [line.label for line in final.lines] == list(single_parts(measured.info))
    assert all(said.startswith(f"Step {step}: ") for step, said in zip(film.steps, film.look, strict=True))
    assert film.look[-1] == (
        f"Step 40: these are the final parts themselves, so none of them changes the loss, {everything[0]:.2f} nats."
    )
    assert not [said for said in film.look[:-1] if "these are the final parts" in said]


def test_shares_of_small_falls_are_left_out_and_equal_parts_are_drawn_once():
    subject = Subject.load(Runs(SHIPPED).open("modular-addition"))
    panels, _, _ = shown(subject, "grafts", part="L0 MLP")
    labels = [line.label for line in panels["with_final"].lines]
    assert "L0 MLP" in labels
    assert "all MLPs" not in labels  # there is one
    own = panels["graft"].values.diagonal()
    fall = np.abs(own[:, None] - own)
    np.testing.assert_array_equal(np.isnan(panels["share"].values), fall < fall.max() / 10)
    both = shown(subject, "grafts", part="all MLPs")[0]["with_final"].lines
    assert [line.label for line in both if line.strong] == ["all MLPs"]


def test_one_token_is_told_apart(measured):
    both, _, _ = shown(measured, "grafts", part="all attention")
    alone = [shown(measured, "grafts", part="all attention", token=str(i))[0]["graft"].values for i in range(3)]
    np.testing.assert_allclose(np.mean(alone, 0), both["graft"].values, rtol=1e-3)


def test_a_map_appears_in_parts_as_they_come(copied):
    measure(copied, (Grafts(), OfPart("L0H0")), pieces=2)
    panels, _, _ = shown(Subject.load(copied), "grafts", part="L0H0")
    rows = np.isfinite(panels["graft"].values).all(1)
    assert rows.tolist() == [True, False, False, False, True]
    assert "with_final" not in panels
    again = list(
        graft_losses(
            copied.ensemble(),
            copied.info().task,
            measured_on(Measured(copied.info(), copied.ensemble()).unseen(384)),
            parts(copied.info().model)["L0H0"],
            [0],
        )
    )
    np.testing.assert_allclose(panels["graft"].values[0], again[0].mean(-1), rtol=2e-3)


@pytest.mark.parametrize(("view", "name"), [("grafts", "parts")])
def test_what_is_missing_says_how_it_is_measured(copied, view, name, capsys):
    said = why(Subject.load(copied), view)
    assert "has not been measured yet" in said
    command = said.partition("python -m explorer ")[2]
    assert command == f"measure {name} small"
    assert "measured here" not in said  # a run at an address is not, nor is anything in an app that only reads
    assert main([*shlex.split(command), "--checkpoints", str(copied.folder.parent)]) == 0
    assert "Done: " in capsys.readouterr().out
    assert why(Subject.load(copied), view) == ""
    recorder.extend(copied, 60)
    recorder.train(copied)
    assert why(Subject.load(copied), view).startswith("What was measured is of other snapshots than the run has now.")


def test_a_damaged_measure_is_said_and_hides_nothing_else(copied):
    measure(copied, (Sharpness(), SharpnessSettings()), (Parts(), NoSettings()))
    for file in (copied.folder / "measures").iterdir():
        file.write_bytes(file.read_bytes()[:-3])
    subject = Subject.load(copied)
    assert "parts.safetensors is damaged" in why(subject, "grafts")
    assert list(shown(subject, "between")[0]) == ["losses", "distance", "turn"]


def test_at_an_address_it_says_where_a_measure_can_be_computed(copied, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "runs"), "zip", copied.folder.parent, "small")
    said = why(Subject.load(Runs(archive).open("small")), "grafts")
    command = "python -m explorer measure parts small"
    assert said.endswith(f"yet. It can be measured where the run is in a folder, with: {command}")


def test_the_command_names_the_settings_that_were_chosen(copied, capsys, few):
    said = why(Subject.load(copied), "complexity", part="L1 MLP")
    words = shlex.split(said.partition("python -m explorer ")[2])
    assert words == ["measure", "complexity", "small", "--set", "part=L1 MLP"]
    quick = [word for name in ("draws=2", "burn_in=0", "chains=2", "batch_size=8") for word in ("--set", name)]
    assert main([*words, *quick, "--workers", "1", "--checkpoints", str(copied.folder.parent)]) == 0
    assert capsys.readouterr().out.endswith("complexity-L1-MLP.safetensors\n")


def test_a_token_that_never_occurs_is_left_out_of_means(copied):
    """Its losses are not numbers."""
    needed = ((Sharpness(), SharpnessSettings()), (Parts(), NoSettings()), (Grafts(), OfPart("L0H0")))
    measure(copied, *needed)
    for one, settings in needed:
        files = files_of(copied, one, settings)
        kept = files.read()
        for name in ("line", "loss", "with_final", "final_with"):
            if name in kept.tensors:
                kept.tensors[name][..., 0] = torch.nan
        files.write(kept, lambda: None)
    subject = Subject.load(copied)
    panels, _, _ = shown(subject, "between")
    assert np.isfinite(panels["barrier"].lines[0].values[:-1]).all()
    assert np.isfinite(panels["line"].values[:-1]).all()
    both, film, _ = shown(subject, "grafts", part="L0H0")
    alone = [shown(subject, "grafts", part="L0H0", token=str(i))[0]["graft"].values for i in range(3)]
    assert np.isnan(alone[0]).all()
    np.testing.assert_allclose(np.mean(alone[1:], 0), both["graft"].values, rtol=1e-3)
    assert all(film.look)
    of_parts = [one for part in families(subject, "units") for one in part if one.name == "loss with the final {}"]
    assert of_parts
    assert all(family.values.isfinite().all() for family in of_parts)


# --- Between snapshots ---


def test_the_path_is_that_of_the_weights(measured):
    panels, _, _ = shown(measured, "between")
    flat = torch.cat([w.flatten(1) for w in measured.ensemble.weights.values()], 1).double()
    moves = flat.diff(dim=0)
    straight, length = (line.values for line in panels["distance"].lines)
    np.testing.assert_allclose(straight, (flat - flat[0]).norm(dim=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(length[1:], moves.norm(dim=1).cumsum(0), rtol=1e-5)
    cosine = torch.nn.functional.cosine_similarity(moves[:-1], moves[1:], dim=1)
    np.testing.assert_allclose(panels["turn"].lines[0].values[1:-1], cosine, rtol=1e-4)


def test_the_line_begins_and_ends_at_snapshots(measured):
    panels, _, _ = shown(measured, "between")
    line = panels["line"].values[:, 0]  # (frame point)
    assert np.isnan(line[-1]).all()
    assert (line[:-1, 0] == 0).all()
    unseen = Measured(measured.info, measured.ensemble).unseen(128)
    losses = token_losses(measured.info.model, measured.task, unseen)
    own = [losses(grafted(measured.ensemble, (), i, i)).mean().item() for i in range(5)]
    np.testing.assert_allclose(line[:-1, -1], np.diff(own), atol=1e-5)
    barriers = panels["barrier"].lines[0].values
    assert (barriers[:-1] >= 0).all()
    straight = np.linspace(line[:-1, 0], line[:-1, -1], line.shape[1]).T
    np.testing.assert_allclose(barriers[:-1], (line[:-1] - straight).max(1), atol=1e-5)
    assert np.isfinite(panels["sharpness"].lines[0].values).all()


def test_what_lies_between_is_told_as_it_is_shown(measured, copied):
    panels, film, _ = shown(measured, "between")
    sharp, straight = panels["sharpness"].lines[0].values, panels["distance"].lines[0].values
    for frame, said in enumerate(film.look):
        assert f"the weights are {straight[frame]:.1f} from the first snapshot" in said
        assert f"The sharpness is {sharp[frame]:.2g}." in said
        assert ("on the line to the next one" in said) == (frame < 4)
    assert all(
        said.endswith(".") and "sharpness" not in said for said in shown(Subject.load(copied), "between")[1].look
    )


def test_a_sharpness_that_is_not_known_is_missing(copied):
    measure(copied, (Sharpness(), SharpnessSettings(4)))
    files = files_of(copied, Sharpness(), SharpnessSettings())
    kept = files.read()
    kept.tensors["sharpness"][kept.tensors["place"] == 2] = torch.nan
    files.write(replace(kept, settings={"examples": 64}), lambda: None)
    subject = Subject.load(copied)
    panels, film, _ = shown(subject, "between")
    assert np.isnan(panels["sharpness"].lines[0].values).tolist() == [False, False, True, False, False]
    assert ["The sharpness is" in said for said in film.look] == [True, True, False, True, True]
    (family,) = [one for part in families(subject, "units") for one in part if one.name == "sharpness"]
    assert family.values.isnan()[:, 0].tolist() == [False, False, True, False, False]


# --- What led the fall ---


@pytest.fixture(scope="module")
def induction() -> Subject:
    return Subject.load(Runs(SHIPPED).open("induction"))


def test_changes_stand_in_the_order_of_training_and_the_table_says_the_same(induction):
    panels, film, items = shown(induction, "leads", fall="copy 1")
    strip = panels["changes"]
    assert isinstance(strip, Strip)
    steepest = strip.median[0]
    assert (np.diff(steepest) >= 0).all()
    assert (strip.low <= strip.median).all()
    assert (strip.median <= strip.high).all()
    (table,) = [item for item in items if isinstance(item, Table)]
    (fall,) = [place for place, row in enumerate(strip.rows) if row == "the fall: loss of copy 1"]
    at = dict(zip(strip.rows, steepest.tolist(), strict=True))
    for named, step, lag, verdict, least, most in zip(
        *(table.columns[name] for name in ("measure", "at step", "lag", "", "at least", "at most")), strict=True
    ):
        assert step == round(at[named])
        assert lag == round(at[named] - steepest[fall])
        assert least <= lag <= most
        assert verdict == ("led" if most < 0 else "followed" if least > 0 else "not told apart")
    (links,) = [item for item in items if isinstance(item, Links)]
    led = " ".join(m for m, v in zip(table.columns["measure"], table.columns[""], strict=True) if v == "led")
    assert links.links
    for link in links.links:
        if link.view == "grafts":
            assert f"loss with the final {link.options['part']}" in led
        else:
            assert (link.view, link.options["do"]) == ("cut", "ablate")
            assert link.options["off"][0] in led
    assert len(film.look) == len(film.steps)


def test_where_the_fall_comes_first_it_is_told_in_good_words():
    dated = np.array([[5.0, 9.0]])
    strip = Strip(
        "changes", "", ["the fall: loss of units", "norm"], ["changes"], dated[..., None], [["at"]], dated, dated, dated
    )
    assert told(strip, 0) == "Nothing has changed yet; first comes the fall: loss of units."
    assert told(strip, 5) == "1 of 2 have changed, the latest: the fall: loss of units. Next: norm."


def test_the_k_composition_of_the_first_head_led_the_fall_of_induction(induction):
    """Of the pairs of heads whose composition is largest at any time."""
    _, _, items = shown(induction, "leads", fall="copy 1")
    columns = items[0].columns
    found = dict(
        zip(columns["measure"], zip(columns[""], columns["at least"], columns["at most"], strict=True), strict=True)
    )
    verdict, least, most = found["K-composition of L0H0 and L1H0"]
    assert verdict == "led"
    assert (least, most) < (0, 0)


def test_what_was_measured_in_minutes_is_dated_and_a_final_part_is_tested_by_a_graft(measured):
    last = len(measured.steps) - 1
    found = {
        family.name.format(*parts): family
        for part in families(measured, "units")
        for family in part
        for parts in family.parts
    }
    assert {"sharpness", "loss with the final embeddings", "loss with the final L1 MLP"} <= set(found)
    for name in ("embeddings", "L1 MLP"):
        family = found[f"loss with the final {name}"]
        assert (family.test, family.parts, family.of_any_model()) == ("graft", [(name,)], None)
        (curve,) = family.each()
        (link,) = ways_to_test(curve)
        assert (link.view, link.options) == ("grafts", {"part": name})
        grafts = parts(measured.info.model)[name]
        batch = measured_on(measured.unseen(3072), 3072)
        (row,) = graft_losses(measured.ensemble, measured.task, batch, grafts, [0], [last])
        assert curve.measure.values[0] == pytest.approx(float(row.mean()), rel=2e-3)


# --- Pages ---


def test_a_measure_is_begun_from_its_page_and_shown_when_it_is_there(root, tmp_path, monkeypatch):
    shutil.copytree(root / "small", tmp_path / "small")
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path))
    app = opening("grafts", run="small")
    assert "has not been measured yet" in app.info[0].value
    (button,) = [one for one in app.button if one.key == "measure.parts"]
    button.click().run()
    files = tmp_path / "small" / "measures" / "parts.safetensors"
    until(lambda: files.exists() and Subject.load(Runs(tmp_path).open("small")))
    until(lambda: not Run(tmp_path / "small").runs.place.is_training("small", ".parts.lock"))
    app.run()
    assert not app.exception
    assert [panel["id"] for panel in header(app)["panels"]] == ["losses", "with_final", "final_with"]
    assert not [one for one in app.button if one.key == "measure.parts"]


def test_a_test_of_what_led_opens_the_view_that_ablates(monkeypatch):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(SHIPPED))
    app = grown(opening("leads", run="induction", fall="copy 1"))
    (button,) = [one for one in app.button if one.label == "ablate L0H2"]
    button.click().run()
    assert app.session_state.scene.view == "cut"
    assert dict(app.session_state.scene.options)["off"] == "L0H2"
    assert go_to(app, "leads").session_state.scene.view == "leads"
