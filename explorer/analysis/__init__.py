"""Pure functions on tensors: one file per family of measures. Each works on all snapshots at once."""
