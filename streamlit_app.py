"""The explorer. Start it with: streamlit run streamlit_app.py"""

from pathlib import Path

import streamlit as st

from explorer.pages.starting import quick_imports

with quick_imports():
    from explorer.film.script import style
    from explorer.pages import address, glossary, places, runs, state, stories, train
    from explorer.pages.explore import page_of
    from explorer.scene import Scene
    from explorer.views import all_views

    views = all_views()

ICON = str(Path(__file__).parent / "explorer" / "pages" / "icon.svg")
OPENING = "stories"  # the page at the address without a path

st.set_page_config(page_title="Phase-change explorer", page_icon=ICON, layout="wide")
st.html(f"<style>{places.STYLE} {style('words')}</style>")
pages = {
    "stories": st.Page(stories.page, title="Stories", icon=":material/auto_stories:", default=True),
    **{
        name: st.Page(page_of(view), title=view.title, icon=f":material/{view.icon}:", url_path=name)
        for name, view in views.items()
    },
    "runs": st.Page(runs.page, title="Runs", icon=":material/folder_open:", url_path="runs"),
    "words": st.Page(glossary.page, title="Words", icon=":material/dictionary:", url_path="words"),
}
if not state.is_read_only():
    pages["train"] = st.Page(train.page, title="Train", icon=":material/model_training:", url_path="train")
current = st.navigation(list(pages.values()), position="hidden")
name = current.url_path or OPENING
state.begin(name)
places.bar(name, pages)
st.session_state.scene = None
if name not in views:
    with st.container():
        state.show_notices()
current.run()
if st.session_state.scene is None:
    st.session_state.scene = Scene(name, st.session_state.run, st.session_state.step, st.session_state.example)
places.title(st.session_state.scene)
address.write(st.session_state.scene, st.session_state.opened)
