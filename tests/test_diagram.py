"""The diagram of a model: what it shows, by name and in frames without values."""

import numpy as np
import pytest
import torch

from explorer.analysis.attribution import direct_logit_attribution
from explorer.film.film import Film
from explorer.film.panels.diagram import Diagram
from explorer.views.model_diagram import diagram
from explorer.views.overview import film


def test_parts_add_up_to_the_answer_and_attention_to_one(subject):
    example = subject.task.encode("48+76")
    panel, patterns = diagram(subject, example)
    expected = direct_logit_attribution(subject.ensemble, example, centred=True)
    np.testing.assert_array_equal(panel.added, expected.values.numpy())
    np.testing.assert_allclose(panel.added.sum(-1), expected.logits.numpy(), atol=1e-4)
    np.testing.assert_allclose(panel.attention.sum(-1), 1, atol=1e-5)
    assert torch.equal(torch.tensor(panel.attention[:, 1]), patterns[:, :, example.positions[1]])
    assert [panel.rows[part] for part in panel.heads] == [0, 0, 1, 1]


def test_its_numbers_have_names(subject):
    example = subject.task.encode("48+76")
    panel, _ = diagram(subject, example)
    value = panel.value(2, subject.steps, ["tens", "L1H0", "#3"])
    assert value == panel.attention[2, list(panel.places).index("tens"), 2, 3]
    assert panel.value(2, subject.steps, ["units", "L0 MLP"]) == panel.added[2, 2, list(panel.parts).index("L0 MLP")]
    assert panel.value(0, subject.steps, ["units"]) == panel.probability[0, 2]
    for names in (["units", "L0 MLP", "#3"], ["units", "L9H0"], [], ["a", "b", "c", "d"]):
        with pytest.raises(LookupError):
            panel.value(0, subject.steps, names)


def test_an_ablated_part_adds_nothing_and_changes_the_answer(subject):
    whole, cut = film(subject, "48+76"), film(subject, "48+76", ["L0H1", "L1 MLP"])
    before, after = (next(one for one in shown.panels if isinstance(one, Diagram)) for shown in (whole, cut))
    off = [list(after.parts).index(name) for name in after.ablated]
    assert len(off) == 2
    assert not after.added[..., off].any()
    assert before.added[..., off].any()
    assert np.abs(after.probability - before.probability).max() > 1e-3
    assert all("L0H1, L1 MLP ablated" in panel.title for panel in cut.panels if panel.id != "losses")
    assert "nothing ablated" in next(panel.title for panel in cut.panels if panel.id == "losses")


def test_a_frame_without_values_is_a_gap(subject):
    panel, _ = diagram(subject, subject.task.encode("48+76"))
    shown = Film(subject.steps, [panel]).with_gaps([subject.steps[-1] + 1]).panels[0]
    assert isinstance(shown, Diagram)
    assert list(shown.gaps) == [len(subject.steps)]
    assert np.isnan(shown.attention[-1]).all()
    assert not np.isnan(shown.added[:-1]).any()
    with pytest.raises(ValueError, match="does not fit"):
        panel.check(len(subject.steps) + 1)
