"""Other people's weights: their names, layouts and configurations, to ours and from ours, in memory."""
