"""Baselines for a new question: which questions of train read like it?

Texts (question and options) become TF-IDF vectors. Only questions with the same number of options are compared. Their
distributions are means over groups, each question counting once; the group plays no part.

Sizes and penalties are chosen by cross-validation over the questions of train, for each number of options. For a
question whose options train has, one question at a time is left out. For one with new options, all questions with the
same options are left out together: items of one battery predict each other, and a question with new options has none.
"""

import functools
import operator
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import linalg, sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import KernelCenterer

from survey_jax.survey.baselines.by_group import as_shares
from survey_jax.survey.baselines.seen_groups import SAME_QUESTION, Filled, fill_in, folded_options, means, question_of
from survey_jax.survey.embeddings import Embeddings
from survey_jax.survey.table import Answer

SIMILAR_TEXT = "similar questions"
TEXT_RIDGE = "regression on text"

_NEIGHBOURS = (1, 2, 3, 5, 8, 12, 20, 30)
_ALPHAS = tuple(np.logspace(-2, 3, 11))
_LEAST_QUESTIONS = 5  # that have the same number of options; fewer cannot be cross-validated
_MOST_FOLDS = 10  # to leave out one list of options at a time would take hours where there are hundreds

TextModel = Callable[[sparse.csr_matrix], Float[np.ndarray, "n k"]]  # texts' vectors -> distributions
# (vectors of texts, distributions, number of the part that each question is left out with) -> model
Fit = Callable[[sparse.csr_matrix, Float[np.ndarray, "m k"], Int[np.ndarray, " m"]], TextModel]


def text_neighbours(train: Sequence[Answer], answers: Sequence[Answer], embeddings: Embeddings | None = None) -> Filled:
    """The mean of a question of train; for a new one that of the k most similar questions, by cosine similarity.

    k is the one with the least mean total variation distance on questions left out. Where fewer than 5 questions have
    the number of options, it is the seen-group mean. With `embeddings`, these are compared in place of texts.
    """
    return _by_text(train, answers, _fit_neighbours, SIMILAR_TEXT, embeddings)


def text_ridge(train: Sequence[Answer], answers: Sequence[Answer], embeddings: Embeddings | None = None) -> Filled:
    """The mean of a question of train; for a new one a ridge regression of the distribution on the text.

    The penalty is the one with the least squared error on questions left out. Where fewer than 5 questions have the
    number of options, it is the seen-group mean. With `embeddings`, the regression is on the questions' embeddings.
    """
    return _by_text(train, answers, _fit_ridge, TEXT_RIDGE, embeddings)


def text_of(answer: Answer) -> str:
    """The text by which a question is compared: its wording and its options."""
    return " ".join([answer.question, *answer.options])


def vectorizer(texts: Sequence[str]) -> TfidfVectorizer:
    """TF-IDF of character n-grams within words: small survey vocabularies gain from sharing word stems."""
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True).fit(texts)


def _by_text(
    train: Sequence[Answer], answers: Sequence[Answer], fit: Fit, source: str, embeddings: Embeddings | None
) -> Filled:
    known = means([(question_of(a), np.array(a.probs)) for a in train])
    examples: dict[Hashable, Answer] = {}
    for answer in train:
        examples.setdefault(question_of(answer), answer)
    read = text_of if embeddings is None else operator.attrgetter("question")
    vectors = embeddings or (vectorizer([text_of(a) for a in examples.values()]) if examples else None)
    lists = [folded_options(a) for a in examples.values()]
    known_lists = set(lists)

    @functools.cache
    def model(options: int, new_list: bool) -> TextModel | None:
        chosen = [
            (q, options_list) for q, options_list in zip(examples, lists, strict=True) if len(known[q]) == options
        ]
        if len(chosen) < _LEAST_QUESTIONS or vectors is None:
            return None
        texts = vectors.transform([read(examples[q]) for q, _ in chosen])
        parts = np.unique([str(options_list) for _, options_list in chosen], return_inverse=True)[1]
        if not new_list or parts.max() == 0:
            parts = np.arange(len(chosen))
        return fit(texts, np.array([known[q] for q, _ in chosen]), parts)

    @functools.cache
    def guess(text: str, options: int, new_list: bool) -> Float[np.ndarray, " k"] | None:
        fitted = model(options, new_list)
        return None if fitted is None or vectors is None else fitted(vectors.transform([text]))[0]

    def predict(answer: Answer) -> tuple[np.ndarray, str] | None:
        if question_of(answer) in known:
            return known[question_of(answer)], SAME_QUESTION
        shares = guess(read(answer), len(answer.options), folded_options(answer) not in known_lists)
        return None if shares is None else (shares, source)

    return fill_in(train, answers, predict)


