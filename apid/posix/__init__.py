"""Thin wrappers of the operating system: no policy, standard library only."""
