"""Escaping of untrusted text for markdown."""

import re


def plain(text: str) -> str:
    """``text`` escaped so that markdown shows it literally.

    An invisible word joiner keeps Streamlit from turning ``:material/...:`` into icons and addresses into links.

    Args:
        text: any text.
    """
    escaped = re.sub(r"([\\`*_{}\[\]()#+\-.!|~$:<>&])", r"\\\1", text)
    return re.sub(r"(:|@|www)", "\\1\u2060", escaped)


def code(text: str) -> str:
    """``text`` as a code span of markdown, which shows it literally.

    Args:
        text: any text on one line.
    """
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if text.startswith("`") or text.endswith("`") else f"{fence}{text}{fence}"
