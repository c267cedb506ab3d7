"""Files of measures that hold something else than was measured, or that lead out of the run's folder."""

from dataclasses import replace

import pytest
import torch

from explorer.errors import UserError
from explorer.measures import jobs
from explorer.measures.complexity import Calibrated, Complexity, ComplexitySettings
from explorer.measures.engine import measure_run
from explorer.measures.grafts import Grafts, OfPart, Parts
from explorer.measures.measure import Measured, NoSettings, files_of, read_kept
from explorer.measures.sharpness import Sharpness, SharpnessSettings
from explorer.runs import Run
from explorer.runs.measures import Kept, identity
from explorer.views.over_training import families
from explorer.views.subject import Subject
from tests.measuring import shown, why

CASES = {
    "between": (Sharpness(), SharpnessSettings()),
    "grafts": (Grafts(), OfPart("embeddings")),
    "parts": (Parts(), NoSettings()),
    "complexity": (Complexity(), ComplexitySettings()),
    "calibration": (Calibrated(), NoSettings()),
}
REFUSED = r"small/measures/{}\.safetensors is not a measure of this explorer; remove it and measure again\."


def whole(run: Run) -> Measured:
    return Measured(run.info(), run.ensemble())


def kept(run: Run, case: str, n: int = 3) -> Kept:
    """A file with zeros in the place of what is measured."""
    (measure, settings), of = CASES[case], whole(run)
    tensors = {
        name: torch.zeros(n, *shape, dtype=dtype) for name, (dtype, shape) in measure.forms(of, settings).items()
    }
    if measure.places:
        tensors[measure.places] = torch.arange(n)
    values = settings.__dict__
    return Kept(tensors, measure.n_pieces(of, settings), values, measure.version, identity(of.info, run.steps()), 1.0)


def write(run: Run, case: str, holds: Kept) -> None:
    files = files_of(run, *CASES[case])
    files.folder.mkdir(exist_ok=True)
    files.write(holds, lambda: None)


def wrong(holds: Kept, places: str) -> dict[str, Kept]:
    """Ways in which a file may hold something else."""
    tensors = holds.tensors
    (first, values), *_ = ((name, values) for name, values in tensors.items() if name != places)
    dtype = torch.float16 if values.dtype == torch.float64 else torch.float64
    changed = {
        "one is missing": {name: one for name, one in tensors.items() if name != first},
        "one is more": {**tensors, "more": values.clone()},
        "another name": {f"{name}2" if name == first else name: one for name, one in tensors.items()},
        "another type": {**tensors, first: values.to(dtype)},
        "another shape": {**tensors, first: values[..., None].expand(*values.shape, 2).clone()},
        "fewer values": {**tensors, first: values[..., :-1] if values.ndim > 1 else values[:, None]},
    }
    if places:
        changed |= {
            "no places": {name: one for name, one in tensors.items() if name != places},
            "a place too far": {**tensors, places: torch.tensor([0, 1, 5])},
            "a place before the first": {**tensors, places: torch.tensor([0, -1, 2])},
            "a place twice": {**tensors, places: torch.tensor([0, 2, 2])},
            "places of another type": {**tensors, places: torch.tensor([0.0, 1.0, 2.0])},
        }
    found = {how: replace(holds, tensors=one) for how, one in changed.items()}
    return {**found, "other pieces": replace(holds, n_pieces=holds.n_pieces + 1)}


@pytest.mark.usefixtures("few", "unchecked")
@pytest.mark.parametrize("case", CASES)
def test_what_is_no_such_measure_is_refused_with_its_name_and_never_shown(copied, case):
    (measure, settings), of = CASES[case], whole(copied)
    holds, name = kept(copied, case), files_of(copied, measure, settings).name
    write(copied, case, holds)
    found, stale = read_kept(copied, measure, settings, of)
    assert (found.done, stale) == (3, "")
    for how, other in wrong(holds, measure.places).items():
        write(copied, case, other)
        before, subject = files_of(copied, measure, settings).file.read_bytes(), Subject.load(copied)
        for read in (read_kept, lambda run, *one: measure_run(run, one[2], *one[:2])):
            with pytest.raises(UserError, match=REFUSED.format(name)):
                read(copied, measure, settings, of)
        assert files_of(copied, measure, settings).file.read_bytes() == before, how
        if case == "between":
            assert list(shown(subject, "between")[0]) == ["losses", "distance", "turn"], how
        else:
            assert why(subject, "grafts" if case in ("grafts", "parts") else "complexity"), how
        dated = {family.name for part in families(subject, "units") for family in part}
        assert not dated & {"sharpness", "local learning coefficient", "loss with the final {}"}, how
        assert Complexity().chosen(copied, of) == ComplexitySettings()


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("case", CASES)
def test_what_is_stale_may_have_any_form(copied, case):
    (measure, settings), of = CASES[case], whole(copied)
    for other in wrong(kept(copied, case), measure.places).values():
        write(copied, case, replace(other, of="others"))
        assert read_kept(copied, measure, settings, of) == (None, "of other snapshots than the run has now")


def test_what_is_stale_is_measured_anew_whatever_its_form(copied):
    case = CASES["grafts"]
    write(copied, "grafts", replace(wrong(kept(copied, "grafts"), "receiver")["no places"], of="others"))
    assert measure_run(copied, whole(copied), *case).share == 1
    found, _ = read_kept(copied, *case, whole(copied))
    assert sorted(found.tensors["receiver"].tolist()) == [0, 1, 2, 3, 4]


# --- Links ---


@pytest.mark.parametrize("file", ["measures/parts.log", "measures/parts.safetensors", ".parts.stop", ".parts.lock"])
def test_nothing_is_written_through_a_link_out_of_the_run(copied, tmp_path, file):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    of = whole(copied)
    (copied.folder / "measures").mkdir()
    (copied.folder / file).symlink_to(secret)
    check_refused(copied, of, file)
    assert secret.read_text() == "secret"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "small"]


def test_nothing_is_written_into_a_folder_outside_of_the_run(copied, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    of = whole(copied)
    (copied.folder / "measures").symlink_to(outside)
    check_refused(copied, of, "measures")
    assert not list(outside.iterdir())


def check_refused(run: Run, of: Measured, file: str) -> None:
    measure, settings = CASES["parts"]
    said = f"small/{file} is a link out of the folder of the run; put what it leads to in its place"
    for act in (
        lambda: jobs.start(run, measure, settings),
        lambda: measure_run(run, of, measure, settings),
        files_of(run, measure, settings).request_stop,
    ):
        with pytest.raises(UserError, match=said):
            act()
