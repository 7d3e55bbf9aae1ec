"""Baselines for a known question put to another group: which groups are like it?

`nearest_groups` and `factor_model` judge by the group's own answers to other questions, where it has some (few-shot
splits, gaps in a table); `covariates` judges by what is known of the group without asking. All work within a survey, on
the matrix of its training answers, with a row for each group and a column for each option of a question. Sizes are
chosen by cross-validation inside it.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.feature_extraction import DictVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.metrics.pairwise import nan_euclidean_distances

from survey_jax.survey import countries
from survey_jax.survey.baselines.seen_groups import Filled, fill_in, means, question_of
from survey_jax.survey.table import Answer, Group
from survey_jax.survey.text import fold, is_country, same_group

# How a row was predicted.
OWN_ANSWER = "same question and group"  # in another wave
NEAREST = "nearest groups"
FACTORS = "factor model"
COVARIATES = "covariates"
BY_N = "same question, by n"

FLOOR = 1e-3  # least share a linear model predicts: it may not rule out what one in a thousand could answer
_NEIGHBOURS = (1, 2, 3, 5, 8, 12, 20)
_RANKS = (1, 2, 3, 5, 8, 12)
_ALPHAS = tuple(np.logspace(-1, 4, 16))
_FOLDS = 5
_MOST_GROUPS = 200  # take part in cross-validation; more make it slow, not better
_LEAST_GROUPS = 4  # fewer well-known groups have no structure to learn


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Training answers of one survey: shares, NaN where a group did not answer; waves are averaged."""

    shares: Float[np.ndarray, "groups columns"]
    columns: dict[Hashable, slice]  # question -> its columns
    rows: dict[Group, int]  # group -> its row

    def known(self) -> np.ndarray:
        """Bool [groups, questions]."""
        return ~np.isnan(self.shares[:, [c.start for c in self.columns.values()]])


Cell = tuple[int, Hashable]  # a group's row and a question that it has not answered
Impute = Callable[[Matrix, Sequence[Cell], int], list[np.ndarray]]  # (.., size) -> shares of each cell, or NaN


def seen_group_mean_by_n(train: Sequence[Answer], answers: Sequence[Answer]) -> Filled:
    """As `seen_group_mean`, but weighted by each group's number of respondents (Kish's effective number where known).

    A question with a row that has neither number falls back on equal weights.
    """
    total: dict[Hashable, np.ndarray] = {}
    for answer in train:
        size = answer.n_effective or answer.n or np.nan
        total[question_of(answer)] = total.get(question_of(answer), 0.0) + size * np.array(answer.probs)

    def predict(answer: Answer) -> tuple[np.ndarray, str] | None:
        shares = total.get(question_of(answer))
        return None if shares is None or np.isnan(shares).any() else (shares / shares.sum(), BY_N)

    return fill_in(train, answers, predict)


def nearest_groups(train: Sequence[Answer], answers: Sequence[Answer]) -> Filled:
    """Mean of the k groups whose known answers are nearest, among those that answer the question in train.

    Distance: Euclidean over the options that both answered, scaled up for those they did not (scikit-learn's
    `nan_euclidean_distances`). k is chosen by cross-validation, see `_best_size`. Needs a training answer of the group.
    """
    return _by_imputation(train, answers, _impute_nearest, _NEIGHBOURS, NEAREST)


def factor_model(train: Sequence[Answer], answers: Sequence[Answer]) -> Filled:
    """Low-rank model: a group's answers are the question's mean plus a few factors, estimated from its known answers.

    Probabilistic principal components (Tipping & Bishop 1999) of the groups that answered at least half of the survey's
    questions; a group's factors are their posterior mean given its known answers. The rank is chosen by
    cross-validation, see `_best_size`. Needs an answer of the group in train, and four well-known groups.
    """
    return _by_imputation(train, answers, _impute_factors, _RANKS, FACTORS)


def covariates(train: Sequence[Answer], answers: Sequence[Answer]) -> Filled:
    """Ridge regression of a question's distribution on what is known of groups without asking.

    A country's features are its region, memberships, income and national languages (`countries.features`); any other
    attribute's feature is its value. There is one penalty for each survey, chosen by leave-one-group-out. Groups that
    answered less than half of the survey's questions are left out; gaps of the others get the question's mean.
    Needs a group with a feature that train knows.
    """
    models = {survey: model for survey, m in matrices(train).items() if (model := _CovariateModel.fit(m)) is not None}

    def predict(answer: Answer) -> tuple[np.ndarray, str] | None:
        model = models.get(answer.survey)
        shares = model.predict(answer) if model else None
        return None if shares is None else (shares, COVARIATES)

    return fill_in(train, answers, predict)


