"""Text that anybody may have written, on a page that reads markdown."""

import re


def plain(text: str) -> str:
    """``text`` as markdown that shows it letter by letter.

    A word joiner, which is invisible, keeps Streamlit from making icons of ``:material/...:`` and links of addresses.
    """
    escaped = re.sub(r"([\\`*_{}\[\]()#+\-.!|~$:<>&])", r"\\\1", text)
    return re.sub(r"(:|@|www)", "\\1\u2060", escaped)
