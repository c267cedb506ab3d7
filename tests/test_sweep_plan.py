"""The settings of sweeps: as they are typed, as runs, and as they are kept in sweep.json."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.errors import UserError
from explorer.runs import Runs
from explorer.runs.place import NAME, SWEEP
from explorer.runs.sweeps import SweepInfo, create_sweep, open_sweep, sweep_names
from explorer.tasks import TASKS
from explorer.tasks.addition import Addition
from explorer.tasks.skip_trigram import SkipTrigram
from explorer.training.sweep import MOST, SweepPlan, default_name, from_json, parsed, to_json

PLAN = parsed(SkipTrigram, "quick", ["steps=60", "n_letters=16"], ["lr=0.01,0.003", "d_model=8,16"], "0-2,7")


def sentence(message: object) -> str:
    """The message, which must be one sentence of a length that can be read."""
    text = str(message)
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 1500, text
    return text


# --- As they are typed ---


def test_each_combination_of_values_has_each_seed():
    cells = PLAN.cells()
    assert len(PLAN) == len(cells) == 16
    assert [(cell.values, cell.seed) for cell in cells[:5]] == [
        *[((0.01, 8), seed) for seed in (0, 1, 2, 7)],
        ((0.01, 16), 0),
    ]
    for cell in cells:
        plan, (lr, d_model) = cell.plan, cell.values
        assert (plan.task, plan.training.steps, plan.preset) == (SkipTrigram(n_letters=16), 60, "")
        assert (plan.training.lr, plan.model.d_model, plan.training.seed) == (lr, d_model, cell.seed)
        assert (plan.training.batch_size, plan.model.d_head) == (256, 8)  # of the preset


def test_settings_of_task_model_and_training_are_swept():
    plan = parsed(SkipTrigram, "quick", [], ["n_letters=16,40", "layer_norm=true,false", "optimiser=adamw,sgd"], "")
    assert plan.over == {"n_letters": (16, 40), "layer_norm": (True, False), "optimiser": ("adamw", "sgd")}
    first, last = (cell.plan for cell in (plan.cells()[0], plan.cells()[-1]))
    assert (first.task.n_letters, first.model.layer_norm, first.training.optimiser) == (16, True, "adamw")
    assert (last.task.n_letters, last.model.layer_norm, last.training.optimiser) == (40, False, "sgd")
    assert first.model.n_ctx != last.model.n_ctx


@pytest.mark.parametrize(
    ("over", "said"), [("n_digits=2,3", "need the same losses"), ("finite=0,512", "either all runs see new examples")]
)
def test_runs_that_cannot_be_shown_together_are_no_sweep(over, said):
    with pytest.raises(UserError, match=said):
        parsed(Addition, "quick", [], [over], "0-1").cells()


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", (3,)), ("0-3", (0, 1, 2, 3)), ("7,0-2,5-5", (7, 0, 1, 2, 5)), (" 1 , 2 ", (1, 2)), ("", (6798,))],
)
def test_seeds_are_numbers_and_ranges_of_them(text, seeds):
    assert parsed(SkipTrigram, "quick", [], [], text).seeds == seeds


def test_without_seeds_the_seed_that_is_given_is_used():
    assert parsed(SkipTrigram, "quick", ["seed=4"], [], "").seeds == (4,)


@pytest.mark.parametrize(
    ("assignments", "over", "seeds", "said"),
    [
        ([], ["lr"], "", "--over 'lr' has no values; write it as KEY=V1,V2"),
        ([], ["lr="], "", "--over 'lr=' has no values"),
        ([], ["=1,2"], "", "There is no setting ''"),
        ([], ["lr =1,2"], "", "There is no setting 'lr'"),
        ([], ["nope=1,2"], "", "There is no setting 'nope'"),
        ([], ["lr=0.1,"], "", "lr is ''; it must be a number"),
        ([], ["lr=0.1,much"], "", "lr is 'much'; it must be a number"),
        ([], ["d_mlp=8.5"], "", "d_mlp is '8.5'; it must be a whole number"),
        ([], ["lr=0.1,1e-1"], "", "--over 'lr=0.1,1e-1' has a value twice"),
        ([], ["lr=0.1", "lr=0.2"], "", "lr is given twice"),
        (["lr=0.1"], ["lr=0.2"], "", "lr is given twice"),
        ([], ["seed=1,2"], "", "Seeds are swept with --seeds"),
        (["seed=1"], [], "2,3", "seed is given twice"),
        (["keep=ends"], ["keep=ends,all"], "", "choose it with --keep"),
        (["lr"], [], "", "--set 'lr' has no '='"),
        (["nope=1"], [], "", "There is no setting 'nope'"),
        ([], [], "a", "--seeds is 'a'; write numbers and ranges"),
        ([], [], "1,,2", "--seeds is '1,,2'"),
        ([], [], "-1", "--seeds is '-1'"),
        ([], [], "1.5", "--seeds is '1.5'"),
        ([], [], "5-2", "--seeds has the range '5-2'; it must ascend"),
        ([], [], "0-10000", "--seeds has the range '0-10000'; it must ascend, over at most 10,000 seeds"),
        ([], [], "99999999999", "--seeds is '99999999999'"),
        ([], [], "1,1", "--seeds '1,1' has a seed twice"),
        ([], [], "0-5,3", "--seeds '0-5,3' has a seed twice"),
    ],
)
def test_what_cannot_be_understood_gets_one_sentence(assignments, over, seeds, said):
    with pytest.raises(UserError) as refused:
        parsed(Addition, "quick", assignments, over, seeds)
    assert said in sentence(refused.value)


@pytest.mark.parametrize(
    ("over", "seeds", "said"),
    [
        (["lr=0.1,200"], "", "lr is 200.0; it must lie between 0 and 100"),
        (["lr=nan,inf"], "", "lr is nan; it must lie between"),
        (["optimiser=adamw,adam"], "", "optimiser is 'adam'; it must be one of adamw, sgd"),
        (["positions=sinusoidal", "d_model=16,15"], "", "d_model is 15; sinusoidal positions need an even d_model"),
        ([], "4294967295", "seed is 4294967295; it must lie between"),
        (["n_ctx=3,4"], "", "n_ctx is 3; for"),
        ([f"lr={','.join(f'0.{i}' for i in range(1, 10))}"], "0-1999", "This sweep would have 18,000 runs; at most"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_before_anything_is_trained(over, seeds, said):
    with pytest.raises(UserError) as refused:
        parsed(Addition, "quick", [], over, seeds).cells()
    assert said in sentence(refused.value)


def test_an_unknown_preset_is_refused():
    with pytest.raises(UserError, match="addition has no preset 'slow'; it has quick"):
        parsed(Addition, "slow", [], [], "")


def test_the_largest_sweep_is_allowed():
    assert len(parsed(Addition, "quick", ["steps=1"], [], f"0-{MOST - 1}").cells()) == MOST


# --- Names of runs ---


def names(over: list[str], seeds: str = "0,1", kind=Addition) -> list[str]:
    found = [cell.name for cell in parsed(kind, "quick", [], over, seeds).cells()]
    assert len(set(found)) == len(found)
    assert all(NAME.fullmatch(name) for name in found)
    return found


def test_a_run_is_named_by_what_it_does_not_share_with_the_others():
    assert names(["lr=0.001,3e-5", "layer_norm=true"]) == [
        *("lr-0.001_layer_norm-true_seed-0", "lr-0.001_layer_norm-true_seed-1"),
        *("lr-3e-05_layer_norm-true_seed-0", "lr-3e-05_layer_norm-true_seed-1"),
    ]
    assert names([]) == ["seed-0", "seed-1"]


@pytest.mark.parametrize(
    "over",
    [
        ["weight_decay=0.1", "snapshot_moved=0.1,0.2", "test_batch_size=10", "snapshot_share=0.5"],  # too long
        ["lr=0.1", "finite=1000000", "snapshot_every=10000000", "test_every=123456"],
    ],
)
def test_runs_whose_names_would_be_no_names_of_folders_are_numbered(over):
    found = names(over)
    assert found == [f"run-{i:04}" for i in range(len(found))]


@pytest.mark.parametrize(
    ("assignments", "over", "name"),
    [
        ([], ["lr=0.1,0.2", "d_mlp=8"], "addition-by-lr-d_mlp"),
        (["finite=9"], [], "addition-finite-seeds"),
        ([], ["snapshot_every=1", "snapshot_moved=1", "test_batch_size=1", "weight_decay=1"], "addition-by-4-settings"),
    ],
)
def test_a_sweep_is_named_after_what_varies(assignments, over, name):
    assert default_name(parsed(Addition, "quick", assignments, over, "")) == name
    assert NAME.fullmatch(name)


SWEPT: dict[str, st.SearchStrategy[Any]] = {
    "lr": st.floats(0, 100),
    "weight_decay": st.floats(0, 1000),
    "eps": st.floats(0, 1),
    "residual_gain": st.floats(-100, 100),
    "d_mlp": st.integers(1, 64),
    "warmup": st.integers(0, 10_000_000),
    "layer_norm": st.booleans(),
    "optimiser": st.sampled_from(["adamw", "sgd"]),
    "init": st.sampled_from(["d_model", "d_head"]),
}
VALUES = st.lists(st.sampled_from(sorted(SWEPT)), max_size=4, unique=True).flatmap(
    lambda keys: st.fixed_dictionaries(
        {key: st.lists(SWEPT[key], min_size=1, max_size=3, unique=True).map(tuple) for key in keys}
    )
)
SEEDS = st.lists(st.integers(0, 2**32 - 2), min_size=1, max_size=3, unique=True).map(tuple)


@given(VALUES, SEEDS, st.integers(1, 10_000_000))
@settings(max_examples=60, deadline=None)
def test_every_plan_has_names_of_folders_and_comes_back_from_json(over, seeds, steps):
    plan = SweepPlan(Addition, "quick", {"steps": steps}, over, seeds)
    read = from_json(json.loads(json.dumps(to_json(plan))), "sweep.json")
    assert read == plan
    assert list(read.over) == list(plan.over)
    cells = plan.cells()
    assert read.cells() == cells
    assert all(NAME.fullmatch(cell.name) for cell in cells)
    assert len({cell.name for cell in cells}) == len(cells) == len(plan)


@pytest.mark.parametrize("kind", TASKS.values(), ids=TASKS)
def test_a_sweep_on_disk_is_the_one_that_was_made(kind, tmp_path):
    plan = parsed(kind, "quick", ["steps=5", "keep=losses"], ["lr=0.1,0.01"], "0-3")
    create_sweep(Runs(tmp_path), "mine", SweepInfo(plan, 4))
    info = open_sweep(Runs(tmp_path), "mine").info()
    assert (info.plan, info.stacked, info.cells) == (plan, 4, plan.cells())
    assert sweep_names(Runs(tmp_path)) == ["mine"]
    with pytest.raises(UserError, match="choose another name"):
        create_sweep(Runs(tmp_path), "mine", SweepInfo(plan))


# --- Files of others ---

GOOD = {"format": 1, **to_json(PLAN), "stacked": 2}
DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000


def changed(**more: Any) -> str:
    return json.dumps({name: value for name, value in {**GOOD, **more}.items() if value is not ...})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "7",
        '"text"',
        "{",
        "{}",
        DEEP,
        '{"format": 1, "format": 1}',
        "NaN",
        changed(format=2),
        changed(format=None),
        changed(format=...),
        changed(task="nope"),
        changed(task=...),
        changed(task=["addition"]),
        changed(task="../../x"),
        changed(preset="nope"),
        changed(preset=1),
        changed(preset=...),
        changed(given=[]),
        changed(given=None),
        changed(given={"nope": 1}),
        changed(given={"steps": "many"}),
        changed(given={"steps": {"a": [1]}}),
        changed(given={"steps": None}),
        changed(given={"steps": math.nan}),
        changed(given={"steps": 1e300}),
        changed(given={"steps": 10**4000}),
        changed(given={"steps": 5}).replace("5", "9" * 5000),
        changed(given={"seed": 3}),
        changed(given={"steps=5\n": 1}),
        changed(given={"lr": 0.1}),
        changed(over=[]),
        changed(over={"lr": 0.1}),
        changed(over={"lr": []}),
        changed(over={"lr": [0.1, 0.1]}),
        changed(over={"lr": [math.nan]}),
        changed(over={"lr": [math.inf, 0.1]}),
        changed(over={"lr": [None]}),
        changed(over={"lr": [[0.1, 0.2]]}),
        changed(over={"lr": ["0.1,"]}),
        changed(over={"seed": [1, 2]}),
        changed(over={"": [1]}),
        changed(over={"nope": [1]}),
        changed(over={"d_model": [10**4000]}),
        changed(over={"optimiser": ["x" * 10_000]}),
        changed(seeds=[]),
        changed(seeds=[True]),
        changed(seeds=["0"]),
        changed(seeds=[0.5]),
        changed(seeds=[-1]),
        changed(seeds=[1, 1]),
        changed(seeds=[2**40]),
        changed(seeds=[10**4000]),
        changed(seeds="0-9"),
        changed(seeds=list(range(20_000))),
        changed(stacked=0),
        changed(stacked=True),
        changed(stacked=10**9),
        changed(stacked="2"),
    ],
    ids=lambda text: text[:60],
)
def test_a_file_that_describes_no_sweep_gets_one_sentence(text, tmp_path):
    (tmp_path / "hostile").mkdir()
    (tmp_path / "hostile" / SWEEP).write_text(text)
    with pytest.raises(UserError) as refused:
        open_sweep(Runs(tmp_path), "hostile")
    assert "hostile/sweep.json" in sentence(refused.value)


def test_a_file_that_is_no_text_gets_one_sentence(tmp_path):
    (tmp_path / "hostile").mkdir()
    (tmp_path / "hostile" / SWEEP).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"hostile/sweep.json"):
        open_sweep(Runs(tmp_path), "hostile")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(GOOD)), JSON)
@settings(max_examples=200, deadline=None)
def test_any_value_in_place_of_another_is_understood_or_gets_one_sentence(name, value):
    try:
        plan = from_json({**GOOD, name: value}, "x/sweep.json")
        plan.cells()
    except UserError as error:
        sentence(error)


def test_there_is_no_sweep_of_that_name(tmp_path):
    with pytest.raises(UserError, match="There is no sweep 'none'"):
        open_sweep(Runs(tmp_path), "none")
    create_sweep(Runs(tmp_path), "mine", SweepInfo(PLAN))
    with pytest.raises(UserError, match="There is no sweep 'none'; there are mine"):
        open_sweep(Runs(tmp_path), "none")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "x" * 65])
def test_a_name_that_no_folder_may_have_is_refused(name, tmp_path):
    with pytest.raises(UserError, match="cannot be the name"):
        create_sweep(Runs(tmp_path), name, SweepInfo(PLAN))
    assert list(tmp_path.iterdir()) == []
