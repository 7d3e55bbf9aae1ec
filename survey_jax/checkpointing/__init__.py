"""Checkpoints of a run: saved in the background, verified when read."""
