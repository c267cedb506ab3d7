"""Reads a story: a Markdown file whose beats are scenes of a run.

The format is described in CONTRIBUTING.md. Raw HTML is not passed on: it is shown as it is written.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.front_matter import front_matter_plugin

from explorer.errors import UserError, listed, printable, quoted
from explorer.scene import Scene, read
from explorer.views import get_view

MAX_WORDS = 12  # of a headline
FRONT = ("title", "question", "run", "order")
KEYS = ("panel", "light", "veil")
FIGURE = re.compile(r"\{\{(.*?)\}\}")
STEP = re.compile(r"[0-9]{1,3}(,?[0-9]{3})*|[0-9]+")
BLOCKS = {"paragraph_open", "bullet_list_open", "ordered_list_open"}
MARKDOWN = MarkdownIt("commonmark", {"html": False}).disable(["image", "entity"]).use(front_matter_plugin)
PROSE = MarkdownIt("commonmark", {"html": False}).disable(["image", "entity", "heading", "lheading", "fence", "code"])


class Fill(Protocol):
    """Gives the text of a figure, such as "losses/tens at 870", which is written in a line of the story."""

    def __call__(self, figure: str, line: int) -> str: ...


@dataclass(frozen=True)
class Prose:
    """Markdown as it is written, and where."""

    file: Path
    line: int  # of its first line, from 1
    source: str

    def filled(self, fill: Fill) -> str:
        """The text with its figures.

        Args:
            fill: gives each of them.

        Raises:
            UserError: as ``fill``.
        """
        lines = self.source.split("\n")
        return "\n".join(
            FIGURE.sub(lambda found, at=self.line + i: fill(found[1].strip(), at), text)  # type: ignore[misc]
            for i, text in enumerate(lines)
        )

    def html(self, fill: Fill) -> str:
        """The text as HTML, without any that was written in it.

        A link to a step is a button with ``data-step``, one to a name a button with ``data-light``, and one to a scene
        a link of the class ``scene``.

        Args:
            fill: gives each figure.

        Raises:
            UserError: a link leads elsewhere, or as ``fill``.
        """
        tokens = PROSE.parse(self.filled(fill))
        for token in tokens:
            line = self.line + (token.map or [0])[0]
            ends: list[str] = []  # the tags of links that are open
            for child in token.children or ():
                if child.type in ("softbreak", "hardbreak"):
                    line += 1
                elif child.type == "link_open":
                    child.tag, child.attrs = _target(unquote(str(child.attrGet("href"))), self.file, line)
                    ends.append(child.tag)
                elif child.type == "link_close":
                    child.tag = ends.pop()
        return str(PROSE.renderer.render(tokens, PROSE.options, {}))


@dataclass(frozen=True)
class Beat:
    """One scene of a story.

    Attributes:
        headline: plain text, perhaps with figures.
        scene: with the run.
        scene_line: where the scene is written, from 1.
        panel: the id of the panel that is shown large.
        light: the name that lights up.
        veil: the step after which timelines are covered until the reveal.
        text: what is said.
        reveal: what is said after the reveal.
    """

    headline: Prose
    scene: Scene
    scene_line: int
    panel: str
    light: str | None
    veil: int | None
    text: Prose
    reveal: Prose | None


@dataclass(frozen=True)
class Story:
    """A story, as it is written."""

    file: Path
    title: str
    question: str
    run: str
    order: int
    beats: tuple[Beat, ...]

    @property
    def name(self) -> str:
        """In links and on the command line."""
        return self.file.stem


def read_story(file: Path) -> Story:
    """Read a story.

    Args:
        file: in Markdown.

    Raises:
        UserError: it cannot be read, or something in it is wrong; the message names the file and the line.
    """
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{printable(file)} cannot be read; write it as a text file in UTF-8.") from error
    tokens = [token for token in MARKDOWN.parse(source) if token.level == 0 and token.map is not None]
    front = _front(file, tokens[0] if tokens else None)
    lines = source.split("\n")
    starts = [i for i, token in enumerate(tokens) if (token.type, token.tag) == ("heading_open", "h2")]
    if not starts:
        raise wrong(file, 1, "there is no beat; begin one with a heading of level 2")
    for token in tokens[1 : starts[0]]:
        raise wrong(file, _line(token), "this is in no beat; begin one above it with a heading of level 2")
    beats = [
        _beat(file, tokens[start:end], lines, front["run"])
        for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True)
    ]
    return Story(file, front["title"], front["question"], front["run"], front["order"], tuple(beats))


def wrong(file: Path, line: int, problem: str) -> UserError:
    """The error of something that is wrong in a story.

    Args:
        file: of the story.
        line: where, from 1.
        problem: a sentence without its full stop.
    """
    return UserError(f"{printable(file.name)}, line {line}: {problem}.")


def _line(token: Token) -> int:
    return (token.map or [0])[0] + 1


def _front(file: Path, token: Token | None) -> Mapping[str, Any]:
    if token is None or token.type != "front_matter":
        raise wrong(file, 1, f"the file begins with {listed(FRONT)} between two lines of three hyphens")
    try:
        front = yaml.safe_load(token.content)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise wrong(file, 2 + (mark.line if mark else 0), "this is no YAML; write each as NAME: TEXT") from error
    if not isinstance(front, dict) or set(front) != set(FRONT):
        raise wrong(file, 1, f"the front matter has {listed(FRONT)}, and nothing else")
    for name, kind in zip(FRONT, (str, str, str, int), strict=True):
        if type(front[name]) is not kind or front[name] == "":
            what = "a whole number" if kind is int else "text; put it in quotes if YAML takes it for something else"
            raise wrong(file, 1, f"{name} is {what}")
    return front


def _beat(file: Path, tokens: Sequence[Token], lines: Sequence[str], run: str) -> Beat:
    heading, *rest = tokens
    headline = Prose(file, _line(heading), re.sub(r"^#+\s*|\s+#+\s*$", "", lines[_line(heading) - 1]))
    n_words = len(FIGURE.sub("0", headline.source).split())
    if not 0 < n_words <= MAX_WORDS:
        raise wrong(file, headline.line, f"the headline has {n_words} words; it has one to {MAX_WORDS}")
    scenes = [token for token in rest if token.type == "fence" and token.info.strip() == "scene"]
    if len(scenes) != 1:
        at = _line(scenes[1] if scenes else heading)
        raise wrong(file, at, f"the beat has {len(scenes)} scenes; it has one, as a block that begins with ```scene")
    texts: list[list[Token]] = [[]]
    for token in rest:
        if token.type == "heading_open":
            title = lines[_line(token) - 1].strip("# ")
            if token.tag != "h3" or title != "Reveal" or len(texts) > 1:
                raise wrong(file, _line(token), "inside a beat there is one more heading at most, ### Reveal")
            texts.append([])
        elif token.type in BLOCKS:
            texts[-1].append(token)
        elif token is not scenes[0]:
            raise wrong(file, _line(token), "a beat has one scene, paragraphs and lists, and nothing else")
    said = [_prose(file, blocks, lines) for blocks in texts]
    for text, where in zip(said, ("the beat", "the reveal"), strict=False):
        if text is None:
            raise wrong(file, headline.line, f"{where} says nothing; write one to three sentences")
    assert said[0] is not None
    return Beat(headline, *_scene(file, scenes[0], run), text=said[0], reveal=said[1] if len(said) > 1 else None)


def _prose(file: Path, blocks: Sequence[Token], lines: Sequence[str]) -> Prose | None:
    """The source of blocks, each after an empty line; None if there are none. Its links are checked."""
    if not blocks:
        return None
    first, last = _line(blocks[0]), max(token.map[1] for token in blocks if token.map)
    inside = {i for token in blocks if token.map for i in range(*token.map)}
    # A scene between two paragraphs is left out, and the number of lines stays.
    source = "\n".join(lines[i] if i in inside else "" for i in range(first - 1, last))
    prose = Prose(file, first, source)
    prose.html(lambda figure, line: "0")
    return prose


def _scene(file: Path, token: Token, run: str) -> tuple[Scene, int, str, str | None, int | None]:
    """The scene of a beat, its line, its panel, what lights up, and its veil."""
    numbered = [(n, text.strip()) for n, text in enumerate(token.content.split("\n"), _line(token) + 1) if text.strip()]
    if not numbered:
        raise wrong(file, _line(token), "the scene is empty; write it as VIEW?NAME=VALUE, as in a link of Explore")
    (at, line), *rest = numbered
    scene, problems = read(line)
    if problems:
        raise wrong(file, at, problems[0].rstrip("."))
    values: dict[str, str] = {}
    for n, text in rest:
        key, colon, value = (part.strip() for part in text.partition(":"))
        if key not in KEYS or not colon or not value or key in values:
            raise wrong(file, n, f"{quoted(text)} is not read; below the scene there is {listed(KEYS)}, once each")
        if key == "veil" and not STEP.fullmatch(value):
            raise wrong(file, n, f"the veil is at a step, such as 400, not {quoted(value)}")
        values[key] = value
    if "panel" not in values:
        raise wrong(file, at, "the beat shows no panel large; write panel: and its id below the scene")
    veil = int(values["veil"].replace(",", "")) if "veil" in values else None
    return replace(scene, run=scene.run or run), at, values["panel"], values.get("light"), veil


def _target(href: str, file: Path, line: int) -> tuple[str, dict[str, str | int | float]]:
    """The tag and the attributes of a link."""
    kind, colon, value = href.partition(":")
    if colon and kind == "step" and STEP.fullmatch(value):
        return "button", {"type": "button", "data-step": value.replace(",", "")}
    if colon and kind == "light" and value:
        return "button", {"type": "button", "data-light": value}
    scene, problems = read(href)
    try:
        if problems or not re.fullmatch(r"[\w-]+(\?.*)?", href):
            raise UserError("")
        get_view(scene.view)
    except UserError:
        raise wrong(
            file, line, f"a link leads to step:STEP, light:NAME or a scene such as heads?run=RUN, not to {quoted(href)}"
        ) from None
    return "a", {"class": "scene", "href": str(scene)}
