"""See a small transformer learn, snapshot by snapshot."""

import os

# Threads of one sum that wait for each other sleep soon. They would spin, and of two runs on the same cores each would
# spin away the other's time. Read once, when torch is loaded; a setting from outside wins.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
