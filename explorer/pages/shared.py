"""What all pages share: the chosen run, the snapshot and the example, which stand in the URL and survive a change of
page, and the one way in which a page shows a Film.

The session state holds ``run`` (a name), ``step`` (of the snapshot) and ``example`` (a text).
"""

import os
import re
import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import streamlit as st

from explorer.errors import UserError, quoted
from explorer.film.film import Film
from explorer.film.player import play, take_stop
from explorer.runs import Run, Runs
from explorer.tasks.data import Example
from explorer.views.subject import Subject

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
URL_KEYS = ("run", "step", "example")
NO_RUNS = "There are no runs yet. Train one on the page Train, or with `python -m explorer train addition`."
RUNS_KEPT, VIEWS_KEPT = 4, 12  # in memory; views of each run
PLAYER = "player"  # every page has one player, under one key


def runs() -> Runs:
    """The runs in the folder named by ``EXPLORER_CHECKPOINTS``, or in the project's own ``checkpoints``."""
    return Runs(os.environ.get("EXPLORER_CHECKPOINTS", CHECKPOINTS))


def plain(text: str) -> str:
    """Text that anybody may have written, as markdown that shows it letter by letter.

    A word joiner, which nobody sees, keeps Streamlit from making icons of ``:material/...:`` and links of addresses.
    """
    escaped = re.sub(r"([\\`*_{}\[\]()#+\-.!|~$:<>&])", r"\\\1", text)
    return re.sub(r"(:|@|www)", "\\1\u2060", escaped)


# --- The chosen run ---


class _Kept:
    """A run in memory for all sessions: as it was read last, and what views gave for it. One version of each, or a
    run that is being trained would pile up."""

    def __init__(self):
        self.lock = threading.Lock()
        self.version: tuple[object, ...] | None = None
        self.subject: Subject | None = None
        self.views: dict[tuple[Hashable, ...], _KeptView] = {}  # the last used last

    def read(self, run: Run) -> tuple[tuple[object, ...], Subject]:
        """The run as it is now, and which version of it that is."""
        with self.lock:
            version = run.version()
            if self.subject is None or version != self.version:
                self.subject, self.version = Subject.load(run, self.subject), version
            return version, self.subject

    def view(self, runs: Sequence[Run], view: Callable, parameters: tuple[Hashable, ...]) -> Any:
        """What a view gives for these runs, of which this is the first. Who wants the same waits for whoever asked
        first, and nobody else does."""
        versions, subjects = zip(*(_of(run).read(run) for run in runs), strict=True)
        key = (view.__module__, view.__qualname__, *(run.name for run in runs), *parameters)
        with self.lock:
            kept = self.views[key] = self.views.pop(key, None) or _KeptView()
            if len(self.views) > VIEWS_KEPT:
                del self.views[next(iter(self.views))]
        with kept.lock:
            if kept.versions != versions:
                kept.made, kept.versions = view(*subjects, *parameters), versions
            return kept.made


class _KeptView:
    def __init__(self):
        self.lock = threading.Lock()
        self.versions: tuple[object, ...] | None = None  # of the runs that it was made of
        self.made: Any = None


@st.cache_resource(max_entries=RUNS_KEPT, show_spinner=False)
def _kept(root: str, name: str) -> _Kept:
    return _Kept()


def _of(run: Run) -> _Kept:
    return _kept(str(run.folder.parent), run.name)


def subject(quiet: bool = False) -> Subject:
    """The chosen run, read once for all sessions.

    Args:
        quiet: without a word while it takes long, which would push down what is on screen.

    Raises:
        UserError: it cannot be read.
    """
    run = runs().open(st.session_state.run)
    with nullcontext() if quiet else st.spinner("Reading snapshots…"):
        return _of(run).read(run)[1]


def viewed(view: Callable, *parameters: Hashable, beside: str | None = None, quiet: bool = False) -> Any:
    """What ``view(subject, *parameters)`` gives for the chosen run, computed once for all sessions.

    Args:
        beside: the name of another run, which ``view`` is given as its second subject.
        quiet: as for `subject`.

    Raises:
        UserError: a run cannot be read, or the view cannot use the parameters.
    """
    of = [runs().open(name) for name in (st.session_state.run, beside) if name is not None]
    with nullcontext() if quiet else st.spinner("Asking every snapshot…"):
        return _of(of[0]).view(of, view, parameters)


# --- State and URL ---


def begin() -> None:
    """Take up what the URL said when the session began and what the player says since; see that the run exists."""
    state = st.session_state
    try:
        there = runs().names()
    except UserError as error:
        st.error(plain(str(error)))
        st.stop()
    for name in URL_KEYS:
        if name not in state:
            state[name] = st.query_params.get(name)
    follow()
    first = next(iter(there), None)
    if state.run not in there:
        if state.run is not None and there:
            st.warning(plain(f"There is no run {quoted(state.run)}; this is {first}."))
        state.run = first


def follow() -> bool:
    """Take up where people have stopped the player, if they have."""
    stopped = take_stop(PLAYER)
    if stopped is not None:
        st.session_state.step = stopped
    return stopped is not None


def to_url() -> None:
    """Let the URL say what is on screen, in one change or none."""
    state = st.session_state
    said = {name: str(state[name]) for name in URL_KEYS if state[name] is not None}
    if st.query_params.to_dict() != said:
        st.query_params.from_dict(said)


