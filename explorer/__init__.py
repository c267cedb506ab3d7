"""See a small transformer learn, snapshot by snapshot."""
