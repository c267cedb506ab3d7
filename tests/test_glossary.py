"""The glossary: its file, and the words that are found in a text."""

from html.parser import HTMLParser

from explorer.glossary import entries, words_in
from explorer.pages.glossary import explained
from explorer.views import all_views


class Shown(HTMLParser):
    """The text of HTML, and the meanings that its words have."""

    def __init__(self, html: str):
        super().__init__()
        self.text, self.meanings = "", []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        assert (tag, dict(attributes)["tabindex"]) == ("span", "0")
        self.meanings.append(dict(attributes)["data-meaning"])

    def handle_data(self, data):
        self.text += data


def test_the_longest_word_is_found_once_whole_and_in_any_case():
    found = [
        (text[start:end], entry.term)
        for text in ["Attention patterns, the attention pattern; a Head, headache"]
        for start, end, entry in words_in(text)
    ]
    assert found == [("Attention patterns", "attention pattern"), ("Head", "head")]


def test_every_entry_says_what_it_means_in_a_sentence():
    assert len(entries()) > 30
    for entry in entries():
        assert entry.meaning.endswith("."), entry.term
        assert len(entry.meaning) < 260, entry.term


def test_an_explained_text_keeps_its_words_and_escapes_everything_else():
    text = "<b>heads & nats</b> <img src=x onerror=alert(1)>"
    html = explained(text)
    assert "<b>" not in html
    assert "<img" not in html
    assert Shown(html).text == text
    assert Shown(html).meanings == [entry.meaning for entry in entries() if entry.term in ("nats", "head")][::-1]


def test_the_terms_of_the_views_are_explained_where_they_are_met():
    explained_terms = {entry.term for view in all_views().values() for _, _, entry in words_in(view.sentence)}
    assert {"direct logit attribution", "logit lens", "QK circuit", "OV circuit", "query position"} <= explained_terms
