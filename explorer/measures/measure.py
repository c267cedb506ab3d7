"""The interface of a measure that takes minutes.

A new one is one file in this folder with one subclass of `Measure`; it is discovered automatically. A page and the
command ``measure`` then offer it, and its pieces are kept beside the run while they come.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic

import torch
from torch import Tensor
from typing_extensions import TypeVar

from explorer.model.ensemble import Ensemble
from explorer.runs import Run
from explorer.runs.info import RunInfo
from explorer.runs.measures import Kept, MeasureFiles, identity
from explorer.tasks.data import Batch
from explorer.tasks.task import Task

Settings = TypeVar("Settings")
Form = tuple[torch.dtype, tuple[int, ...]]  # the type and the shape of some values


@dataclass(frozen=True)
class Measured:
    """What is measured: the snapshots of a run that can be computed with."""

    info: RunInfo
    ensemble: Ensemble

    @property
    def task(self) -> Task:
        return self.info.task

    def training_data(self, n: int) -> Batch:
        """The examples that the run is trained on: all of them if they are always the same, otherwise ``n``.

        Args:
            n: how many new ones to draw.
        """
        training = self.info.training
        if self.task.n_train(training):
            return self.task.train_stream(dataclasses.replace(training, full_batch=True)).next()
        return self.task.train_stream(dataclasses.replace(training, batch_size=n)).next()

    def unseen(self, n: int) -> Batch:
        """Examples that the run is not trained on.

        Args:
            n: how many; fewer if there are no more.
        """
        batch = self.task.test_stream(dataclasses.replace(self.info.training, test_batch_size=n)).next()
        return batch.rows(slice(n))


@dataclass(frozen=True)
class NoSettings:
    """The settings of a measure that has none."""


class Measure(ABC, Generic[Settings]):
    """A measure over all snapshots of a run, in pieces that are computed one after another."""

    name: ClassVar[str]  # in a command, "complexity"
    title: ClassVar[str]  # "Local learning coefficient"
    sentence: ClassVar[str]  # what it is, for somebody who has never heard of it
    version: ClassVar[int] = 1  # raised when the numbers that it computes change
    settings_type: ClassVar[type[Any]]  # the dataclass `Settings`, whose fields are made by `settings.setting`
    places: ClassVar[str] = ""  # the name of the values that are places of snapshots, each of one piece; "": none are

    def offered(self, info: RunInfo) -> bool:
        """Whether it can be measured of runs of this kind.

        Args:
            info: of the run.
        """
        return True

    def chosen(self, run: Run, of: Measured) -> Settings:
        """The settings that suit a run, unless somebody chooses others.

        Args:
            run: on disk.
            of: the run in memory.
        """
        return self.settings_type()

    def file_name(self, settings: Settings) -> str:
        """The name of its file, without an ending; different where a run may keep several.

        Args:
            settings: of the measure.
        """
        return self.name

    @abstractmethod
    def n_pieces(self, of: Measured, settings: Settings) -> int:
        """How many pieces there are.

        Args:
            of: what is measured.
            settings: of the measure.

        Raises:
            UserError: the settings do not fit the run.
        """

    @abstractmethod
    def forms(self, of: Measured, settings: Settings) -> Mapping[str, Form]:
        """What each piece holds. Arguments as for `n_pieces`.

        Returns:
            Name -> type and shape, without the axis of pieces. What is kept otherwise is refused.
        """

    @abstractmethod
    def pieces(self, of: Measured, settings: Settings, which: range) -> Iterator[dict[str, Tensor]]:
        """Some of the pieces, in their order. Each is the same, bit for bit, whichever others are asked for.

        Args:
            of: what is measured.
            settings: of the measure.
            which: of them; may be empty.

        Yields:
            Name -> values of a piece, as `forms` tells.
        """

    @abstractmethod
    def seconds(self, of: Measured, settings: Settings) -> float:
        """How long all pieces take on this machine, by a trial of a moment. Arguments as for `n_pieces`."""


def files_of(run: Run, measure: Measure[Any], settings: Any) -> MeasureFiles:
    """The files in which a measure of a run is kept.

    Args:
        run: which is measured.
        measure: the measure.
        settings: of the measure.
    """
    return MeasureFiles(run, measure.file_name(settings))


def staleness(kept: Kept, measure: Measure[Any], settings: Any, of: Measured) -> str:
    """Why what is kept is not what would be measured now, as the rest of a sentence; empty if it is.

    Args:
        kept: what is kept.
        measure: the measure.
        settings: that are asked for.
        of: the run as it is now.
    """
    if kept.of != identity(of.info, of.ensemble.steps):
        return "of other snapshots than the run has now"
    if kept.version != measure.version:
        return "by another version of this explorer"
    if dict(kept.settings) != dataclasses.asdict(settings):
        return "with other settings"
    return ""


def read_kept(run: Run, measure: Measure[Any], settings: Any, of: Measured) -> tuple[Kept | None, str]:
    """What is kept of a measure, if it is what would be measured now.

    Args:
        run: on disk.
        measure: the measure.
        settings: that are asked for.
        of: the run in memory.

    Returns:
        What is kept, or None; and why it is stale, as `staleness` says.

    Raises:
        UserError: the file is damaged, is a link to elsewhere, or does not hold what the measure computes.
    """
    files = files_of(run, measure, settings)
    kept = files.read()
    if kept is None:
        return None, ""
    if stale := staleness(kept, measure, settings, of):
        return None, stale
    if not _fits(kept, measure, settings, of):
        raise files.refused
    return kept, ""


def _fits(kept: Kept, measure: Measure[Any], settings: Any, of: Measured) -> bool:
    """Whether there are the right pieces, each of a snapshot that the run has, and of each at most one."""
    found = {name: (values.dtype, tuple(values.shape[1:])) for name, values in kept.tensors.items()}
    if found != measure.forms(of, settings) or kept.n_pieces != measure.n_pieces(of, settings):
        return False
    places = kept.tensors[measure.places].tolist() if measure.places else []
    return len(set(places)) == len(places) and all(0 <= place < len(of.ensemble) for place in places)


def coarse_first(n: int) -> list[int]:
    """An order of ``n`` places, in which the first few are spread over all of them, beginning with the last place.

    Args:
        n: how many places there are.
    """
    return [n - 1 - i for i in sorted(range(n), key=lambda i: -(i & -i) or -n)]
