"""Measures that take minutes: computed in pieces, kept beside the run, stopped, gone on with, refused when stale."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from explorer.cli.main import main
from explorer.errors import UserError
from explorer.measures import all_measures
from explorer.measures.complexity import Complexity, ComplexitySettings
from explorer.measures.engine import _computed, at_once, measure_run
from explorer.measures.measure import Form, Measure, Measured, coarse_first, files_of, staleness
from explorer.measures.sharpness import Sharpness, SharpnessSettings
from explorer.model.ensemble import MEMORY_BUDGET
from explorer.runs import Run, Runs, recorder
from explorer.runs.lock import locked
from explorer.runs.measures import identity
from explorer.settings import check_settings, setting
from explorer.training.memory import PROCESS
from tests.conftest import FINITE, MODEL, TASK, until


@dataclass(frozen=True)
class Times:
    factor: int = setting("of the norms", 1, 10, default=1)

    def __post_init__(self) -> None:
        check_settings(self)


class Norms(Measure[Times]):
    """The norm of the unembedding at each snapshot, in an order of its own."""

    name, title, sentence = "norms", "Norms", "How large the unembedding is."
    settings_type = Times

    def n_pieces(self, of: Measured, settings: Times) -> int:
        return len(of.ensemble)

    def forms(self, of: Measured, settings: Times) -> dict[str, Form]:
        return {"norm": (torch.float32, ()), "step": (torch.int64, ())}

    def pieces(self, of: Measured, settings: Times, which: range) -> Iterator[dict[str, torch.Tensor]]:
        order = coarse_first(len(of.ensemble))
        for place in (order[i] for i in which):
            norm = of.ensemble.weights["unembed.W_U"][place].norm()
            yield {"norm": settings.factor * norm, "step": torch.tensor(of.ensemble.steps[place])}

    def seconds(self, of: Measured, settings: Times) -> float:
        return 1.0


NORMS = Norms()


def whole(run: Run) -> Measured:
    return Measured(run.info(), run.ensemble())


def test_pieces_are_kept_with_what_they_were_computed_with(copied):
    seen = []
    kept = measure_run(copied, whole(copied), NORMS, Times(2), lambda done, n: seen.append((done, n)))
    assert seen == [(i, 5) for i in range(1, 6)]
    again = files_of(copied, NORMS, Times(2)).read()
    assert (again.done, again.n_pieces, again.share, again.settings) == (5, 5, 1.0, {"factor": 2})
    assert again.seconds_left == 0
    for name, values in kept.tensors.items():
        assert torch.equal(values, again.tensors[name])
    assert again.tensors["step"].tolist() == [40, 0, 20, 30, 10]
    weights = copied.ensemble().weights["unembed.W_U"]
    expected = {step: 2 * w.norm() for step, w in zip(copied.steps(), weights, strict=True)}
    for step, norm in zip(again.tensors["step"].tolist(), again.tensors["norm"], strict=True):
        torch.testing.assert_close(norm, expected[step])


def test_a_measure_that_was_stopped_goes_on_to_the_same_bytes(copied, tmp_path):
    shutil.copytree(copied.folder, tmp_path / "other")
    other = Runs(tmp_path).open("other")
    straight = measure_run(other, whole(other), NORMS, Times())
    for done in (1, 3):
        stops = iter([False] * (done - 1) + [True] * 9) if done == 1 else iter([False, True, True])
        kept = measure_run(copied, whole(copied), NORMS, Times(), should_stop=lambda stops=stops: next(stops))
        assert kept.done == done
    began = []
    kept = measure_run(copied, whole(copied), NORMS, Times(), lambda done, n: began.append(done))
    assert began == [4, 5]
    for name, values in straight.tensors.items():
        assert torch.equal(values, kept.tensors[name])
    assert measure_run(copied, whole(copied), NORMS, Times(), lambda done, n: pytest.fail("nothing was missing"))


def test_a_stop_file_stops_it_and_the_next_one_removes_it(copied, monkeypatch):
    monkeypatch.setattr("explorer.measures.engine.LOOK_EVERY", -1.0)
    files = files_of(copied, NORMS, Times())
    kept = measure_run(copied, whole(copied), NORMS, Times(), lambda done, n: done < 2 or files.stop_file.touch())
    assert kept.done == 2
    assert measure_run(copied, whole(copied), NORMS, Times()).share == 1
    assert not files.stop_file.exists()


def test_what_was_measured_otherwise_is_stale_and_replaced(copied):
    def stale(settings: Times = Times(), measure: Norms = NORMS) -> str:
        return staleness(files_of(copied, measure, settings).read(), measure, settings, whole(copied))

    measure_run(copied, whole(copied), NORMS, Times())
    assert stale() == ""
    assert stale(Times(3)) == "with other settings"
    newer = Norms()
    newer.version = 2
    assert stale(measure=newer) == "by another version of this explorer"
    recorder.extend(copied, 60)
    assert stale() == "of other snapshots than the run has now"
    kept = measure_run(copied, whole(copied), NORMS, Times(3))
    assert (kept.done, kept.settings) == (5, {"factor": 3})
    assert stale(Times(3)) == ""


def test_the_identity_is_that_of_settings_and_snapshots(small):
    info, steps = small.info(), small.steps()
    same = identity(info, steps)
    assert same == identity(replace(info, status="running", threads=7, made_with={"torch": "9"}), steps)
    assert same != identity(info, steps[:-1])
    assert same != identity(replace(info, training=replace(info.training, seed=9)), steps)


def test_the_cache_of_a_run_notices_each_piece(copied):
    before = copied.version()
    measure_run(copied, whole(copied), NORMS, Times(), should_stop=lambda: True)
    between = copied.version()
    assert before != between
    measure_run(copied, whole(copied), NORMS, Times())
    assert copied.version() not in (before, between)


class Ending(Norms):
    """Ends the process that is asked for its third piece."""

    name = "ending"

    def pieces(self, of: Measured, settings: Times, which: range) -> Iterator[dict[str, torch.Tensor]]:
        for piece, found in zip(which, super().pieces(of, settings, which), strict=True):
            if piece == 2:
                os._exit(1)
            yield found


@pytest.mark.usefixtures("own_main_module")
def test_several_processes_find_the_same(copied, tmp_path, monkeypatch):
    shutil.copytree(copied.folder, tmp_path / "other")
    other = Runs(tmp_path).open("other")
    cases = ((NORMS, Times(3)), (Complexity(), ComplexitySettings(draws=3, burn_in=2)))
    expected = [measure_run(other, whole(other), *case).tensors for case in cases]
    monkeypatch.setattr("explorer.measures.engine.WORTH", -1.0)
    for case, tensors in zip(cases, expected, strict=True):
        seen = []
        kept = measure_run(copied, whole(copied), *case, lambda done, n, seen=seen: seen.append((done, n)), workers=2)
        assert seen == [(i, 5) for i in range(1, 6)]
        assert kept.tensors.keys() == tensors.keys()
        for name, values in tensors.items():
            assert torch.equal(kept.tensors[name], values)


@pytest.mark.usefixtures("own_main_module")
def test_pieces_stay_when_a_process_ends(copied, monkeypatch):
    monkeypatch.setattr("explorer.measures.engine.WORTH", -1.0)
    with pytest.raises(UserError, match="A process that measured has ended; measure again, which goes on"):
        measure_run(copied, whole(copied), Ending(), Times(), workers=2)
    assert files_of(copied, Ending(), Times()).read().done in (1, 2)


class Noting(Norms):
    """Notes its pieces in a folder. The second waits for the last, which another process computes."""

    name = "noting"

    def pieces(self, of: Measured, settings: Times, which: range) -> Iterator[dict[str, torch.Tensor]]:
        notes = Path(os.environ["NOTES"])
        for piece, found in zip(which, super().pieces(of, settings, which), strict=True):
            if piece == 1:
                until((notes / "4").exists)
            (notes / str(piece)).touch()
            yield found


@pytest.mark.usefixtures("own_main_module")
def test_what_other_processes_have_computed_when_it_is_stopped_stays(copied, tmp_path, monkeypatch):
    (tmp_path / "notes").mkdir()
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.setattr("explorer.measures.engine.WORTH", -1.0)
    monkeypatch.setattr("explorer.measures.engine.TURNS", 1)
    all_noted = [tmp_path / "notes" / str(piece) for piece in range(5)]
    kept = measure_run(
        copied, whole(copied), Noting(), Times(), should_stop=lambda: all(map(Path.exists, all_noted)), workers=2
    )
    assert kept.done == 5


def test_a_process_that_nobody_waits_for_returns_the_pieces_that_it_has(copied):
    def computed(*wanted: bool) -> list[int]:
        root, name, steps, answers = str(copied.runs.root), copied.name, copied.steps(), iter(wanted)
        pieces = _computed(root, name, steps, NORMS, Times(), range(1, 5), is_wanted=lambda: next(answers))
        return [int(piece["step"]) for piece in pieces]

    assert computed(False) == []
    assert computed(True, False) == [0]
    assert computed(True, True, True, False) == [0, 20, 30]
    assert computed(True, True, True, True, True) == [0, 20, 30, 10]


def test_as_many_processes_measure_as_fit_into_memory(copied):
    of = whole(copied)
    each = PROCESS + MEMORY_BUDGET + 4 * sum(weight.numel() for weight in of.ensemble.weights.values())
    assert [at_once(8, of, free) for free in (0, each, 3 * each - 1, 3 * each, 100 * each)] == [1, 1, 2, 3, 8]


def test_two_processes_do_not_measure_the_same(copied):
    files = files_of(copied, NORMS, Times())
    with locked(files.lock_file):
        assert files.is_measuring()
        with pytest.raises(UserError, match="small is being measured by another process; wait for it or stop it"):
            measure_run(copied, whole(copied), NORMS, Times())
    assert not files.is_measuring()
    assert files.read() is None


def test_a_run_that_is_removed_meanwhile_does_not_come_back(copied):
    def remove(done: int, n: int) -> None:
        if copied.folder.exists():
            shutil.rmtree(copied.folder)

    with pytest.raises(UserError, match="was removed or replaced, so its measuring stopped"):
        measure_run(copied, whole(copied), NORMS, Times(), remove)
    assert not copied.folder.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"n_pieces": 4},
        {"n_pieces": "5"},
        {"version": None},
        {"settings": []},
        {"of": 3},
        {"seconds": -1},
        {"seconds": "1"},
        None,
    ],
    ids=str,
)
def test_a_file_that_is_no_measure_is_refused_and_said(copied, change):
    measure_run(copied, whole(copied), NORMS, Times())
    files = files_of(copied, NORMS, Times())
    told = {"n_pieces": 5, "version": 1, "settings": {"factor": 1}, "of": "x", "seconds": 1.0}
    metadata = {} if change is None else {"measure": json.dumps({**told, **change})}
    save_file(load_file(files.file), files.file, metadata)
    with pytest.raises(UserError, match=r"small/measures/norms\.safetensors is not a measure of this explorer; remove"):
        files.read()


def test_a_damaged_file_and_a_link_out_of_the_run_are_refused(copied, tmp_path):
    files = files_of(copied, NORMS, Times())
    measure_run(copied, whole(copied), NORMS, Times())
    data = files.file.read_bytes()
    files.file.write_bytes(data[:-5])
    with pytest.raises(UserError, match=r"norms\.safetensors is damaged"):
        files.read()
    (tmp_path / "secret").write_bytes(data)
    files.file.unlink()
    files.file.symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="is a link out of the folder of the run"):
        files.read()


def test_an_order_is_coarse_first_and_has_every_place_once():
    assert coarse_first(0) == []
    assert coarse_first(1) == [0]
    assert coarse_first(9) == [8, 0, 4, 6, 2, 7, 5, 3, 1]
    for n in (2, 3, 54, 60):
        assert sorted(coarse_first(n)) == list(range(n))


def test_a_trial_counts_all_that_is_computed(copied, monkeypatch):
    """By a clock that counts operations instead of seconds."""
    of, settings = whole(copied), SharpnessSettings(8)
    with FlopCounterMode(display=False) as counter:
        monkeypatch.setattr("time.perf_counter", counter.get_total_flops)
        foretold = Sharpness().seconds(of, settings)
        began = counter.get_total_flops()
        list(Sharpness().pieces(of, settings, range(5)))
        took = counter.get_total_flops() - began
    assert foretold == pytest.approx(took, rel=0.3)


def test_measures_see_the_data_of_the_run(tmp_path, small):
    run = recorder.create(Runs(tmp_path), "finite", TASK, MODEL, replace(FINITE, full_batch=False, batch_size=7))
    of = Measured(run.info(), small.ensemble())
    data = of.training_data(3)
    assert len(data.tokens) == 40
    unseen = of.unseen(5)
    assert len(unseen.tokens) == 5
    rows = {tuple(row) for row in data.tokens.tolist()}
    assert not rows & {tuple(row) for row in unseen.tokens.tolist()}
    assert len(whole(small).training_data(3).tokens) == 3


# --- From the command line ---


def test_measures_are_listed(capsys):
    assert main(["measure"]) == 0
    assert capsys.readouterr().out.split() == [*all_measures(), "leads"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope", "small"], "There is no measure 'nope'; there are "),
        (["complexity"], "Of which run? Give its name after complexity."),
        (["complexity", "nope"], "no run 'nope'"),
        (["complexity", "small", "--set", "colour=red"], "no setting 'colour'"),
    ],
)
def test_a_mistake_gets_one_line(words, said, copied, capsys):
    assert main(["measure", *words, "--checkpoints", str(copied.folder.parent)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (copied.folder / "measures").exists()


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", all_measures())
def test_a_short_trial_says_how_long_a_measure_takes_and_writes_nothing(name, copied, capsys):
    assert main(["measure", name, "small", "--dry-run", "--checkpoints", str(copied.folder.parent)]) == 0
    said = capsys.readouterr().out
    title = all_measures()[name].title
    assert re.fullmatch(rf"{title} of small: [\d,]+ pieces, about \d+ (s|min) on one core\.\n", said)
    assert not (copied.folder / "measures").exists()
