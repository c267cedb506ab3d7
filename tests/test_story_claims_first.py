"""What the story of what comes first says of its sweep in words rather than in figures."""

import numpy as np
import pytest

from explorer.analysis.leads import Lead
from explorer.runs import Runs
from explorer.sweeps.leads import DatedRun, read_leads
from explorer.views.over_training import falls
from explorer.views.swept import Swept, named, seen
from tests.conftest import SHIPPED

COPIES = ("copy 1", "copy 2")


@pytest.fixture(scope="module")
def swept() -> Swept:
    found = seen(named(Runs(SHIPPED), "induction-seeds"))
    assert isinstance(found, Swept)
    return found


@pytest.fixture(scope="module")
def dated(swept) -> list[DatedRun]:
    found = read_leads(swept.sweep, falls(swept.task))
    assert list(found) == [cell.name for cell in swept.cells]
    return list(found.values())


def of_measure(dated: list[DatedRun], fall: str, name: str) -> list[Lead]:
    return [lead for run in dated for lead in run.falls[fall].table if lead.measure == name]


def counts(found: list[Lead]) -> dict[str, int]:
    verdicts = [lead.verdict for lead in found]
    return {verdict: verdicts.count(verdict) for verdict in set(verdicts)}


def test_the_runs_are_twenty_that_differ_in_their_seed(swept):
    assert len(swept.cells) == 20
    assert swept.info.plan.over == {}
    assert swept.info.plan.seeds == tuple(range(20))
    assert len(swept.task.loss_names) == 30
    assert swept.task.stretch == 16


def test_the_loss_hardly_moves_until_step_600_and_each_model_learns_all_characters_as_one(swept):
    known = swept.known
    at = dict(zip(known.points.tolist(), np.median(known.unseen.loss, 0), strict=True))
    assert at[258] > 4.6
    assert at[600] > 0.89 * at[0]
    assert at[1002] < 0.4 * at[0]
    fell = known.unseen.fall
    fifth = fell[:, swept.task.loss_names.index("copy 2, token 5")]
    assert (fifth.min(), fifth.max()) == (672, 852)
    spread = np.nanmax(fell, 1) - np.nanmin(fell, 1)
    assert spread.max() < 100
    assert (spread <= 60).sum() > 10


@pytest.mark.parametrize("fall", COPIES)
def test_k_composition_leads_in_all_twenty_in_the_median_by_five_hundred_steps(dated, fall):
    found = of_measure(dated, fall, "largest K-composition")
    assert counts(found) == {"led": 20}
    lags = [lead.lag for lead in found]
    assert 480 < -np.median(lags) < 550
    assert max(lags) < -150
    assert all(not lead.change.is_fall for lead in found)


@pytest.mark.parametrize("fall", COPIES)
def test_the_previous_token_score_rises_a_little_and_leads_in_twelve(dated, fall):
    found = of_measure(dated, fall, "best previous token score")
    assert counts(found) == {"led": 12, "not told apart": 6, "no change": 2}
    changes = [lead.change for lead in found if lead.change]
    assert np.median([change.before for change in changes]) == pytest.approx(0.10, abs=0.005)
    assert np.median([change.after for change in changes]) == pytest.approx(0.16, abs=0.005)
    assert counts(of_measure(dated, fall, "norm of all weights")) == {"led": 17, "not told apart": 3}


@pytest.mark.parametrize("fall", COPIES)
def test_the_induction_score_leads_in_none(dated, fall):
    found = of_measure(dated, fall, "best prefix matching score")
    assert counts(found) == {"not told apart": 20}
    assert all(lead.change.after > 3 * lead.change.before for lead in found)


def test_what_is_shown_first_changes_first(dated):
    """In each model, of all measures that are compared."""
    for run in dated:
        for fall in COPIES:
            assert run.falls[fall].table[0].measure == "largest K-composition"


def test_the_readme_says_the_same(dated):
    names = ("largest K-composition", "best previous token score")
    of_all = {name: of_measure(dated, "copy 1", name) for name in names}
    lag = -np.median([lead.lag for lead in of_all["largest K-composition"]])
    led = counts(of_all["best previous token score"])["led"]
    text = " ".join((SHIPPED.parent / "README.md").read_text(encoding="utf-8").split())
    said = f"led in all, in the median by {lag:.0f} steps, the best previous token score in {led}, and the best"
    assert f"{said} prefix-matching score in none" in text
