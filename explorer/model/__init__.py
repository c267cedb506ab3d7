"""The models: a transformer and a table, every activation named, and stacks of snapshots run as one."""
