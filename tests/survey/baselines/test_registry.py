"""Names of baselines and of what stands beside them, and what all of them promise."""

import numpy as np
import pytest

from survey_jax.inference import controls
from survey_jax.survey.baselines.registry import BASELINES, IN_WORDS, with_embeddings
from survey_jax.survey.embeddings import Embeddings
from survey_jax.survey.table import Answer


def test_everything_that_a_report_shows_has_words_of_its_own() -> None:
    named = with_embeddings(object.__new__(Embeddings))
    beside = [name for name in controls.NAMES if ":" not in name]
    assert set(IN_WORDS) == {*named, *beside, "model", "zero_shot", "uncalibrated", "stack", "rules_pooled"}
    assert len(set(IN_WORDS.values())) == len(IN_WORDS)
    assert not [words for words in IN_WORDS.values() if "_" in words]


@pytest.mark.parametrize("name", BASELINES)
def test_a_row_is_predicted_alike_whatever_is_asked_beside_it(name: str) -> None:
    """So that a rule can learn from train once for all splits."""
    rng = np.random.default_rng(0)
    rows = [
        Answer(
            "S",
            f"q{q}",
            f"Is thing {q} of kind {q % 3} good?",
            ("Yes", "No", "Unsure"),
            (("country", g),),
            tuple(p),
            n=200,
        )
        for q in range(14)
        for g, p in zip(("Kenya", "Peru", "Japan", "Norway"), rng.dirichlet(np.full(3, 2.0), 4), strict=True)
    ]
    train = [a for a in rows if a.question_id not in ("q12", "q13") and dict(a.group)["country"] != "Peru"]
    asked = [a for a in rows if a not in train]
    rule = BASELINES[name]
    together, sources = rule(train, asked)
    (first, from_first), (second, from_second) = rule(train, asked[:5]), rule(train, asked[5:])
    np.testing.assert_allclose(np.array(together), np.array([*first, *second]), atol=1e-9)
    assert sources == [*from_first, *from_second]
