"""Baselines on question texts by embeddings that a file brings."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from survey_jax.common.errors import UserError
from survey_jax.survey.baselines.registry import BASELINES, with_embeddings
from survey_jax.survey.embeddings import Embeddings
from survey_jax.survey.table import Answer


def asked(text: str, yes: float) -> Answer:
    return Answer("S", text, text, ("Yes", "No"), (("country", "A"),), (yes, 1 - yes))


TEXTS = [asked(f"Do you trust the {who}?", 0.8) for who in ("police", "army", "courts", "press", "church")]
TEXTS += [asked(f"Is it justified to {what}?", 0.1) for what in ("steal", "lie", "cheat", "bribe", "beg")]


def embedded(path: Path, vectors: dict[str, list[float]], asks=()) -> Embeddings:
    pd.DataFrame({"question": list(vectors), "embedding": list(vectors.values())}).to_parquet(path)
    return Embeddings(path, asks)


def test_baselines_on_embeddings_go_by_them_and_not_by_the_text(tmp_path):
    """As if "Do you trust" meant "is it justified": the texts say one kind, the embeddings the other."""
    new = asked("Do you trust the parliament?", 1.0)
    rng = np.random.default_rng(0)
    vectors = {a.question: ([1, -1] if a.question[0] == "D" else [-1, 1]) + rng.normal(0, 0.1, 2) for a in TEXTS}
    given = with_embeddings(embedded(tmp_path / "v.parquet", vectors | {new.question: [-5, 5]}))
    assert set(given) == {*BASELINES, "embedding_neighbours", "embedding_ridge", "embedding_and_group"}
    for kind, source in (
        ("neighbours", "similar questions"),
        ("ridge", "regression on text"),
        ("and_group", "similar questions and groups"),
    ):
        shares, sources = given[f"embedding_{kind}"](TEXTS, [new])
        assert sources == [source]
        assert shares[0][0] < 0.2
        assert given[f"text_{kind}"](TEXTS, [new])[0][0][0] > 0.7


NO_EMBEDDINGS = {
    "ragged": ({"A?": [1.0, 2.0], "B?": [1.0]}, "cannot be read as embeddings"),
    "zero": ({"A?": [1.0, 2.0], "B?": [0.0, 0.0]}, "row 2: the embedding of 'B?' is zero or not finite"),
    "NaN": ({"A?": [np.nan, 2.0], "B?": [1.0, 0.0]}, "row 1: the embedding of 'A?' is zero or not finite"),
    "infinite": ({"A?": [1.0], "B?": [-2.0], "C?": [np.inf]}, "row 3: the embedding of 'C?' is zero or not finite"),
    "empty": ({"A?": [], "B?": []}, "row 1: the embedding of 'A?' is zero or not finite"),
    "no lists": ({"A?": 1.0, "B?": 2.0}, "cannot be read as embeddings: no lists of numbers; expected the columns"),
    "a question without": ({"A?": [1.0, 2.0]}, "has no embedding of 1 questions, such as 'B?'; add them"),
}


@pytest.mark.parametrize("name", NO_EMBEDDINGS)
def test_files_that_are_no_embeddings(tmp_path, name):
    vectors, message = NO_EMBEDDINGS[name]
    with pytest.raises(UserError, match=r"v\.parquet: ") as error:
        embedded(tmp_path / "v.parquet", vectors, ["A?", "B?"])
    assert message in str(error.value)
    (tmp_path / "w.parquet").write_text("no table")
    for other in ("w", "x"):
        with pytest.raises(UserError, match=rf"{other}\.parquet: cannot be read as embeddings"):
            Embeddings(tmp_path / f"{other}.parquet", [])


def test_a_question_may_be_listed_twice_with_the_same_embedding_only(tmp_path):
    path = tmp_path / "v.parquet"
    questions = ["A?", "B?", "A?"]
    pd.DataFrame({"question": questions, "embedding": [[3.0, 4.0], [1.0, 0.0], [3.0, 4.0]]}).to_parquet(path)
    np.testing.assert_allclose(Embeddings(path, ["A?"]).transform(["A?"]).toarray(), [[0.6, 0.8]])
    pd.DataFrame({"question": questions, "embedding": [[3.0, 4.0], [1.0, 0.0], [4.0, 3.0]]}).to_parquet(path)
    with pytest.raises(UserError, match=r"v\.parquet: row 3: 'A\?' has another embedding further up; keep one of them"):
        Embeddings(path, ["A?"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.parquet")
    with pytest.raises(UserError, match=r"fifo\.parquet: cannot be read as embeddings: not a file"):
        Embeddings(tmp_path / "fifo.parquet", [])
