"""Tokenizers of language models, from a tokenizer.json, by the hash of that file.

A task holds the hash only: it is small, can be compared, and is written into every snapshot.
"""

import functools
import hashlib
from typing import Any

from explorer.errors import UserError

VISIBLE = {" ": "␣", "\n": "⏎", "\t": "⇥"}
PACKAGE = "tokenizers==0.23.3"

_known: dict[str, "Tokenizer"] = {}


class Tokenizer:
    """Splits text into tokens.

    Args:
        text: of a tokenizer.json.

    Raises:
        UserError: it is no such file, or the package that reads it is missing.
    """

    def __init__(self, text: str):
        try:
            from tokenizers import Tokenizer as Reader
        except ImportError as error:
            raise UserError(
                f"A tokenizer.json is read by a package that is not installed; install it with: pip install {PACKAGE}, "
                "or leave the file out and type token ids."
            ) from error
        try:
            self._reader: Any = Reader.from_str(text)
            self._reader.no_padding()
            self._reader.no_truncation()
        except BaseException as error:  # the package raises Exception, and panics in its own way
            if isinstance(error, KeyboardInterrupt):
                raise
            raise UserError("The tokenizer.json cannot be read as that of a tokenizer; leave it out.") from error

    @property
    def size(self) -> int:
        """The number of tokens, those added for special purposes included."""
        return int(self._reader.get_vocab_size())

    def ids(self, text: str) -> list[int]:
        """The tokens of a text.

        Args:
            text: any.
        """
        return list(self._reader.encode(text).ids)

    @functools.cache  # noqa: B019  # tokenizers are few and kept anyway
    def written(self, n: int) -> tuple[str, ...]:
        """How the first ``n`` tokens are written, with white space made visible.

        Args:
            n: how many; beyond `size` they are numbers.
        """
        return tuple(map(self._one, range(n)))

    def _one(self, token: int) -> str:
        text = self._reader.decode([token], skip_special_tokens=False)
        if not text or "\ufffd" in text:  # a part of a character
            text = self._reader.id_to_token(token)
        return str(token) if text is None else "".join(VISIBLE.get(letter, letter) for letter in text)


def remember(text: str) -> str:
    """Keep a tokenizer.

    Args:
        text: of its tokenizer.json.

    Returns:
        The hash by which `known` finds it.

    Raises:
        UserError: as `Tokenizer`.
    """
    name = hashlib.sha256(text.encode()).hexdigest()
    if name not in _known:
        _known[name] = Tokenizer(text)
    return name


def known(name: str) -> Tokenizer | None:
    """The tokenizer with this hash; None if there is none here.

    Args:
        name: as `remember` returns it.
    """
    return _known.get(name)
