"""Predictions of a model on its mesh, control conditions, and the check against transformers."""
