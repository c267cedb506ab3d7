"""The check that every task makes of what somebody typed, before it reads it."""

from explorer.errors import UserError

MAX_TYPED = 200  # characters


def check_length(text: str, form: str, most: int = MAX_TYPED) -> None:
    """Refuse input that is too long to be an example.

    Args:
        text: what was typed.
        form: the end of the sentence, which says what to type.
        most: characters that are accepted.

    Raises:
        UserError: there are more.
    """
    if len(text) > most:
        raise UserError(f"That is {len(text):,} characters; {form}")
