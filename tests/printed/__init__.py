"""What every panel of every view must show, recomputed by `tests.plain`: one module for each view or two.

A panel that nobody recomputes fails `tests/test_printed_numbers.py`: a new panel needs a function here, marked with
`recomputes`.
"""
