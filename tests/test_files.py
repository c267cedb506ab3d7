"""Files of runs: what is wrong with one is told, what is read does not depend on it any more, what changes is seen."""

import json
import os
import weakref
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from explorer.errors import UserError
from explorer.model.ensemble import Ensemble
from explorer.pages.cache import ByteCache, Caches, nbytes
from explorer.runs import Run
from explorer.runs.files import CHECKSUM, read_tensors, write_tensors
from explorer.views.subject import Subject
from tests.conftest import MODEL
from tests.spoilt import rewrite
from tests.test_runs import with_header

# --- Checksums ---


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def flip(path: Path, place: int = -3) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_flipped_bit_of_the_weights_is_found_and_the_other_snapshots_open(copied):
    flip(copied.snapshot_file(20))
    problem = (
        f"small/snapshots/step-000020.safetensors does not hold the numbers that were written, by its {CHECKSUM}; "
        f"restore it, or, if you changed it, leave {CHECKSUM} out of its metadata."
    )
    with pytest.raises(UserError) as refused:
        copied.snapshot(20)
    assert str(refused.value) == problem
    subject = Subject.load(copied)
    assert subject.steps == (0, 10, 30, 40)
    assert subject.problems == (problem,)


def test_a_flipped_bit_of_all_snapshots_is_told_once(copied):
    for step in copied.steps():
        flip(copied.snapshot_file(step))
    with pytest.raises(UserError, match=rf"by its {CHECKSUM}; .*; the same holds for all 5 snapshots\.$"):
        Subject.load(copied)


def test_snapshots_that_are_damaged_while_a_run_is_open_are_left_out(copied):
    for step in (30, 40):
        copied.snapshot_file(step).rename(copied.folder / f"{step}")
    before = Subject.load(copied)
    for step in (30, 40):
        (copied.folder / f"{step}").rename(copied.snapshot_file(step))
        flip(copied.snapshot_file(step))
    after = Subject.load(copied, before)
    assert after.steps == (0, 10, 20)
    assert [problem[:39] for problem in after.problems] == ["small/snapshots/step-000030.safetensors"]


def test_metrics_and_state_have_a_checksum_too(copied):
    for path in (copied.metrics_file, copied.resume_file):
        flip(path)
        with pytest.raises(UserError, match=rf"^{path.name} does not hold the numbers"):
            read_tensors(path, path.name)


def test_a_file_without_a_checksum_or_without_any_metadata_is_read(copied):
    whole = copied.ensemble().weights
    rewrite(copied.snapshot_file(10), lambda name, weight: weight)
    assert CHECKSUM not in metadata_of(copied.snapshot_file(10))
    save_file(load_file(copied.snapshot_file(20)), copied.snapshot_file(20))
    subject = Subject.load(copied)
    assert subject.problems == ()
    assert all(torch.equal(weight, whole[name]) for name, weight in subject.ensemble.weights.items())


def test_a_checksum_depends_on_names_and_numbers_alone(tmp_path):
    tensors = {"b": torch.arange(5.0), "a": torch.tensor(3), "c": torch.ones(2, 3).bfloat16().T, "d": torch.empty(0)}
    sums = []
    for place, order in enumerate(("abcd", "dcba")):
        path = tmp_path / f"{place}"
        write_tensors(path, {name: tensors[name] for name in order})
        sums.append(metadata_of(path)[CHECKSUM])
        found, metadata = read_tensors(path, "file")
        assert metadata["format"] == "pt"
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)
        assert all(found[name].dtype == tensors[name].dtype for name in tensors)
    assert sums[0] == sums[1]
    write_tensors(path, {**tensors, "a": torch.tensor(4)})
    assert metadata_of(path)[CHECKSUM] != sums[0]


