"""The diagram of a model, and the attention patterns, from one forward pass."""

from collections.abc import Sequence

import torch
from torch import Tensor

from explorer.analysis.attribution import attributed, attribution_hooks
from explorer.analysis.components import components
from explorer.film.panels.diagram import Diagram
from explorer.model.ensemble import Hooks
from explorer.tasks.data import Example
from explorer.views import panels
from explorer.views.subject import Subject


def diagram(
    subject: Subject, example: Example, ablated: Sequence[str] = (), hooks: Hooks | None = None
) -> tuple[Diagram, Tensor]:
    """The model as a drawing, given the right answers (teacher forcing).

    Args:
        subject: the run.
        example: what the model reads, and the answers to which its parts add.
        ablated: the names of the parts that ``hooks`` ablate.
        hooks: to run the model with; None: none.

    Returns:
        The panel, and the attention patterns (snapshot head pos pos) of all heads of layer 0, then of layer 1...
    """
    cfg, ensemble, task = subject.info.model, subject.ensemble, subject.task
    patterns = [f"blocks.{layer}.attn.hook_pattern" for layer in range(cfg.n_layers)]
    logits, cache = ensemble.run(example.tokens[None], {*patterns, *attribution_hooks(cfg)}, hooks=hooks)
    found = attributed(ensemble, example.batch, logits, cache, centred=True).of(0)
    attention = torch.cat([cache[name][:, 0] for name in patterns], 1)  # (snapshot head query key)
    heads = panels.head_names(cfg)
    targets = example.targets.expand(len(ensemble), -1)[..., None]
    right = logits[:, 0, example.positions].softmax(-1).gather(-1, targets)[..., 0]  # (snapshot answer)
    peaks = found.values.where(found.values.isfinite(), 0).abs().flatten(1).amax(1)  # (snapshot,)
    panel = Diagram(
        "diagram",
        f"The model, from the tokens to one answer{panels.given(example)}",
        tokens=panels.token_labels(subject, example),
        places=example.places,
        answers=[task.answer_tokens[token] for token in example.targets.tolist()],
        asked=int((right[-1] - right[0]).nan_to_num(0).argmax()),  # the one that is learnt best
        asks=example.positions.tolist(),
        parts=found.components,
        rows=[_row(name, cfg.n_layers) for name in found.components],
        heads=[found.components.index(name) for name in heads],
        attention=attention[:, :, example.positions].transpose(1, 2).contiguous().numpy(),
        added=found.values.numpy(),
        probability=right.numpy(),
        full_colour_at=float(peaks.quantile(0.75)) or 1.0,
        unit="logits",
        ablatable=[found.components.index(component.name) for component in components(cfg)],
        ablated=ablated,
    )
    return panel, attention


def _row(part: str, n_layers: int) -> int:
    """The row of a part: that of its layer. What is no layer's stands in the first row, the bias of the final layer
    norm in the last."""
    layer = part[1:].split("H")[0].split(" ")[0]
    return int(layer) if layer.isdigit() else n_layers - 1 if part == "bias" else 0
