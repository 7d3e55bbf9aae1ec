"""What training may already know of a test split: questions that nearly repeat one of train, asked of the same group.

Similarity of two questions is the cosine of their texts' TF-IDF vectors of character n-grams (3 to 5, within words), or
1 where the texts differ in case, spacing and punctuation only. Stems that a whole battery shares weigh little, and rare
words weigh much; the vectors are fitted on the questions at hand. Options are not compared, but reported.

THRESHOLD was chosen by looking at real questions. Between the training and the validation questions of the World Values
Survey, which have no duplicates, the highest similarity is .75, between training and unseen questions .85 (two items on
importance that list the same answers in the question). Trend questions that the General Social Survey asks in nearly
the same words as the World Values Survey are at .87 to 1. Of training questions with one word taken out 96 to 98 % are
above the threshold, with two 84 to 100 %, by wording. Items of one battery that differ in a word can be above it too,
as they are within train: look at the list.

Paraphrases are below it. They are looked for where two surveys have the same options, in any order, and at most RARE
questions of train have these. There PARAPHRASE is enough, of texts without the options that a question may list. It was
chosen from the demo's surveys, each against the others, and from the demo, the General Social Survey, the World Values
Survey and Pew Global Attitudes against each other: of the 14 pairs found, the lowest at .63, 13 ask the same thing
(should marijuana be legal, seven steps of party identification, ...) and one does not (people in this country, people
in other countries); the next pairs, at .55 and below, do not. With the options left in the texts, half of 30 pairs at
.6 or more were wrong. Missed: paraphrases with few words in common (party identification in six words, .40; how good is
your health; how happy are you), and those with common options, such as yes and no. Within a survey it would not do: the
items of Pew's batteries are at .6 to .86 of each other. Translations are not found.

With embeddings of the questions, a question is also a near-duplicate of one of another survey that is at least ALIKE
similar by meaning, whatever its options. That was chosen with all-MiniLM-L6-v2 on 3,467 questions of the World Values
Survey, the General Social Survey, Pew Global Attitudes and the European Social Survey: of the 44 pairs of two surveys
at .8 or more that the texts do not show, some 36 ask the same thing, of the 19 at .85 or more 17, and of the next 16
below .8 about half.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool
from scipy import sparse
from scipy.spatial.distance import cdist
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

from survey_jax.common.errors import plural
from survey_jax.survey.embeddings import Embeddings
from survey_jax.survey.splits import attack
from survey_jax.survey.splits.config import TRAIN
from survey_jax.survey.table import Answer
from survey_jax.survey.text import fold, plain, same_group, wording

THRESHOLD = 0.87
PARAPHRASE, RARE = 0.6, 3
ALIKE = 0.8  # cosine similarity of embeddings
NEAREST = 3  # cells shown
_NGRAMS = (3, 5)


@dataclasses.dataclass(frozen=True)
class DuplicateQuestion:
    """A question of a split that is nearly a question of train.

    Attributes:
      split, rows: the split, and how many of its rows ask the question.
      question, trained: an answer that has the question, and one of train that has the similar one.
      similarity: in (0, 1]; see the module. Of a paraphrase it may be less than the threshold.
      same_options: whether both have the same options, in any order.
    """

    split: str
    rows: int
    question: Answer
    trained: Answer
    similarity: float
    same_options: bool


@dataclasses.dataclass(frozen=True)
class SharedCell:
    """A row of a split whose near-duplicate question the same group answers in train, with the same options.

    Attributes:
      tv: total variation distance of the two distributions, in [0, 1]. Near 0: probably the same interviews, published
        twice.
    """

    split: str
    row: Answer
    trained: Answer
    similarity: float
    tv: float


class NearDuplicates:
    """The questions of each split but train that nearly repeat a question of train; texts are compared once, here.

    A question that the split shares with train by survey and id does not count: seen questions are seen on purpose, and
    where they must not be, `split.audit` says so. Of several similar questions of train, the most similar one counts.

    Args:
      embeddings: of all questions, to find what another survey asks in other words.
    """

    def __init__(
        self,
        splits: Mapping[str, Sequence[Answer]],
        threshold: float = THRESHOLD,
        embeddings: Embeddings | None = None,
    ):
        self.splits, self.threshold = splits, threshold
        self._train = splits.get(TRAIN, ())
        self._similar = {
            name: _similar(self._train, rows, threshold, embeddings) for name, rows in splits.items() if name != TRAIN
        }
        self._by_meaning = embeddings is not None

    def questions(self) -> list[DuplicateQuestion]:
        """The near-duplicates of all splits, the most similar first."""
        found = []
        for split, similar in self._similar.items():
            sizes = Counter(_key(a) for a in self.splits[split])
            for question, trained, similarity in similar:
                same = wording(question)[1] == wording(trained)[1]
                found.append(DuplicateQuestion(split, sizes[_key(question)], question, trained, similarity, same))
        return sorted(found, key=lambda d: (-d.similarity, d.split, d.question.question_key))

    def shared_cells(self) -> list[SharedCell]:
        """Rows outside train with a near-duplicate question that the same group answers in train, the nearest first."""
        cells = []
        answered = {(_key(a), same_group(a.group)): a for a in self._train}
        for split, similar in self._similar.items():
            twins = {_key(question): (_key(trained), similarity) for question, trained, similarity in similar}
            for row in self.splits[split]:
                if _key(row) not in twins:
                    continue
                key, similarity = twins[_key(row)]
                trained = answered.get((key, same_group(row.group)))
                if trained and wording(row)[1] == wording(trained)[1]:
                    tv = float(cdist([_in_order(row)], [_in_order(trained)], "cityblock")[0, 0] / 2)
                    cells.append(SharedCell(split, row, trained, similarity, tv))
        return sorted(cells, key=lambda c: (c.tv, c.split, c.row.question_key, c.row.group))

    def leaked_rows(self, split: str) -> Bool[np.ndarray, " n"]:
        """Which rows of a split ask a near-duplicate question; to score the split with and without them."""
        leaked = {_key(question) for question, _, _ in self._similar[split]}
        return np.array([_key(a) in leaked for a in self.splits[split]], bool)

    def table(self, limit: int = 20) -> str:
        """Plain text: how many questions, rows and cells of each split leak, the most similar, and `attack`."""
        duplicates, cells = self.questions(), self.shared_cells()
        meaning = f", or {ALIKE:g} by meaning to one of another survey" if self._by_meaning else ""
        alike = f"{self.threshold:g} similar to one of train, or {PARAPHRASE:g} with rare options{meaning}"
        lines = [f"questions at least {alike}",
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
        if cells:
            lines.append(f"{plural(len(cells), 'row')} of a group that answers the similar question in train; nearest:")
        for c in cells[:NEAREST]:
            lines.append(f"same cell, TV {c.tv:.3f}: {c.row.describe()} = {c.trained.describe()}")
        others = {name: rows for name, rows in self.splits.items() if name != TRAIN}
        return "\n".join([*lines, *attack.summary(self._train, others)])


def _similar(
    train: Sequence[Answer], rows: Sequence[Answer], threshold: float, embeddings: Embeddings | None
) -> list[tuple[Answer, Answer, float]]:
    """For questions of `rows` that train does not have by id: the most similar one of train, if it is near enough."""
    ids = {a.question_key for a in train}
    old = list(_questions(train).values())
    new = [a for a in _questions(rows).values() if a.question_key not in ids]
    if not old or not new:
        return []
    vectors = _vectors([plain(a.question) for a in (*old, *new)])
    index = NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute").fit(vectors[: len(old)])
    distances, nearest = index.kneighbors(vectors[len(old) :])  # in pieces that fit scikit-learn's working memory
    similarity = np.clip(1 - distances[:, 0], 0, 1)
    # Rounding: a copy may come out at 1 - 1e-16, and a threshold of 1 means copies.
    enough = np.flatnonzero(similarity >= threshold - 1e-9).tolist()
    found = (
        _by_meaning(old, new, embeddings)
        | _paraphrases(old, new)
        | {i: (int(nearest[i, 0]), float(similarity[i])) for i in enough}
    )
    return [(new[i], old[j], value) for i, (j, value) in sorted(found.items())]


def _paraphrases(old: Sequence[Answer], new: Sequence[Answer]) -> dict[int, tuple[int, float]]:
    """Index in `new` -> index of the most similar one in `old` and the similarity, of another survey's rare options."""
    same: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for j, answer in enumerate(old):
        same[wording(answer)[1]].append(j)
    rare = {options: js for options, js in same.items() if len({old[j].question_key for j in js}) <= RARE}
    pairs = [
        (i, j)
        for i, answer in enumerate(new)
        for j in rare.get(wording(answer)[1], ())
        if fold(old[j].survey) != fold(answer.survey)
    ]
    if not pairs:
        return {}
    vectors = _vectors([_without_options(a) for a in (*old, *new)])
    news, olds = np.array(pairs).T
    similarity = (vectors[len(old) + news] * vectors[olds]).sum(1)
    found: dict[int, tuple[int, float]] = {}
    for (i, j), value in zip(pairs, similarity.tolist(), strict=True):
        if value >= PARAPHRASE and value > found.get(i, (0, 0.0))[1]:
            found[i] = (j, value)
    return found


