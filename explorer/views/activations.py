"""Any activation or gradient of one example, at every snapshot."""

import torch
from einops import rearrange
from torch import Tensor

from explorer.film.film import Film, Heatmaps
from explorer.hooks import hook_axes
from explorer.views import panels
from explorer.views.subject import Subject

KINDS = ("activation", "gradient")


def hook_names(subject: Subject) -> tuple[str, ...]:
    """The hook points there are."""
    return subject.ensemble.model(slice(0, 1)).hook_names


def film(subject: Subject, text: str, hook: str, kind: str) -> Film:
    """One hook point as a heatmap, ``kind`` "activation" or "gradient".

    Raises:
        UserError: ``text`` is not an example of the run's task, or there is no such hook point.
    """
    task, example = subject.task, subject.task.encode(text)
    batch = example.batch

    def loss(logits: Tensor) -> Tensor:
        return task.losses(batch.asked(logits), batch).mean((-2, -1))  # (snapshot,)

    _, cache = subject.ensemble.run(batch.tokens, [hook], loss if kind == "gradient" else None)
    values = cache[f"{hook}_grad" if kind == "gradient" else hook]
    if values.shape[1] == 1:
        values = values[:, 0]  # positions have no batch axis of their own, everything else a batch of one
    axes = hook_axes(hook)
    maps = [""]
    if "head" in axes:
        values = (
            values if axes[0] == "head" else rearrange(values, "snapshot pos head width -> snapshot head pos width")
        )
        layer = hook.split(".")[1]
        maps = [f"L{layer}H{head}" for head in range(values.shape[1])]
    else:
        values = values[:, None]
    tokens = panels.token_labels(subject, example)
    over_keys = axes[-1] == "key"
    columns = tokens if over_keys else [str(i) for i in range(values.shape[-1])]
    finite = values[values.isfinite()]
    high = (float(finite.abs().max()) if len(finite) else 0.0) or 1.0
    signed = bool((finite < 0).any())
    described = "gradient at " if kind == "gradient" else ""
    heatmaps = Heatmaps(
        f"{described}{hook} on {panels.brief(example.text)}",
        maps,
        values.masked_fill(~values.isfinite(), torch.nan).numpy(),
        rows=tokens,
        columns=columns,
        row_axis="query" if over_keys else "position",
        column_axis="key" if over_keys else axes[-1],
        low=-high if signed else 0.0,
        high=high,
        scale="diverging" if signed else "sequential",
    )
    timeline = panels.losses(subject, detail=False, height=200)
    return Film(subject.steps, [timeline, heatmaps])
