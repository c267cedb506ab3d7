"""The loss of each training example of a small data set, over training."""

import math

import numpy as np
import torch

from explorer.analysis.examples import learnt_from, losses_by_example
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.panels.raster import Raster
from explorer.views import panels
from explorer.views.subject import Subject

MAX_EXAMPLES = 4000  # more take too long to measure at every snapshot
MAX_ROWS = 600  # of the raster; of more examples, every second or third... is drawn


def has_few_examples(subject: Subject) -> bool:
    """Whether a run has training data so few that each example can be shown.

    Args:
        subject: the run.
    """
    return 0 < subject.task.n_train(subject.info.training) <= MAX_EXAMPLES


def film(subject: Subject) -> Film:
    """A raster of the loss of each training example, sorted by when it is learnt, and the share of those learnt.

    An example is learnt from the first snapshot on from which its loss stays half-way between a uniform guess and the
    best possible loss, or below.

    Args:
        subject: the run.

    Raises:
        UserError: its training data are infinite, or have too many examples.
    """
    task = subject.task
    examples = task.training_set(subject.info.training) if has_few_examples(subject) else None
    if examples is None:
        raise UserError(
            f"Single training examples are shown of runs that have at most {MAX_EXAMPLES:,} of them; "
            f"{subject.name} is trained on {subject.info.data}, so choose another run."
        )
    losses = losses_by_example(subject.ensemble, task, examples)  # (snapshot example)
    uniform, best = task.references[0].mean, task.references[-1].mean
    level = (uniform + best) / 2
    since = learnt_from(losses, level)  # (example,)
    order = torch.tensor(
        np.lexsort((losses.mean(0).numpy(), since.numpy()))
    )  # of those learnt at once, easy ones first
    every = math.ceil(len(order) / MAX_ROWS)
    rows = order[::every]
    steps = torch.tensor([*subject.steps, torch.nan], dtype=torch.float64)  # the last: it is never learnt
    which = f"each of the {len(order):,} training examples" if every == 1 else f"one in {every} training examples"
    return Film(
        subject.steps,
        [
            panels.timeline(subject),
            Raster(
                "training-examples",
                f"Loss of {which}, sorted by the step from which it stays below {level:.2f} nats",
                _texts(subject, examples.tokens[rows]),
                np.array(subject.steps),
                losses[:, rows].T.float().numpy(),
                low=best,
                high=uniform,
                unit="nats",
                marks=steps[since[rows]].numpy(),
            ),
            panels.over_snapshots(
                subject,
                "share-learnt",
                f"Share of the {len(order):,} training examples with a loss below {level:.2f} nats",
                {"share": (losses <= level).double().mean(1)},
                unit="share",
            ),
        ],
    )


def _texts(subject: Subject, rows: torch.Tensor) -> list[str]:
    """The text of each row of tokens, (example pos), cut."""
    tokens = subject.task.tokens
    between = "" if max(map(len, tokens)) == 1 else " "
    return [panels.brief(between.join(tokens[token] for token in row), 18) for row in rows.tolist()]
