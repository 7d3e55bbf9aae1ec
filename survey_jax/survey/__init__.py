"""The survey domain: tables, splits, baselines and metrics. Imports no jax and knows nothing of models."""
