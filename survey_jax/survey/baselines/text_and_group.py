"""A baseline for any question put to any group: what did similar groups answer to similar questions?

A Gaussian process (Rasmussen & Williams 2006, chapters 2 and 5). It needs no language model, and knows all that the
other baselines use: other groups' answers to the question, similar questions, similar groups, and both together.
"""

import dataclasses
import functools
import operator
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int
from scipy import linalg, optimize, sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from threadpoolctl import threadpool_limits

from survey_jax.survey.baselines.by_group import as_shares
from survey_jax.survey.baselines.by_text import text_of, vectorizer
from survey_jax.survey.baselines.group_similarity import GroupSimilarity
from survey_jax.survey.baselines.seen_groups import Filled, fill_in, folded_options, question_of
from survey_jax.survey.embeddings import Embeddings
from survey_jax.survey.table import Answer, Group
from survey_jax.survey.text import same_group

TEXT_AND_GROUP = "similar questions and groups"

_MOST_ROWS = 4000  # of one number of options that predictions are from: 130 MB, and seconds to solve
_FIT_ROWS = 400  # of one number of options that variances are fitted on
_LEAST_QUESTIONS = 5  # with the same number of options; variances are fitted where there are as many
_CHUNK = 2000  # rows predicted at once
_STEPS = 40

_QUESTION_PARTS = 4  # any question, same options, similar text, same question: see `_question_parts`
# Variances before fitting, where 1 is that of all answers: of each part of questions, of its product with the
# similarity of groups, of noise, and of all attributes together. Fitted ones are mostly within a factor of 10.
_START, _START_BY_GROUP, _START_NOISE, _START_GROUPS = (0.1, 0.2, 0.3, 0.3), (0.1, 0.1, 0.1, 0.2), 0.1, 1.0
_PRIOR = 2.0  # standard deviation of a log variance: keeps what the data do not tell near its start
_WIDEST = 5.0  # log variances stay this near to their start, so that the kernel can be inverted

