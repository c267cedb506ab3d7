"""Computing the measures that ship, with a small run in the place of those that ship."""

import os
import re
import shutil
import signal

import pytest
import torch

from explorer.cli import measure as command
from explorer.cli.main import main
from explorer.measures.complexity import N_BETAS, STEP_SIZES, Calibrated, Complexity, ComplexitySettings
from explorer.measures.grafts import Grafts, OfPart, Parts
from explorer.measures.measure import Measured, NoSettings, files_of
from explorer.measures.sharpness import Sharpness, SharpnessSettings
from explorer.runs import Run, Runs
from explorer.runs.measures import Kept, identity

SMALL = (("parts", {}), ("grafts", {"part": "L0H0"}), ("sharpness", {"examples": 4}))
FILES = ((Parts(), NoSettings()), (Grafts(), OfPart("L0H0")), (Sharpness(), SharpnessSettings(4)))


@pytest.fixture
def shipped(copied, monkeypatch) -> Run:
    """A small run that ships with three measures."""
    monkeypatch.setattr(command, "SHIPPED", {"small": SMALL})
    return copied


def measure(run: Run, *words: str) -> int:
    return main(["measure", *words, "--workers", "1", "--checkpoints", str(run.folder.parent)])


def kept(run: Run) -> list[Kept | None]:
    return [files_of(run, *case).read() for case in FILES]


def test_all_measures_are_computed_once(shipped, capsys):
    assert measure(shipped, "--shipped") == 0
    assert capsys.readouterr().out.count("Done: ") == 3
    found = kept(shipped)
    assert all(one and one.share == 1 for one in found)
    assert [one.settings for one in found] == [{}, {"part": "L0H0"}, {"examples": 4}]
    files = sorted((shipped.folder / "measures").iterdir())
    assert [file.name for file in files] == [
        "grafts-L0H0.safetensors",
        "parts.safetensors",
        "sharpness.safetensors",
    ]
    before = [file.read_bytes() for file in files]
    assert measure(shipped, "--shipped") == 0
    assert [file.read_bytes() for file in files] == before


def test_an_interrupted_command_begins_no_other_measure_and_goes_on(shipped, tmp_path, monkeypatch, capsys):
    shutil.copytree(shipped.folder, tmp_path / "other" / "small")
    straight = Runs(tmp_path / "other").open("small")
    assert measure(straight, "--shipped") == 0
    pieces = Parts.pieces

    def interrupted(*arguments):
        for piece in pieces(*arguments):
            os.kill(os.getpid(), signal.SIGINT)
            yield piece

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "pieces", interrupted)
        capsys.readouterr()
        assert measure(shipped, "--shipped") == 0
    assert capsys.readouterr().out == "Stopped with 1 pieces done; the same command goes on.\n"
    assert [one and one.done for one in kept(shipped)] == [1, None, None]
    assert measure(shipped, "--shipped") == 0
    for one, other in zip(kept(shipped), kept(straight), strict=True):
        assert one.tensors.keys() == other.tensors.keys()
        for name, values in one.tensors.items():
            assert torch.equal(values.nan_to_num(), other.tensors[name].nan_to_num())


def test_it_says_what_it_would_take_and_writes_nothing(shipped, capsys):
    assert measure(shipped, "--shipped", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    titles = ["Parts alone", "Graft matrix", "Sharpness and barriers"]
    for title, line in zip(titles, lines, strict=True):
        assert re.fullmatch(rf"{title} of small: \d+ pieces, about \d+ (s|min) on one core\.", line)
    assert not (shipped.folder / "measures").exists()


def test_a_run_that_is_missing_gets_a_sentence(shipped, monkeypatch, capsys):
    monkeypatch.setattr(command, "SHIPPED", {"large": SMALL})
    assert measure(shipped, "--shipped") == 2
    assert "There is no run 'large'" in capsys.readouterr().err


# --- The settings of a plateau ---


def calibrate(run: Run, n_pieces: int = 16, version: int = Calibrated.version, healthy: bool = True) -> None:
    """Write a calibration whose estimates do not change around an inverse temperature of 32 and a step size of 3e-4."""
    pairs = [(i, j) for i in range(len(N_BETAS)) for j in range(len(STEP_SIZES))]
    away = torch.tensor([abs(i - 2) + abs(j - 1) for i, j in pairs])[:, None].expand(-1, 4)
    llc = 10 * 2.0 ** (away - 1).clamp(min=0).double()
    tensors = {
        "llc": llc,
        "error": torch.ones(16, 4).double(),
        "ratio": torch.ones(16, 4).double(),
        "healthy": torch.full((16, 4), healthy),
    }
    of, files = identity(run.info(), run.steps()), files_of(run, Calibrated(), NoSettings())
    files.folder.mkdir(exist_ok=True)
    some = {name: values[:n_pieces].contiguous() for name, values in tensors.items()}
    files.write(Kept(some, 16, {}, version, of, 1.0), lambda: None)


def chosen(run: Run) -> tuple[float, float]:
    settings = Complexity().chosen(run, Measured(run.info(), run.ensemble()))
    return settings.n_beta, settings.step_size


def test_the_coefficient_is_sampled_with_the_settings_of_the_plateau(copied, capsys):
    calibrate(copied)
    assert chosen(copied) == (32.0, 3e-4)
    few = [word for setting in ("draws=3", "burn_in=1", "chains=2", "batch_size=8") for word in ("--set", setting)]
    assert measure(copied, "complexity", "small", *few) == 0
    found = files_of(copied, Complexity(), ComplexitySettings()).read()
    assert (found.settings["n_beta"], found.settings["step_size"], found.settings["draws"]) == (32.0, 3e-4, 3)
    assert measure(copied, "complexity", "small", *few, "--set", "n_beta=7") == 0
    found = files_of(copied, Complexity(), ComplexitySettings()).read()
    assert (found.settings["n_beta"], found.settings["step_size"]) == (7.0, 3e-4)


@pytest.mark.parametrize("case", [None, {"n_pieces": 15}, {"version": 99}, {"healthy": False}, "damaged"], ids=str)
def test_without_a_plateau_the_settings_are_the_usual_ones(copied, case):
    usual = ComplexitySettings()
    if case is not None:
        calibrate(copied, **({} if case == "damaged" else case))
    if case == "damaged":
        file = files_of(copied, Calibrated(), NoSettings()).file
        file.write_bytes(file.read_bytes()[:-3])
    assert chosen(copied) == (usual.n_beta, usual.step_size)
