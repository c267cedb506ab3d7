"""The player's JavaScript, joined from its modules into one script in Python, so that running the app needs no node.

The modules in ``js`` are standard ES modules. In the joined script each module is a function that returns its exports,
so names in two modules never clash. Each function is called once, after those of the modules that it imports.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from explorer.film import palette
from explorer.film.panels import KINDS

FOLDER = Path(__file__).parent / "js"
STYLE = Path(__file__).parent / "player.css"
DECK_STYLE = Path(__file__).parent / "deck.css"
IMPORT = re.compile(r'^import \{([^{}]*)\} from "([^"]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?:async )?(default class|const|class|function) (\w+)", re.MULTILINE)


def joined(entry: str, folder: Path = FOLDER, kinds: Iterable[str] = KINDS) -> str:
    """A module joined with all that it imports, the palette as ``PALETTE`` and the kinds of panels as ``KINDS``.

    Args:
        entry: file name of the module; the script exports what it exports.
        folder: of the modules. In its folder ``panels`` each module draws one kind of panel and exports its class as
            default.
        kinds: of panels that must have a module.

    Returns:
        One ES module.

    Raises:
        ValueError: a module has an import or export of a form that cannot be joined, or modules import each other in a
            circle; a kind of panel has no module.
    """
    drawn = {path.stem: f"panels/{path.name}" for path in sorted((folder / "panels").glob("*.js"))}
    missing = sorted(set(kinds) - set(drawn))
    if missing:
        raise ValueError(f"No module draws panels of the kind {', '.join(missing)}; write js/panels/{missing[0]}.js.")
    ordered: list[str] = []
    for name in [*drawn.values(), entry]:
        _order(name, folder, ordered, [])
    registered = ", ".join(f'"{kind}": modules["{name}"].default' for kind, name in drawn.items())
    return "\n".join(
        [
            "const modules = {};",
            f"const PALETTE = {json.dumps(palette.for_player())};",
            *(_wrapped(name, folder) for name in ordered if name != entry),
            f"const KINDS = {{ {registered} }};",
            _imports(_text(entry, folder), entry),
        ]
    )


def _order(name: str, folder: Path, ordered: list[str], parents: list[str]) -> None:
    """Append a module to ``ordered``, after the modules that it imports."""
    if name in parents:
        raise ValueError(f"Modules import each other in a circle: {' → '.join([*parents, name])}.")
    if name in ordered:
        return
    for match in IMPORT.finditer(_text(name, folder)):
        _order(_resolved(match[2], name), folder, ordered, [*parents, name])
    ordered.append(name)


def _wrapped(name: str, folder: Path) -> str:
    """A module as a call of a function that returns its exports."""
    text = _imports(_text(name, folder), name)
    exports = [f"default: {found[2]}" if "default" in found[1] else found[2] for found in EXPORT.finditer(text)]
    text = re.sub(r"^export (default )?", "", text, flags=re.MULTILINE)
    return f'modules["{name}"] = (() => {{\n{text}return {{ {", ".join(exports)} }};\n}})();'


def _imports(text: str, name: str) -> str:
    """A module's text with its imports replaced by reads from ``modules``."""

    def read(match: re.Match[str]) -> str:
        names = " ".join(match[1].split()).replace(" as ", ": ")
        return f'const {{ {names} }} = modules["{_resolved(match[2], name)}"];\n'

    return IMPORT.sub(read, text)


def _resolved(target: str, name: str) -> str:
    """The name of the module at a path relative to the module ``name``."""
    parts = [*name.split("/")[:-1], *target.split("/")]
    resolved: list[str] = []
    for part in parts:
        if part == "..":
            resolved.pop()
        elif part != ".":
            resolved.append(part)
    return "/".join(resolved)


def _text(name: str, folder: Path) -> str:
    """A module's text.

    Raises:
        ValueError: an import or export has a form that cannot be joined.
    """
    text = (folder / name).read_text(encoding="utf-8")
    for line, rest in re.findall(r"^((?:import|export)\b.*)((?:\n(?!import|export).*)*)", text, re.MULTILINE):
        whole = f"{line}{rest}\n"
        if not (IMPORT.match(whole) or EXPORT.match(whole) or line.startswith("export default function (")):
            raise ValueError(f"{name}: write `{line}` as a named import, or as an exported const, class or function.")
    return text
