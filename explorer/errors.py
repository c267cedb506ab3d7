"""The one exception that is meant for a person."""


class UserError(ValueError):
    """What somebody typed, uploaded or passed cannot be used.

    Its text is one sentence that names the input and the remedy. The command line prints it and exits with
    status 2; a page shows it where the answer would have been.
    """


def quoted(text: object, limit: int = 40) -> str:
    """A piece of untrusted input, short and on one line, fit to stand inside a sentence."""
    flat = " ".join(str(text).split())
    return repr(flat if len(flat) <= limit else f"{flat[:limit]}…")
