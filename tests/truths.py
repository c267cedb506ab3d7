"""Losses whose local learning coefficients are known, as problems for `explorer.analysis.langevin`."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from explorer.analysis.langevin import Bind, Measure, Problem, Weights

CURVATURES = torch.tensor([0.5, 1.0, 2.0, 4.0])


def exact(loss_and_gradients: Callable[[Weights], tuple[Tensor, dict[str, Tensor]]]) -> Bind:
    """A loss that depends on no examples."""

    def bind(weights: Weights) -> Measure:
        def measure(rows: Tensor, names: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
            loss, gradients = loss_and_gradients(weights)
            return loss[:, None], [gradients[name] for name in names]

        return measure

    return bind


def quadratic(n: int = 1, free: Tensor | None = None) -> Problem:
    """1/2 sum of h w^2, at the same minimum ``n`` times."""

    def loss_and_gradients(weights: Weights) -> tuple[Tensor, dict[str, Tensor]]:
        slope = CURVATURES * weights["w"]
        return (slope * weights["w"]).sum(-1) / 2, {"w": slope}

    mask = torch.tensor(True) if free is None else free
    return Problem(tuple(range(n)), {"w": torch.zeros(n, 4)}, {"w": mask}, exact(loss_and_gradients), 1)


def normal_crossings(powers: Sequence[tuple[int, int]], scale: float) -> Problem:
    """scale * w_1^(2 k_1) w_2^(2 k_2) at 0, a snapshot for each pair of powers."""
    k = 2.0 * torch.tensor(powers)[:, None]  # (snapshot 1 2)

    def loss_and_gradients(weights: Weights) -> tuple[Tensor, dict[str, Tensor]]:
        w = weights["w"].unflatten(0, (len(powers), -1))  # (snapshot chain 2)
        one, other = w.pow(k).unbind(-1)
        slopes = k * w.pow((k - 1).clamp(min=0)) * torch.stack([other, one], -1)
        return scale * (one * other).flatten(), {"w": scale * slopes.flatten(0, 1)}

    steps = tuple(range(len(powers)))
    return Problem(steps, {"w": torch.zeros(len(powers), 2)}, {"w": torch.tensor(True)}, exact(loss_and_gradients), 1)


def reduced_rank(cases: Sequence[tuple[int, int, int, int]]) -> Problem:
    """1/2 |B A - B* A*|^2 at true matrices of rank r, a snapshot for each case (inputs, hidden, outputs, r).

    It is the mean over normal inputs of half the squared error. All cases have matrices of the same shapes; the loss
    ignores the entries that a case does not have.
    """
    most_in, most_hidden, most_out = (max(case[axis] for case in cases) for axis in range(3))
    A, B = torch.zeros(len(cases), most_hidden, most_in), torch.zeros(len(cases), most_out, most_hidden)
    in_A, in_B = torch.zeros_like(A), torch.zeros_like(B)
    for i, (n_in, hidden, n_out, rank) in enumerate(cases):
        A[i, range(rank), range(rank)] = B[i, range(rank), range(rank)] = 1
        in_A[i, :hidden, :n_in], in_B[i, :n_out, :hidden] = 1, 1
    truth = (B @ A)[:, None]

    def loss_and_gradients(weights: Weights) -> tuple[Tensor, dict[str, Tensor]]:
        a, b = (weights[name].unflatten(0, (len(cases), -1)) * own[:, None] for name, own in (("A", in_A), ("B", in_B)))
        error = b @ a - truth
        gradients = {"A": b.mT @ error, "B": error @ a.mT}  # 0 where a case has no entries
        return error.square().sum((-2, -1)).flatten() / 2, {name: g.flatten(0, 1) for name, g in gradients.items()}

    everything = torch.tensor(True)
    steps = tuple(range(len(cases)))
    return Problem(steps, {"A": A, "B": B}, {"A": everything, "B": everything}, exact(loss_and_gradients), 1)


def squared_distances(centres: Tensor, seen: list[Tensor]) -> Problem:
    """1/2 |w - centre|^2 for each of the examples ``centres`` (example coordinate), at their mean.

    Args:
        centres: the examples.
        seen: the rows of each batch with gradients are appended to it.
    """

    def bind(weights: Weights) -> Measure:
        def measure(rows: Tensor, names: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
            if names:
                seen.append(rows)
            away = weights["w"][:, None] - centres[rows]  # (stack batch coordinate)
            return away.square().sum(-1) / 2, [away.mean(1) for _ in names]

        return measure

    return Problem((0,), {"w": centres.mean(0)[None]}, {"w": torch.tensor(True)}, bind, len(centres))
