"""Components as nodes, and the edges between them, some of which are kept as a circuit.

Axes
    frame    one per snapshot
    node     what reads or writes
    edge     from one node to a later one
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Int, Num

from explorer.film.panels.panel import Panel, gaps_of, place_of, taken


@dataclass(frozen=True)
class Graph(Panel):
    """Nodes in rows, and edges as thick as their values, coloured by sign, and faint where they are not kept."""

    kind: ClassVar[str] = "graph"
    has_figure: ClassVar[bool] = False

    nodes: Sequence[str]
    rows: Sequence[int]  # (node,) the row in which each is drawn, from 0, in the order of computation
    senders: Sequence[int]  # (edge,) places among the nodes
    receivers: Sequence[int]  # (edge,) places among the nodes, in rows below those of the senders
    values: Num[np.ndarray, "frame edge"]  # nan: there is none, and the edge is not drawn
    kept: Num[np.ndarray, "frame edge"]  # 1: in the circuit, 0: not; nan: there is no circuit
    thickest_at: float  # the absolute value at which edges are no longer drawn thicker
    unit: str
    empty: str  # said in a frame in which no edge has a value

    def fits(self, n_frames: int) -> bool:
        """Whether there are values for each frame and edge, a row for each node, and edges lead downwards."""
        n_edges, places = len(self.senders), range(len(self.nodes))
        ends = [*zip(self.senders, self.receivers, strict=False)]
        fits = len(self.rows) == len(self.nodes) and len(self.receivers) == n_edges
        fits = fits and all(
            one in places and other in places and self.rows[one] < self.rows[other] for one, other in ends
        )
        return fits and self.values.shape == self.kept.shape == (n_frames, n_edges)

    def framed(self, places: Int[np.ndarray, " frame"], steps: Sequence[int]) -> "Graph":
        """The panel with other frames, some of which may be gaps.

        Args:
            places: of the panel's present frames; -1 for a gap.
            steps: of the new frames.
        """
        values, kept = taken(self.values, places), taken(self.kept, places)
        return replace(self, values=values, kept=kept, gaps=gaps_of(places))

    def value(self, frame: int, steps: Sequence[int], names: Sequence[str]) -> float:
        """The value of an edge.

        Args:
            frame: place of the snapshot.
            steps: of the film, one for each frame.
            names: the sender and the receiver.

        Raises:
            LookupError: there is no such number.
        """
        if len(names) != 2:
            raise LookupError(f"a number of {self.id} is SENDER/RECEIVER")
        ends = tuple(place_of(name, self.nodes, "node") for name in names)
        for edge, known in enumerate(zip(self.senders, self.receivers, strict=True)):
            if ends == known:
                return float(self.values[frame, edge])
        raise LookupError(f"no edge leads from {self.nodes[ends[0]]} to {self.nodes[ends[1]]}")
