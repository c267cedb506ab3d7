"""The words of the explorer and what they mean, from one file: glossary.md."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("glossary.md")


@dataclass(frozen=True)
class Entry:
    """One word of the glossary."""

    term: str
    also: tuple[str, ...]  # other forms and names under which a text may have it
    meaning: str


@cache
def entries() -> tuple[Entry, ...]:
    """All entries, in the order of the file.

    Raises:
        ValueError: an entry has no meaning, or a term or another form of one occurs twice.
    """
    found = []
    for section in re.split(r"^## ", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        term, _, rest = section.partition("\n")
        also, meaning = "", rest.strip()
        if meaning.startswith("also:"):
            also, _, meaning = meaning.removeprefix("also:").partition("\n")
        entry = Entry(term.strip(), tuple(filter(None, map(str.strip, also.split(",")))), " ".join(meaning.split()))
        if not entry.meaning:
            raise ValueError(f"The word {entry.term!r} has no meaning in {FILE.name}.")
        found.append(entry)
    forms = [form.lower() for entry in found for form in (entry.term, *entry.also)]
    if twice := {form for form in forms if forms.count(form) > 1}:
        raise ValueError(f"{', '.join(sorted(twice))} occurs more than once in {FILE.name}.")
    return tuple(found)


def meanings() -> dict[str, str]:
    """Every term and every other form of one, in lower case -> its meaning."""
    return {form: entry.meaning for form, entry in _by_form().items()}


def words_in(text: str) -> Iterator[tuple[int, int, Entry]]:
    """The words of the glossary in a text, each where it occurs first.

    Args:
        text: any text.

    Yields:
        (start, end, entry), in the order of the text; of overlapping words the longest.
    """
    seen = set()
    for match in _pattern().finditer(text):
        entry = _by_form()[match[0].lower()]
        if entry not in seen:
            seen.add(entry)
            yield match.start(), match.end(), entry


@cache
def _by_form() -> dict[str, Entry]:
    return {form.lower(): entry for entry in entries() for form in (entry.term, *entry.also)}


@cache
def _pattern() -> re.Pattern[str]:
    longest_first = sorted(_by_form(), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)
