"""What a group is known to have answered to other questions, to be told in the prompt about a new one.

The setting is `data.known_answers`. What is told is known of the group itself: training rows alone, and never the row's
own question or what nearly repeats it, so that a model is trained on what it will be told of questions that are new.
"""

import zlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from survey_jax.survey.baselines.by_text import vectorizer
from survey_jax.survey.splits.near_duplicates import THRESHOLD
from survey_jax.survey.table import Answer, Group
from survey_jax.survey.text import same_group, wording

_UNTOLD = 0.2  # share of training rows of whose group nothing is told, as nothing is known of new groups


class KnownAnswers:
    """The training rows of each group, by how much their questions read like another one.

    Args:
      train: the rows that may be told.
      most: how many to tell of a group at most.
    """

    def __init__(self, train: Sequence[Answer], most: int):
        self._train, self._most = train, most
        questions: dict[object, int] = {}
        self._question = np.array([questions.setdefault(wording(a), len(questions)) for a in train])
        texts = list({wording(a): a.question for a in train}.values())
        self._vectorizer = vectorizer(texts)
        self._vectors = self._vectorizer.transform(texts)
        rows: dict[Group, list[int]] = defaultdict(list)
        for row, answer in enumerate(train):
            rows[same_group(answer.group)].append(row)
        self._rows: dict[Group, Int[np.ndarray, " n"]] = {group: np.array(own) for group, own in rows.items()}
        self._similar: dict[str, Float[np.ndarray, " q"]] = {}  # text -> similarity of each question of train

    def __call__(self, answer: Answer) -> list[Answer]:
        """What to tell of a row's group: its answers to the most similar questions, the most similar one last.

        Similarity is by the question's text, as for the rules on texts (`by_text.vectorizer`); a question that is as
        similar as THRESHOLD, or has the same wording, is not told. Of several answers to one question, such as those of
        two waves, the first is told. The row's own answer plays no part.
        """
        own = self._rows.get(same_group(answer.group))
        if own is None:
            return []
        similar = self._similarity(answer.question)[self._question[own]]
        found: dict[int, Answer] = {}
        for i in np.argsort(-similar, kind="stable").tolist():
            row = int(own[i])
            if similar[i] < THRESHOLD and wording(self._train[row]) != wording(answer):
                found.setdefault(int(self._question[row]), self._train[row])
            if len(found) == self._most:
                break
        return list(found.values())[::-1]

    def training(self, answer: Answer) -> list[Answer]:
        """The same for a row that is trained on; nothing of a fifth of the rows, drawn by their keys."""
        draw = zlib.crc32(repr((answer.question_key, answer.group)).encode()) / 2**32
        return [] if draw < _UNTOLD else self(answer)

    def _similarity(self, text: str) -> Float[np.ndarray, " q"]:
        if text not in self._similar:  # the same for all groups
            self._similar = {text: np.asarray((self._vectors @ self._vectorizer.transform([text]).T).todense()).ravel()}
        return self._similar[text]
