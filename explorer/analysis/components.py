"""The parts of a model whose outputs are added to the residual stream, and single neurons: their names and hook points.

Names are those of the field: head L0H2, MLP "L0 MLP", neuron L0N17.
"""

import re
from dataclasses import dataclass
from typing import Literal

from explorer.errors import UserError, quoted
from explorer.model.transformer import ModelConfig

Kind = Literal["head", "mlp", "neuron"]
KINDS: dict[str | None, Kind] = {"h": "head", "n": "neuron", None: "mlp"}  # by the letter in a component's name


@dataclass(frozen=True)
class Component:
    """An attention head, the MLP of a layer, or one neuron of that MLP."""

    layer: int
    kind: Kind
    index: int = 0  # of the head or of the neuron; 0 for an MLP

    @property
    def name(self) -> str:
        """L0H2, L0 MLP or L0N17."""
        return f"L{self.layer}" + {"head": f"H{self.index}", "mlp": " MLP", "neuron": f"N{self.index}"}[self.kind]

    @property
    def hook(self) -> str:
        """The hook point of its output; for a head that is z, before W_O."""
        place = {"head": "attn.hook_z", "mlp": "hook_mlp_out", "neuron": "mlp.hook_post"}[self.kind]
        return f"blocks.{self.layer}.{place}"


def components(cfg: ModelConfig) -> tuple[Component, ...]:
    """All heads and MLPs of a model, in the order in which they are computed."""
    found = []
    for layer in range(cfg.n_layers):
        found += [Component(layer, "head", head) for head in range(cfg.n_heads)]
        found += [Component(layer, "mlp")] * _has_mlp(cfg)
    return tuple(found)


def parse_component(text: str, cfg: ModelConfig) -> Component:
    """The component with a name that somebody typed.

    Args:
        text: "L0H2", "L0 MLP" or "L0N17", in upper or lower case.
        cfg: of the model.

    Raises:
        UserError: this model has no such component; the message lists those it has.
    """
    match = re.fullmatch(r"l([0-9]{1,6})\s*(?:(h|n)([0-9]{1,6})|mlp)", text.strip().lower())
    if match is None:
        raise UserError(f"{quoted(text)} is no component of a model, such as L0H0; {_available(cfg)}")
    component = Component(int(match[1]), KINDS[match[2]], int(match[3] or 0))
    check_component(component, cfg)
    return component


def check_component(component: Component, cfg: ModelConfig) -> None:
    """Check that a model has this component.

    Raises:
        UserError: it does not; the message lists the components it has.
    """
    count = {"head": cfg.n_heads, "mlp": int(_has_mlp(cfg)), "neuron": cfg.d_mlp * _has_mlp(cfg)}[component.kind]
    if not (0 <= component.layer < cfg.n_layers and 0 <= component.index < count):
        raise UserError(f"There is no {component.name} in this model; {_available(cfg)}")


def _has_mlp(cfg: ModelConfig) -> bool:
    return cfg.architecture == "transformer" and not cfg.attn_only


def _available(cfg: ModelConfig) -> str:
    """The last half of an error message: which components the model has."""

    def span(letter: str, n: int) -> str:
        return f"{letter}0" if n == 1 else f"{letter}0 to {letter}{n - 1}"

    layers = "layer L0 has" if cfg.n_layers == 1 else f"each of the layers {span('L', cfg.n_layers)} has"
    neurons = f", an MLP and the neurons {span('N', cfg.d_mlp)}" if _has_mlp(cfg) else " and no MLP"
    return f"{layers} {'head' if cfg.n_heads == 1 else 'the heads'} {span('H', cfg.n_heads)}{neurons}."
