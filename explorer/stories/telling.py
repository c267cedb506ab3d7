"""A story with its run: the scenes of its beats, and the deck that shows them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from explorer.errors import UserError
from explorer.film.deck import Deck, Slide
from explorer.film.film import Film
from explorer.scene import Scene
from explorer.stories.figures import Measured
from explorer.stories.reader import Beat, Story, wrong
from explorer.views import get_view
from explorer.views.opening import Opened, open_on
from explorer.views.subject import Subject
from explorer.views.swept import Seen

TYPED = "answers"  # the view in which people type examples of their own
PENDING = "…"  # in place of a figure whose film is not computed yet


@dataclass(frozen=True)
class Telling:
    """A story with its run.

    Attributes:
        story: as it is written.
        scenes: of its beats, opened.
        places: (beat,) of each beat's scene among the distinct ones.
        distinct: the scenes whose films differ; beats that differ in their step or in the player's switches share one.
    """

    story: Story
    scenes: tuple[Opened, ...]
    places: tuple[int, ...]
    distinct: tuple[Opened, ...]

    @classmethod
    def of(cls, story: Story, subject: Seen) -> "Telling":
        """Open the scenes of a story.

        Args:
            story: as it is written.
            subject: its run.

        Raises:
            UserError: a scene is wrong; the message names file and line.
        """
        scenes = tuple(_opened(story, beat, subject) for beat in story.beats)
        kept: dict[Scene, Opened] = {}
        for scene in scenes:
            kept.setdefault(_film_of(scene), scene)
        keys = list(kept)
        places = tuple(keys.index(_film_of(scene)) for scene in scenes)
        return cls(story, scenes, places, tuple(kept.values()))

    def deck(self, films: Sequence[Film | None]) -> Deck:
        """The story as it is shown, with its figures filled.

        Args:
            films: of the ``distinct`` scenes, on their whole samples; None for one that is not computed yet.

        Raises:
            UserError: a figure cannot be filled, or a panel or a step does not exist; the message names file and line.
        """
        slides = [
            self._slide(beat, scene, films[place], place)
            for beat, scene, place in zip(self.story.beats, self.scenes, self.places, strict=True)
        ]
        is_of_a_run = isinstance(self.scenes[-1].subject, Subject)
        own = str(Scene(TYPED, self.story.run)) if is_of_a_run else ""
        slides[-1] = replace(slides[-1], explore=str(self.story.beats[-1].scene), own=own)
        return Deck(self.story.title, self.story.run, slides, films)

    def _slide(self, beat: Beat, opened: Opened, film: Film | None, place: int) -> Slide:
        file, step = self.story.file, opened.scene.step or 0
        if film is not None:
            panels = [panel.id for panel in film.panels]
            if beat.panel not in panels:
                what = f"the scene has no panel {beat.panel!r}; it has {', '.join(panels)}"
                raise wrong(file, beat.scene_line, what)
            if beat.veil is not None and not film.steps[0] <= beat.veil < film.steps[-1]:
                last = f"{film.steps[-1]:,}"
                raise wrong(file, beat.scene_line, f"the veil is before the last step, {last}, not at {beat.veil:,}")
            if beat.veil is not None and step > beat.veil:
                raise wrong(file, beat.scene_line, f"step {step:,} is behind the veil at {beat.veil:,}")
        fill = (lambda figure, line: PENDING) if film is None else Measured(file, opened.subject, film, step)
        return Slide(
            headline=beat.headline.filled(fill),
            text=beat.text.html(fill),
            reveal="" if beat.reveal is None else beat.reveal.html(fill),
            film=place,
            start=step,
            switches=opened.scene.switches,
            panel=beat.panel,
            light=beat.light,
            veil=beat.veil,
        )


def _opened(story: Story, beat: Beat, subject: Seen) -> Opened:
    try:
        get_view(beat.scene.view)
        if beat.scene.run != story.run:
            raise UserError(f"The run of the story is {story.run}; leave the run of the scene out.")
        return open_on(beat.scene, subject)
    except UserError as error:
        raise wrong(story.file, beat.scene_line, str(error).rstrip(".")) from None


def _film_of(opened: Opened) -> Scene:
    """What the film of a scene depends on."""
    scene = opened.scene
    example = scene.example if opened.view.uses_example(opened.subject, opened.options) else None
    return replace(scene, step=None, player="", example=example)