def choose_run(name: str) -> None:
    """Look at another run, at the step where its first phase change begins."""
    st.session_state.run, st.session_state.step = name, None
    st.session_state.switched = True


def settle(subject: Subject) -> None:
    """See that step and example are ones that this run has."""
    state = st.session_state
    if state.step not in subject.steps:
        try:
            wanted = int(state.step)
            state.step = min(subject.steps, key=lambda step: abs(step - wanted))
        except (TypeError, ValueError, OverflowError):
            state.step = subject.opening_step()
    switched = state.pop("switched", False)
    if switched and not _readable(subject, state.get("refused")):
        state.refused = None
    if state.example is not None:
        try:
            subject.task.encode(state.example)
            return
        except UserError as error:
            if not switched:  # of another task it goes without a word
                st.warning(plain(str(error)))
    state.example = next(iter(subject.task.examples.values()))


def _readable(subject: Subject, text: str | None) -> bool:
    try:
        subject.task.encode(text or "")
    except UserError:
        return False
    return True


# --- Widgets that several pages have ---


def sidebar() -> None:
    """The run and the snapshot, for every page."""
    state = st.session_state
    with st.sidebar:
        names = runs().names()
        if not names:
            return
        state["choice.run"] = state.run
        st.selectbox("Run", names, key="choice.run", on_change=lambda: choose_run(state["choice.run"]))
        try:
            chosen = subject()
        except UserError as error:
            st.error(plain(str(error)))
            return
        settle(chosen)
        state["choice.step"] = state.step
        st.selectbox(
            "Snapshot",
            chosen.steps,
            key="choice.step",
            format_func=lambda step: f"step {step:,}",
            on_change=lambda: state.update(step=state["choice.step"]),
        )
        st.caption(plain(facts(chosen)))
        for problem in chosen.problems:
            st.warning(plain(problem))


def facts(subject: Subject) -> str:
    """A run in a line."""
    info = subject.info
    done = f"{info.steps_done:,} steps, {len(subject.steps)} snapshots in {info.training.snapshot_dtype}"
    progress = "being trained" if info.status == "running" else done
    return f"{info.task.title} · {info.data} · {info.shape} · {progress}"


def example_input(subject: Subject) -> Example:
    """Choose or type an example. What was typed and is none is explained, and the last one stays on screen."""
    state, task = st.session_state, subject.task
    names = {text: name for name, text in task.examples.items()}
    typed, picked = "choice.example", "choice.named"

    def take(text: str) -> UserError | None:
        try:
            task.encode(text)
        except UserError as error:
            state.refused = text
            return error
        state.example, state.refused = text, None
        return None

    # What one run refused, another may take.
    refusal = None if state.get("refused") is None else take(state.refused)
    state[typed] = state.refused if refusal else state.example
    state[picked] = state.example if state.example in names else None

    with st.container(horizontal=True, vertical_alignment="center"):
        st.text_input(
            f"Type a {task.noun}",
            key=typed,
            on_change=lambda: take(state[typed]),
            label_visibility="collapsed",
            placeholder=f"Type a {task.noun}, such as {next(iter(names))}",
            icon=":material/edit:",
            width=280 if task.n_ctx <= 24 else 560,
        )
        st.pills(
            f"or take one of these {task.noun}s",
            list(names),
            key=picked,
            format_func=lambda text: plain(names[text]),
            on_change=lambda: take(state[picked] or state.example),
            label_visibility="collapsed",
            wrap=True,
        )
    if refusal:
        st.error(plain(str(refusal)))
    return task.encode(state.example)


def choice(label: str, options: Sequence[str], key: str) -> str:
    """One of a few, which outlives a look at another page; the first where this run lacks what was chosen."""
    if st.session_state.get(key) not in options:
        st.session_state[key] = options[0]
    if len(options) == 1:
        return options[0]
    return st.segmented_control(
        label, options, required=True, key=key, persist_state="session", label_visibility="collapsed", wrap=True
    )


def show(film: Film, figures: bool = True) -> None:
    """Play a film at the session's step.

    Args:
        figures: whether people may have a panel of this snapshot as a figure.
    """
    play(film, key=PLAYER, step=st.session_state.step)
    titles = film.figures()
    if not figures or not titles:
        return
    if st.toggle("A panel of this snapshot as a figure, to zoom, point at and download", key="still"):
        if st.session_state.get("still.panel") not in titles:
            st.session_state["still.panel"] = list(titles)[:2][-1]  # the first below the timeline
        id = st.selectbox("Panel", titles, key="still.panel", format_func=titles.get, label_visibility="collapsed")
        picture(film.figure(id, st.session_state.step), key="still.figure")


def picture(figure: Any, key: str) -> None:
    """A figure that stands still."""
    st.plotly_chart(figure, key=key, config={"displaylogo": False, "toImageButtonOptions": {"scale": 2}})


# --- Pages ---


def page(body: Callable[[Subject], None]) -> Callable[[], None]:
    """A page over the run that the sidebar has settled: where something cannot be shown, it says why and what to do."""

    def run_page() -> None:
        if st.session_state.run is None:
            st.info(NO_RUNS)
            return
        try:
            body(subject())
        except UserError as error:
            st.error(plain(str(error)))

    run_page.__name__ = body.__name__
    return run_page