def _by_meaning(
    old: Sequence[Answer], new: Sequence[Answer], embeddings: Embeddings | None
) -> dict[int, tuple[int, float]]:
    """Index in `new` -> index of the one of another survey in `old` that is nearest in meaning, and the similarity."""
    if embeddings is None:
        return {}
    news, olds = (embeddings.transform([a.question for a in rows]) for rows in (new, old))
    similarity = (news @ olds.T).toarray()
    surveys = np.array([fold(a.survey) for a in old])
    found: dict[int, tuple[int, float]] = {}
    for i, answer in enumerate(new):
        values = np.where(surveys == fold(answer.survey), -1.0, similarity[i])
        if (value := float(values.max())) >= ALIKE:
            found[i] = int(values.argmax()), min(value, 1.0)
    return found


def _vectors(texts: Sequence[str]) -> sparse.csr_array:
    return sparse.csr_array(TfidfVectorizer(analyzer="char_wb", ngram_range=_NGRAMS).fit_transform(texts))


def _without_options(answer: Answer) -> str:
    """The question's plain text without the options that it lists, if anything remains."""
    text = f" {plain(answer.question)} "
    for option in sorted(map(plain, answer.options), key=len, reverse=True):
        if len(option) > 3:  # "yes" and "no" and "2" are words of a question
            text = text.replace(f" {option} ", " ")
    return text.strip() or plain(answer.question)


def _in_order(answer: Answer) -> list[float]:
    """The shares, options sorted by their text."""
    return [share for _, share in sorted(zip(map(plain, answer.options), answer.probs, strict=True))]


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
