"""A temperature for each kind of row, fitted on validation rows of that kind and shrunk by how much evidence they are.

Training on few questions makes a model overconfident on new ones. Dividing its logits by one number, chosen on rows
that it was not trained on, corrects that and keeps the ranking of options (Guo et al. 2017, arXiv 1706.04599, section
4.2). On questions that training asked, the same model needs another number, so each kind of row has its own. A handful
of questions, or of groups, says little about the next one: `fit_calibration` goes only as far as cross-validation
supports, and with too few of them (`kinds.is_evidence`) leaves predictions alone. Models and rules are treated alike.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import interpolate, optimize, special

from survey_jax.survey.evaluation import metrics
from survey_jax.survey.evaluation.bootstrap import factorize
from survey_jax.survey.splits.kinds import is_evidence
from survey_jax.survey.table import Answer

BOUNDS = (0.2, 5.0)  # a model that needs more than this has learned nothing, or memorised
# A weaker correction is taken if it costs at most this many standard errors more. In simulations with 15 and 30
# questions 0 can harm by .004 KL where there is nothing to gain, and the textbook's 1 gives up two fifths of a gain.
_PATIENCE = 0.5

_LOW, _HIGH = (math.log(bound) for bound in BOUNDS)
_KNOTS = np.linspace(_LOW, _HIGH, 41)  # log temperatures at which divergences are computed; between them splines
_FINE = np.linspace(_LOW, _HIGH, 401)
_STRENGTHS = np.linspace(0, 1, 21)  # of the correction: 0 is none, 1 the temperature as fitted


@dataclasses.dataclass(frozen=True)
class Temperature:
    """What logits are divided by, and the evidence for it.

    Attributes:
      value: what is used, between 1 and `fitted`.
      fitted: the temperature of least KL on all validation rows of the kind.
      questions: how many questions these rows are about.
      rows: how many rows.
    """

    value: float
    fitted: float
    questions: int
    rows: int


NONE = Temperature(1.0, 1.0, 0, 0)


def with_temperature(predictions: Float[np.ndarray, "n k"], temperature: float) -> Float[np.ndarray, "n k"]:
    """Divides the logits by `temperature`: above 1 makes distributions flatter, 1 leaves them alone. Zeros stay zero.

    >>> with_temperature(np.array([[0.8, 0.2]]), 2.0).round(3)
    array([[0.667, 0.333]])
    """
    with np.errstate(divide="ignore"):
        return special.softmax(np.log(predictions) / temperature, axis=-1)


def fit_temperature(answers: Sequence[Answer], predictions: metrics.Distributions) -> float:
    """The temperature within BOUNDS with the least KL(human || prediction), every question counting the same.

    Rows of NaN do not count. 1 where no temperature is better than none.

    >>> answers = [Answer("S", f"q{i}", "Fair?", ("Yes", "No"), (("country", "Kenya"),), (0.6, 0.4)) for i in range(5)]
    >>> overconfident = with_temperature(np.array([[0.6, 0.4]] * 5), 0.5)
    >>> round(fit_temperature(answers, overconfident), 2)
    2.0
    """
    return _fit(answers, predictions).fitted


def fit_calibration(
    answers: Sequence[Answer], predictions: metrics.Distributions, kinds: Sequence[str]
) -> dict[str, Temperature]:
    """A temperature for each kind of row, from validation rows of that kind.

    The temperature T of `fit_temperature` is used as T^s. The strength s in [0, 1] is chosen by leaving out one
    question at a time: T is fitted on the others, and the KL of the question's rows is computed at T^s. The least s is
    taken whose mean KL over questions is at most half a standard error (of the difference, over questions) above the
    best. The same is done by leaving out one group at a time, where there are two: many questions put to a handful of
    groups are little evidence about the next group. The lesser s counts. s is 0 where there are
    fewer questions or groups than `kinds.is_evidence` asks for.

    Args:
      answers: n validation rows.
      predictions: a distribution for each; padded with zeros or not. Rows of NaN do not count.
      kinds: the kind of each row.

    Returns:
      kind -> temperature. A kind without rows has none, and `calibrate` leaves its rows alone.

    >>> answers = [Answer("S", f"q{i}", "Fair?", ("Yes", "No"), (("country", "Kenya"),), (0.6, 0.4)) for i in range(20)]
    >>> overconfident = with_temperature(np.array([[0.6, 0.4]] * 20), 0.5)
    >>> fitted = fit_calibration(answers, overconfident, ["new question"] * 20)
    >>> fitted["new question"].questions, round(fitted["new question"].value, 2)
    (20, 2.0)
    """
    result = {}
    for kind in dict.fromkeys(kinds):
        rows = [i for i, own in enumerate(kinds) if own == kind]
        result[kind] = _fit([answers[i] for i in rows], [predictions[i] for i in rows], kind)
    return result


def calibrate(
    predictions: Float[np.ndarray, "n K"], kinds: Sequence[str], calibration: Mapping[str, Temperature]
) -> Float[np.ndarray, "n K"]:
    """Applies to each row the temperature of its kind; rows of a kind that has none stay, as do rows of NaN.

    >>> calibrate(np.array([[0.8, 0.2]] * 2), ["known", "new"], {"new": Temperature(2.0, 2.5, 40, 90)}).round(3)
    array([[0.8  , 0.2  ],
           [0.667, 0.333]])
    """
    result = np.array(predictions, float)
    for kind, temperature in calibration.items():
        rows = np.array([own == kind for own in kinds], bool)
        if rows.any() and temperature.value != 1:
            result[rows] = with_temperature(result[rows], temperature.value)
    return result


def _fit(answers: Sequence[Answer], predictions: metrics.Distributions, kind: str = "") -> Temperature:
    curves, question, group = _curves(answers, predictions)
    if not len(curves):
        return NONE
    by_question = _sums(curves, question)
    spline = interpolate.CubicSpline(_KNOTS, by_question.mean(0))
    best = float(optimize.minimize_scalar(spline, bounds=(_LOW, _HIGH), method="bounded").x)
    fitted = best if spline(best) < spline(0.0) - 1e-12 else 0.0
    strength = 0.0
    if fitted and is_evidence(kind, len(by_question), len(np.unique(group))):
        strength = min(_strength(_sums(curves, cluster)) for cluster in (question, group) if cluster.any())
    return Temperature(math.exp(strength * fitted), math.exp(fitted), len(by_question), len(curves))


def _curves(
    answers: Sequence[Answer], predictions: metrics.Distributions
) -> tuple[Float[np.ndarray, "rows knots"], Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
    """KL at each of `_KNOTS` over the number of rows of the question, and numbers for question and group.

    Only of rows that have a prediction.
    """
    prediction = metrics.stack(answers, predictions)
    known = ~np.isnan(prediction).any(-1)
    if not known.any():
        return np.zeros((0, len(_KNOTS))), np.zeros(0, int), np.zeros(0, int)
    target, prediction = metrics.stack(answers, [a.probs for a in answers])[known], prediction[known]
    answers = [a for a, own in zip(answers, known, strict=True) if own]
    question, group = factorize([a.question_key for a in answers]), factorize([a.group for a in answers])
    options = np.array([len(a.options) for a in answers])
    with np.errstate(divide="ignore"):
        logits = np.log(prediction)
    size = np.bincount(question)[question]
    curves = [metrics.kl(target, special.softmax(logits / math.exp(knot), axis=-1), options) / size for knot in _KNOTS]
    return np.stack(curves, axis=1), question, group


def _sums(curves: Float[np.ndarray, "rows knots"], cluster: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "c knots"]:
    """Sums over the rows of each cluster."""
    return np.stack([np.bincount(cluster, column) for column in curves.T], axis=1)


def _strength(curves: Float[np.ndarray, "clusters knots"]) -> float:
    """How much of the correction to apply, by leaving out one cluster of rows at a time."""
    fine = interpolate.CubicSpline(_KNOTS, curves, axis=1)(_FINE)
    without = _FINE[(fine.sum(0) - fine).argmin(1)]  # the log temperature fitted on the other clusters
    place = np.rint((without[:, None] * _STRENGTHS - _FINE[0]) / (_FINE[1] - _FINE[0])).astype(int)
    held_out = np.take_along_axis(fine, place, axis=1)
    extra = held_out - held_out[:, [held_out.mean(0).argmin()]]
    error = extra.std(0, ddof=1) / math.sqrt(len(extra))
    return float(_STRENGTHS[np.flatnonzero(extra.mean(0) <= _PATIENCE * error)[0]])
