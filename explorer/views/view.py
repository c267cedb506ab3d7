"""The interface of a view: its options, and what it shows of a run.

A new view is one file in this folder with one subclass of `View`; it is discovered automatically. Its options are a
frozen dataclass of fields made with `explorer.options`; the page makes widgets for them, and links carry them.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic

from typing_extensions import TypeVar

from explorer.film.film import Film
from explorer.film.panels.panel import Panel
from explorer.options import NoOptions
from explorer.views import looking
from explorer.views.subject import Subject
from explorer.views.swept import Seen, Swept

Options = TypeVar("Options")
Shown = TypeVar("Shown", Subject, Swept, default=Subject)  # what it shows: a run, unless it says otherwise
Value = TypeVar("Value")


@dataclass(frozen=True)
class Note:
    """A sentence, in a box unless it is of one of these kinds."""

    text: str
    is_line: bool = False  # of running text
    is_heading: bool = False
    is_error: bool = False
    is_caption: bool = False


@dataclass(frozen=True)
class Link:
    """A button that changes parts of the scene."""

    label: str
    help: str = ""
    example: str | None = None  # the new example; None keeps the present one
    options: Mapping[str, Any] = field(default_factory=dict)  # new values of some of the view's options
    view: str = ""  # the name of the view to go to, whose options these are; empty: this one
    run: str = ""  # the name of the run to go to; empty: this one


@dataclass(frozen=True)
class Links:
    """A row of links after a title."""

    links: Sequence[Link]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table that can be sorted. None is an empty cell.

    Attributes:
        columns: heading -> cells.
        steps: headings of the columns of training steps.
        probabilities: headings of the columns of probabilities, which are drawn as bars.
        help: heading -> tooltip.
    """

    columns: Mapping[str, Sequence[Any]]
    steps: Sequence[str] = ()
    probabilities: Sequence[str] = ()
    help: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Figures:
    """Panels that are the same for all snapshots, as figures side by side."""

    panels: Sequence[Panel]


@dataclass(frozen=True)
class Choices:
    """The widgets of some of the view's options, shown here, below the film."""

    names: Sequence[str]


Item = Note | Links | Table | Figures | Choices


class View(ABC, Generic[Options, Shown]):
    """One view of a run, or of a sweep. Independent of Streamlit and of any single task."""

    name: ClassVar[str]  # in a link, "losses"
    title: ClassVar[str]  # in the navigation, "Losses"
    icon: ClassVar[str]  # the name of a Material Symbol
    heading: ClassVar[str]  # the question that the view answers
    sentence: ClassVar[str]  # what it shows, for somebody who sees it for the first time
    order: ClassVar[int]  # its position among the views
    options_type: ClassVar[type[Any]] = NoOptions  # the dataclass `Options`
    inside: ClassVar[bool] = False  # whether it shows what a model has learnt inside, which is nothing at first
    growing: ClassVar[str] = ""  # what is said while its film grows

    of_sweeps: ClassVar[bool] = False  # whether it shows sweeps

    def offered(self, info: Any) -> bool:
        """Whether the view has something to say of runs of this kind, or of sweeps of this kind.

        Args:
            info: of the run or the sweep.
        """
        return True

    def fits(self, subject: Seen) -> bool:
        """Whether the view has something to say of a run or a sweep.

        Args:
            subject: the run or the sweep.
        """
        return self.shows(subject) and self.offered(subject.info)

    def shows(self, subject: Seen) -> bool:
        """Whether the view shows runs, and this is one; or sweeps, and this is one.

        Args:
            subject: the run or the sweep.
        """
        return self.of_sweeps == isinstance(subject, Swept)

    def unavailable(self, subject: Shown, example: str, options: Options) -> str:
        """Why the view cannot be shown, and a remedy; empty if it can. Arguments as for `film`."""
        return ""

    def uses_example(self, subject: Shown, options: Options) -> bool:
        """Whether the view depends on the example."""
        return True

    def second_run(self, options: Options) -> str | None:
        """The name of the second run that `film` needs, if it needs one."""
        return None

    @abstractmethod
    def film(self, subject: Shown, example: str, options: Options, second: Shown | None = None) -> Film:
        """The panels, at every snapshot.

        Args:
            subject: the run.
            example: the text of an example of the run's task.
            options: the view's options.
            second: the run named by `second_run`.

        Raises:
            UserError: the view cannot be shown; the message says why and how to change that.
        """

    def films(
        self, subject: Shown, example: str, options: Options, second: Shown | None = None
    ) -> Iterator[tuple[Film, float]]:
        """The film again and again, with more in it or on larger samples, for a view that takes long. Arguments as for
        `film`, which is the last of them.

        Yields:
            A film, and the share of the work that is done, 1 with the last film.

        Raises:
            UserError: as `film`.
        """
        yield self.film(subject, example, options, second), 1.0

    def look(self, subject: Shown, film: Film) -> Sequence[str]:
        """What to look at in each frame. By default, what has changed most in one panel.

        Args:
            subject: the run.
            film: what the view shows of it.

        Returns:
            (frame,) sentences, for the film's frames; or none.
        """
        return looking.largest_change(film)

    def whole_film(self, subject: Shown, example: str, options: Options, second: Shown | None = None) -> Film:
        """`film` as it is shown and exported: with sentences on what to look at, and with a gap at each snapshot whose
        weights cannot be computed with.

        Arguments and errors as for `film`.
        """
        return self._whole(subject, self.film(subject, example, options, second))

    def whole_films(
        self, subject: Shown, example: str, options: Options, second: Shown | None = None
    ) -> Iterator[tuple[Film, float]]:
        """`films`, each as in `whole_film`. Arguments and errors as for `films`."""
        latest, shown = None, None
        for film, share in self.films(subject, example, options, second):
            if film is not latest:  # otherwise the player has it already
                latest, shown = film, self._whole(subject, film)
            yield shown or film, share

    def _whole(self, subject: Shown, film: Film) -> Film:
        look = self.look(subject, film)
        if self.inside and isinstance(subject, Subject):
            look = looking.from_first_fall(subject, film.steps, look)
        return replace(film, look=look, origin=subject.origin).with_gaps(subject.gaps)

    def above(self, subject: Shown, example: str, options: Options) -> Sequence[Item]:
        """The items above the film. Arguments as for `film`."""
        return ()

    def below(self, subject: Shown, example: str, options: Options) -> Sequence[Item]:
        """The items below the film. Arguments as for `film`.

        Raises:
            UserError: as `film`.
        """
        return ()


class GrowingView(View[Options, Shown]):
    """A view whose film comes in parts."""

    def film(self, subject: Shown, example: str, options: Options, second: Shown | None = None) -> Film:
        return last(self.films(subject, example, options, second))

    @abstractmethod
    def films(
        self, subject: Shown, example: str, options: Options, second: Shown | None = None
    ) -> Iterator[tuple[Film, float]]: ...


def last(films: Iterator[tuple[Film, float]]) -> Film:
    """The last film, in which everything is.

    Args:
        films: at least one.
    """
    ((film, _),) = deque(films, maxlen=1)
    return film


def same_labels(values: Iterable[Value]) -> dict[Value, str]:
    """Choices whose labels are their values.

    Args:
        values: the values of an option.

    Returns:
        Value -> label.
    """
    return {value: str(value) for value in values}
