"""Words that are explained where they stand, on hover and on focus; and the page Words with all of them."""

import html

import streamlit as st

from explorer.glossary import entries, words_in
from explorer.pages.plain import plain

STYLE = (
    ".term { border-bottom: 1px dotted; cursor: help; position: relative; }"
    ".term:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; border-radius: 2px; }"
    ".term > .meaning { visibility: hidden; position: absolute; z-index: 5; left: 0; top: calc(100% + 4px);"
    " width: max-content; max-width: min(360px, 80vw); padding: 8px 12px; border-radius: 6px;"
    " font: 400 14px/1.45 var(--st-font); letter-spacing: 0; text-align: left;"
    " background: var(--st-text-color); color: var(--st-background-color); }"
    ".term:hover > .meaning, .term:focus > .meaning { visibility: visible; }"
)


def explained(text: str) -> str:
    """``text`` as HTML, in which each word of the glossary shows its meaning on hover and on focus.

    Args:
        text: any text; it is escaped.
    """
    parts, at = [], 0
    for start, end, entry in words_in(text):
        parts.append(html.escape(text[at:start]))
        meaning = f'<span class="meaning" role="tooltip">{html.escape(entry.meaning)}</span>'
        parts.append(f'<span class="term" tabindex="0">{html.escape(text[start:end])}{meaning}</span>')
        at = end
    return "".join([*parts, html.escape(text[at:])])


def page() -> None:
    st.title("Words")
    for entry in sorted(entries(), key=lambda entry: entry.term.lower()):
        also = f" · {', '.join(entry.also)}" if entry.also else ""
        st.markdown(f"**{plain(entry.term)}**{plain(also)}  \n{plain(entry.meaning)}")