# --- What is no such file ---


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("shape", value) for value in ([2**62], [2**32, 2**32], [-12, -16], [0, 2**62], [12.0, 16], "12", None)),
        *(("data_offsets", value) for value in ([0, 2**62], [-768, 0], [1, 769], [0, 768, 0], None)),
        *(("dtype", value) for value in ("F4", "F64", None, [])),
        ("more", 1),
    ],
)
def test_what_a_header_only_claims_is_refused(copied, key, value):
    def claim(header: str) -> str:
        entries = json.loads(header)
        entries["embed.W_E"] = {**entries["embed.W_E"], key: value}
        return json.dumps(entries)

    with_header(copied.snapshot_file(10), claim)
    with pytest.raises(UserError, match=r"^small/snapshots/step-000010.safetensors is damaged or is not a safetensors"):
        copied.snapshot(10)
    problems: list[str] = []
    assert copied.readable(problems) == (0, 20, 30, 40)


@pytest.mark.parametrize("data", [b"", b"\0", b"\0" * 8, b"\2" + b"\0" * 7 + b"[]", b"\2" + b"\0" * 7 + b"1" * 2])
def test_what_has_no_header_is_refused(copied, data):
    copied.snapshot_file(10).write_bytes(data)
    with pytest.raises(UserError, match="is damaged"):
        copied.snapshot(10)


@pytest.mark.parametrize("more", [b"x", b"x" * 8])
def test_bytes_after_the_end_are_refused(copied, more):
    path = copied.snapshot_file(10)
    path.write_bytes(path.read_bytes() + more)
    with pytest.raises(UserError, match=r"step-000010.safetensors is damaged"):
        copied.snapshot(10)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.uint8, torch.int16])
def test_weights_that_are_no_floating_point_numbers_are_called_what_they_are(copied, dtype):
    rewrite(copied.snapshot_file(10), lambda name, weight: weight.to(dtype) if name == "embed.W_E" else weight)
    with pytest.raises(UserError, match=rf"embed.W_E holds {dtype} where weights are floating-point numbers"):
        copied.snapshot(10)


@pytest.mark.parametrize("name", ["metrics.safetensors", "snapshots/step-000010.safetensors", "resume.safetensors"])
@pytest.mark.parametrize("what", ["folder", "pipe", "device", "loop"])
def test_what_is_no_file_is_refused_at_once(copied, name, what):
    path = copied.folder / name
    path.unlink()
    match what:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path.name)
    with pytest.raises(UserError, match=rf"^{name} is damaged"):
        read_tensors(path, name)


@pytest.mark.parametrize("name", ["run.json", "metrics.safetensors", "about.md", "train.log", ".lock", "snapshots"])
def test_a_link_out_of_the_folder_of_a_run_is_refused_and_one_within_it_is_not(copied, tmp_path, name):
    path, outside = copied.folder / name, tmp_path / "elsewhere"
    if not path.exists():
        path.write_text("text")
    path.rename(outside)
    path.symlink_to(outside)
    with pytest.raises(UserError, match=rf"^small/{name} is a link out of the folder of the run; put what it leads to"):
        copied.info()
    path.unlink()
    outside.rename(copied.folder / "elsewhere")
    path.symlink_to("elsewhere")
    assert Subject.load(copied).steps == (0, 10, 20, 30, 40)


def test_a_run_may_be_a_link_and_a_snapshot_of_it_may_not(copied, tmp_path):
    moved = tmp_path / "large disk"
    copied.folder.rename(moved)
    copied.folder.symlink_to(moved)
    assert Subject.load(copied).problems == ()
    path = copied.snapshot_file(10)
    path.rename(tmp_path / path.name)
    path.symlink_to(tmp_path / path.name)
    (problem,) = Subject.load(copied).problems
    assert problem.startswith("small/snapshots/step-000010.safetensors is a link out of the folder of the run;")


# --- Files that change ---


def test_what_was_read_does_not_depend_on_the_file_any_more(copied):
    """Memory that is mapped from a file which is cut short ends the process."""
    weights, metrics = copied.snapshot(10), copied.metrics()
    kept = [values.clone() for values in (*weights.values(), *metrics.values())]
    for path in (copied.snapshot_file(10), copied.metrics_file):
        path.write_bytes(b"")
    assert all(map(torch.equal, (*weights.values(), *metrics.values()), kept))


