"""The exception for mistakes of a person, and how sentences show names, times and what others have written."""

from collections.abc import Sequence


class UserError(ValueError):
    """Something that was typed, uploaded or passed cannot be used.

    Its message is one sentence that names the input and the remedy. The command line prints it and exits with
    status 2; a page shows it in place of the result.
    """


def quoted(text: object, limit: int = 40) -> str:
    """Untrusted input in quotes, on one line, for use in a sentence.

    Args:
        text: the input.
        limit: characters after which it is cut off.
    """
    flat = " ".join(str(text).split())
    return repr(flat if len(flat) <= limit else f"{flat[:limit]}…")


def printable(text: object, limit: int = 500) -> str:
    """Untrusted text made safe to display.

    Args:
        text: any value; None is empty text.
        limit: characters after which it is cut off.

    Returns:
        The text without control characters and marks that change the direction of writing.
    """
    return "".join(c for c in str(text or "")[:limit] if c.isprintable())


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names in a sentence: "a, b and c", or "a, b and 7 others".

    Args:
        names: at least one.
        most: how many are named.
    """
    shown = list(names) if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1:,} others"]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def duration(seconds: float) -> str:
    """A time in words.

    Args:
        seconds: not negative.
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
