"""Training: the loop, its schedules, its memory, and how a process is set up for it. Knows no disk and no screen."""
