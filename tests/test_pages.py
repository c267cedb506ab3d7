"""Every page, run by Streamlit without a browser."""

import shutil

import pytest

from explorer.runs import Runs
from tests.conftest import SHIPPED
from tests.pages import (
    INSIDE,
    PAGES,
    address,
    controls,
    every_choice,
    go_to,
    header,
    healthy,
    opening,
    stop_at,
    warnings,
)
from tests.test_runs import HOW, spoil

FINITE_RUNS = [name for name in Runs(SHIPPED).names() if Runs(SHIPPED).open(name).info().data.startswith("the same")]


@pytest.mark.parametrize("run", ["small", "finite"])
@pytest.mark.parametrize("page", [*PAGES.values(), *INSIDE])
def test_every_page_shows_a_film_of_every_run(opened, folder, page, run):
    app = opened(page, run=run)
    assert healthy(app)
    film = header(app)
    assert tuple(film["steps"]) == Runs(folder).open(run).steps()
    assert "curves" in [panel["kind"] for panel in film["panels"]]


@pytest.mark.parametrize("run", Runs(SHIPPED).names())
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_every_page_shows_every_shipped_run_and_all_its_examples(monkeypatch, page, run):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(SHIPPED))
    app = opening(page, run=run)
    assert healthy(app)
    assert not app.warning
    info = Runs(SHIPPED).open(run).info()
    film = header(app)
    assert tuple(film["steps"]) == info.snapshots
    assert film["panels"][0]["kind"] in ("tokens", "curves")
    for text in info.task.examples.values():
        app.text_input(key="choice.example").set_value(text).run()
        assert healthy(app), text
        assert app.session_state.example == text
        assert header(app)["steps"] == film["steps"]


@pytest.mark.parametrize("run", FINITE_RUNS)
@pytest.mark.parametrize("page", [*INSIDE, "losses", "heads"])
def test_every_option_is_shown_of_a_run_of_every_task(monkeypatch, page, run):
    """Of finite data, which have all options that infinite data have."""
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(SHIPPED))
    app = opening(page, run=run)
    steps = list(Runs(SHIPPED).open(run).info().snapshots)
    if page == "fourier" and "addition" not in run:
        assert "not numbers modulo n" in app.info[0].value
        return
    seen = set()
    for _ in every_choice(app):
        assert healthy(app)
        if app.info and page == "heads":
            assert run == "modular-addition"
            assert "Head scores have no meaning for this run" in app.info[0].value
            continue
        film = header(app)
        assert film["steps"] == steps
        shown = str([(panel["title"], panel.get("maps"), panel.get("series")) for panel in film["panels"]])
        assert shown not in seen
        seen.add(shown)


def test_a_run_of_another_task_opens_with_its_own_example(monkeypatch):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(SHIPPED))
    app = opening("overview", run="addition", example="12345+67890")
    app.text_input(key="choice.example").set_value("no sum").run()
    assert app.error
    for name in [*Runs(SHIPPED).names()[1:], "addition"]:
        app.selectbox(key="choice.run").set_value(name).run()
        assert healthy(app)
        assert not app.warning
        header(app)


def test_finite_runs_show_train_and_test(opened):
    lines = header(opened("losses", run="finite"))["panels"][0]["lines"]
    assert [line["label"] for line in lines[:4]] == ["all, train", "all, test", "hundreds", "hundreds, train"]
    assert [line["dashed"] for line in lines[:4]] == [True, False, False, True]


def test_run_step_and_example_are_kept_in_the_url_and_across_pages(opened):
    app = opened("overview", run="small", step="20", example="48+76")
    assert header(app)["start"] == 20
    stop_at(app, 30)
    for page in [*INSIDE, *PAGES.values()]:  # the one that is open comes later
        go_to(app, page)
        assert healthy(app)
        assert header(app)["start"] == 30
        scene = address(app)
        assert (scene.view, scene.run, scene.step, scene.example) == (page, "small", 30, "48+76")


def test_moving_the_player_does_not_resend_the_film(opened):
    app = opened("overview", run="small", step="0")
    before = app.get("bidi_component")[0].proto.bytes
    stop_at(app, 30)
    assert app.get("bidi_component")[0].proto.bytes == before
    assert app.session_state.step == 30


def test_another_run_starts_at_its_own_step_and_keeps_the_example(opened):
    app = opened("overview", run="small", step="20", example="48+76")
    app.selectbox(key="choice.run").set_value("finite").run()
    assert healthy(app)
    assert tuple(header(app)["steps"]) == (0, 10, 20, 30)
    assert address(app).run == "finite"
    assert app.session_state.example == "48+76"


