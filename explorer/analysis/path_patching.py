"""Path patching: through which connections between components an answer comes about, at every snapshot.

Axes
    snapshot    snapshots of the run
    row         patched forward passes, each with edges of its own that are patched
    sender      what adds to the residual stream: "tokens" (the embeddings), each head, each MLP
    receiver    what reads from it: each head (queries, keys and values together), each MLP, and "answer" (the logits)
    edge        a sender and a receiver that is computed after it, joined by the residual stream alone
    pos, head, d_model, d_vocab_out    as in `explorer.model.transformer`

The model is run on the clean example. A receiver reads the sum of what all senders before it have written. Where the
edge from a sender is patched, it reads what that sender writes in the unpatched run on the corrupted example; where it
is not, what the sender writes in this very pass, which differs from the clean run if patched edges lead to it. So one
patched edge changes the input of one receiver by (corrupted - clean) of one sender, and all that follows is computed
anew; with no edge patched the pass is that of the clean example, with all edges patched that of the corrupted one.

Layer norms belong to their receiver and are computed anew from its changed input. The residual gain g is included: the
output of block i reaches the heads of block j times g**(j-1-i). Position embeddings and biases are the same for both
examples, so no edge carries them. Positions are patched all at once, up to the one at which the answer is predicted.

Sources: Wang et al. 2022, Interpretability in the Wild, and Goldowsky-Dill et al. 2023, Localizing Model Behavior with
Path Patching, for paths; Conmy et al. 2023, Towards Automated Circuit Discovery (ACDC), for edges as defined here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from explorer.analysis.components import components
from explorer.analysis.patching import MIN_LOGIT_DIFFERENCE, check_pair
from explorer.errors import UserError
from explorer.model.architectures import activation_bytes, weight_shapes
from explorer.model.ensemble import MEMORY_BUDGET, Ensemble
from explorer.model.transformer import ModelConfig, Transformer
from explorer.tasks.data import Example

TOKENS, ANSWER = "tokens", "answer"
FAITHFUL = 0.9  # share of the logit difference that a circuit alone must give


@dataclass(frozen=True)
class Edge:
    """From the output of a component to the input of a later one, along the residual stream alone."""

    sender: str  # "tokens", "L0H0", "L0 MLP"...
    receiver: str  # "L0H0", "L0 MLP"..., "answer"


@dataclass(frozen=True, eq=False)
class EdgeEffects:
    """How much of the logit difference each edge carries, patched alone."""

    edges: tuple[Edge, ...]
    effects: Float64[Tensor, "snapshot edge"]  # shares: 0 nothing, 1 all of it, negative where it works against it


@dataclass(frozen=True, eq=False)
class Circuit:
    """The edges that are enough for the answer, with all others patched."""

    edges: tuple[Edge, ...]
    kept: Bool[Tensor, "snapshot edge"]
    faithfulness: Float64[Tensor, " snapshot"]  # share of the logit difference that the kept edges alone give
    effects: Float64[Tensor, "snapshot edge"]  # of each edge alone, as in `EdgeEffects`


def edges(cfg: ModelConfig) -> tuple[Edge, ...]:
    """All edges of a model, in the order of their receivers and then of their senders.

    Args:
        cfg: of the model.

    Raises:
        UserError: the model is a table, in which no component reads another.
    """
    graph = _Graph(cfg)
    return tuple(Edge(graph.senders[sender], graph.receivers[receiver]) for sender, receiver in graph.edges)


def patched_logits(
    ensemble: Ensemble, clean: Example, corrupted: Example, answer: int, patched: Bool[Tensor, "#snapshot row edge"]
) -> Float[Tensor, "snapshot row d_vocab_out"]:
    """The logits of the clean example at one answer, with some edges patched.

    Args:
        ensemble: the snapshots.
        clean: the example that is run.
        corrupted: the example whose activations are patched in.
        answer: which of the examples' answers, from 0.
        patched: which of the `edges` are, in each row.

    Raises:
        UserError: the two examples cannot be compared at this answer, or the model is a table.
    """
    patched = patched.expand(len(ensemble), -1, -1)
    return torch.cat([part.logits(patched[part.snapshots]) for part in _parts(ensemble, clean, corrupted, answer)])


def patch_edges(ensemble: Ensemble, clean: Example, corrupted: Example, answer: int) -> EdgeEffects:
    """Path patching of single edges: how much of the clean answer is lost with one edge patched.

    Source: as for this module.

    Args:
        ensemble: the snapshots.
        clean: the example that is run.
        corrupted: the example whose activations are patched in.
        answer: which of the examples' answers, from 0.

    Returns:
        (clean - patched) / (clean - corrupted) of the logit difference, as in `patching.logit_difference`; nan where
        clean and corrupted differ by less than 1e-6 logits. Effects need not sum to 1: they are 1 for each edge of a
        chain that carries everything.

    Raises:
        UserError: the two examples cannot be compared at this answer, or the model is a table.
    """
    found = torch.cat([part.effects() for part in _parts(ensemble, clean, corrupted, answer)])
    return EdgeEffects(edges(ensemble.cfg), found)


def circuit(ensemble: Ensemble, clean: Example, corrupted: Example, answer: int, faithful: float = FAITHFUL) -> Circuit:
    """A small set of edges that alone give the clean answer, all others being patched.

    Starting with all edges, those with the smallest effects are tried first. An edge is dropped for good if without it
    the share of the logit difference that is left is as near to 1 as asked for, from below or from above: an edge
    without which there would be far more than all of it matters too. This is repeated until no single edge can be
    dropped any more, so no edge is kept that does not lie on a way from the tokens to the answer. The set is small, not
    the smallest: another order might drop more.

    Source: Conmy et al. 2023, Towards Automated Circuit Discovery, with the effects as order instead of the depth, and
    the logit difference instead of the KL divergence.

    Args:
        ensemble: the snapshots.
        clean: the example that is run.
        corrupted: the example whose activations are patched in.
        answer: which of the examples' answers, from 0.
        faithful: the share of the logit difference that the circuit gives: from this to 2 minus this.

    Returns:
        The circuit of each snapshot; without any edge, and with a faithfulness of nan, where clean and corrupted differ
        by less than 1e-6 logits.

    Raises:
        UserError: the two examples cannot be compared at this answer, or the model is a table.
    """
    kept, reached, effects = [], [], []
    for part in _parts(ensemble, clean, corrupted, answer):
        effects.append(part.effects())
        kept.append(part.circuit(effects[-1], faithful))
        reached.append(part.share(~kept[-1][:, None])[:, 0])
    return Circuit(edges(ensemble.cfg), torch.cat(kept), torch.cat(reached), torch.cat(effects))


class _Graph:
    """Senders, receivers and edges of a model.

    Attributes:
        senders, receivers: names, in the order in which they are computed.
        gains: (sender receiver) what the residual gain multiplies an output by on its way; 0 where there is no edge.
        edges: (sender, receiver) as places in these, in the order of `edges`.
    """

    def __init__(self, cfg: ModelConfig):
        if cfg.architecture == "table":
            raise UserError(
                "A table model has no paths between components, since its one head reads the tokens and writes the "
                "logits; choose a run of a transformer."
            )
        found = components(cfg)
        self.senders = (TOKENS, *(component.name for component in found))
        self.receivers = (*(component.name for component in found), ANSWER)
        self.gains = torch.zeros(len(self.senders), len(self.receivers))
        self.edges: list[tuple[int, int]] = []
        for receiver in range(len(self.receivers)):
            # An MLP reads after the attention of its own block, the answer after all blocks.
            block = found[receiver].layer if receiver < len(found) else cfg.n_layers
            is_mlp = receiver < len(found) and found[receiver].kind == "mlp"
            for sender in range(receiver + 1):
                layer = found[sender - 1].layer if sender else -1
                if layer < block or is_mlp:
                    self.gains[sender, receiver] = cfg.residual_gain ** (block - 1 - layer + is_mlp)
                    self.edges.append((sender, receiver))


def _parts(ensemble: Ensemble, clean: Example, corrupted: Example, answer: int) -> Iterator["_Part"]:
    """The snapshots, as many at a time as fit into memory."""
    graph = _Graph(ensemble.cfg)
    check_pair(clean, corrupted, answer)
    n_pos = int(clean.positions[answer]) + 1
    per_row = activation_bytes(ensemble.cfg, n_pos) + 4 * n_pos * ensemble.cfg.d_model * 3 * len(graph.senders)
    size = max(1, MEMORY_BUDGET // per_row)
    for start in range(0, len(ensemble), size):
        snapshots = slice(start, min(start + size, len(ensemble)))
        n_rows = max(1, size // (snapshots.stop - start))
        yield _Part(ensemble.select(snapshots), graph, clean, corrupted, answer, snapshots, n_rows)


class _Part:
    """Some snapshots, and what they compute on the two examples without a patch.

    Args:
        ensemble: these snapshots.
        graph: of the model.
        clean, corrupted, answer: as in `patch_edges`.
        snapshots: which of all snapshots they are.
        n_rows: how many rows are run at once.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        graph: _Graph,
        clean: Example,
        corrupted: Example,
        answer: int,
        snapshots: slice,
        n_rows: int,
    ):
        self.cfg, self.graph, self.snapshots, self.n_rows = ensemble.cfg, graph, snapshots, n_rows
        self.model = cast(Transformer, ensemble.model())
        self.heads = cast(Transformer, _one_headed(ensemble).model())
        self.right, self.other = int(clean.targets[answer]), int(corrupted.targets[answer])
        # Nothing after the position of the answer can influence it.
        pair = torch.stack([clean.tokens, corrupted.tokens])[:, : int(clean.positions[answer]) + 1]
        last = f"blocks.{self.cfg.n_layers - 1}.hook_resid_post"
        reads = ["hook_resid_pre"] if self.cfg.attn_only else ["hook_resid_pre", "hook_resid_mid"]
        names = ["hook_embed", last, *(f"blocks.{layer}.{at}" for layer in range(self.cfg.n_layers) for at in reads)]
        _, cache = ensemble.run(pair, names)
        self.clean = {name: x[:, :1] for name, x in cache.items()}  # (snapshot 1 pos d_model)
        self.at_answer = cache[last][:, :1, -1]  # (snapshot 1 d_model)
        written = [cache["hook_embed"][:, :, None]]  # each (snapshot example sender pos d_model)
        for layer in range(self.cfg.n_layers):
            x = cache[f"blocks.{layer}.hook_resid_pre"]
            written.append(self._heads(layer, x[:, None].expand(-1, self.cfg.n_heads, -1, -1, -1)))
            if not self.cfg.attn_only:
                written.append(self._mlp(layer, cache[f"blocks.{layer}.hook_resid_mid"])[:, :, None])
        outputs = torch.cat(written, 2)
        self.outputs = outputs[:, :1]  # (snapshot 1 sender pos d_model), of the clean example
        self.differences = outputs[:, 1] - outputs[:, 0]  # (snapshot sender pos d_model), corrupted - clean

        none = torch.zeros(len(ensemble), 1, len(graph.edges), dtype=torch.bool)
        self.of_clean, self.of_corrupted = self._difference(none), self._difference(~none)  # (snapshot 1)

    def logits(self, patched: Bool[Tensor, "snapshot row edge"]) -> Float[Tensor, "snapshot row d_vocab_out"]:
        return torch.cat([self._pass(rows) for rows in patched.split(self.n_rows, 1)], 1)

    def share(self, patched: Bool[Tensor, "snapshot row edge"]) -> Float64[Tensor, "snapshot row"]:
        """The share of the logit difference that is left; nan where there is none."""
        total = self.of_clean - self.of_corrupted
        left = (self._difference(patched) - self.of_corrupted) / total
        return left.where(total.abs() >= MIN_LOGIT_DIFFERENCE, torch.nan)

    def effects(self) -> Float64[Tensor, "snapshot edge"]:
        n_edges = len(self.graph.edges)
        return 1 - self.share(torch.eye(n_edges, dtype=torch.bool).expand(len(self.of_clean), -1, -1))

    def circuit(self, effects: Float64[Tensor, "snapshot edge"], faithful: float) -> Bool[Tensor, "snapshot edge"]:
        """The edges that are kept, of each snapshot."""
        kept, is_done = effects.isfinite(), False
        while not is_done:
            before = kept
            for edge in effects.abs().argsort(dim=1, stable=True).unbind(1):  # (snapshot,), each in its own order
                without = kept.scatter(1, edge[:, None], False)
                is_enough = (self.share(~without[:, None]) - 1).abs() <= 1 - faithful  # (snapshot 1)
                kept = torch.where(is_enough, without, kept)
            is_done = kept.equal(before)
        return kept

    def _difference(self, patched: Bool[Tensor, "snapshot row edge"]) -> Float64[Tensor, "snapshot row"]:
        logits = self.logits(patched)
        return (logits[..., self.right] - logits[..., self.other]).double()

    def _pass(self, patched: Bool[Tensor, "snapshot row edge"]) -> Float[Tensor, "snapshot row d_vocab_out"]:
        cfg, (n_snapshots, n_rows, _) = self.cfg, patched.shape
        senders, receivers = torch.tensor(self.graph.edges).unbind(1)
        is_patched = torch.zeros(n_snapshots, n_rows, *self.graph.gains.shape)
        is_patched[:, :, senders, receivers] = patched.float()
        from_corrupted, from_here = is_patched * self.graph.gains, (1 - is_patched) * self.graph.gains
        # By how much each sender writes something else than in the clean run; the tokens never do.
        changes = self.differences.new_zeros(n_snapshots, n_rows, *self.differences.shape[1:])

        def arriving(receivers: slice) -> Float[Tensor, "snapshot receiver row pos d_model"]:
            """What changes in the inputs of some receivers, of the senders up to the first of them."""
            upto, at = slice(receivers.start + 1), (..., slice(receivers.start + 1), receivers)
            corrupted = "snapshot row sender receiver, snapshot sender pos d_model -> snapshot receiver row pos d_model"
            here = "snapshot row sender receiver, snapshot row sender pos d_model -> snapshot receiver row pos d_model"
            return einsum(from_corrupted[at], self.differences[:, upto], corrupted) + einsum(
                from_here[at], changes[:, :, upto], here
            )

        done = 0  # receivers, in the order in which they are computed
        for layer in range(cfg.n_layers):
            heads = slice(done, done + cfg.n_heads)
            x = self.clean[f"blocks.{layer}.hook_resid_pre"][:, None] + arriving(heads)
            written = slice(heads.start + 1, heads.stop + 1)
            changes[:, :, written] = self._heads(layer, x) - self.outputs[:, :, written]
            done = heads.stop
            if not cfg.attn_only:
                x = self.clean[f"blocks.{layer}.hook_resid_mid"] + arriving(slice(done, done + 1))[:, 0]
                changes[:, :, done + 1] = self._mlp(layer, x) - self.outputs[:, :, done + 1]
                done += 1
        x = self.at_answer + arriving(slice(done, done + 1))[:, 0, :, -1]  # (snapshot row d_model)
        return self.model.after_block(cfg.n_layers - 1, x[:, None])[:, 0]

    def _heads(
        self, layer: int, x: Float[Tensor, "snapshot head row pos d_model"]
    ) -> Float[Tensor, "snapshot row head pos d_model"]:
        """What the heads of a block write, each with an input of its own; the bias of attention counts for each."""
        one, block = self.heads, self.heads.blocks[layer]
        positions = one.pos_embed(x.shape[-2]) if self.cfg.positions == "shortformer" else None
        out = block.attn(block.ln1(rearrange(x, "snapshot head ... -> (snapshot head) ...")), positions)
        return rearrange(out, "(snapshot head) row ... -> snapshot row head ...", head=self.cfg.n_heads)

    def _mlp(
        self, layer: int, x: Float[Tensor, "snapshot row pos d_model"]
    ) -> Float[Tensor, "snapshot row pos d_model"]:
        block = self.model.blocks[layer]
        return block.mlp(block.ln2(x))


def _one_headed(ensemble: Ensemble) -> Ensemble:
    """Each head of a stack as a model of its own with this head alone in each block, (snapshot head) in front.

    So the heads of a block can read different inputs, by the same forward pass. Only the heads and their layer norms
    are used; all else is left out or cut to one token.
    """
    n_heads, weights = ensemble.cfg.n_heads, {}
    cfg = replace(ensemble.cfg, n_heads=1, attn_only=True, d_vocab=1, d_vocab_out=1)
    for name, shape in weight_shapes(cfg).items():
        if ".attn." in name and not name.endswith("b_O"):
            weights[name] = rearrange(ensemble.weights[name], "snapshot head ... -> (snapshot head) 1 ...")
        else:
            weights[name] = ensemble.weights[name][:, *map(slice, shape)].repeat_interleave(n_heads, 0)
    return Ensemble(cfg, range(len(ensemble) * n_heads), weights)
