"""What a page says and offers of measures that take minutes."""

from typing import Any

import streamlit as st

from explorer.errors import UserError, duration
from explorer.measures import jobs
from explorer.measures.measure import files_of
from explorer.pages import state
from explorer.pages.plain import plain
from explorer.pages.widgets import guarded, rerun_by_itself
from explorer.runs.measures import Kept, MeasureFiles
from explorer.training.process import run_apart
from explorer.views.measuring import MeasuredView, Needed, kept
from explorer.views.subject import Subject

REFRESH = 1.0  # seconds, while it is being measured
PROBLEM = "measure.problem"


def offer(view: MeasuredView[Any], subject: Subject, options: Any) -> None:
    """How far each measure of a view is, and a button that begins it, goes on with it, or stops it.

    Args:
        view: the view.
        subject: the run.
        options: the view's options.
    """
    if problem := st.session_state.pop(PROBLEM, ""):
        st.error(plain(problem))
    if state.is_read_only():
        return
    for i, needed in enumerate(view.needs(subject, options)):
        files, found = files_of(subject.run, *needed), kept(subject, needed)
        if files.is_measuring():
            rerun_by_itself(_progress, REFRESH, needed[0].title, files, 0 if found is None else found.done)
        elif found is None:
            seconds = state.cached(_seconds, view, st.session_state.example, options)
            _offer(needed, subject, "Measure", seconds[i])
        elif found.share < 1:
            _offer(needed, subject, "Go on measuring", found.seconds_left)


def _seconds(subject: Subject, view: MeasuredView[Any], example: str, options: Any) -> tuple[float, ...]:
    """Of each measure, on one thread, as it is measured."""
    return run_apart(lambda: view.seconds(subject, example, options), 1)


def _offer(needed: Needed, subject: Subject, label: str, seconds: float) -> None:
    measure, _ = needed
    with st.container(horizontal=True, vertical_alignment="center"):
        key = f"measure.{files_of(subject.run, *needed).name}"
        st.button(
            label,
            key=key,
            icon=":material/play_arrow:",
            on_click=guarded,
            args=(PROBLEM, jobs.start, subject.run, *needed),
        )
        said = f"{measure.title}: {measure.sentence} About {duration(seconds)} on one core."
        st.caption(plain(said), width="stretch")


def _progress(title: str, files: MeasureFiles, shown: int) -> None:
    """How far it is; the page runs again when there is more to show, or nobody measures any longer."""
    try:
        found = files.read()
    except UserError:  # of another version, which is about to be replaced
        found = None
    if not files.is_measuring() or (found is not None and found.done != shown):
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        share, said = _told(found)
        st.progress(share, plain(f"{title}: {said}"))
        st.button(
            "Stop",
            key=f"measure.stop.{files.name}",
            icon=":material/stop:",
            on_click=guarded,
            args=(PROBLEM, files.request_stop),
        )


def _told(found: Kept | None) -> tuple[float, str]:
    if found is None:
        return 0.0, "measuring…"
    return found.share, f"{found.done:,} of {found.n_pieces:,} pieces, about {duration(found.seconds_left)} left"
