"""Names and hook points of heads, MLPs and neurons."""

import pytest

from explorer.analysis.components import Component, components, parse_component
from explorer.errors import UserError
from explorer.model.architectures import new_model
from explorer.tasks.addition import Addition

TASK = Addition(n_digits=2)
MLPS = TASK.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32, n_layers=2)
ATTENTION = TASK.model_config(d_model=16, n_heads=2, d_head=8, n_layers=2, attn_only=True)
NORMED = TASK.model_config(d_model=16, n_heads=2, d_head=8, d_mlp=32, layer_norm=True, act_fn="gelu")
TABLE = TASK.model_config(n_layers=1, n_heads=1, architecture="table")
CONFIGS = {"MLPs": MLPS, "attention only": ATTENTION, "layer norm": NORMED, "table": TABLE}


def test_components_are_in_the_order_of_computation():
    names = [component.name for component in components(MLPS)]
    assert names == ["L0H0", "L0H1", "L0 MLP", "L1H0", "L1H1", "L1 MLP"]
    assert [component.name for component in components(ATTENTION)] == ["L0H0", "L0H1", "L1H0", "L1H1"]
    assert [component.name for component in components(TABLE)] == ["L0H0"]


@pytest.mark.parametrize("cfg", CONFIGS.values(), ids=CONFIGS)
def test_every_component_has_a_hook_point_and_a_name_that_is_parsed(cfg):
    for component in components(cfg):
        assert component.hook in new_model(cfg).hook_names
        assert parse_component(component.name, cfg) == component


@pytest.mark.parametrize(
    ("typed", "component", "hook"),
    [
        ("L0H1", Component(0, "head", 1), "blocks.0.attn.hook_z"),
        (" l1h0 ", Component(1, "head", 0), "blocks.1.attn.hook_z"),
        ("L1 MLP", Component(1, "mlp"), "blocks.1.hook_mlp_out"),
        ("l0mlp", Component(0, "mlp"), "blocks.0.hook_mlp_out"),
        ("L0N31", Component(0, "neuron", 31), "blocks.0.mlp.hook_post"),
    ],
)
def test_names_are_parsed_in_any_case(typed, component, hook):
    assert parse_component(typed, MLPS) == component
    assert component.hook == hook


@pytest.mark.parametrize(
    "typed", ["", "head 2", "L2H0", "L0H2", "L0N32", "L0H", "L-1H0", "L٠H٠", "9" * 100_000, "L0\nH0x"]
)
def test_anything_else_is_refused_in_one_sentence_that_lists_the_components(typed):
    with pytest.raises(UserError, match="the layers L0 to L1 has the heads H0 to H1, an MLP and the neurons N0 to N31"):
        parse_component(typed, MLPS)
    with pytest.raises(UserError) as refused:
        parse_component(typed, MLPS)
    assert len(str(refused.value)) < 200
    assert "\n" not in str(refused.value)


def test_a_model_without_an_mlp_has_no_mlp_component():
    with pytest.raises(UserError, match=r"There is no L0 MLP in this model; layer L0 has head H0 and no MLP\."):
        parse_component("L0MLP", TABLE)