def test_two_sessions_do_not_disturb_each_other(opened):
    one, other = (
        opened("overview", run="small", step="10", example="1+1"),
        opened("answers", run="small", step="20", example="9+9"),
    )
    stop_at(one, 40)
    other.run()
    assert (one.session_state.step, one.session_state.example) == (40, "1+1")
    assert (other.session_state.step, other.session_state.example) == (20, "9+9")
    assert header(other)["start"] == 20


@pytest.mark.parametrize("typed", ["abc", "", "123+1", "9" * 100_000, "![x](y) $x$ <b>"])
@pytest.mark.parametrize("page", ["overview", "answers"])
def test_invalid_input_is_reported_in_one_sentence(opened, page, typed):
    app = opened(page, run="small")
    app.text_input(key="choice.example").set_value(typed).run()
    assert not app.exception
    assert len(app.error) == 1
    assert "such as 45\\+90" in app.error[0].value
    assert len(app.selectbox(key="choice.run").options) == 2
    app.text_input(key="choice.example").set_value("1+2").run()
    assert healthy(app)
    header(app)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"run": "nope"}, "There is no run 'nope'; showing finite instead."),
        ({"run": "**x**](y)"}, "There is no run '**x**](y)'; showing finite instead."),
        ({"run": "small", "step": "abc"}, "step is 'abc'; it must be a whole number"),
        ({"run": "small", "step": "19"}, "no snapshot at step 19; the nearest is at step 20."),
        ({"run": ["small", "finite"]}, "'run' is given 2 times; give it once."),
        ({"run": "small", "example": "what"}, "'what' is not a sum"),
        ({"run": "small", "foo": "1"}, "There is no option 'foo'; there are without."),
        ({"run": "small", "player": "x"}, "'x' is no switch of a panel"),
    ],
    ids=["unknown run", "markdown", "bad step", "missing step", "repeated", "no example", "no option", "no switch"],
)
def test_an_invalid_url_opens_and_is_reported(opened, query, message):
    app = opened("overview", **query)
    assert healthy(app)
    assert message in warnings(app)
    header(app)
    stop_at(app, 30)
    assert message in warnings(app)  # until the user changes something
    app.text_input(key="choice.example").set_value("1+2").run()
    assert not app.warning


def test_options_of_a_link_are_used_and_invalid_ones_have_their_default(opened):
    app = opened("heads", run="small", show="mean", of="scores")
    assert "before softmax, mean over" in header(app)["panels"][1]["title"]
    assert dict(address(app).options) == {"show": "mean", "of": "scores"}
    app = opened("heads", run="small", show="mean", of="colour", on="unseen")
    assert healthy(app)
    assert warnings(app) == "of is 'colour'; it can be pattern, scores, gradient."
    assert dict(address(app).options) == {"show": "mean"}  # "on" has no effect here
    app = opened("cut", run="small", off="l1h0,L9H9,L0N3")
    assert "There is no L9H9" in warnings(app)
    assert header(app)["panels"][1]["title"] == "L1H0, L0N3 ablated (zero)"
    assert dict(address(app).options) == {"off": "L1H0,L0N3"}


def test_options_are_remembered_per_view_and_defaults_are_not_in_the_url(opened):
    app = opened("heads", run="small")
    assert address(app).options == ()
    controls(app)[0].set_value("mean over a batch").run()
    assert dict(address(app).options) == {"show": "mean"}
    assert address(go_to(app, "weights")).options == ()
    assert dict(address(go_to(app, "heads")).options) == {"show": "mean"}


def test_a_step_between_snapshots_opens_at_the_nearest(opened):
    assert header(opened("overview", run="small", step="19"))["start"] == 20


def test_try_shows_answers_and_offers_harder_variations(opened):
    app = opened("answers", run="small", example="48+76=100")
    assert [panel["kind"] for panel in header(app)["panels"]] == [
        *("tokens", "raster", "raster", "raster", "raster", "text", "bars", "curves")
    ]
    assert "is wrong" in app.info[0].value
    table = app.dataframe[0].value
    assert table["digit"].tolist() == ["hundreds", "tens", "units"]
    assert table["right answer"].tolist() == ["1", "2", "4"]
    next(one for one in app.button if one.label.startswith("one carry through nines")).click().run()
    assert app.session_state.example == "48+52"
    assert healthy(app)


def test_examples_can_be_picked(opened):
    app = opened("overview", run="small")
    (named,) = [group for group in app.get("button_group") if group.key == "choice.example.named"]
    named.set_value("99+01").run()
    assert app.session_state.example == "99+01"
    assert "".join(header(app)["panels"][0]["prompt"]) == "99+01="


