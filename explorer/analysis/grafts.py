"""Grafts: the weights of one part of the model, from one snapshot of a run put into another.

The parts are the embeddings, each head, each MLP and the unembedding, and unions of them. A layer norm belongs to the
part that reads through it: ln2 to the MLP, ln_final to the unembedding. All heads of a layer read through its ln1 and
share the bias b_O; these are a part of their own, "L0 shared", unless the layer has one head, whose they are.

Axes
    snapshot   snapshots of the run
    receiver   snapshots that all weights but the part's are taken from
    donor      snapshots that the weights of the part are taken from
    token      the per-token losses of the task, as in `explorer.tasks.task`
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from explorer.analysis.components import Component
from explorer.model.architectures import new_model, weight_shapes
from explorer.model.ensemble import Ensemble
from explorer.model.fast_forward import logits_at
from explorer.model.transformer import ModelConfig
from explorer.tasks.data import Batch
from explorer.tasks.task import Task

Part = tuple[tuple[str, int | None], ...]  # (weight, head) of each piece: one head of the weight, or None for all of it
Weights = Mapping[str, Tensor]  # of one model, by name as in its `state_dict`

NOTHING: Part = ()
OF_HEADS = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V")  # weights whose first axis is ``head``
ANSWERS = 384  # over which losses are means: all pairs of 60 snapshots of a shipped run then take 15 s of one core
MIN_FALL = 0.01  # between two snapshots, in nats; shares of less say little


def elementary_parts(cfg: ModelConfig) -> dict[str, Part]:
    """The smallest parts of a model. Every weight belongs to exactly one of them.

    Args:
        cfg: of the model.

    Returns:
        Name -> part, in computation order, for those that the model has: "embeddings" (of tokens and positions, also
        fixed ones), then of each layer "L0H0", ..., "L0 shared" and "L0 MLP", at last "unembedding". The weights of a
        table are all in "L0H0".
    """
    found = {"embeddings": _whole(cfg, "embed.", "pos_embed.")}
    for layer in range(cfg.n_layers):
        attention = _attention(cfg, layer)
        split = [name for name, _ in attention if name.rsplit(".", 1)[-1] in OF_HEADS] if cfg.n_heads > 1 else []
        shared = tuple(piece for piece in attention if piece[0] not in split)
        for head in range(cfg.n_heads):
            own = tuple((name, head) for name in split)
            found[Component(layer, "head", head).name] = own if cfg.n_heads > 1 else shared
        found[f"L{layer} shared"] = shared if cfg.n_heads > 1 else NOTHING
        found[Component(layer, "mlp").name] = _mlp(cfg, layer)
    found["unembedding"] = _whole(cfg, "ln_final.", "unembed.")
    return {name: part for name, part in found.items() if part}


def parts(cfg: ModelConfig) -> dict[str, Part]:
    """The parts of a model that can be grafted. Others are sums of these: ``found["L0H0"] + found["L1H3"]``.

    Args:
        cfg: of the model.

    Returns:
        Name -> part: first `elementary_parts`, then "L0 attention", ... if there are several layers, "all attention",
        "all MLPs" if there are any, and "everything".
    """
    layers = range(cfg.n_layers)
    unions = {f"L{layer} attention": _attention(cfg, layer) for layer in layers if cfg.n_layers > 1}
    unions["all attention"] = sum((_attention(cfg, layer) for layer in layers), NOTHING)
    unions["all MLPs"] = sum((_mlp(cfg, layer) for layer in layers), NOTHING)
    unions["everything"] = _whole(cfg, "")
    return {**elementary_parts(cfg), **{name: part for name, part in unions.items() if part}}


def _attention(cfg: ModelConfig, layer: int) -> Part:
    return _whole(cfg, f"blocks.{layer}.ln1.", f"blocks.{layer}.attn.")


def _mlp(cfg: ModelConfig, layer: int) -> Part:
    return _whole(cfg, f"blocks.{layer}.ln2.", f"blocks.{layer}.mlp.")


def _whole(cfg: ModelConfig, *prefixes: str) -> Part:
    """All weights whose names begin with one of ``prefixes``."""
    return tuple((name, None) for name in weight_shapes(cfg) if name.startswith(prefixes))


def grafted(ensemble: Ensemble, part: Part, receiver: int, donor: int) -> dict[str, Tensor]:
    """The weights of one snapshot in which a part has those of another.

    Args:
        ensemble: the snapshots.
        part: one of `parts`, or a sum of several; `NOTHING` for no graft.
        receiver: place on the snapshot axis from which all other weights are.
        donor: place on the snapshot axis from which the weights of the part are.

    Returns:
        Name -> weight of one model. Weights that are all from one snapshot are shared with the ensemble, not copied.
    """
    weights = {name: weight[receiver] for name, weight in ensemble.weights.items()}
    for name, head in part:
        theirs = ensemble.weights[name][donor]
        if head is None:
            weights[name] = theirs
        else:
            weights[name] = weights[name].clone()
            weights[name][head] = theirs[head]
    return weights


def measured_on(batch: Batch, answers: int = ANSWERS) -> Batch:
    """The first examples of a batch, with so many answers together: by default enough for a matrix of losses, and fast.

    These are 64 sums of five digits, 12 texts of induction with 30 answers each, 384 pairs of modular addition, or 384
    texts of skip-trigrams.

    Args:
        batch: as from a test stream; all of it if it has fewer answers.
        answers: how many.
    """
    return batch.rows(slice(max(1, answers // batch.positions.shape[1])))


def token_losses(cfg: ModelConfig, task: Task, batch: Batch) -> Callable[[Weights], Float64[Tensor, " token"]]:
    """The loss as a function of the weights of one model.

    Args:
        cfg: of the model.
        task: whose loss it is.
        batch: the examples.

    Returns:
        Weights, as `grafted` returns them -> mean loss of each of the task's tokens, in nats; without a gradient,
        and for one thread at a time.
    """
    model = new_model(cfg)

    @torch.no_grad()
    def losses(weights: Weights) -> Float64[Tensor, " token"]:
        model.load_state_dict(weights, assign=True)  # shares them; a new model for each would take as long as its pass
        return task.per_token(task.losses(logits_at(model, batch.tokens, batch.positions), batch), batch)

    return losses


def graft_losses(
    ensemble: Ensemble,
    task: Task,
    batch: Batch,
    part: Part,
    receivers: Sequence[int] | None = None,
    donors: Sequence[int] | None = None,
) -> Iterator[Float64[Tensor, "donor token"]]:
    """The losses of receivers with a part of donors, for all pairs: the graft matrix, row by row.

    ``torch.stack(list(...))`` is the matrix (receiver donor token). On its diagonal, a snapshot has its own part. Each
    pair is a forward pass by itself, the same for every part. So grafting everything gives the very loss of the donor,
    and grafting nothing that of the receiver, bit for bit.

    Source: the coarse form, one layer set back to earlier weights, is Zhang et al. 2022, Are All Layers Created Equal?

    Args:
        ensemble: the snapshots.
        task: whose loss it is.
        batch: the examples; `measured_on` takes as many of them as are needed.
        part: as in `grafted`.
        receivers, donors: places on the snapshot axis; None for all snapshots. There is at least one donor.

    Yields:
        For each receiver in turn: nats, the mean loss of each of the task's tokens.
    """
    losses, every = token_losses(ensemble.cfg, task, batch), range(len(ensemble))
    for receiver in every if receivers is None else receivers:
        of_row = every if donors is None else donors
        yield torch.stack([losses(grafted(ensemble, part, receiver, donor)) for donor in of_row])


def carried(matrix: Float[Tensor, "snapshot snapshot"]) -> Float[Tensor, "snapshot snapshot"]:
    """How much of the fall of the loss between two snapshots the graft of this part alone carries.

    The share is (L(t1) - L(graft)) / (L(t1) - L(t2)) for receiver t1 and donor t2: 1 if the donor's part is enough for
    the donor's loss, 0 if it does nothing, negative if it raises the loss of the receiver where the donor's is lower.
    ``[0, -1]`` is the share of the whole training.

    Args:
        matrix: nats, from `graft_losses`, with the same snapshots as receivers and as donors; of one token, or a mean.

    Returns:
        Shares; nan where the losses of the two snapshots differ by less than `MIN_FALL`, or are not known.
    """
    own = matrix.diagonal()
    fall = own[:, None] - own
    return torch.where(fall.abs() < MIN_FALL, torch.nan, (own[:, None] - matrix) / fall)
