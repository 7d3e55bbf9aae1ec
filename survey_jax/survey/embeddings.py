"""Embeddings of questions, which any sentence encoder can make: by meaning where TF-IDF goes by characters."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from scipy import sparse

from survey_jax.common.errors import UserError
from survey_jax.survey.table import Answer


class Embeddings:
    """A unit vector for each question; takes the place of a fitted TF-IDF vectorizer, as it too has `transform`."""

    def __init__(self, path: Path, questions: Iterable[str]):
        """Reads a Parquet file with the columns `question` (text, as in the survey table) and `embedding` (numbers).

        Raises:
          UserError: unreadable, an embedding is zero or not finite, a question has two, or one of `questions` none.
        """
        if path.exists() and not path.is_file():  # of a FIFO, nothing may ever come
            raise UserError(f"{path}: cannot be read as embeddings: not a file")
        try:
            table = pyarrow.parquet.read_table(path, columns=["question", "embedding"]).to_pydict()
            rows = np.array(table["embedding"], float)
            if rows.ndim != 2:
                raise ValueError("no lists of numbers")
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
            cause = " ".join(str(error).split())
            need = "expected the columns question (text) and embedding (as many numbers in each row)"
            raise UserError(f"{path}: cannot be read as embeddings: {cause}; {need}") from error
        length = np.linalg.norm(rows, axis=1)
        self._rows: dict[str, np.ndarray] = {}
        for row, question in enumerate(table["question"]):
            if not (np.isfinite(length[row]) and length[row] > 0):
                raise UserError(f"{path}: row {row + 1}: the embedding of {question!r} is zero or not finite")
            vector = rows[row] / length[row]
            if not np.array_equal(self._rows.setdefault(question, vector), vector):
                raise UserError(
                    f"{path}: row {row + 1}: {question!r} has another embedding further up; keep one of them"
                )
        absent = sorted({q for q in questions if q not in self._rows})
        if absent:
            raise UserError(f"{path}: has no embedding of {len(absent):,} questions, such as {absent[0]!r}; add them")

    def transform(self, questions: Sequence[str]) -> sparse.csr_matrix:
        """Float[n d]."""
        return sparse.csr_matrix(np.array([self._rows[q] for q in questions]))


def read_embeddings(file: str, answers: Iterable[Answer]) -> Embeddings | None:
    """The embeddings of all questions of `answers`; None without a file. Raises UserError for one that lacks some."""
    return Embeddings(Path(file), (a.question for a in answers)) if file else None
