"""Views of measures that take minutes: what they show is there once it was measured, and comes in parts until then."""

import dataclasses
import shlex
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from explorer.errors import UserError
from explorer.measures.measure import Measure, Measured, read_kept
from explorer.runs.measures import Kept
from explorer.views.subject import Subject
from explorer.views.view import Options, View

Needed = tuple[Measure[Any], Any]  # a measure and its settings


class MeasuredView(View[Options]):
    """A view that shows such measures."""

    @abstractmethod
    def needs(self, subject: Subject, options: Options) -> Sequence[Needed]:
        """The measures that are shown, and their settings. The view is shown when there is something of one of them.

        Args:
            subject: the run.
            options: the view's options.
        """

    def seconds(self, subject: Subject, example: str, options: Options) -> tuple[float, ...]:
        """How long each of `needs` takes on the threads that there are, all of it. Arguments as for `film`."""
        return tuple(one.seconds(measured(subject), settings) for one, settings in self.needs(subject, options))

    def unavailable(self, subject: Subject, example: str, options: Options) -> str:
        needed = self.needs(subject, options)
        whys = [why_missing(subject, one) for one in needed]
        if not all(whys):
            return ""
        where = "where the run is in a folder, with" if subject.run.runs.read_only else "with"
        return f"{whys[0]} It can be measured {where}: {_command(subject, needed[0])}"


def kept(subject: Subject, needed: Needed) -> Kept | None:
    """What there is of a measure; None if there is nothing, or nothing that fits the run.

    Args:
        subject: the run.
        needed: the measure and its settings.
    """
    return _found(subject, needed)[0]


def why_missing(subject: Subject, needed: Needed) -> str:
    """Why there is nothing of a measure to show, in a sentence; empty if there is something.

    Args:
        subject: the run.
        needed: the measure and its settings.
    """
    return _found(subject, needed)[1]


def _found(subject: Subject, needed: Needed) -> tuple[Kept | None, str]:
    """What there is to show, or why there is nothing."""
    measure, settings = needed
    try:
        found, stale = read_kept(subject.run, measure, settings, measured(subject))
    except UserError as error:
        return None, str(error)
    if stale:
        return None, f"What was measured is {stale}."
    return found, "" if found else f"{measure.title} has not been measured yet."


def _command(subject: Subject, needed: Needed) -> str:
    """The command that computes a measure of a run with these settings."""
    measure, settings = needed
    usual = dataclasses.asdict(measure.chosen(subject.run, measured(subject)))
    others = [f"{name}={value}" for name, value in dataclasses.asdict(settings).items() if value != usual[name]]
    sets = [word for other in others for word in ("--set", other)]
    return shlex.join(["python", "-m", "explorer", "measure", measure.name, subject.name, *sets])


def measured(subject: Subject) -> Measured:
    """A run, for measures.

    Args:
        subject: the run.
    """
    return Measured(subject.info, subject.ensemble)
