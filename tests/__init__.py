"""The tests. While they run, array shapes and types in annotations are checked at each call."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # where a float is expected an int will do, as PEP 484 says
_of_inner: dict[tuple[str, str, str], Callable[..., Any]] = {}


def check(signature: Callable[..., Any]) -> Callable[..., Any]:
    """What checks the arguments or the result of a function.

    An inner function is decorated at each call of the outer one, which takes ten times as long as what most of them do.
    Its annotations stay the same, so what checks them is made once.

    Args:
        signature: a function of that name and with these annotations, which does nothing.
    """
    if "<locals>" not in signature.__qualname__:
        return checked(signature)
    key = signature.__module__, signature.__qualname__, repr(signature.__annotations__)
    if key not in _of_inner:
        _of_inner[key] = checked(signature)
    return _of_inner[key]


install_import_hook(["explorer.model", "explorer.analysis", "explorer.film"], "tests.check")
