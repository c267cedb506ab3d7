"""The page Stories, where the app opens: one story as a deck, and the choice of the others."""

import time

import streamlit as st

from explorer.errors import UserError, quoted
from explorer.film.deck import Deck
from explorer.film.export import deck_page, deck_page_size, size_text
from explorer.film.film import Film
from explorer.film.player import play_deck, take_slide
from explorer.pages import places, state
from explorer.pages.cache import caches
from explorer.pages.plain import plain
from explorer.pages.widgets import rerun_by_itself
from explorer.scene import Scene, read
from explorer.stories import all_stories
from explorer.stories.reader import Story
from explorer.stories.telling import Telling
from explorer.views.opening import open_on
from explorer.views.swept import Seen, named

DECK = "deck"
SOON = 0.1  # seconds until the films of the other beats are computed
SENT_AFTER = 2.0  # seconds; all films that are there are sent again with those that were computed since


def page() -> None:
    session = st.session_state
    try:
        stories, names = all_stories(), state.all_names()
        known = [name for name, story in stories.items() if story.run in names]
        if not known:
            st.info(state.no_runs())
            return
        chosen = session.options.setdefault("stories", {})
        if chosen.get("story") not in known:
            if chosen.get("story"):
                st.warning(plain(_missing(stories, chosen["story"])))
            chosen.update(story=known[0], beat="1")
        _choose(stories, known)
        story = stories[chosen["story"]]
        places.heading(story.title, story.question)
        _tell(Telling.of(story, state.seen(story.run)))
    except UserError as error:
        st.error(plain(str(error)))


def _missing(stories: dict[str, Story], name: str) -> str:
    if name not in stories:
        return f"There is no story {quoted(name)}; there are {', '.join(stories)}."
    return f"The run {stories[name].run} of the story {name} is not here; train it, or choose another story."


def _choose(stories: dict[str, Story], known: list[str]) -> None:
    """Choose a story by its title."""
    session = st.session_state
    session["choice.story"] = session.options["stories"]["story"]
    st.segmented_control(
        "Story",
        known,
        key="choice.story",
        format_func=lambda name: plain(stories[name].title),
        required=True,
        wrap=True,
        label_visibility="collapsed",
        on_change=lambda: session.options["stories"].update(story=session["choice.story"], beat="1"),
    )


def _tell(telling: Telling) -> None:
    """Play a story: the film of its present beat at once, the others when they are computed."""
    session, name = st.session_state, telling.story.name
    chosen = session.options["stories"]
    move = f"{name} {session.opened}"
    slide = take_slide(DECK) if session.get(f"{DECK}.move") == move else None
    beat = chosen.get("beat", "1")
    at = int(beat) - 1 if beat.isascii() and beat.isdigit() and len(beat) < 4 else 0
    at = min(max(at if slide is None else slide, 0), len(telling.scenes) - 1)
    chosen["beat"] = str(at + 1)
    session.scene = Scene("stories", options=(("beat", chosen["beat"]), ("story", name)))
    run = named(state.runs(), telling.story.run)
    version = (name, run.version())
    if session.get("story.version") != version:
        session["story.version"], session["story.films"] = version, {}
    films: dict[int, Film] = session["story.films"]
    if not films:
        with st.spinner("Computing all snapshots…"):
            films[telling.places[at]] = _film(telling, telling.places[at])
    deck = telling.deck([films.get(i) for i in range(len(telling.distinct))])
    play_deck(deck, DECK, move, at)
    missing = [i for i in range(len(telling.distinct)) if i not in films]
    if missing:
        rerun_by_itself(_compute, SOON, telling, missing, films)
    else:
        _offer(deck, name)


def _compute(telling: Telling, missing: list[int], films: dict[int, Film]) -> None:
    """The films of the other beats, as many as take a few seconds; then they are sent, and the next ones follow."""
    session = st.session_state
    if session.get("story.begun") != session["story.version"]:  # the first time, what is there is shown
        session["story.begun"] = session["story.version"]
        return
    begun = time.monotonic()
    for place in missing:
        films[place] = _film(telling, place)
        if time.monotonic() - begun > SENT_AFTER:
            break
    st.rerun()


def _film(telling: Telling, place: int) -> Film:
    """The film of a scene, from the cache where it can be."""
    run = named(state.runs(), telling.story.run)
    return caches().result(run, _shown, str(telling.distinct[place].scene))


def _shown(subject: Seen, line: str) -> Film:
    return open_on(read(line)[0], subject).film()


def _offer(deck: Deck, name: str) -> None:
    """Offer the story as one file, which is written when somebody asks for it."""
    st.download_button(
        f"Download this story as one HTML file ({size_text(deck_page_size(deck))})",
        lambda: deck_page(deck).encode(),
        file_name=f"{name}.html",
        mime="text/html",
        icon=":material/download:",
        on_click="ignore",
    )
