"""What training may already know of a test split: questions that nearly repeat one of train, asked of the same group.

Similarity of two questions is the cosine of their texts' TF-IDF vectors of character n-grams (3 to 5, within words), or
1 where the texts differ in case, spacing and punctuation only. Stems that a whole battery shares weigh little, and rare
words weigh much; the vectors are fitted on the questions at hand. Options are not compared, but reported.

THRESHOLD was chosen by looking at real questions. Between the training and the validation questions of the World Values
Survey, which have no duplicates, the highest similarity is .75, between training and unseen questions .85 (two items on
importance that list the same answers in the question). Trend questions that the General Social Survey asks in nearly
the same words as the World Values Survey are at .87 to 1. Of training questions with one word taken out 96 to 98 % are
above the threshold, with two 84 to 100 %, by wording. Items of one battery that differ in a word can be above it too,
as they are within train: look at the list. Rewordings and translations are below it: this finds copies, not
paraphrases.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool
from scipy.spatial.distance import cdist
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

from survey_jax.common.errors import plural
from survey_jax.survey.splits.config import TRAIN
from survey_jax.survey.table import Answer
from survey_jax.survey.text import fold, plain, same_group

THRESHOLD = 0.87
_NGRAMS = (3, 5)


@dataclasses.dataclass(frozen=True)
class DuplicateQuestion:
    """A question of a split that is nearly a question of train.

    Attributes:
      split, rows: the split, and how many of its rows ask the question.
      question, trained: an answer that has the question, and one of train that has the similar one.
      similarity: in (0, 1]; see the module.
      same_options: whether both have the same options in the same order, case and spacing aside.
    """

    split: str
    rows: int
    question: Answer
    trained: Answer
    similarity: float
    same_options: bool


@dataclasses.dataclass(frozen=True)
class SharedCell:
    """A row of a split whose near-duplicate question the same group answers in train.

    Attributes:
      tv: total variation distance of the two distributions, in [0, 1]; None if their options differ in number. Near 0:
        probably the same interviews, published twice.
    """

    split: str
    row: Answer
    trained: Answer
    similarity: float
    tv: float | None


class NearDuplicates:
    """The questions of each split but train that nearly repeat a question of train; texts are compared once, here.

    A question that the split shares with train by survey and id does not count: seen questions are seen on purpose, and
    where they must not be, `split.audit` says so. Of several similar questions of train, the most similar one counts.
    """

    def __init__(self, splits: Mapping[str, Sequence[Answer]], threshold: float = THRESHOLD):
        self.splits, self.threshold = splits, threshold
        self._train = splits.get(TRAIN, ())
        self._similar = {name: _similar(self._train, rows, threshold) for name, rows in splits.items() if name != TRAIN}

    def questions(self) -> list[DuplicateQuestion]:
        """The near-duplicates of all splits, the most similar first."""
        found = []
        for split, similar in self._similar.items():
            sizes = Counter(_key(a) for a in self.splits[split])
            for question, trained, similarity in similar:
                same = [fold(o) for o in question.options] == [fold(o) for o in trained.options]
                found.append(DuplicateQuestion(split, sizes[_key(question)], question, trained, similarity, same))
        return sorted(found, key=lambda d: (-d.similarity, d.split, d.question.question_key))

    def shared_cells(self) -> list[SharedCell]:
        """Rows outside train with a near-duplicate question that the same group answers in train."""
        cells = []
        answered = {(_key(a), same_group(a.group)): a for a in self._train}
        for split, similar in self._similar.items():
            twins = {_key(question): (_key(trained), similarity) for question, trained, similarity in similar}
            for row in self.splits[split]:
                if _key(row) not in twins:
                    continue
                key, similarity = twins[_key(row)]
                if trained := answered.get((key, same_group(row.group))):
                    comparable = len(row.probs) == len(trained.probs)
                    tv = float(cdist([row.probs], [trained.probs], "cityblock")[0, 0] / 2) if comparable else None
                    cells.append(SharedCell(split, row, trained, similarity, tv))
        return cells

    def leaked_rows(self, split: str) -> Bool[np.ndarray, " n"]:
        """Which rows of a split ask a near-duplicate question; to score the split with and without them."""
        leaked = {_key(question) for question, _, _ in self._similar[split]}
        return np.array([_key(a) in leaked for a in self.splits[split]], bool)

    def table(self, limit: int = 20) -> str:
        """Plain text: how many questions, rows and cells of each split leak, and the most similar questions."""
        duplicates, cells = self.questions(), self.shared_cells()
        lines = [f"questions at least {self.threshold:g} similar to one of train",
                 f"{'split':<16}{'questions':>11}{'rows':>9}{'same group too':>16}"]  # fmt: skip
        for split in self._similar:
            own = [d for d in duplicates if d.split == split]
            shared = sum(c.split == split for c in cells)
            lines.append(f"{split:<16}{len(own):>11,}{sum(d.rows for d in own):>9,}{shared:>16,}")
        for d in duplicates[:limit]:
            options = "same options" if d.same_options else "other options"
            lines.append(f"{d.similarity:.3f} {d.split}, {plural(d.rows, 'row')}, {options}: {_shown(d.question)}")
            lines.append(f"      train: {_shown(d.trained)}")
        if len(duplicates) > limit:
            lines.append(f"... and {plural(len(duplicates) - limit, 'more question')}")
        for c in [c for c in cells if c.tv is not None][:limit]:
            lines.append(f"same cell, TV {c.tv:.3f}: {c.row.describe()} = {c.trained.describe()}")
        return "\n".join(lines)


def _similar(train: Sequence[Answer], rows: Sequence[Answer], threshold: float) -> list[tuple[Answer, Answer, float]]:
    """For questions of `rows` that train does not have by id: the most similar one of train, if similar enough."""
    ids = {a.question_key for a in train}
    old = list(_questions(train).values())
    new = [a for a in _questions(rows).values() if a.question_key not in ids]
    if not old or not new:
        return []
    texts = [plain(a.question) for a in (*old, *new)]
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=_NGRAMS).fit_transform(texts)
    index = NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute").fit(vectors[: len(old)])
    distances, nearest = index.kneighbors(vectors[len(old) :])  # in pieces that fit scikit-learn's working memory
    similarity = np.clip(1 - distances[:, 0], 0, 1)
    # Rounding: a copy may come out at 1 - 1e-16, and a threshold of 1 means copies.
    enough = np.flatnonzero(similarity >= threshold - 1e-9)
    return [(new[i], old[nearest[i, 0]], float(similarity[i])) for i in enough]


def _key(answer: Answer) -> tuple[tuple[str, str], str]:
    """A question under one wording; an id can have several, such as translations."""
    return (answer.question_key, plain(answer.question))


def _questions(rows: Iterable[Answer]) -> dict[tuple[tuple[str, str], str], Answer]:
    """One row of each question and wording, in order of appearance."""
    found: dict[tuple[tuple[str, str], str], Answer] = {}
    for answer in rows:
        found.setdefault(_key(answer), answer)
    return found


def _shown(answer: Answer, width: int = 100) -> str:
    text = fold(answer.question)
    return f"{answer.survey} / {answer.question_id}: {text if len(text) <= width else text[: width - 1] + '…'}"
