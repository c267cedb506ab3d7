"""The film of path patching: through which edges between components an answer comes about, and which are enough."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from explorer.analysis.components import components
from explorer.analysis.path_patching import ANSWER, FAITHFUL, TOKENS, circuit, edges
from explorer.film.film import Film
from explorer.film.panels.curves import Curves
from explorer.film.panels.graph import Graph
from explorer.measures.measure import coarse_first
from explorer.model.transformer import ModelConfig
from explorer.views import panels
from explorer.views.patching import MIN_DIFFERENCE, Pair, compared
from explorer.views.subject import Subject

PART = 8  # snapshots of which the circuits are found at a time
NOT_YET = "not measured yet"
TOO_LITTLE = (
    f"no circuit: the two examples differ by less than {MIN_DIFFERENCE:.0%} of their largest difference in training"
)


def path_films(subject: Subject, clean_text: str, corrupted_text: str, answer: int) -> Iterator[tuple[Film, float]]:
    """The circuit of an answer at every snapshot, of more and more snapshots.

    Args:
        subject: the run, of a transformer.
        clean_text: the first example, whose answer it is.
        corrupted_text: the second example, whose activations are patched into the pass on the first.
        answer: one of `patching.differing_answers`.

    Yields:
        After each part, the film, and the share of the work that is done.

    Raises:
        UserError: a text is no example, or the two cannot be compared.
    """
    pair, n = compared(subject, clean_text, corrupted_text, answer), len(subject.steps)
    effects = torch.full((n, len(edges(subject.info.model))), torch.nan, dtype=torch.float64)  # (snapshot edge)
    kept, faithfulness = effects.clone(), effects[:, 0].clone()
    order = [place for place in coarse_first(n) if pair.is_enough[place]]
    for done in range(0, len(order), PART):
        places = sorted(order[done : done + PART])
        found = circuit(subject.ensemble.select(places), pair.clean, pair.corrupted, answer)
        effects[places], kept[places], faithfulness[places] = found.effects, found.kept.double(), found.faithfulness
        share = min(1.0, (done + PART) / len(order))
        so_far = (effects.clone(), kept.clone(), faithfulness.clone())  # which a film keeps
        yield _film(subject, pair, *so_far, NOT_YET if share < 1 else TOO_LITTLE), share


def _film(subject: Subject, pair: Pair, effects: Tensor, kept: Tensor, faithfulness: Tensor, empty: str) -> Film:
    """The film of what has been found so far; nan where nothing has.

    Args:
        subject: the run.
        pair: the examples.
        effects: (snapshot edge)
        kept: (snapshot edge) 1: in the circuit, 0: not.
        faithfulness: (snapshot,)
        empty: what is said of a snapshot without values.
    """
    kept = kept.where(faithfulness.isfinite()[:, None], torch.nan)
    share = {"of the logit difference": faithfulness}
    size = {"edges": kept.sum(1)}
    return Film(
        subject.steps,
        [
            panels.timeline(subject),
            _graph(subject.info.model, pair, effects, kept, empty),
            panels.over_snapshots(subject, "circuit-size", "Edges in the circuit", size, "edges", 6, 200),
            panels.over_snapshots(subject, "faithfulness", "Faithfulness of the circuit", share, "share", 6, 200),
            pair.panel(subject),
        ],
    )


def _graph(cfg: ModelConfig, pair: Pair, effects: Tensor, kept: Tensor, empty: str) -> Graph:
    parts, every = components(cfg), edges(cfg)
    nodes = [TOKENS, *(part.name for part in parts), ANSWER]
    per_layer = 1 if cfg.attn_only else 2  # rows: an MLP reads what the heads of its layer write
    rows = [0, *(1 + per_layer * part.layer + (part.kind == "mlp") for part in parts), 1 + per_layer * cfg.n_layers]
    return Graph(
        "paths",
        f"Paths to the answer {pair.of}; in full, the circuit: enough for {FAITHFUL:.0%} of the logit difference",
        nodes=nodes,
        rows=rows,
        senders=[nodes.index(edge.sender) for edge in every],
        receivers=[nodes.index(edge.receiver) for edge in every],
        values=effects.numpy(),
        kept=kept.numpy(),
        thickest_at=1.0,
        unit="share of the logit difference",
        empty=empty,
    )


def told(film: Film) -> list[str]:
    """How large the circuit is at each frame, what it gives, and its strongest path.

    Args:
        film: the panels.

    Returns:
        (frame,) sentences; none if it is no film of paths.
    """
    graph = next((panel for panel in film.panels if isinstance(panel, Graph)), None)
    if graph is None:
        return []
    curves = {panel.id: panel.lines for panel in film.panels if isinstance(panel, Curves)}
    shares, (clean, corrupted) = curves["faithfulness"][0].values, curves["logit-difference"]
    return [
        _sentence(graph, frame, share, difference)
        for frame, (share, difference) in enumerate(zip(shares, clean.values - corrupted.values, strict=True))
    ]


def _sentence(graph: Graph, frame: int, share: float, difference: float) -> str:
    if not np.isfinite(share):
        return f"{graph.empty[0].upper()}{graph.empty[1:]}."
    n, path = int(graph.kept[frame].sum()), strongest_path(graph, frame)
    of = "the only path" if n == len(path) - 1 else "the strongest path"
    return (
        f"{n} of {len(graph.senders)} edges alone give {share:.0%} of the {abs(difference):.1f} logits by which the "
        f"two examples differ; {of}: {' → '.join(path)}."
    )


def strongest_path(graph: Graph, frame: int) -> Sequence[str]:
    """The path of the circuit from the tokens to the answer whose weakest edge has the largest effect.

    Args:
        graph: the panel, whose edges are in the order of their receivers.
        frame: in which there is a circuit.

    Returns:
        The nodes.
    """
    best: dict[int, tuple[float, list[int]]] = {0: (np.inf, [0])}  # node -> effect of the weakest edge, path
    for sender, receiver, value, is_kept in zip(
        graph.senders, graph.receivers, graph.values[frame].tolist(), graph.kept[frame].tolist(), strict=True
    ):
        if is_kept and sender in best:
            weakest, path = best[sender]
            found = (min(weakest, abs(value)), [*path, receiver])
            best[receiver] = max(best.get(receiver, found), found)
    return [graph.nodes[node] for node in best[len(graph.nodes) - 1][1]]
