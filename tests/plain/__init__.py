"""The explorer's measures once more, written plainly from their definitions, as an independent check.

Everything is numpy in float64, one snapshot at a time, by the shortest way from the definition to the number. A run is
read from its files, and nothing of `explorer` is imported.
"""
