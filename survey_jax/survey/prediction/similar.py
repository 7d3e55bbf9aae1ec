"""Which questions of train are like a new one, and what of a new question or group is unlike anything in train."""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from sklearn.neighbors import NearestNeighbors

from survey_jax.survey.baselines.by_text import text_of, vectorizer
from survey_jax.survey.baselines.seen_groups import question_of
from survey_jax.survey.prediction.forecast import Similar
from survey_jax.survey.table import Answer, Group
from survey_jax.survey.text import fold, same_group

SHOWN = 3  # questions of train shown with each new one
_FAR = 0.05  # a question is far off if so few questions of train are as far from all others of train


class Similarity:
    """Compares questions with those of train by their texts, and groups by their attributes.

    Args:
      train: rows; one of each question is compared.
    """

    def __init__(self, train: Sequence[Answer]):
        self._questions = [*{question_of(a): a for a in train}.values()]
        self._vectorizer = vectorizer([text_of(a) for a in self._questions])
        self._vectors = self._vectorizer.transform([text_of(a) for a in self._questions])
        self._found: dict[str, tuple[Similar, ...]] = {}
        self._values = {pair for a in train for pair in same_group(a.group)}
        self._attributes = {attribute for attribute, _ in self._values}
        self._surveys = {a.survey for a in train}
        self._options = {len(a.options) for a in train}
        self._languages = {_language(a) for a in train}

    @functools.cached_property
    def _far(self) -> float:
        """The similarity below which a question reads like no question of train."""
        if len(self._questions) < 2:
            return 0.0
        near = NearestNeighbors(n_neighbors=1, metric="cosine").fit(self._vectors)
        return float(np.quantile(1 - near.kneighbors()[0], _FAR))  # each to the nearest of the others

    def nearest(self, answers: Sequence[Answer]) -> Float[np.ndarray, " n"]:
        """The similarity of each row's question to the nearest question of train, in [0, 1]."""
        texts = list(dict.fromkeys(map(text_of, answers)))
        found = dict(zip(texts, np.clip(self._between(texts).max(1), 0, 1), strict=True))
        return np.array([found[text_of(a)] for a in answers])

    def features(self, answers: Sequence[Answer]) -> Float[np.ndarray, "n 3"]:
        """How unlike train each row is: similarity of the nearest question, whether its survey is new, and any value.

        The last two are 1 where the survey is none of train, and where an attribute has a value that train does not.
        """
        survey = [a.survey not in self._surveys for a in answers]
        value = [not self._values.issuperset(same_group(a.group)) for a in answers]
        return np.stack([self.nearest(answers), np.array(survey, float), np.array(value, float)], axis=1)

    def questions(self, answer: Answer) -> tuple[Similar, ...]:
        """The most similar questions of train, the nearest first."""
        text = text_of(answer)
        if text not in self._found:  # the same for all groups
            similarity = self._between([text])[0]
            order = np.argsort(-similarity, kind="stable")[:SHOWN]
            self._found[text] = tuple(Similar(self._questions[i], float(np.clip(similarity[i], 0, 1))) for i in order)
        return self._found[text]

    def cautions(self, answer: Answer, similarity: float) -> tuple[str, ...]:
        """Sentences on what is unlike anything in train, given the similarity of the nearest question."""
        found = []
        if similarity < self._far:
            found.append("No question of the training data reads much like this one.")
        if len(answer.options) not in self._options:
            found.append(f"No question of the training data has {len(answer.options)} options.")
        if answer.language and _language(answer) not in self._languages:
            found.append(f"The training data has no question in the language {answer.language!r}.")
        return tuple(found) + self._about(answer.group)

    def _about(self, group: Group) -> tuple[str, ...]:
        found = []
        for (attribute, value), (folded, same) in zip(group, same_group(group), strict=True):
            if folded not in self._attributes:
                found.append(f"The training data does not tell people apart by {attribute}.")
            elif (folded, same) not in self._values:
                found.append(f"The training data has nobody whose {attribute} is {value}.")
        return tuple(found)

    def _between(self, texts: Sequence[str]) -> Float[np.ndarray, "n q"]:
        similarity: np.ndarray = (self._vectorizer.transform(texts) @ self._vectors.T).toarray()
        return similarity


def _language(answer: Answer) -> str:
    return fold(answer.language or "en").split("-")[0].split("_")[0]
