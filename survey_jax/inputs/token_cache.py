"""A tokenizer that is built when it is needed, and a cache of prompts' tokens: a second start waits for neither."""

import hashlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from etils import epath

from survey_jax.common.files import NpzStore

if TYPE_CHECKING:
    import transformers  # takes half a second, which a start with a full cache need not wait for


class Tokens(NamedTuple):
    """What a tokenizer makes of some prompts.

    Attributes:
      ids: token ids of each prompt, int32 [t].
      letters: token id of each option letter after them, int32 [K].
    """

    ids: list[np.ndarray]
    letters: np.ndarray


class LazyTokenizer:
    """A tokenizer of transformers, built by `build` when it is first used, and used as if it were there.

    Args:
      model_vocabulary: for how many token ids the model has an embedding.
    """

    def __init__(self, build: Callable[[], "transformers.PreTrainedTokenizerBase"], model_vocabulary: int):
        self._build, self.model_vocabulary = build, model_vocabulary
        self._tokenizer: transformers.PreTrainedTokenizerBase | None = None

    def _built(self) -> Any:
        if self._tokenizer is None:
            self._tokenizer = self._build()
        return self._tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._built(), name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._built()(*args, **options)


class TokenCache:
    """The tokens of prompts in a folder.

    Args:
      folder: on a disk or in an object store.
      fingerprint: of everything that decides what the tokenizer makes of a text.
    """

    def __init__(self, folder: epath.Path, fingerprint: str):
        self._store, self._fingerprint = NpzStore(folder, ("ids", "lengths", "letters")), fingerprint

    def get(self, settings: Iterable[str], texts: list[str], make: Callable[[], Tokens]) -> Tokens:
        """The tokens of some texts: from the cache, or else what `make` returns, which the cache then holds.

        Args:
          settings: what the tokens depend on besides tokenizer and texts.
        """
        digest = hashlib.sha256(repr(([self._fingerprint, *settings], len(texts))).encode())
        for text in texts:
            content = text.encode()
            digest.update(b"%d:" % len(content) + content)
        key = digest.hexdigest()
        found = self._store.get(
            key, lambda a: len(a["lengths"]) == len(texts) and int(a["lengths"].sum()) == len(a["ids"])
        )
        if found is None:
            tokens = make()
            lengths = np.array([len(ids) for ids in tokens.ids], np.int32)
            self._store.put(key, ids=np.concatenate(tokens.ids), lengths=lengths, letters=tokens.letters)
            return tokens
        return Tokens(np.split(found["ids"], np.cumsum(found["lengths"])[:-1]), found["letters"])
