"""From a line of text to a view of a run."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from explorer.errors import UserError
from explorer.film.film import Film
from explorer.options import resolve, texts_of
from explorer.runs import Runs
from explorer.runs.sweeps import sweep_names
from explorer.scene import Scene, read
from explorer.views import all_views, get_view
from explorer.views.swept import Seen, named, seen
from explorer.views.view import View, last

TRAIN = "python -m explorer train addition --checkpoints"  # and the folder of runs


@dataclass(frozen=True)
class Opened:
    """A scene with everything that it names."""

    scene: Scene  # in full: with its run, step and example, and without options that have their default
    view: View[Any, Any]
    subject: Seen
    options: Any  # an instance of the view's ``Options``

    def film(self) -> Film:
        """What the view shows, on the whole sample if it measures on one.

        Raises:
            UserError: there is nothing to show, or a run beside it cannot be read.
        """
        return last(self.films())

    def films(self) -> Iterator[tuple[Film, float]]:
        """What the view shows, on a growing sample, as `View.films`.

        Raises:
            UserError: as `film`.
        """
        example = self.subject.first_example if self.scene.example is None else self.scene.example
        if problem := self.view.unavailable(self.subject, example, self.options):
            raise UserError(problem)
        name = self.view.second_run(self.options)
        second = None if name is None else seen(named(self.subject.among, name))
        return self.view.whole_films(self.subject, example, self.options, second)


def fit_to_run(scene: Scene, subject: Seen) -> tuple[Scene, list[str]]:
    """A scene with a step and an example that a run has.

    Args:
        scene: the scene; parts that it leaves out get their defaults.
        subject: the run.

    Returns:
        The scene, and a sentence on each part that the run does not have. A step that is no snapshot's is replaced by
        that of the nearest snapshot, a text that is no example of the task by the first example.
    """
    problems = []
    step, example = scene.step, scene.example
    if step is None:
        step = subject.opening_step()
    elif step not in subject.frames:
        wanted = step
        step = min(subject.frames, key=lambda snapshot: abs(snapshot - wanted))
        problems.append(f"{subject.name} has no snapshot at step {wanted:,}; the nearest is at step {step:,}.")
    if example is None:
        example = subject.first_example
    else:
        try:
            subject.task.encode(example)
        except UserError as error:
            example = subject.first_example
            problems.append(str(error))
    return replace(scene, run=subject.name, step=step, example=example), problems


def open_scene(line: str, runs: Runs) -> Opened:
    """Open the scene that a line of text says.

    Args:
        line: as `explorer.scene.read` takes it.
        runs: the runs there are.

    Raises:
        UserError: something in the line does not fit; there is a sentence on each such thing, in lines of their own.
    """
    scene, problems = read(line, default_view=next(iter(all_views())))
    get_view(scene.view)
    names = runs.names() or sweep_names(runs)
    if scene.run is None and not names:
        train = f"train one with: {TRAIN} {shlex.quote(str(runs))}"
        raise UserError(f"{runs.emptiness()}; {runs.remedy(train)}")
    subject = seen(named(runs, names[0] if scene.run is None else scene.run))
    return open_on(scene, subject, problems)


def open_on(scene: Scene, subject: Seen, problems: Sequence[str] = ()) -> Opened:
    """Open a scene of a run that is in memory.

    Args:
        scene: the scene; its view exists.
        subject: its run.
        problems: sentences on what is wrong with it, as far as that is known.

    Raises:
        UserError: as `open_scene`.
    """
    view = get_view(scene.view)
    if not view.shows(subject):
        what, other = ("sweeps", "a run") if view.of_sweeps else ("runs", "a sweep")
        fitting = ", ".join(name for name, one in all_views().items() if one.fits(subject))
        raise UserError(f"The view {view.name} shows {what}, and {subject.name} is {other}; its views: {fitting}.")
    scene, unfit = fit_to_run(scene, subject)
    options, unread = resolve(view.options_type, subject, scene.example or "", dict(scene.options))
    if problems := [*problems, *unfit, *unread]:
        raise UserError("\n".join(problems))
    return Opened(replace(scene, options=texts_of(options, subject, scene.example or "")), view, subject, options)
