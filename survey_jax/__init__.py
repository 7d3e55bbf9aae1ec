"""Fine-tune open-weight language models to predict how a population answers a survey question."""

import time

__version__ = "0.2.0"
STARTED = time.monotonic()  # of this process, nearly: the first thing that its commands import
