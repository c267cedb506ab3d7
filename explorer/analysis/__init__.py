"""Measures of models and of their losses: pure functions on tensors, over all snapshots at once."""
