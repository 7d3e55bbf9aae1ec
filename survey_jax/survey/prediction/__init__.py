"""The predictor: a pool of rules and a language model for each kind of row, and how far to trust it; no jax."""
