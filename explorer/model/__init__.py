"""The models: a transformer and a table with named hook points, and stacks of snapshots that run as one model."""
