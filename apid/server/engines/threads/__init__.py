"""Native threads: a loop of our own, and threads that run requests."""