def _fit_neighbours(
    texts: sparse.csr_matrix, shares: Float[np.ndarray, "m k"], parts: Int[np.ndarray, " m"]
) -> TextModel:
    def mean(similarity: Float[np.ndarray, "n m"], k: int) -> Float[np.ndarray, "n k"]:
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        # Nothing in common at all: equal weights. Embeddings can have negative cosines.
        weights = np.maximum(np.take_along_axis(similarity, nearest, 1), 0) + 1e-9
        return np.einsum("nj,njk->nk", weights / weights.sum(1, keepdims=True), shares[nearest])

    left_out = parts[:, None] == parts
    among = np.where(left_out, -2, (texts @ texts.T).toarray())  # what is left out with it comes last
    sizes = [k for k in _NEIGHBOURS if k <= (~left_out).sum(1).min()]
    losses = [np.abs(mean(among, k) - shares).sum() for k in sizes]
    best = sizes[int(np.argmin(losses))]
    return lambda new: mean((new @ texts.T).toarray(), best)


def _fit_ridge(texts: sparse.csr_matrix, shares: Float[np.ndarray, "m k"], parts: Int[np.ndarray, " m"]) -> TextModel:
    kernel = (texts @ texts.T).toarray()  # there are far fewer texts than n-grams
    one_each = len(np.unique(parts)) == len(parts)
    losses = _left_out_one(kernel, shares) if one_each else _left_out_parts(kernel, shares, parts % _MOST_FOLDS)
    predict = _ridge(kernel, shares, [_ALPHAS[int(np.argmin(losses))]])
    return lambda new: np.array([as_shares(p) for p in predict((new @ texts.T).toarray())[0]])


def _ridge(
    kernel: Float[np.ndarray, "m m"], shares: Float[np.ndarray, "m k"], alphas: Sequence[float]
) -> Callable[[Float[np.ndarray, "n m"]], list[Float[np.ndarray, "n k"]]]:
    """Ridge regression with an intercept, in its dual form.

    Args:
      kernel: products of the texts with each other.
      alphas: penalties.

    Returns:
      a function: products of new texts with those -> what is predicted with each penalty.
    """
    centre, mean = KernelCenterer().fit(kernel), shares.mean(0)
    centred = centre.transform(kernel)
    weights = []
    for alpha in alphas:
        penalised = centred.copy()
        penalised[np.diag_indices_from(penalised)] += alpha
        weights.append(linalg.solve(penalised, shares - mean, assume_a="pos", overwrite_a=True, check_finite=False))
    return lambda products: [centre.transform(products) @ w + mean for w in weights]


def _left_out_one(kernel: Float[np.ndarray, "m m"], shares: Float[np.ndarray, "m k"]) -> list[float]:
    """The mean squared error of each penalty, one text left out at a time; by a closed form (Allen 1974)."""
    values, axes = linalg.eigh(KernelCenterer().fit_transform(kernel))
    losses = []
    for alpha in _ALPHAS:
        missed = alpha / (values + alpha)  # of shares along each axis
        residual = axes @ (missed[:, None] * (axes.T @ shares)) - shares.mean(0)
        own = axes**2 @ missed - 1 / len(kernel)
        losses.append(float(np.mean((residual / own[:, None]) ** 2)))
    return losses


def _left_out_parts(
    kernel: Float[np.ndarray, "m m"], shares: Float[np.ndarray, "m k"], folds: Int[np.ndarray, " m"]
) -> list[float]:
    """The mean squared error of each penalty, one fold left out at a time and each counting the same."""
    losses = np.zeros(len(_ALPHAS))
    for fold in np.unique(folds):
        out, rest = folds == fold, folds != fold
        predictions = _ridge(kernel[np.ix_(rest, rest)], shares[rest], _ALPHAS)(kernel[np.ix_(out, rest)])
        losses += [float(np.mean((p - shares[out]) ** 2)) for p in predictions]
    return losses.tolist()
