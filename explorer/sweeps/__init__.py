"""Sweeps: training many runs, in processes, on a cluster, as stacks; and how they turn out."""
