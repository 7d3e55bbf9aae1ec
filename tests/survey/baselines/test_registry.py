"""Names of baselines and of what stands beside them."""

from survey_jax.inference import controls
from survey_jax.survey.baselines.by_text import Embeddings
from survey_jax.survey.baselines.registry import IN_WORDS, with_embeddings


def test_everything_that_a_report_shows_has_words_of_its_own() -> None:
    named = with_embeddings(object.__new__(Embeddings))
    beside = [name for name in controls.NAMES if ":" not in name]
    assert set(IN_WORDS) == {*named, *beside, "model", "zero_shot", "uncalibrated", "stack", "rules_pooled"}
    assert len(set(IN_WORDS.values())) == len(IN_WORDS)
    assert not [words for words in IN_WORDS.values() if "_" in words]
