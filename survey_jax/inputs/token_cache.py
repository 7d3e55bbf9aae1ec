"""Tokens of prompts, kept on disk: a second start neither builds the tokenizer nor waits for it."""

import contextlib
import hashlib
import io
import os
import secrets
import zipfile
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from etils import epath

from survey_jax.common.console import say

if TYPE_CHECKING:
    import transformers  # takes half a second, and what is kept does without


class Tokens(NamedTuple):
    """What a tokenizer makes of some prompts.

    Attributes:
      ids: of each prompt, int32 [t].
      letters: token id of each option letter after them, int32 [K].
    """

    ids: list[np.ndarray]
    letters: np.ndarray


class CachedTokenizer:
    """A tokenizer, built when it is first needed, and a folder with what was asked of it before.

    Otherwise it is used like the one that `build` makes.

    Args:
      build: makes the tokenizer.
      fingerprint: of everything that decides what the tokenizer makes of a text.
      folder: on a disk or in an object store; None: nothing is kept.
    """

    def __init__(
        self, build: Callable[[], "transformers.PreTrainedTokenizerBase"], fingerprint: str, folder: epath.Path | None
    ):
        self._build, self._fingerprint, self._folder = build, fingerprint, folder
        self._built: transformers.PreTrainedTokenizerBase | None = None

    @property
    def built(self) -> "transformers.PreTrainedTokenizerBase":
        """The tokenizer itself."""
        if self._built is None:
            self._built = self._build()
        return self._built

    def __getattr__(self, name: str) -> Any:
        return getattr(self.built, name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.built(*args, **options)

    def kept(self, settings: Iterable[str], texts: list[str], make: Callable[[], Tokens]) -> Tokens:
        """What was once made of the same texts, or else `make()`, which is kept for the next time.

        A file that is damaged is made anew, and one that cannot be written does without; both say so.

        Args:
          settings: what the tokens depend on besides tokenizer and texts.
        """
        if self._folder is None:
            return make()
        file = self._folder / f"{_key([self._fingerprint, *settings], texts)}.npz"
        if (found := _read(file, len(texts))) is None:
            found = make()
            _write(file, found)
        return found


def _key(settings: list[str], texts: list[str]) -> str:
    digest = hashlib.sha256(repr((settings, len(texts))).encode())
    for text in texts:
        content = text.encode()
        digest.update(b"%d:" % len(content) + content)
    return digest.hexdigest()


def _read(file: epath.Path, prompts: int) -> Tokens | None:
    """The tokens in a file; None if there is no such file, or it is damaged (each array has a checksum in it)."""
    if not file.exists():
        return None
    try:
        with np.load(io.BytesIO(file.read_bytes())) as kept:  # takes no pickles
            ids, lengths, letters = kept["ids"], kept["lengths"], kept["letters"]
        ends = np.cumsum(lengths)
        if len(lengths) != prompts or int(ends[-1]) != len(ids):
            raise ValueError(f"holds {len(ids)} tokens of {len(lengths)} prompts")
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        say(f"warning: {file}: damaged ({error}); these prompts are tokenised anew")
        return None
    return Tokens([ids[end - length : end] for end, length in zip(ends, lengths, strict=True)], letters)


def _write(file: epath.Path, tokens: Tokens) -> None:
    """Writes a file in one piece, whoever else is about to write the same."""
    buffer = io.BytesIO()
    lengths = np.array([len(ids) for ids in tokens.ids], np.int32)
    np.savez(buffer, ids=np.concatenate(tokens.ids), lengths=lengths, letters=tokens.letters)
    partial = file.with_name(f".partial-{secrets.token_hex(4)}-{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if "://" in str(file):  # an upload appears when it is complete
            file.write_bytes(buffer.getvalue())
            return
        partial.write_bytes(buffer.getvalue())
        os.replace(partial, file)
    except OSError as error:
        say(f"warning: {file}: cannot be written ({error.strerror or error}); the next start tokenises again")
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