Vectors: TypeAlias = TfidfVectorizer | Embeddings
Similarity = tuple[int, Float[np.ndarray, "g h"]]  # number of a similarity of groups, and its values


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Rows by the numbers of their question and group, so that similarities are computed once each."""

    question: Int[np.ndarray, " n"]
    group: Int[np.ndarray, " n"]
    questions: list[Answer]  # one of each
    groups: list[Group]
    texts: sparse.csr_matrix


@dataclasses.dataclass(frozen=True)
class _Block:
    """What variances are fitted on: rows with the same number of options."""

    rows: _Rows
    by_question: Float[np.ndarray, "4 q q"]
    by_group: list[Similarity]
    target: Float[np.ndarray, "n k"]


@dataclasses.dataclass(frozen=True)
class _Variances:
    """The size of each part of the kernel.

    Attributes:
      alone: of the parts of `_question_parts`.
      with_group: of their products with the similarity of groups.
      noise: of an answer that nothing explains.
      groups: of the similarities of `GroupSimilarity`, which add up to the similarity of groups.
    """

    alone: Float[np.ndarray, " 4"]
    with_group: Float[np.ndarray, " 4"]
    noise: float
    groups: Float[np.ndarray, " s"]

    @classmethod
    def of(cls, logs: Float[np.ndarray, " _"]) -> "_Variances":
        values, parts = np.exp(logs), _QUESTION_PARTS
        return cls(values[:parts], values[parts : 2 * parts], float(values[2 * parts]), values[2 * parts + 1 :])


def text_and_group(train: Sequence[Answer], answers: Sequence[Answer], embeddings: Embeddings | None = None) -> Filled:
    """Gaussian process over questions and groups; one for each number of options.

    The share of each option, less 1 / K, has the covariance, between group g asked q and group h asked r,

        sum over parts i of Q_i(q, r) (a_i + b_i S(g, h)), plus noise for a row itself.

    Q are 1, whether the options are the same, the cosine similarity of the texts, and whether it is the same question;
    S(g, h) is a sum of similarities of attributes (`GroupSimilarity`), each with a weight. All weights have the largest
    marginal likelihood on at most 400 rows of each number of options, together, with a weak prior. Predictions are
    exact from up to 4,000 rows of train with as many options; of more, 4,000 are used, from each question one in turn,
    drawn by seed. The cost is cubic in these rows. Where no number of options has 5 questions in train, or train has
    no question with as many options, it is the seen-group mean. With `embeddings`, these take the place of texts.
    """
    read = text_of if embeddings is None else operator.attrgetter("question")
    same_number: dict[int, list[Answer]] = defaultdict(list)
    for answer in train:
        same_number[len(answer.options)].append(answer)
    enough = [k for k, own in same_number.items() if len({question_of(a) for a in own}) >= _LEAST_QUESTIONS]
    shares, sources = fill_in(train, answers, lambda answer: None)
    if not enough:
        return shares, sources
    texts = list({question_of(a): text_of(a) for a in train}.values())
    number = functools.partial(_rows, vectors=embeddings or vectorizer(texts), read=read)
    similarity = GroupSimilarity(sorted({same_group(a.group) for a in train}))
    with threadpool_limits(1):  # many small matrices: more threads only wait for each other
        variances = _fit([_block(same_number[k], number, similarity) for k in enough], len(similarity.names))
    for k, own in same_number.items():
        asked = [i for i, a in enumerate(answers) if len(a.options) == k]
        if asked:
            predicted = _predict(own, [answers[i] for i in asked], variances, number, similarity)
            for i, prediction in zip(asked, predicted, strict=True):
                shares[i], sources[i] = prediction, TEXT_AND_GROUP
    return shares, sources


def _rows(answers: Sequence[Answer], vectors: Vectors, read: Callable[[Answer], str]) -> _Rows:
    questions: dict[Hashable, int] = {}
    groups: dict[Group, int] = {}
    question = np.array([questions.setdefault(question_of(a), len(questions)) for a in answers])
    group = np.array([groups.setdefault(same_group(a.group), len(groups)) for a in answers])
    examples = [answers[int(i)] for i in np.unique(question, return_index=True)[1]]
    return _Rows(question, group, examples, list(groups), vectors.transform([read(a) for a in examples]))


def _block(train: Sequence[Answer], number: Callable[..., _Rows], similarity: GroupSimilarity) -> _Block:
    chosen = _some(train, _FIT_ROWS)
    rows, target = number(chosen), _target(chosen)
    between = enumerate(similarity.between(rows.groups, rows.groups))
    scale = np.sqrt((target**2).sum() / len(target) / (target.shape[1] - 1)) or 1.0
    return _Block(rows, _question_parts(rows, rows), [(i, s) for i, s in between if s.any()], target / scale)


def _some(train: Sequence[Answer], size: int) -> list[Answer]:
    """At most `size` rows: from each question one in turn, drawn by seed."""
    turns: dict[Hashable, int] = defaultdict(int)
    drawn = []
    for row in np.random.default_rng(0).permutation(len(train)).tolist():
        turns[question_of(train[row])] += 1
        drawn.append((turns[question_of(train[row])], row))
    kept = sorted(drawn, key=operator.itemgetter(0))[:size]  # stable: within a turn as drawn
    return [train[row] for row in sorted(row for _, row in kept)]


def _target(answers: Sequence[Answer]) -> Float[np.ndarray, "n k"]:
    shares = np.array([a.probs for a in answers])
    return shares - 1 / shares.shape[1]


def _question_parts(left: _Rows, right: _Rows) -> Float[np.ndarray, "4 q r"]:
    def equal(key: Callable[[Answer], Hashable]) -> Float[np.ndarray, "q r"]:
        numbers: dict[Hashable, int] = {}
        x, y = (np.array([numbers.setdefault(key(a), len(numbers)) for a in r.questions]) for r in (left, right))
        return (x[:, None] == y).astype(float)

    text = (left.texts @ right.texts.T).toarray()
    return np.stack([np.ones_like(text), equal(folded_options), text, equal(question_of)])


def _fit(blocks: Sequence[_Block], similarities: int) -> _Variances:
    """The variances of all blocks together."""
    groups = np.full(similarities, _START_GROUPS / max(similarities, 1))
    start = np.log(np.concatenate([_START, _START_BY_GROUP, [_START_NOISE], groups]))
    bounds = [(x - _WIDEST, x + _WIDEST) for x in start]
    found = optimize.minimize(
        _loss, start, (blocks, start), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS}
    )
    return _Variances.of(found.x)


def _loss(
    logs: Float[np.ndarray, " p"], blocks: Sequence[_Block], start: Float[np.ndarray, " p"]
) -> tuple[float, Float[np.ndarray, " p"]]:
    """Negative log of marginal likelihood times prior, less a constant; and its gradient.

    The gradient of the likelihood in a log variance v is the sum over D * v dK/dv, D = (m K^-1 - A A^T) / 2, A = K^-1 Y
    (Rasmussen & Williams, equation 5.9, for m = k - 1 independent outputs). As K's parts are similarities of questions
    times similarities of groups, D is summed over the rows of each pair of questions, or of groups, first.
    """
    variances, parts = _Variances.of(logs), _QUESTION_PARTS
    loss, gradient = float(((logs - start) ** 2).sum()) / (2 * _PRIOR**2), (logs - start) / _PRIOR**2
    for block in blocks:
        question, group = block.rows.question, block.rows.group
        outputs = block.target.shape[1] - 1
        alike = _weighted(variances.groups, block.by_group, (len(block.rows.groups),) * 2)[np.ix_(group, group)]
        slope = np.tensordot(variances.with_group, block.by_question, 1)[np.ix_(question, question)]
        kernel = np.tensordot(variances.alone, block.by_question, 1)[np.ix_(question, question)] + slope * alike
        kernel[np.diag_indices_from(kernel)] += variances.noise
        factor = linalg.cholesky(kernel, lower=True)
        inverse = linalg.cho_solve((factor, True), np.eye(len(kernel)))
        weights = inverse @ block.target
        loss += float((block.target * weights).sum() / 2 + outputs * np.log(np.diag(factor)).sum())
        change = (outputs * inverse - weights @ weights.T) / 2
        gradient[:parts] += variances.alone * np.tensordot(block.by_question, _sum_pairs(change, question), 2)
        by_group = np.tensordot(block.by_question, _sum_pairs(change * alike, question), 2)
        gradient[parts : 2 * parts] += variances.with_group * by_group
        gradient[2 * parts] += variances.noise * np.trace(change)
        pairs = _sum_pairs(change * slope, group)
        for i, matrix in block.by_group:
            gradient[2 * parts + 1 + i] += variances.groups[i] * float((matrix * pairs).sum())
    return loss, gradient


def _weighted(
    weights: Float[np.ndarray, " s"], similarities: Iterable[Similarity], shape: tuple[int, int]
) -> Float[np.ndarray, "g h"]:
    total = np.zeros(shape)
    for i, similarity in similarities:
        total += weights[i] * similarity
    return total


def _sum_pairs(matrix: Float[np.ndarray, "n n"], member: Int[np.ndarray, " n"]) -> Float[np.ndarray, "m m"]:
    """Sums over the rows and columns of each pair of members."""
    one_hot = sparse.csr_matrix((np.ones(len(member)), (member, np.arange(len(member)))))
    return one_hot @ (one_hot @ matrix).T


def _predict(
    train: Sequence[Answer],
    answers: Sequence[Answer],
    variances: _Variances,
    number: Callable[..., _Rows],
    similarity: GroupSimilarity,
) -> list[Float[np.ndarray, " k"]]:
    """The posterior mean, as shares."""
    chosen = _some(train, _MOST_ROWS)
    known, target = number(chosen), _target(chosen)

    def covariance(rows: _Rows) -> Float[np.ndarray, "n m"]:
        between = enumerate(similarity.between(rows.groups, known.groups))
        alike = _weighted(variances.groups, between, (len(rows.groups), len(known.groups)))
        by_question, pairs = _question_parts(rows, known), np.ix_(rows.question, known.question)
        alone, slope = (np.tensordot(w, by_question, 1)[pairs] for w in (variances.alone, variances.with_group))
        return alone + slope * alike[np.ix_(rows.group, known.group)]

    kernel = covariance(known)
    kernel[np.diag_indices_from(kernel)] += variances.noise
    weights = linalg.cho_solve(linalg.cho_factor(kernel, overwrite_a=True), target)
    shares: list[np.ndarray] = []
    for begin in range(0, len(answers), _CHUNK):
        part = number(answers[begin : begin + _CHUNK])
        shares += [as_shares(row + 1 / len(row)) for row in covariance(part) @ weights]
    return shares
