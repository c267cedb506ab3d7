"""What a view is: its options, and what it shows of a run.

A new view is one file in this folder with one subclass of `View`; it is found by looking. Its options are a frozen
dataclass of fields made with `explorer.scene`; the page renders its widgets from them, and links carry them.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from explorer.film.film import Film
from explorer.film.panels.panel import Panel
from explorer.scene import NoOptions
from explorer.views.subject import Subject


@dataclass(frozen=True)
class Note:
    """A sentence."""

    text: str
    is_heading: bool = False
    is_problem: bool = False  # says why something cannot be shown
    is_quiet: bool = False  # small, below what it is about


@dataclass(frozen=True)
class Link:
    """A button that changes the scene; what it does not name stays as it is."""

    label: str
    help: str = ""
    example: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # values of the view's own options


@dataclass(frozen=True)
class Links:
    """Several links in a row, after a word that says what they are."""

    links: Sequence[Link]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table that can be sorted. None is an empty cell.

    Attributes:
        columns: heading -> cells.
        steps: the headings of columns of training steps.
        probabilities: the headings of columns of probabilities, which are also drawn as bars.
        help: heading -> what the column says.
    """

    columns: Mapping[str, Sequence[Any]]
    steps: Sequence[str] = ()
    probabilities: Sequence[str] = ()
    help: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Figures:
    """Panels that do not depend on the snapshot, as figures beside each other."""

    panels: Sequence[Panel]


@dataclass(frozen=True)
class Choices:
    """Some of the view's options that stand with what they change, below the film."""

    names: Sequence[str]


Item = Note | Links | Table | Figures | Choices


class View(ABC):
    """One way to look at a run. Views know neither Streamlit nor which task it is."""

    name: ClassVar[str]  # in a link, "phase-changes"
    title: ClassVar[str]  # in the navigation, "Phase changes"
    icon: ClassVar[str]  # the name of a Material Symbol
    place: ClassVar[tuple[int, int]]  # the section of the navigation, and where in it
    Options: ClassVar[type] = NoOptions

    def lacks(self, subject: Subject, example: str, options: Any) -> str:
        """Why there is nothing to show, and what to do about it; empty where there is something."""
        return ""

    def asks_example(self, options: Any) -> bool:
        """Whether the view shows one example, which people may choose."""
        return True

    def beside(self, options: Any) -> str | None:
        """The name of a second run, if the view shows one."""
        return None

    @abstractmethod
    def film(self, subject: Subject, example: str, options: Any, *beside: Subject) -> Film:
        """What is shown at every snapshot.

        Args:
            subject: the run.
            example: the text of an example of the run's task.
            options: an instance of the view's ``Options``.
            beside: the run that the method of this name asks for.

        Raises:
            UserError: it cannot be shown; the sentence says why and what to do.
        """

    def above(self, subject: Subject, example: str, options: Any) -> Sequence[Item]:
        """What stands above the film."""
        return ()

    def below(self, subject: Subject, example: str, options: Any) -> Sequence[Item]:
        """What stands below the film.

        Raises:
            UserError: as `film`.
        """
        return ()


def named(texts: Sequence[Hashable]) -> dict[Hashable, str]:
    """Choices that are called what they are."""
    return {text: str(text) for text in texts}
