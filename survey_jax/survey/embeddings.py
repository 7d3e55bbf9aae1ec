"""Sentence embeddings of questions, made with any model outside and read from a file: docs/baselines.md says how."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from scipy import sparse

from survey_jax.errors import UserError


class Embeddings:
    """A unit vector for each question. Stands in for a fitted TF-IDF vectorizer, of which `transform` is used."""

    def __init__(self, path: Path, questions: Iterable[str]):
        """Reads a Parquet file of the columns `question` (text, as in the survey table) and `embedding` (numbers).

        Raises:
          UserError: unreadable, an embedding is none (empty, NaN, zero), or one of `questions` is not there.
        """
        try:
            table = pyarrow.parquet.read_table(path, columns=["question", "embedding"]).to_pydict()
            rows = np.array(table["embedding"], float)
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
            cause = " ".join(str(error).split())
            need = "expected the columns question (text) and embedding (as many numbers in each row)"
            raise UserError(f"{path}: cannot be read as embeddings: {cause}; {need}") from error
        length = np.linalg.norm(rows, axis=1) if rows.ndim == 2 else np.zeros(1)
        if not (np.isfinite(length) & (length > 0)).all():
            raise UserError(f"{path}: row {np.argmin(np.nan_to_num(length)) + 1}: its embedding is empty, zero or NaN")
        self._rows = dict(zip(table["question"], rows / length[:, None], strict=True))
        absent = sorted({q for q in questions if q not in self._rows})
        if absent:
            raise UserError(f"{path}: has no embedding of {len(absent):,} questions, such as {absent[0]!r}; add them")

    def transform(self, questions: Sequence[str]) -> sparse.csr_matrix:
        """Float[n d]."""
        return sparse.csr_matrix(np.array([self._rows[q] for q in questions]))
