"""The page of a view: widgets made from its options, its film, and what stands above and below it."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from explorer.errors import UserError
from explorer.film.film import Film
from explorer.film.player import play
from explorer.pages import state as scene
from explorer.pages.plain import plain
from explorer.pages.widgets import example_input, option_input
from explorer.scene import At, Scene, Several, options_of, texts_of
from explorer.views.subject import Subject
from explorer.views.view import Choices, Figures, Item, Links, Note, Table, View


def page_of(view: View) -> Callable[[], None]:
    """The page that shows a view of the chosen run. What cannot be shown is explained in a sentence."""

    def page() -> None:
        if st.session_state.run is None:
            st.info(scene.NO_RUNS)
            return
        try:
            _show(view, scene.subject())
        except UserError as error:
            st.error(plain(str(error)))

    page.__name__ = view.name
    return page


def _show(view: View, subject: Subject) -> None:
    state = st.session_state
    options = scene.chosen(view, subject)
    scene.show_notices()
    widgets = _Widgets(view, subject, options)
    with st.container(horizontal=True, vertical_alignment="bottom" if widgets.are_labelled else "center"):
        widgets.show_all("row")
    if view.asks_example(options):
        example_input(subject)
    widgets.show_all("after")
    widgets.show_more()
    state.scene = Scene(view.name, subject.name, state.step, state.example, texts_of(options, subject, state.example))
    if lacking := view.lacks(subject, state.example, options):
        st.info(plain(lacking))
        return
    for item in scene.viewed(view.above, state.example, options):
        _item(item, widgets)
    show_film(scene.viewed(view.film, state.example, options, beside=view.beside(options)))
    for item in scene.viewed(view.below, state.example, options):
        _item(item, widgets)


class _Widgets:
    """The widgets of a view's options."""

    def __init__(self, view: View, subject: Subject, options: Any):
        self.view, self.options, self.subject = view, options, subject
        self._values = {name: getattr(options, name) for name in options_of(view.Options)}
        self._shown = {}
        earlier: dict[str, Any] = {}
        for name, option in options_of(view.Options).items():
            at = At(subject, st.session_state.example, earlier)
            if option.has_effect(at):
                self._shown[name] = (option, at)
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
            option, at = self._shown[name]
            key = f"{self.view.name}.{name}"
            option_input(key, option, at, self._values[name], lambda text: self.take({name: text}))

    def show_more(self) -> None:
        """Those behind the expander, whose title says what is chosen there."""
        more = {name: at for name, (option, at) in self._shown.items() if option.place == "more"}
        counts = []
        for name, at in more.items():
            option = self._shown[name][0]
            if isinstance(option, Several) and not option.choices_at(at):
                continue
            counts.append(f"{len(self._values[name]) or 'all'} {option.label_at(at).lower()}")
        if counts:
            with st.expander(f"Shown: {plain(', '.join(counts))}", icon=":material/tune:"):
                for name, at in more.items():
                    if self._shown[name][0].choices_at(at):
                        self.show(name)

    def take(self, texts: dict[str, str]) -> None:
        scene.choose(self.view, self.options, texts)

    def go(self, example: str | None, values: dict[str, Any]) -> None:
        """Change the scene as a link says."""
        state = st.session_state
        if example is not None:
            state.example = example
            state.refused.pop("choice.example", None)
        declared = options_of(self.view.Options)
        self.take({name: declared[name].written(value) for name, value in values.items()})


def _item(item: Item, widgets: _Widgets) -> None:
    match item:
        case Note():
            _note(item)
        case Links():
            with st.container(horizontal=True, vertical_alignment="center"):
                if item.title:
                    st.caption(item.title, width="content")
                for i, link in enumerate(item.links):
                    st.button(
                        plain(link.label),
                        key=f"link.{i}.{link.label}",
                        on_click=widgets.go,
                        args=(link.example, dict(link.options)),
                        help=link.help or None,
                    )
        case Table():
            _table(item)
        case Figures():
            for panel, column in zip(item.panels, st.columns(len(item.panels)), strict=True):
                with column:
                    picture(panel.figure(0, ()), key=f"figure.{panel.id}")
        case Choices():
            with st.container(horizontal=True, vertical_alignment="bottom"):
                for name in item.names:
                    widgets.show(name)


def _note(note: Note) -> None:
    if note.is_heading:
        st.markdown(f"**{plain(note.text)}**")
    elif note.is_problem:
        st.error(plain(note.text))
    elif note.is_quiet:
        st.caption(plain(note.text))
    else:
        st.info(plain(note.text))


def _table(table: Table) -> None:
    columns = {
        heading: pd.array(cells, dtype="Int64") if heading in table.steps else cells
        for heading, cells in table.columns.items()
    }
    bars = st.column_config.ProgressColumn
    look: dict[str, Any] = {heading: st.column_config.Column(help=sentence) for heading, sentence in table.help.items()}
    for heading, cells in table.columns.items():
        said = table.help.get(heading)
        if heading in table.probabilities:
            look[heading] = bars(min_value=0, max_value=1, format="%.4f", help=said)
        elif heading in table.steps:
            look[heading] = st.column_config.NumberColumn(format="localized", help=said)
        elif all(isinstance(cell, float) for cell in cells):
            look[heading] = st.column_config.NumberColumn(format="%.4g", help=said)
    st.dataframe(pd.DataFrame(columns), hide_index=True, column_config=look)


def show_film(film: Film, figures: bool = True) -> None:
    """Play a film at the session's step.

    Args:
        film: what to play.
        figures: whether people may have a panel of this snapshot as a figure.
    """
    state = st.session_state
    play(film, key=scene.PLAYER, step=state.step, switches=state.scene.switches, opened=state.opened)
    titles = film.figures()
    if not figures or not titles:
        return
    if st.toggle("A panel of this snapshot as a figure, to zoom, point at and download", key="still"):
        if state.get("still.panel") not in titles:
            state["still.panel"] = list(titles)[min(1, len(titles) - 1)]  # the first below the timeline
        id = st.selectbox(
            "Panel", list(titles), key="still.panel", format_func=titles.__getitem__, label_visibility="collapsed"
        )
        picture(film.figure(id, state.step), key="still.figure")


def picture(figure: Any, key: str) -> None:
    """A figure that does not move."""
    st.plotly_chart(figure, key=key, config={"displaylogo": False, "toImageButtonOptions": {"scale": 2}})
