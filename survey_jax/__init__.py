"""Fine-tune open-weight language models to predict how a population answers a survey question."""

__version__ = "0.1.0"