def test_a_part_that_the_reader_clicked_is_ablated_and_restored(opened):
    app = opened("overview", run="small")

    def ask(at: int) -> list[str]:
        app.session_state["player"] = {"asked": {"what": "ablate L0H1", "at": at}}
        app.run()
        assert healthy(app)
        return next(panel["ablated"] for panel in header(app)["panels"] if panel["kind"] == "diagram")

    assert ask(1) == ["L0H1"]
    assert address(app).options == (("without", "L0H1"),)
    app.run()  # the same question is heard once
    assert app.multiselect(key="overview.without").value == ["L0H1"]
    assert ask(2) == []


def test_activations_shows_every_hook_point_forward_and_gradient(opened):
    app = opened("activations", run="small")
    names = app.selectbox(key="activations.hook").options
    assert "blocks.1.attn.hook_result" in names
    for kind in ("activation", "gradient"):
        controls(app)[0].set_value(kind).run()
        for name in names:
            app.selectbox(key="activations.hook").set_value(name).run()
            assert healthy(app), name
            panel = header(app)["panels"][1]
            assert name in panel["title"]
            assert len(panel["maps"]) == (2 if ".attn." in name else 1)


def test_attention_can_be_averaged_over_a_batch(opened):
    app = opened("heads", run="small")
    one = header(app)["panels"][1]
    assert one["maps"] == ["L0H0", "L0H1", "L1H0", "L1H1"]
    controls(app)[0].set_value("mean over a batch").run()
    assert healthy(app)
    assert "mean over 64 unseen examples" in header(app)["panels"][1]["title"]


def test_phase_changes_are_in_a_table_and_smoothing_is_in_the_film(opened):
    app = opened("losses", run="finite")
    table = app.dataframe[0].value
    labels = {f"{d}, {kind}" for d in ("hundreds", "tens", "units") for kind in ("test", "train")}
    assert set(table["digit"]) <= labels
    assert set(table["what"]) <= {"deepest fall", "fall", "rise"}
    assert (table["begins"] <= table["ends"]).all()
    assert header(app)["panels"][0]["smoothing"] == 0.9
    app.select_slider(key="losses.smoothing").set_value(0.5).run()
    assert healthy(app)
    assert header(app)["panels"][0]["smoothing"] == 0.5
    go_to(go_to(app, "overview"), "losses")
    assert app.select_slider(key="losses.smoothing").value == 0.5


def test_components_are_ablated_by_name_and_unknown_ones_reported(opened):
    app = opened("cut", run="small")
    off = app.multiselect(key="cut.off")
    assert off.value == ["L0H0"]
    assert header(app)["panels"][1]["title"] == "L0H0 ablated (zero)"
    off.set_value(["L1 MLP", "l0n3"]).run()
    assert healthy(app)
    assert header(app)["panels"][1]["title"] == "L1 MLP, L0N3 ablated (zero)"
    app.multiselect(key="cut.off").set_value(["L1H0", "<b>L9H9", "L7H0", " "]).run()
    assert not app.exception
    assert "no component of a model" in app.error[0].value
    assert "There is no L7H0" in app.error[1].value
    assert header(app)["panels"][1]["title"] == "L1H0 ablated (zero)"
    app.multiselect(key="cut.off").set_value([]).run()
    assert healthy(app)
    assert header(app)["panels"][1]["title"] == "Nothing ablated"


def test_a_second_example_is_patched_and_an_invalid_one_reported(opened):
    app = opened("cut", run="small", example="48+76")
    controls(app)[0].set_value("patch").run()
    assert healthy(app)
    assert app.text_input(key="cut.second").value == "48+52"
    assert app.selectbox(key="cut.answer").options == ["tens: 2 or 0", "units: 4 or 0"]
    film = header(app)
    for text, message in (("76+48", "the same right answers"), ("no sum", "is not a sum")):
        app.text_input(key="cut.second").set_value(text).run()
        assert not app.exception
        assert len(app.error) == 1
        assert message in app.error[0].value
        assert app.text_input(key="cut.second").value == text
        assert header(app) == film  # the film stays
    app.text_input(key="cut.second").set_value(" ").run()
    assert healthy(app)
    assert "Type a second sum" in app.info[0].value
    app.text_input(key="cut.second").set_value("11+22").run()
    assert healthy(app)
    app.selectbox(key="cut.answer").set_value(2).run()
    assert "for 4 rather than 3, units" in header(app)["panels"][1]["title"]
    app.text_input(key="choice.example").set_value("11+22").run()  # now both are the same: another is used
    assert healthy(app)
    assert app.text_input(key="cut.second").value != "11+22"


