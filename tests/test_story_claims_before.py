"""What the stories of the second before say of their runs in words rather than in figures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from explorer.analysis.between import barrier
from explorer.analysis.complexity import verdicts
from explorer.analysis.heads import head_scores
from explorer.measures.complexity import Calibrated, Complexity, calibration, sampled
from explorer.measures.grafts import Grafts, Parts, single_parts
from explorer.measures.measure import Measure, Measured, files_of
from explorer.measures.sharpness import Sharpness
from explorer.options import resolve
from explorer.views import get_view
from explorer.views.heads import repeated_sequences
from explorer.views.view import Table
from tests.claims import falls, subject_of


def kept_of(run: str, measure: Measure, **settings) -> dict[str, Tensor]:
    """What ships of a measure of a run."""
    subject = subject_of(run)
    chosen = replace(measure.chosen(subject.run, Measured(subject.info, subject.ensemble)), **settings)
    kept = files_of(subject.run, measure, chosen).read()
    assert kept is not None
    assert kept.share == 1
    return dict(kept.tensors)


def losses_with(run: str) -> tuple[dict[str, dict[int, float]], dict[str, dict[int, float]]]:
    """Part -> step -> the loss of that snapshot with the final part, and of the final model with the part of then."""
    subject, tensors = subject_of(run), kept_of(run, Parts())

    def told(name: str) -> dict[str, dict[int, float]]:
        means = tensors[name].float().mean(-1).tolist()  # (part snapshot)
        of_parts = zip(single_parts(subject.info), means, strict=True)
        return {part: dict(zip(subject.steps, losses, strict=True)) for part, losses in of_parts}

    return told("with_final"), told("final_with")


def test_the_learning_coefficient_rises_while_memorising_and_falls_together_with_the_unseen_loss():
    subject, measure = subject_of("modular-addition"), Complexity()
    of = Measured(subject.info, subject.ensemble)
    found = sampled(of, measure.chosen(subject.run, of), kept_of("modular-addition", measure))
    assert all(verdict.healthy for verdict in verdicts(found))
    mean, error = found.estimate.mean, found.estimate.interval
    peak = subject.steps.index(1341)
    assert mean.max() - mean[peak] < error[peak]
    assert (mean[:peak].diff() > 0).all()
    later = mean[peak:]
    assert (later.diff() < error[peak:][1:] + error[peak:][:-1]).all()  # it never rises by more than its error
    (fall,) = falls(subject, "test").values()
    assert 4000 < fall - 1341 < 4500
    assert mean[subject.steps.index(5661)] < 0.6 * mean[peak]
    turned = [subject.steps.index(step) for step in (1211, 1661)]
    assert mean.argmax() == turned[0]
    assert mean[turned[0]] - mean[turned[1]] > error[turned].sum()
    metrics = subject.metrics
    unseen, of_test = metrics["test_loss"], metrics["test_step"]
    assert 1211 < int(of_test[unseen.argmax()]) < 1661
    assert (unseen[of_test >= 1661][:500].diff() < 0).all()
    assert dated("modular-addition", "answer")["local learning coefficient"][0] == "followed"


def test_the_order_of_the_coefficients_does_not_depend_on_the_settings():
    subject = subject_of("modular-addition")
    grid = calibration(Measured(subject.info, subject.ensemble), kept_of("modular-addition", Calibrated()))
    llc = grid.llc.where(grid.healthy, torch.nan)  # (n_beta step_size snapshot)
    assert grid.steps == (241, 1341, 5101, 8000)
    assert llc.isfinite().all(-1).sum() >= 6
    compared = llc[llc.isfinite().all(-1)]
    assert (compared.argmax(-1) == 1).all()
    assert (compared.argmin(-1) == 3).all()
    assert grid.choice is None  # no plateau
    assert (compared_rows(llc).diff(dim=0) > 0).all()
    believed = llc[..., 1][llc[..., 1].isfinite()]
    assert believed.max() > 10 * believed.min()


def compared_rows(llc: Tensor) -> Tensor:
    """The coefficients at the second step size, in the rows in which all snapshots have one."""
    column = llc[:, 1]
    return column[column.isfinite().all(-1)]


def test_three_heads_matter_little_alone_the_embeddings_fit_last_and_no_final_part_is_enough():
    with_final, final_with = losses_with("modular-addition")
    assert final_with["unchanged"][191] < 1e-4
    assert all(final_with[head][191] < 0.3 for head in ("L0H0", "L0H2", "L0H3"))
    assert all(final_with[head][0] < 0.45 for head in ("L0H0", "L0H2", "L0H3"))
    assert min(final_with[part][191] for part in ("embeddings", "all attention")) > 2 * np.log(59)
    single = ["L0H0", "L0H1", "L0H2", "L0H3", "L0 MLP", "unembedding", "all attention"]
    for step in (2231, 3721, 5391):
        assert final_with["embeddings"][step] > 1.3 * max(final_with[part][step] for part in single)
    heads = [with_final[f"L0H{i}"][1341] for i in range(4)]
    assert min(heads) == with_final["L0H0"][1341] > 0.85 * with_final["unchanged"][1341]
    assert with_final["unembedding"][1341] == min(with_final[part][1341] for part in [*single, "embeddings"])
    assert with_final["unembedding"][1341] > 3 * np.log(59)
    for step in (2231, 3721):  # early models make use of the final embeddings before their own are there
        assert with_final["embeddings"][step] < with_final["unchanged"][step] - 8
    train = subject_of("modular-addition").metrics["accuracy"][191].item()
    assert train < 0.9


def test_late_embeddings_halve_what_the_early_model_lacks():
    subject, matrix = subject_of("modular-addition"), kept_of("modular-addition", Grafts(), part="embeddings")
    losses = matrix["loss"].float().mean(-1)[matrix["receiver"].long().argsort()]
    early, late = subject.steps.index(5391), len(subject.steps) - 1
    share = (losses[early, early] - losses[early, late]) / (losses[early, early] - losses[late, late])
    assert 0.4 < share < 0.6
    assert losses[late, late] < 1e-4


def test_no_barrier_and_a_valley_that_is_narrow_only_while_memorising():
    subject, tensors = subject_of("modular-addition"), kept_of("modular-addition", Sharpness())
    order = tensors["place"].argsort()
    sharp, lines = tensors["sharpness"][order], tensors["line"][order].mean(-1)
    assert subject.steps[int(sharp.argmax())] == 221
    barriers = barrier(lines.T)[:-1]
    assert subject.steps[int(barriers.argmax())] == 1661
    assert 0 < barriers.max() < 0.03
    assert sharp[subject.steps.index(5661)] < 1e-3
    assert subject.metrics["train_loss"][5661] < 1e-6


@pytest.mark.parametrize(
    ("measure", "lag"), [("restricted loss", -5300), ("loss with the final embeddings", -3500)], ids=str
)
def test_the_rule_and_the_final_embeddings_lead_by_thousands_of_steps(measure, lag):
    found = dated("modular-addition", "answer")
    verdict, found_lag = found[measure]
    assert verdict == "led"
    assert found_lag == pytest.approx(lag, abs=150)


def dated(run: str, fall: str) -> dict[str, tuple[str, int]]:
    """Measure -> how it lies to a fall, and by how many steps."""
    view, subject = get_view("leads"), subject_of(run)
    options, _ = resolve(view.options_type, subject, subject.first_example, {"fall": fall})
    table = view.below(subject, subject.first_example, options)[0]
    assert isinstance(table, Table)
    told = (table.columns[name] for name in ("measure", "", "lag"))
    return {measure: (verdict, lag) for measure, verdict, lag in zip(*told, strict=True)}


def test_copying_needs_all_parts_at_once():
    with_final, final_with = losses_with("induction-finite")
    heads = [f"L{layer}H{head}" for layer in (0, 1) for head in range(4)]
    assert final_with["L1H0"][1741] < 1.1 * final_with["unchanged"][1741]
    assert final_with["L0H0"][1741] == max(final_with[head][1741] for head in heads) > np.log(127)
    assert min(with_final[head][1741] for head in heads) > 0.95 * with_final["unchanged"][1741]
    assert with_final["L0H0"][1741] > with_final["unchanged"][1741]
    assert with_final["all attention"][1741] > with_final["unchanged"][1741]
    assert min(with_final[head][1741] for head in heads) == with_final["L1H0"][1741]
    assert final_with["embeddings"][1741] > with_final["unchanged"][1741]
    subject = subject_of("induction-finite")
    scores = head_scores(subject.ensemble.select([-1]), repeated_sequences(subject).tokens)
    assert scores["previous token"][0].mean(-1).argmax() == 0
    assert (scores["prefix matching"][0].mean(-1)[4:] > 0.3).sum() == 3


def test_halves_of_different_times_are_worse_than_both():
    subject = subject_of("induction-finite")
    matrix = kept_of("induction-finite", Grafts(), part="L1 attention")
    losses = matrix["loss"].float().mean(-1)[matrix["receiver"].long().argsort()]
    early, late = subject.steps.index(1741), len(subject.steps) - 1
    assert min(losses[early, late], losses[late, early]) > losses[early, early] + 1
    then = subject.steps.index(2261)
    assert max(losses[then, late], losses[late, then]) < min(losses[early, late], losses[late, early]) / 2
    assert min(losses[then, late], losses[late, then]) > 2 * losses[then, then]


def test_within_the_fall_of_copying_nothing_can_be_told_apart():
    found = dated("induction-finite", "copy 1")
    for measure in (
        "previous token score of L0H0",
        "K-composition of L0H0 and L1H3",
        "prefix matching score of L1H3",
    ):
        assert found[measure][0] == "not told apart"
    assert [measure for measure, (verdict, _) in found.items() if verdict == "followed"] == [
        "loss with the final L0 attention",
        "loss with the final all attention",
        "K-composition of L0H0 and L1H1",
        "norm of all weights",
    ]


def test_the_sharpness_sinks_during_the_fall_and_rises_again():
    subject, tensors = subject_of("induction-finite"), kept_of("induction-finite", Sharpness())
    sharp = tensors["sharpness"][tensors["place"].argsort()]
    at_fall = subject.steps.index(2146)
    assert sharp[at_fall] < 0.55 * sharp[subject.steps.index(1741)]
    last = sharp[subject.steps.index(3024) :]
    assert last.min() > sharp[subject.steps.index(1741)]
    assert last.argmax() == last.tolist().index(sharp[subject.steps.index(3464)].item())
