"""The two baselines of Cao et al. (NAACL 2025, arXiv 2502.07068, appendix E), in two readings.

As described, they predict distributions: Avg_Culture the mean over training countries, or uniform for an unknown
question; KNN that of the most similar training question and country. But the paper's Table 11 has .509 to .541 for them
on seen questions and .348 to .384 on unseen ones (1 - sqrt(JSD)), where a uniform distribution alone has about .74.
Scores so low come from single answers: all mass on one option, or on a random one where nothing is known. The
`..._answer` functions do that, and land near the published figures.
"""

import functools
import zlib
from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from survey_jax.survey.baselines.by_text import text_of, vectorizer
from survey_jax.survey.baselines.seen_groups import SAME_QUESTION, UNIFORM, Filled, means, question_of, uniform
from survey_jax.survey.table import Answer, group_name

NEAREST_CELL = "most similar question and group"
RANDOM_OPTION = "random option"


def paper_average(train: Sequence[Answer], answers: Sequence[Answer]) -> Filled:
    """Avg_Culture as described: the mean over the groups of train for a known question, else uniform."""
    known = means([(question_of(a), np.array(a.probs)) for a in train])
    nothing = uniform(answers)
    keys = [question_of(a) for a in answers]
    shares = [known.get(key, nothing[i]) for i, key in enumerate(keys)]
    return shares, [SAME_QUESTION if key in known else UNIFORM for key in keys]


def paper_average_answer(train: Sequence[Answer], answers: Sequence[Answer]) -> Filled:
    """Avg_Culture as its published numbers imply: the most frequent option of that mean, else a random one."""
    return _one_answer(answers, paper_average(train, answers))


def paper_knn(train: Sequence[Answer], answers: Sequence[Answer]) -> Filled:
    """KNN with k = 1 as described: the answers of the most similar question and group of train.

    The paper compares BERT embeddings; here TF-IDF, of the question's text first (among questions with the same number
    of options), then of the group's name among the groups that answered it. No such question: uniform.
    """
    groups_of: dict[object, list[Answer]] = {}
    for answer in train:
        groups_of.setdefault(question_of(answer), []).append(answer)
    questions = [rows[0] for rows in groups_of.values()]
    vectors = vectorizer([text_of(q) for q in questions])
    known = vectors.transform([text_of(q) for q in questions])
    length = np.array([len(q.options) for q in questions])
    distinct = list(dict.fromkeys(group_name(a.group) for a in train))
    names = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
    all_names = names.fit_transform(distinct)

    @functools.cache
    def similar_question(text: str, options: int) -> Answer | None:
        similarity = np.where(length == options, (known @ vectors.transform([text]).T).toarray()[:, 0], -1)
        return questions[int(similarity.argmax())] if similarity.max() >= 0 else None

    @functools.cache
    def similarities(name: str) -> dict[str, float]:
        everybody = (all_names @ names.transform([name]).T).toarray()[:, 0]
        return dict(zip(distinct, everybody, strict=True))

    def similar_group(question: object, name: str) -> Answer:
        return max(groups_of[question], key=lambda a: similarities(name)[group_name(a.group)])  # the first of equals

    shares, sources = uniform(answers), [UNIFORM] * len(answers)
    for i, answer in enumerate(answers):
        same = question_of(answer)
        if same not in groups_of:
            found = similar_question(text_of(answer), len(answer.options))
            same = None if found is None else question_of(found)
        if same is not None:
            shares[i], sources[i] = np.array(similar_group(same, group_name(answer.group)).probs), NEAREST_CELL
    return shares, sources


def paper_knn_answer(train: Sequence[Answer], answers: Sequence[Answer]) -> Filled:
    """KNN as its published numbers imply: the most frequent answer of that question and group, else a random one."""
    return _one_answer(answers, paper_knn(train, answers))


def _one_answer(answers: Sequence[Answer], filled: Filled) -> Filled:
    """All mass on the likeliest option, or where the baseline is uniform on a random one, the same in every run."""
    shares, sources = [], []
    for answer, probs, source in zip(answers, *filled, strict=True):
        rng = np.random.default_rng(zlib.crc32(repr(answer.key).encode()))
        option = rng.integers(len(probs)) if source == UNIFORM else int(np.argmax(probs))
        shares.append(np.eye(len(probs))[option])
        sources.append(RANDOM_OPTION if source == UNIFORM else source)
    return shares, sources
