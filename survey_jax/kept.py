"""Predictions of an evaluation under way, kept beside its results until they are there: it may end at any moment."""

import hashlib
import io
import time
import zipfile
from collections.abc import Sequence

import numpy as np
from etils import epath

from survey_jax.console import is_first, say
from survey_jax.distributed import everywhere
from survey_jax.prompts import Prompt
from survey_jax.run_files import write_bytes

EVERY = 60.0  # seconds of predicting that may be lost


class Kept:
    """Files under a folder, one for each set of prompts; process 0 reads and writes them.

    Args:
      key: what the predictions depend on besides label, prompts and letters: model, checkpoint, settings.
    """

    def __init__(self, folder: epath.Path, key: str):
        self._folder, self._key, self._saved = folder, key, time.monotonic()

    def file(self, label: str, prompts: Sequence[Prompt], letters: np.ndarray) -> epath.Path:
        """Where the predictions for some prompts are kept; another file if anything about them is different."""
        digest = hashlib.sha256(f"{self._key} {label}".encode() + letters.tobytes())
        for prompt in prompts:
            digest.update(prompt.tokens.tobytes() + b"|")
        return self._folder / f"{digest.hexdigest()[:16]}.npz"

    def load(self, file: epath.Path, result: np.ndarray) -> int:
        """Fills in what is kept, on process 0. Returns how many batches that was, on all."""
        done = 0
        if is_first() and file.exists():
            try:
                with np.load(io.BytesIO(file.read_bytes())) as kept:
                    done, result[...] = int(kept["done"]), kept["result"]
            except (ValueError, KeyError, zipfile.BadZipFile) as error:
                say(f"warning: {file}: damaged ({error}); these predictions are made anew")
        return int(everywhere(str(done))[0])

    def save(self, file: epath.Path, done: int, result: np.ndarray, now: bool = False) -> None:
        """Keeps the predictions of the first `done` batches if the last time is a while ago, or `now`."""
        if is_first() and done and (now or time.monotonic() - self._saved > EVERY):
            buffer = io.BytesIO()
            np.savez(buffer, done=done, result=result)
            self._folder.mkdir(parents=True, exist_ok=True)
            write_bytes(file, buffer.getvalue())
            self._saved = time.monotonic()

    def clear(self) -> None:
        """The results are there."""
        if is_first() and self._folder.exists():
            self._folder.rmtree()
