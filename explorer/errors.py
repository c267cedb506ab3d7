"""The exception for mistakes of a person."""


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
