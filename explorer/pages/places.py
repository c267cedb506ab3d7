"""The places of the app, and the bars at the top that lead to them and to the views of Explore."""

from collections.abc import Mapping

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from explorer.film.palette import CURSOR, LINE, PAPER, STRONG
from explorer.pages.glossary import explained
from explorer.scene import Scene
from explorer.views import all_views

COLOURS = {"text": STRONG, "background": PAPER, "border": LINE, "primary": CURSOR}

# The bar of places is in the line of Streamlit's own header, which keeps its menu on the right. Streamlit writes
# captions, and white on the primary colour, with too little contrast.
STYLE = f"""
.stApp {{ {" ".join(f"--st-{name}-color: light-dark({of['light']}, {of['dark']});" for name, of in COLOURS.items())} }}
.stMainBlockContainer {{ padding: 0.5rem 2.5rem 3rem; }}
@media (max-width: 50rem) {{ .stMainBlockContainer {{ padding: 0.5rem 1rem 3rem; }} }}
[data-testid=stHeader] {{ background: transparent; pointer-events: none; }}
[data-testid=stHeader] * {{ pointer-events: auto; }}
.st-key-places {{ min-height: 2.75rem; padding-right: 4rem; }}
.st-key-places p {{ font-weight: 600; }}
.st-key-views {{ border-bottom: 1px solid var(--st-border-color); padding-bottom: 4px; row-gap: 4px; }}
.heading h1 {{ font-size: 1.5rem; line-height: 1.3; font-weight: 600; padding: 0; margin: 0; }}
.heading p {{ margin: 4px 0 0; line-height: 1.5; max-width: 72rem; }}
[data-testid=stCaptionContainer] {{ color: inherit; opacity: 0.75; }}
[data-testid=stBaseButton-primary] *, .stMultiSelect [data-tag] * {{ color: var(--st-background-color); }}
/* Until a film is drawn it has the room of a screen, or what is below it would be in sight, and then jump away. */
.st-key-player:not(:has(.drawn)) {{ min-height: 100vh; }}
/* Do not fade the player while a training run updates it. */
.st-key-player[data-stale=true] {{ opacity: 1 !important; }}
"""


def bar(name: str, pages: Mapping[str, StreamlitPage]) -> None:
    """Links to the places, and to the views while one of them is shown.

    Args:
        name: of the page that is shown.
        pages: all pages, by name.
    """
    session, views = st.session_state, all_views()
    session.pages = dict(pages)
    if name in views:
        session.last_view = name
    explore = session.get("last_view", next(iter(views)))
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="places"):
        st.page_link(pages["stories"], label="Stories", icon=":material/auto_stories:")
        st.page_link(pages[explore], label="Explore", icon=":material/travel_explore:")
        if "train" in pages:
            st.page_link(pages["train"], label="Train", icon=":material/model_training:")
        st.page_link(pages["runs"], label="Runs", icon=":material/folder_open:")
        st.page_link(pages["words"], label="Words", icon=":material/dictionary:")


def heading(question: str, sentence: str) -> None:
    """The heading of a page, in which words of the glossary are explained.

    Args:
        question: the heading.
        sentence: below it.
    """
    st.html(f'<div class="heading"><h1>{explained(question)}</h1><p>{explained(sentence)}</p></div>')


def title(scene: Scene) -> None:
    """Name what is on screen in the browser's tab: the view and the run, or the place.

    Args:
        scene: what is on screen.
    """
    view = all_views().get(scene.view)
    names = [view.title, scene.run] if view else [st.session_state.pages[scene.view].title, "Phase-change explorer"]
    st.set_page_config(page_title=" · ".join(filter(None, names)))
