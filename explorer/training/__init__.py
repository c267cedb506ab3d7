"""How a run is trained: the loop, when to keep a snapshot, what it takes of memory and threads. No disk, no screen."""