def test_paths_are_patched_from_the_second_example_into_the_first(opened):
    app = opened("cut", run="small", example="48+76", do="patch", exchange="paths")
    assert healthy(app)
    assert app.text_input(key="cut.second").label == "Second sum, whose activations are patched into the first"
    assert any("1 loses the answer of the first" in caption.value for caption in app.caption)
    film = header(app)
    assert [panel["kind"] for panel in film["panels"]] == ["curves", "graph", "curves", "curves", "curves"]
    assert len(film["look"]) == len(film["steps"])
    controls(app)[1].set_value("heads").run()
    assert healthy(app)
    assert any("1 restores the answer of the first" in caption.value for caption in app.caption)
    assert [panel["kind"] for panel in header(app)["panels"]] == ["curves", "curves", "curves"]


def test_heads_positions_and_units_can_be_selected_also_from_the_largest_changes(opened):
    app = opened("activations", run="small", example="48+76")
    app.selectbox(key="activations.hook").set_value("blocks.0.attn.hook_v").run()
    app.multiselect(key="activations.heads").set_value([1]).run()
    app.multiselect(key="activations.positions").set_value([0, 2]).run()
    assert healthy(app)
    panel = header(app)["panels"][1]
    assert (panel["maps"], panel["rows"]) == (["L0H1"], ["4", "+"])
    app.selectbox(key="activations.hook").set_value("blocks.0.mlp.hook_post").run()
    assert healthy(app)
    first = next(button for button in app.button if button.key.startswith("link."))
    first.click().run()
    assert healthy(app)
    unit = first.label.split()[0]
    assert dict(address(app).options) == {"form": "training", "hook": "blocks.0.mlp.hook_post", "units": unit}
    assert app.multiselect(key="activations.units").value == [int(unit)]
    assert header(app)["panels"][-1]["title"].endswith(f"; d_mlp {unit}")
    app.selectbox(key="activations.hook").set_value("blocks.1.mlp.hook_post").run()
    assert app.multiselect(key="activations.units").value == []
    app.selectbox(key="activations.last").set_value(app.selectbox(key="activations.first").value).run()
    assert not app.exception
    assert "choose two different ones" in app.error[0].value


@pytest.mark.parametrize("page", [*PAGES.values(), *INSIDE])
def test_a_panel_can_be_shown_as_a_figure(opened, page):
    app = opened(page, run="finite")
    assert not app.get("plotly_chart")
    app.toggle(key="still").set_value(True).run()
    assert healthy(app)
    for title in app.selectbox(key="still.panel").options:
        app.selectbox(key="still.panel").set_value(title).run()
        assert healthy(app), title
        assert len(app.get("plotly_chart")) == 1


def test_a_single_run_has_nothing_to_compare_with(root, monkeypatch):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(root))
    app = opening("compare", run="small")
    assert healthy(app)
    assert "no second run" in app.info[0].value


def test_a_second_run_is_shown_beside_the_selected_one(opened):
    app = opened("compare", run="small", step="20")
    assert app.selectbox(key="compare.beside").value == "finite"
    film = header(app)
    assert film["panels"][0]["blocks"][2] == "small at step 20    finite at step 20"
    app.selectbox(key="choice.run").set_value("finite").run()
    assert healthy(app)
    assert app.selectbox(key="compare.beside").value == "small"


@pytest.mark.parametrize("how", HOW)
def test_a_corrupt_snapshot_is_reported_and_the_others_are_shown(folder, small, tmp_path, monkeypatch, how):
    shutil.copytree(folder / "small", tmp_path / "small")
    spoil(tmp_path / "small" / "snapshots" / "step-000010.safetensors", how, small)
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path))
    app = opening("overview")
    assert healthy(app)
    assert ["step\\-000010\\.safetensors" in warning.value for warning in app.warning] == [True]
    assert header(app)["steps"] == [0, 20, 30, 40]


def test_an_unreadable_run_is_reported_and_others_can_be_selected(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "runs")
    (tmp_path / "runs" / "finite" / "run.json").write_text("{")
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path / "runs"))
    app = opening("overview", run="finite")
    assert not app.exception
    assert any("finite/run\\.json" in error.value for error in app.error)
    app.selectbox(key="choice.run").set_value("small").run()
    assert healthy(app)
    assert header(app)["steps"] == [0, 10, 20, 30, 40]


def test_pages_without_runs_explain_how_to_train_one(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path))
    for page in (*PAGES.values(), "runs"):
        app = opening(page)
        assert healthy(app)
        assert "python -m explorer train addition" in app.info[0].value
