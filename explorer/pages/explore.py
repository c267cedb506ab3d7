"""The page of a view: widgets for its options, its film, and the items above and below the film."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pandas as pd
import streamlit as st

from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.palette import Mode
from explorer.film.player import play, take_ask
from explorer.options import Context, Option, Several, options_of, texts_of
from explorer.pages import places, state
from explorer.pages.cache import Growing
from explorer.pages.measuring import offer
from explorer.pages.plain import plain
from explorer.pages.widgets import example_input, option_input, rerun_by_itself, run_input
from explorer.runs.sweeps import sweep_names
from explorer.scene import Scene
from explorer.views import all_views
from explorer.views.measuring import MeasuredView
from explorer.views.subject import Subject
from explorer.views.swept import Seen, named
from explorer.views.view import Choices, Figures, Item, Link, Links, Note, Table, View

GROW = 0.1  # seconds between two parts of a growing sample


def page_of(view: View[Any, Any]) -> Callable[[], None]:
    """A Streamlit page that shows a view of the selected run, or the message of a `UserError`.

    Args:
        view: the view.
    """

    def page() -> None:
        if st.session_state.run is None:
            st.info(state.no_runs())
            return
        try:
            _show(view)
        except UserError as error:
            st.error(plain(str(error)))

    page.__name__ = view.name
    return page


def _show(view: View[Any, Any]) -> None:
    """The run, the example, the views and the words of this one, each at one place on the pages of all views; then the
    widgets of its options and its film."""
    session = st.session_state
    left, right = st.columns([3, 7])
    with left:
        subject = run_input()
    if subject is None:
        return
    left.caption(plain(subject.facts))
    if not view.shows(subject):
        st.switch_page(session.pages[next(name for name, other in all_views().items() if other.fits(subject))])
    _follow(view, subject, take_ask(state.PLAYER))
    options = state.current_options(view, subject)
    if not view.of_sweeps:
        with right:
            example_input(subject, is_used=view.uses_example(subject, options))
    _view_links(view, subject)
    places.heading(view.heading, view.sentence)
    state.show_notices()
    for problem in subject.problems:
        st.warning(plain(problem))
    widgets = _Widgets(view, subject, options)
    with st.container(horizontal=True, vertical_alignment="bottom" if widgets.are_labelled else "center"):
        widgets.show_all("row")
    widgets.show_all("after")
    widgets.show_more()
    session.scene = Scene(
        view.name, subject.name, session.step, session.example, texts_of(options, subject, session.example)
    )
    if isinstance(view, MeasuredView) and isinstance(subject, Subject):
        offer(view, subject, options)
    if problem := view.unavailable(subject, session.example, options):
        st.info(plain(problem))
        if not view.offered(subject.info):
            _other_runs(view)
        return
    for item in state.cached(view.above, session.example, options):
        _show_item(item, widgets)
    second_run = view.second_run(options)
    for problem in () if second_run is None else state.seen(second_run).problems:
        st.warning(plain(problem))
    growing = state.growing(view, options)
    if growing.share < 1:
        rerun_by_itself(_grow, GROW, growing)
    else:
        _show_film(growing.film)
    for item in state.cached(view.below, session.example, options):
        _show_item(item, widgets)


def _follow(view: View[Any, Any], subject: Seen, ask: str | None) -> None:
    """Show the view or the example that the reader has asked the player for, if any."""
    session = st.session_state
    which, _, what = (ask or "").partition(" ")
    by = {"next": 1, "previous": -1}.get(which, 0)
    if what == "view":
        names = [name for name, other in all_views().items() if other.fits(subject) or name == view.name]
        st.switch_page(session.pages[names[(names.index(view.name) + by) % len(names)]])
    elif what == "example":
        texts = list(subject.task.examples.values())
        at = texts.index(session.example) if session.example in texts else -1 if by > 0 else 0
        session.example = texts[(at + by) % len(texts)]
    elif which == "open":
        _open(what)
    elif which == "ablate":
        options = state.current_options(view, subject)
        left, changed = [name for name in options.without if name != what], what not in options.without
        state.set_options(view, options, {"without": ",".join([*left, what] if changed else left)})


def _open(name: str) -> None:
    """Look at a run of a sweep, where its weights were kept."""
    session = st.session_state
    try:
        info = state.runs().open(name).info()
    except UserError:
        info = None
    if info is None or not info.snapshots:
        kept = "There is no folder of the run" if info is None else "Only losses were kept of"
        session.notices = [f"{kept} {name}; train its sweep with --keep all to look inside."]
        return
    step = session.step
    state.choose_run(name)
    session.step = min(info.snapshots, key=lambda snapshot: abs(snapshot - step))
    st.switch_page(session.pages["overview"])


def _view_links(view: View[Any, Any], subject: Seen) -> None:
    """Links to the views that have something to say of the run, this one among them."""
    with st.container(horizontal=True, gap=None, key="views"):
        for name, other in all_views().items():
            if other.fits(subject) or name == view.name:
                st.page_link(st.session_state.pages[name], label=other.title, help=other.heading)


def _other_runs(view: View[Any, Any]) -> None:
    """Buttons for the runs of which a view has something to say."""
    with st.container(horizontal=True):
        for name in sweep_names(state.runs()) if view.of_sweeps else state.runs().names():
            with suppress(UserError):  # a run that cannot be read is reported on the page Runs
                if view.offered(named(state.runs(), name).info()):
                    st.button(plain(name), key=f"other.{name}", on_click=state.choose_run, args=(name,))


def _grow(growing: Growing) -> None:
    """A film whose sample grows, until the page is run again with the final one."""
    stopped = state.sync_step()
    growing.grow()
    _show_film(growing.film)
    st.progress(growing.share, "Measuring on more examples, or more snapshots…")
    if stopped or growing.share == 1:
        st.rerun()


class _Widgets:
    """The widgets of a view's options."""

    def __init__(self, view: View[Any, Any], subject: Seen, options: Any):
        self.view, self.options, self.subject = view, options, subject
        self._values = {name: getattr(options, name) for name in options_of(view.options_type)}
        self._shown: dict[str, tuple[Option, Context]] = {}
        earlier: dict[str, Any] = {}
        for name, option in options_of(view.options_type).items():
            context = Context(subject, st.session_state.example, earlier)
            if option.has_effect(context):
                self._shown[name] = (option, context)
            earlier = {**earlier, name: self._values[name]}

    @property
    def are_labelled(self) -> bool:
        return any(option.labelled for option, _ in self._shown.values() if option.place == "row")

    def show_all(self, place: str) -> None:
        for name, (option, _) in self._shown.items():
            if option.place == place:
                self.show(name)

    def show(self, name: str) -> None:
        if name in self._shown:
            option, context = self._shown[name]
            key = f"{self.view.name}.{name}"
            option_input(key, option, context, self._values[name], lambda text: self.set_options({name: text}))

    def show_more(self) -> None:
        """The widgets in the expander, whose title tells how many values are selected in each."""
        counts = {}
        for name, (option, context) in self._shown.items():
            if option.place == "more" and isinstance(option, Several) and option.choices_at(context):
                counts[name] = f"{len(self._values[name]) or 'all'} {option.label_at(context).lower()}"
        if counts:
            with st.expander(f"Shown: {plain(', '.join(counts.values()))}", icon=":material/tune:"):
                for name in counts:
                    self.show(name)

    def set_options(self, texts: dict[str, str]) -> None:
        state.set_options(self.view, self.options, texts)

    def follow_link(self, link: Link) -> None:
        """Apply the changes of a `Link` to the scene."""
        session = st.session_state
        if link.example is not None:
            session.example = link.example
            session.refused.pop("choice.example", None)
        view = all_views()[link.view] if link.view else self.view
        options = state.current_options(view, self.subject) if link.view else self.options
        declared = options_of(view.options_type)
        texts = {name: declared[name].text_of(value) for name, value in link.options.items()}
        state.set_options(view, options, texts)