@pytest.mark.parametrize("clock", ["as it goes", "set back", "that of the file before"])
def test_a_file_restored_or_exported_again_in_its_place_is_read_again(copied, clock):
    """The folder does not change then, and the file may keep its time and its size."""
    caches = Caches(ByteCache(2**30, lambda run: run.nbytes), ByteCache(2**20, nbytes))
    path, times = copied.snapshot_file(10), copied.snapshot_file(10).stat()
    good, changed = path.read_bytes(), bytearray(path.read_bytes())
    changed[-1] ^= 64

    def overwrite(data: bytes) -> None:
        with path.open("r+b") as file:
            file.write(data)
        if clock != "as it goes":
            earlier = times.st_mtime_ns - (10**12 if clock == "set back" else 0)
            os.utime(path, ns=(earlier, earlier))

    assert caches.load(copied)[1].problems == ()
    overwrite(bytes(changed))
    assert "step-000010" in caches.load(copied)[1].problems[0]
    overwrite(good)
    assert caches.load(copied)[1].problems == ()
    other = copied.snapshot(20)["embed.W_E"]
    rewrite(path, lambda name, weight: other if name == "embed.W_E" else weight)
    if clock != "as it goes":
        os.utime(path, ns=(times.st_mtime_ns, times.st_mtime_ns))
    assert torch.equal(caches.load(copied)[1].ensemble.weights["embed.W_E"][1], other)


def test_the_version_of_a_run_is_that_of_all_its_files(copied):
    versions = [copied.version()]
    for path in (copied.info_file, copied.metrics_file, copied.snapshot_file(0), copied.snapshot_file(40)):
        path.write_bytes(path.read_bytes())
        versions.append(copied.version())
    copied.snapshot_file(20).unlink()
    versions.append(copied.version())
    assert len(set(versions)) == len(versions)
    assert copied.version() == copied.version()


def test_snapshots_are_gathered_one_after_another(small):
    forgotten: list[bool] = []

    def one_by_one():
        before = None
        for step in small.steps():
            weights = small.snapshot(step)
            if before is not None:
                forgotten.append(before() is None)
            before = weakref.ref(weights["embed.W_E"])
            yield step, weights
            del weights

    gathered, whole = Ensemble.gathered(MODEL, one_by_one(), 5), small.ensemble()
    assert forgotten == [True] * 4
    assert gathered.steps == (0, 10, 20, 30, 40)
    assert gathered.nbytes == small.info().stack_bytes(5)
    assert all(torch.equal(weight, whole.weights[name]) for name, weight in gathered.weights.items())


# --- Losses ---


def change_metrics(run: Run, **columns: torch.Tensor) -> None:
    save_file({**load_file(run.metrics_file), **columns}, run.metrics_file)


def with_tests_at(*steps: int) -> dict[str, torch.Tensor]:
    n = len(steps)
    losses = {"test_loss": torch.ones(n, dtype=torch.float64), "test_loss_per_token": torch.ones(n, 3)}
    return {"test_step": torch.tensor(steps), **losses}


@pytest.mark.parametrize("steps", [(0, 20, 10), (0, 10, 10), (-1, 5), (0, 40), (0, 2**40)])
def test_tests_at_steps_that_do_not_ascend_or_are_not_there_get_one_sentence(copied, steps):
    change_metrics(copied, **with_tests_at(*steps))
    (problem,) = Subject.load(copied).problems
    assert (
        problem == "The test_step of small/metrics.safetensors does not ascend from 0 to at most 39; restore the file."
    )


def test_losses_of_fewer_steps_than_were_done_are_mentioned(copied):
    for rows, problem in ((25, "the losses of 25 of its 40 steps only"), (0, "the losses of 0 of its 40 steps only")):
        save_file({name: values[:rows].clone() for name, values in copied.metrics().items()}, copied.metrics_file)
        subject = Subject.load(copied)
        assert [problem in said for said in subject.problems] == [True]
        assert len(subject.metrics["train_loss"]) == max(1, rows)


def test_losses_of_more_steps_than_there_are_and_a_single_number_are_refused(copied):
    metrics = copied.metrics()
    save_file({name: torch.cat([values, values]) for name, values in metrics.items()}, copied.metrics_file)
    with pytest.raises(UserError, match="does not hold the losses of this run"):
        copied.metrics()
    change_metrics(copied, train_loss=torch.tensor(1.0, dtype=torch.float64))
    with pytest.raises(UserError, match="does not hold the losses of this run"):
        copied.metrics()