def matrices(train: Sequence[Answer]) -> dict[str, Matrix]:
    """The training answers of each survey as a matrix."""
    by_survey: dict[str, list[Answer]] = defaultdict(list)
    for answer in train:
        by_survey[answer.survey].append(answer)
    return {survey: _matrix(rows) for survey, rows in by_survey.items()}


def as_shares(values: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """A linear model's output as a distribution: at least `FLOOR` everywhere, sum 1."""
    floored = np.maximum(values, FLOOR)
    return floored / floored.sum()


def _matrix(train: Sequence[Answer]) -> Matrix:
    columns: dict[Hashable, slice] = {}
    rows: dict[Group, int] = {}
    width = 0
    for answer in train:
        rows.setdefault(same_group(answer.group), len(rows))
        if question_of(answer) not in columns:
            columns[question_of(answer)] = slice(width, width + len(answer.probs))
            width += len(answer.probs)
    shares = np.full((len(rows), width), np.nan)
    cells = means([((same_group(a.group), question_of(a)), np.array(a.probs)) for a in train])
    for (group, question), probs in cells.items():
        shares[rows[group], columns[question]] = probs
    return Matrix(shares, columns, rows)


def _by_imputation(
    train: Sequence[Answer], answers: Sequence[Answer], impute: Impute, sizes: Sequence[int], source: str
) -> Filled:
    """Fills the gaps of each survey's matrix, with the size that `_best_size` chooses."""
    known = matrices(train)
    filled: dict[tuple[str, Group, Hashable], np.ndarray] = {}
    for survey, matrix in known.items():
        asked = {(same_group(a.group), question_of(a)) for a in answers if a.survey == survey}
        gaps = sorted((matrix.rows[g], q) for g, q in asked if g in matrix.rows and q in matrix.columns)
        gaps = [(row, q) for row, q in gaps if np.isnan(matrix.shares[row, matrix.columns[q]]).any()]
        if gaps:
            size = _best_size(matrix, sorted({row for row, _ in gaps}), impute, sizes)
            groups = list(matrix.rows)
            for (row, question), shares in zip(gaps, impute(matrix, gaps, size), strict=True):
                filled[survey, groups[row], question] = shares

    def predict(answer: Answer) -> tuple[np.ndarray, str] | None:
        matrix, group, question = known.get(answer.survey), same_group(answer.group), question_of(answer)
        if matrix is None or group not in matrix.rows or question not in matrix.columns:
            return None
        shares = filled.get((answer.survey, group, question))
        if shares is None:
            return matrix.shares[matrix.rows[group], matrix.columns[question]], OWN_ANSWER
        return None if np.isnan(shares).any() else (as_shares(shares), source)

    return fill_in(train, answers, predict)


def _best_size(matrix: Matrix, targets: Sequence[int], impute: Impute, sizes: Sequence[int]) -> int:
    """The size with the least mean total variation distance on answers that are hidden for the purpose.

    `targets` are the rows of the groups to predict; the other groups are dealt into folds. Each group of a fold keeps
    as many answers, drawn at random, as the median target has; its other answers are hidden.
    """
    known, questions = matrix.known(), list(matrix.columns)
    keep = int(np.median(known[targets].sum(1)))
    rng = np.random.default_rng(0)
    others = rng.permutation([row for row in range(len(known)) if row not in set(targets)] or range(len(known)))
    others = others[:_MOST_GROUPS]
    losses = np.zeros(len(sizes))
    for part in np.array_split(others, min(_FOLDS, len(others))):
        shares = matrix.shares.copy()
        hidden: list[Cell] = []
        for row in part.tolist():
            answered = rng.permutation(np.flatnonzero(known[row]))
            hidden += [(row, questions[q]) for q in answered[min(keep, len(answered) - 1) :]]
        for row, question in hidden:
            shares[row, matrix.columns[question]] = np.nan
        for i, size in enumerate(sizes):
            guesses = impute(dataclasses.replace(matrix, shares=shares), hidden, size)
            truth = [matrix.shares[row, matrix.columns[question]] for row, question in hidden]
            errors = [np.abs(g - t).sum() for g, t in zip(guesses, truth, strict=True)]
            losses[i] += np.sum(np.where(np.isnan(errors), 2.0, errors))  # 2: as bad as can be
    return sizes[int(np.argmin(losses))]


def _impute_nearest(matrix: Matrix, cells: Sequence[Cell], size: int) -> list[np.ndarray]:
    rows = sorted({row for row, _ in cells})
    distances = dict(zip(rows, nan_euclidean_distances(matrix.shares[rows], matrix.shares), strict=True))
    order = {row: np.argsort(d, kind="stable") for row, d in distances.items()}  # NaN (nothing in common) last
    filled = []
    for row, question in cells:
        column = matrix.columns[question]
        near = order[row][~np.isnan(matrix.shares[order[row], column.start]) & ~np.isnan(distances[row][order[row]])]
        found = matrix.shares[near[:size], column]
        filled.append(found.mean(0) if len(found) else np.full(column.stop - column.start, np.nan))
    return filled


def _impute_factors(matrix: Matrix, cells: Sequence[Cell], size: int) -> list[np.ndarray]:
    shares, gaps, rows = matrix.shares, np.isnan(matrix.shares), _well_known(matrix)
    usable = ~gaps[rows].all(0) if len(rows) else np.zeros(shares.shape[1], bool)
    rank = min(size, len(rows) - 2, usable.sum() - 1)
    predicted = {row: np.full(shares.shape[1], np.nan) for row, _ in cells}
    if len(rows) >= _LEAST_GROUPS and rank > 0:
        mean = np.nanmean(shares[np.ix_(rows, usable)], axis=0)
        centred = np.where(gaps[:, usable], 0.0, shares[:, usable] - mean)
        pca = PCA(rank, svd_solver="full").fit(centred[rows])
        spread = centred[rows].var(axis=0, ddof=1).sum()
        noise = max(spread - pca.explained_variance_.sum(), 1e-12) / (len(mean) - rank)
        loadings = pca.components_.T * np.sqrt(np.maximum(pca.explained_variance_ - noise, 0))
        for row in predicted:
            known = ~gaps[row, usable]
            precision = loadings[known].T @ loadings[known] + noise * np.eye(rank)
            factors = np.linalg.solve(precision, loadings[known].T @ centred[row, known])
            predicted[row][usable] = mean + loadings @ factors
    return [predicted[row][matrix.columns[question]] for row, question in cells]


def _well_known(matrix: Matrix) -> np.ndarray:
    """Rows of groups that answered at least half of the questions."""
    return np.flatnonzero(matrix.known().mean(1) >= 0.5)


@dataclasses.dataclass(frozen=True)
class _CovariateModel:
    matrix: Matrix
    vectorizer: DictVectorizer
    ridge: RidgeCV

    @classmethod
    def fit(cls, matrix: Matrix) -> "_CovariateModel | None":
        """None where the groups are too few, or do not differ in any feature."""
        rows = _well_known(matrix)
        if len(rows) < _LEAST_GROUPS:
            return None
        groups = list(matrix.rows)
        vectorizer = DictVectorizer(sparse=False)
        features = vectorizer.fit_transform([_features(groups[row]) for row in rows])
        if not features.size or not np.ptp(features, axis=0).any():
            return None
        shares = SimpleImputer(keep_empty_features=True).fit_transform(matrix.shares[rows])
        return cls(matrix, vectorizer, RidgeCV(alphas=_ALPHAS).fit(features, shares))

    def predict(self, answer: Answer) -> np.ndarray | None:
        """None where the question is new, or no feature of the group was seen."""
        features = _features(answer.group)
        column = self.matrix.columns.get(question_of(answer))
        if column is None or features.keys().isdisjoint(self.vectorizer.vocabulary_):
            return None
        return as_shares(self.ridge.predict(self.vectorizer.transform([features]))[0, column])


def _features(group: Group) -> dict[str, float]:
    result: dict[str, float] = {}
    for attribute, value in group:
        if is_country(attribute):
            result |= countries.features(value)
        else:
            result[f"{fold(attribute)} = {fold(value)}"] = 1.0
    return result