def _show_item(item: Item, widgets: _Widgets) -> None:
    match item:
        case Note():
            _show_note(item)
        case Links():
            with st.container(horizontal=True, vertical_alignment="center"):
                if item.title:
                    st.caption(item.title, width="content")
                for i, link in enumerate(item.links):
                    pressed = st.button(
                        plain(link.label),
                        key=f"link.{i}.{link.label}",
                        on_click=widgets.follow_link,
                        args=(link,),
                        help=link.help or None,
                    )
                    if pressed and link.view:
                        st.switch_page(st.session_state.pages[link.view])
        case Table():
            _show_table(item)
        case Figures():
            for panel, column in zip(item.panels, st.columns(len(item.panels)), strict=True):
                with column:
                    show_figure(panel.figure(0, (), _mode()), key=f"figure.{panel.id}")
        case Choices():
            with st.container(horizontal=True, vertical_alignment="bottom"):
                for name in item.names:
                    widgets.show(name)


def _show_note(note: Note) -> None:
    if note.is_heading:
        st.markdown(f"**{plain(note.text)}**")
    elif note.is_error:
        st.error(plain(note.text))
    elif note.is_caption:
        st.caption(plain(note.text))
    else:
        st.info(plain(note.text))


def _show_table(table: Table) -> None:
    columns = {
        heading: pd.array(cells, dtype="Int64") if heading in table.steps else cells
        for heading, cells in table.columns.items()
    }
    config: dict[str, Any] = {}
    for heading, cells in table.columns.items():
        tooltip = table.help.get(heading)
        if heading in table.probabilities:
            config[heading] = st.column_config.ProgressColumn(min_value=0, max_value=1, format="%.4f", help=tooltip)
        elif heading in table.steps:
            config[heading] = st.column_config.NumberColumn(format="localized", help=tooltip)
        elif all(isinstance(cell, float) for cell in cells):
            config[heading] = st.column_config.NumberColumn(format="%.4g", help=tooltip)
        elif tooltip:
            config[heading] = st.column_config.Column(help=tooltip)
    st.dataframe(pd.DataFrame(columns), hide_index=True, column_config=config)


def play_film(film: Film, asks: bool) -> None:
    """Play a film at the session's step.

    Args:
        film: the film.
        asks: as for `play`.
    """
    session = st.session_state
    play(film, state.PLAYER, session.step, session.switches, session.opened, asks)


def _show_film(film: Film) -> None:
    """Play a film, and offer each panel as a plotly figure of the current snapshot."""
    session = st.session_state
    play_film(film, asks=True)
    titles = film.figures()
    if not titles:
        return
    if st.toggle("Show a panel of this snapshot as a figure, to zoom and download", key="still"):
        if session.get("still.panel") not in titles:
            session["still.panel"] = list(titles)[min(1, len(titles) - 1)]  # the first below the timeline
        id = st.selectbox(
            "Panel", list(titles), key="still.panel", format_func=titles.__getitem__, label_visibility="collapsed"
        )
        show_figure(film.figure(id, session.step, _mode()), key="still.figure")


def _mode() -> Mode:
    """The theme of the page."""
    return "dark" if st.context.theme.type == "dark" else "light"


def show_figure(figure: Any, key: str) -> None:
    """Show a plotly figure.

    Args:
        figure: a plotly figure.
        key: of the widget.
    """
    st.plotly_chart(figure, key=key, config={"displaylogo": False, "toImageButtonOptions": {"scale": 2}})
