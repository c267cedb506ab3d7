"""The check that every task makes of typed text before parsing it."""

from explorer.errors import UserError

MAX_TYPED = 200  # characters


def check_length(text: str, form: str, most: int = MAX_TYPED) -> None:
    """Refuse input that is too long to be an example.

    Args:
        text: what was typed.
        form: the end of the sentence, which says what to type.
        most: the largest number of characters that is accepted.

    Raises:
        UserError: the text is longer.
    """
    if len(text) > most:
        raise UserError(f"That is {len(text):,} characters; {form}")
