"""The 2-D Fourier terms of logits and neurons, as functions of two numbers modulo n."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.analysis.fourier import basis
from explorer.analysis.fourier_2d import SUMS, frequency_block, sum_components
from explorer.analysis.fourier_grid import (
    Source,
    channel_coefficients,
    component_norms,
    neuron_frequencies,
    shares,
    strongest_channels,
    top_terms,
)
from explorer.film.panels.panel import Panel
from explorer.film.panels.text import Text
from explorer.views import panels
from explorer.views.fourier_pairs import Pairs

SHARES = "the constant term counts in the mean square, not in the variance"
MAX_TERMS = 12  # in the table of all channels together
MAX_TERMS_EACH = 8  # in the table of one channel
STRONGEST = 4  # channels shown if none is chosen
MAX_CHANNELS = 12  # shown at once


def all_channels(pairs: Pairs, source: Source) -> list[Panel]:
    """The share of the variance in each term, over all logits or neurons together.

    Args:
        pairs: of a run.
        source: what is transformed.

    Raises:
        UserError: the model has no such neurons.
    """
    names, _ = basis(pairs.cycle.n)
    norms = component_norms(pairs.subject.ensemble, pairs.grid, pairs.cycle.n, source)
    shown: list[Panel] = [
        panels.signed_maps(
            "terms",
            f"{source.capitalize()}{pairs.of_answer}: share of the variance in each 2-D Fourier term, without the "
            f"constant term; {pairs.counted}",
            [""],
            shares(norms)[:, None],
            names,
            names,
            "component of x",
            "component of y",
            span=6,
        ),
        Text(
            "largest-terms",
            f"Largest terms, by the norm over all {source}; {SHARES}",
            [_table(of_snapshot, names, MAX_TERMS, "norm") for of_snapshot in norms],
            span=6,
        ),
    ]
    return [*shown, _neurons_by_frequency(pairs)] if source == "neurons" else shown


def _neurons_by_frequency(pairs: Pairs) -> Panel:
    """How many neurons of the final model belong to each frequency."""
    frequencies, explained = neuron_frequencies(pairs.subject.ensemble, pairs.grid, pairs.cycle.n)
    lines = [f"{'frequency':<12}{'neurons':>8}{'median variance explained':>32}"]
    for frequency in frequencies.unique().tolist():
        of_frequency = explained[frequencies == frequency]
        lines.append(f"{frequency or 'none':<12}{len(of_frequency):>8}{of_frequency.median():>32.0%}")
    title = f"Neurons{pairs.of_answer} of the final model, by the frequency that explains most variance"
    title += f"; {pairs.counted}"
    return Text("neurons-by-frequency", title, ["\n".join(lines)])


def single_channels(pairs: Pairs, source: Source, channels: Sequence[int]) -> list[Panel]:
    """The coefficient of each term in single logits or neurons, with its sign.

    Args:
        pairs: of a run.
        source: what is transformed.
        channels: indices of output tokens or neurons, of which the first `MAX_CHANNELS` are shown; if there are none,
            those that vary most in the last snapshot.

    Raises:
        UserError: the model has no such neurons.
    """
    ensemble, n = pairs.subject.ensemble, pairs.cycle.n
    names, _ = basis(n)
    chosen = [channel for channel in channels if channel < n_channels(pairs, source)][:MAX_CHANNELS]
    chosen = chosen or list(strongest_channels(ensemble, pairs.grid, source, STRONGEST))
    labels = [channel_name(pairs, source, channel) for channel in chosen]
    coefficients = channel_coefficients(ensemble, pairs.grid, n, source, chosen)
    varying = coefficients.clone()
    varying[:, 0, 0] = torch.nan  # often much larger than all others
    title = f"Coefficients of single {source}{pairs.of_answer} in each 2-D Fourier term, without the constant term"
    shown: list[Panel] = [
        panels.signed_maps(
            "signed-terms",
            f"{title}; {pairs.counted}",
            labels,
            varying.movedim(-1, 1),
            names,
            names,
            "component of x",
            "component of y",
        )
    ]
    for channel, label in enumerate(labels):
        of_channel = coefficients[..., channel]
        shown.append(
            Text(
                f"largest-terms-{source}-{chosen[channel]}",
                f"Largest terms of {label}; {SHARES}",
                [_table(of_snapshot, names, MAX_TERMS_EACH, "coefficient") for of_snapshot in of_channel],
                span=7,
            )
        )
        shown += _sums(pairs, f"sums-{source}-{chosen[channel]}", label, of_channel)
    return shown


def _sums(
    pairs: Pairs, id: str, label: str, coefficients: Float[Tensor, "snapshot component component"]
) -> list[Panel]:
    """The components along x + y and x - y of the frequency that explains most variance of the final model."""
    blocks = [frequency_block(coefficients[..., None], k) for k in range(1, (pairs.cycle.n + 1) // 2)]
    if not blocks:
        return []
    varying = [block[-1, ..., 0].square().sum() - block[-1, 0, 0, 0].square() for block in blocks]
    k = 1 + int(torch.stack(varying).argmax())
    curves = {
        name.format(k): curve for name, curve in zip(SUMS, sum_components(blocks[k - 1])[..., 0].unbind(1), strict=True)
    }
    title = f"{label} along x + y and x − y, at its strongest frequency; {pairs.counted}"
    return [panels.over_snapshots(pairs.subject, id, title, curves, unit="", span=5)]


def n_channels(pairs: Pairs, source: Source) -> int:
    """How many logits or neurons there are.

    Args:
        pairs: of a run.
        source: which of them.
    """
    cfg = pairs.subject.info.model
    return cfg.d_vocab_out if source == "logits" else 0 if cfg.attn_only else cfg.d_mlp


def channel_name(pairs: Pairs, source: Source, channel: int) -> str:
    """The name of a logit or a neuron.

    Args:
        pairs: of a run.
        source: what the channel is.
        channel: its index.
    """
    return f"neuron {channel}" if source == "neurons" else f"logit of {pairs.subject.task.answer_tokens[channel]}"


def _table(coefficients: Float[Tensor, "component component"], names: Sequence[str], n: int, heading: str) -> str:
    """The largest terms with their shares of the variance and of the mean square, which counts the constant term."""
    lines = [f"{'':<35}{'of variance':>14}{'of mean square':>16}", f"{'x':<12}{'y':<12}{heading:>11}"]
    lines[1] += f"{'share':>7}{'sum':>7}" + f"{'share':>9}{'sum':>7}"
    for term in top_terms(coefficients, names, n):
        of_variance = f"{term.of_variance:>7.1%}{term.cumulative_of_variance:>7.1%}"
        if term.x == term.y == names[0]:
            of_variance = f"{'–':>7}{'–':>7}"
        of_mean_square = f"{term.of_mean_square:>9.1%}{term.cumulative_of_mean_square:>7.1%}"
        lines.append(f"{term.x:<12}{term.y:<12}{term.coefficient:>11.4g}{of_variance}{of_mean_square}")
    return "\n".join(lines)
