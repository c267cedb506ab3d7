"""Films: what a page shows of a whole training, and the player that shows it."""
