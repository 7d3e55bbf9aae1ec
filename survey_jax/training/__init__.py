"""The loss, the optimizer, the train step, and the model of a run."""
