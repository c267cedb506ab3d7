"""Loss and accuracy of each class of examples, such as sums with and without carries."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from explorer.analysis.samples import Estimate
from explorer.errors import UserError
from explorer.film.film import Film
from explorer.tasks.data import Batch
from explorer.views import panels, sampling
from explorer.views.sampling import MOST, grown
from explorer.views.subject import UNSEEN, Subject

DRAWN = 4 * MOST  # of each class, of which those in the training data are left out


def class_films(subject: Subject, by: str | None = None) -> Iterator[tuple[Film, float]]:
    """Loss and accuracy of each class of unseen examples, over training.

    Args:
        subject: the run.
        by: what they are classified by, a name in `Task.classes`; None for the first of them.

    Yields:
        As `sampling.grown`.

    Raises:
        UserError: the task has no classes, or every example of a class is in the training data.
    """
    task, (names, sample) = subject.task, _unseen(subject, by)
    noun, n_classes = f"unseen {task.noun}s of each class", len(names)

    def measure(batch: Batch) -> dict[str, Tensor]:
        logits = subject.ensemble.logits_at(batch.tokens, batch.positions)  # (snapshot batch answer d_vocab_out)
        loss, right = task.losses(logits, batch).mean(-1), (logits.argmax(-1) == batch.targets).all(-1)
        # (snapshot class example): the classes take turns
        return {name: x.unflatten(1, (-1, n_classes)).mT for name, x in (("loss", loss), ("right", right))}

    def draw(found: Mapping[str, Estimate]) -> Film:
        on = sampling.size(subject, found["loss"].n, noun)
        loss = sampling.curves(subject, "loss-by-kind", f"Mean loss {on}", names, found["loss"], "nats")
        title = f"Accuracy: share with every answer right, {on}"
        right = sampling.curves(subject, "right-by-kind", title, names, found["right"], "share")
        return Film(subject.steps, [panels.timeline(subject), loss, right])

    return grown(subject, sample, measure, draw, classes=n_classes)


def _unseen(subject: Subject, by: str | None) -> tuple[list[str], Batch]:
    """The names of the classes, and unseen examples of each in turn: `MOST` of each class, or as many of each as the
    smallest has."""
    task, training = subject.task, subject.info.training
    known = task.classes(DRAWN, training.seed + 1)
    if not known:
        raise UserError(f"{task.title.capitalize()} has no classes of {task.noun}s.")
    classes = known[by or next(iter(known))]
    trained_on, n_classes = task.are_in_training_data(classes.batch, training), len(classes.names)
    unseen = torch.ones(len(classes.labels), dtype=torch.bool) if trained_on is None else ~trained_on
    rows = [(unseen & (classes.labels == label)).nonzero()[:, 0] for label in range(n_classes)]
    n = min(MOST, *(len(of_class) for of_class in rows))
    if not n:
        raise UserError(
            f"Every {task.noun} of one class is in the training data, so that class cannot be measured on unseen "
            f"{task.noun}s."
        )
    names = [f"{name}: {about}" if about else name for name, about in zip(classes.names, classes.about, strict=True)]
    return names, classes.batch.rows(torch.stack([of_class[:n] for of_class in rows], 1).flatten())


def has_classes(subject: Subject) -> bool:
    """Whether the run's task has classes of examples.

    Args:
        subject: the run.
    """
    return bool(subject.task.classes(1, 0))


def labels_of_classes(subject: Subject) -> dict[str, str]:
    """All classes of the run's task, as name -> label.

    Args:
        subject: the run.
    """
    every = subject.task.classes(1, 0).values()
    return {
        name: f"{name}: {about}" for classes in every for name, about in zip(classes.names, classes.about, strict=True)
    }


def of_class(subject: Subject, name: str, n: int = UNSEEN) -> Batch:
    """Unseen examples of one class.

    Args:
        subject: the run.
        name: of the class.
        n: how many are drawn; those in the training data are left out.

    Raises:
        UserError: every example that was drawn is in the training data.
    """
    task, training = subject.task, subject.info.training
    for classes in task.classes(n, training.seed + 1).values():
        if name in classes.names:
            batch = classes.batch.rows(classes.labels == classes.names.index(name))
            trained_on = task.are_in_training_data(batch, training)
            batch = batch if trained_on is None else batch.rows(~trained_on)
            if len(batch.tokens):
                return batch
    raise UserError(f"Every {task.noun} of the class {name} is in the training data; choose another class.")
