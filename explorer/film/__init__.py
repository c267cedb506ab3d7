"""Films, which show the snapshots of a training as panels, and the player for them."""
