"""The view of the local learning coefficient, and what dates it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from explorer.analysis.complexity import of_run
from explorer.analysis.langevin import sample
from explorer.errors import UserError
from explorer.measures import complexity as complexity_measure
from explorer.measures.complexity import Calibrated, Complexity, calibration, sampled
from explorer.measures.measure import Measured, NoSettings, files_of
from explorer.options import resolve
from explorer.views import get_view
from explorer.views.complexity import Options
from explorer.views.over_training import families
from explorer.views.subject import Subject
from tests.measuring import QUICK, measure, shown


def test_the_pieces_of_the_coefficient_are_those_of_one_sampling(copied, few):
    measure(copied, (Complexity(), QUICK))
    of = Measured(copied.info(), copied.ensemble())
    found = sampled(of, QUICK, files_of(copied, Complexity(), QUICK).read().tensors)
    whole = sample(of_run(of.ensemble, of.task, of.training_data(few)), QUICK.sampling)
    assert found.steps == whole.steps == of.ensemble.steps
    assert torch.equal(found.baseline, whole.baseline)
    assert torch.equal(found.losses, whole.losses.float().double())
    assert torch.equal(found.ratios, whole.ratios)


@pytest.mark.usefixtures("few")
def test_a_component_has_a_file_of_its_own_and_an_unknown_one_is_refused(copied):
    settings = replace(QUICK, part="L1 MLP")
    measure(copied, (Complexity(), settings))
    assert (copied.folder / "measures" / "complexity-L1-MLP.safetensors").exists()
    with pytest.raises(UserError, match="There is no L7H0 in this model"):
        measure(copied, (Complexity(), replace(QUICK, part="L7H0")))


@pytest.mark.usefixtures("few")
def test_estimates_are_drawn_as_believed_or_not_and_the_rest_is_still_missing(copied, monkeypatch):
    monkeypatch.setattr(complexity_measure, "ComplexitySettings", lambda: QUICK)
    measure(copied, (Complexity(), QUICK), pieces=3)
    panels, film, _ = shown(Subject.load(copied), "complexity")
    good, bad = (line.values for line in panels["llc"].lines)
    there = [0, 2, 4]
    assert (np.isfinite(good) ^ np.isfinite(bad)).tolist() == [frame in there for frame in range(5)]
    for frame, said in enumerate(film.look):
        begin = (
            "Not measured" if frame not in there else "The coefficient is" if np.isfinite(good[frame]) else "Not to be"
        )
        assert said.startswith(begin)
    assert np.isfinite(panels["chains"].values[there]).all()
    assert np.isnan(panels["chains"].values[[1, 3]]).all()


@pytest.mark.usefixtures("few")
def test_settings_are_those_of_the_plateau(copied, monkeypatch):
    for name, value in {
        "SHORT": {"chains": 2, "draws": 8, "burn_in": 4},
        "N_BETAS": (2.0, 8.0),
        "STEP_SIZES": (1e-5, 1e-4),
        "SNAPSHOTS": 2,
    }.items():
        monkeypatch.setattr(complexity_measure, name, value)
    measure(copied, (Calibrated(), NoSettings()))
    subject = Subject.load(copied)
    of = Measured(subject.info, subject.ensemble)
    grid = calibration(of, files_of(copied, Calibrated(), NoSettings()).read().tensors)
    assert grid.steps == (0, 40)
    assert grid.llc.shape == (2, 2, 2)
    assert grid.ratio.isfinite().all()
    (needed, settings), _ = get_view("complexity").needs(subject, resolve(Options, subject, "1+2", {})[0])
    assert needed.name == "complexity"
    plateau = grid.choice
    assert (settings.n_beta, settings.step_size) == ((plateau.n_beta, plateau.step_size) if plateau else (25.0, 1e-3))
    assert "calibration" in shown(subject, "complexity")[0]


@pytest.mark.usefixtures("few")
def test_the_coefficient_is_dated_where_it_can_be_believed(copied, monkeypatch):
    monkeypatch.setattr(complexity_measure, "ComplexitySettings", lambda: QUICK)
    measure(copied, (Complexity(), QUICK))
    subject = Subject.load(copied)
    (family,) = [one for part in families(subject, "units") for one in part if one.name == "local learning coefficient"]
    panels, *_ = shown(subject, "complexity")
    good, _ = panels["llc"].lines
    np.testing.assert_allclose(family.values[:, 0], good.values, equal_nan=True)
    np.testing.assert_allclose(3 * family.error[:, 0], good.interval, rtol=1e-6, equal_nan=True)
