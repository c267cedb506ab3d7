"""Words that are explained where they stand, on hover and on focus; and the page Words with all of them."""

import html

import streamlit as st

from explorer.glossary import entries, words_in
from explorer.pages.plain import plain


def explained(text: str) -> str:
    """``text`` as HTML, in which each word of the glossary shows its meaning on hover and on focus.

    Args:
        text: any text; it is escaped.
    """
    parts, at = [], 0
    for start, end, entry in words_in(text):
        parts.append(html.escape(text[at:start]))
        meaning, word = html.escape(entry.meaning), html.escape(text[start:end])
        parts.append(
            f'<span class="term" tabindex="0" data-meaning="{meaning}" aria-description="{meaning}">{word}</span>'
        )
        at = end
    return "".join([*parts, html.escape(text[at:])])


def page() -> None:
    st.html('<div class="heading"><h1>What do the words mean?</h1></div>')
    for entry in sorted(entries(), key=lambda entry: entry.term.lower()):
        also = f" · {', '.join(entry.also)}" if entry.also else ""
        st.markdown(f"**{plain(entry.term)}**{plain(also)}  \n{plain(entry.meaning)}")
