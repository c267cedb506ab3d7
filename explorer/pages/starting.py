"""A quick start of the app."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import modules without collecting garbage, which takes a third of the time and finds nothing.

    What is there at the end of the first block is left out of later collections too: Streamlit collects after every
    run of the script, and looking through the million objects of PyTorch takes longer than most pages.
    """
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
        gc.enable()
