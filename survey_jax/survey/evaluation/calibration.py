"""One temperature for all predictions, fitted on the validation split.

Training on few questions makes a model overconfident on new ones. Dividing its logits by one number, chosen on rows
that it was not trained on, corrects that and keeps the ranking of options (Guo et al. 2017, arXiv 1706.04599, section
4.2).
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from survey_jax.survey.evaluation import metrics
from survey_jax.survey.evaluation.bootstrap import Bootstrap
from survey_jax.survey.table import Answer

BOUNDS = (0.2, 5.0)  # a model that needs more than this has learned nothing, or memorised


def with_temperature(predictions: Float[np.ndarray, "n k"], temperature: float) -> Float[np.ndarray, "n k"]:
    """Divides the logits by `temperature`: above 1 makes distributions flatter, 1 leaves them alone. Zeros stay zero.

    >>> with_temperature(np.array([[0.8, 0.2]]), 2.0).round(3)
    array([[0.667, 0.333]])
    """
    with np.errstate(divide="ignore"):
        return special.softmax(np.log(predictions) / temperature, axis=-1)


def fit_temperature(answers: Sequence[Answer], predictions: Float[np.ndarray, "n k"]) -> float:
    """The temperature within BOUNDS with the least KL(human || prediction), every question counting the same.

    >>> answers = [Answer("S", f"q{i}", "Fair?", ("Yes", "No"), (("country", "Kenya"),), (0.6, 0.4)) for i in range(5)]
    >>> overconfident = with_temperature(np.array([[0.6, 0.4]] * 5), 0.5)
    >>> round(fit_temperature(answers, overconfident), 2)
    2.0
    """
    target = metrics.stack(answers, [a.probs for a in answers])
    known = ~np.isnan(metrics.stack(answers, predictions)).any(-1)
    count = np.array([len(a.options) for a in answers])
    bootstrap = Bootstrap(answers, samples=0)

    def loss(log_temperature: float) -> float:
        scaled = with_temperature(predictions, math.exp(log_temperature))[:, : target.shape[1]].astype(float)
        kl = metrics.kl(target, scaled / scaled.sum(-1, keepdims=True), count)
        return bootstrap.ratios(np.where(known, kl, 0.0), known.astype(float))[1].value

    low, high = map(math.log, BOUNDS)
    return math.exp(optimize.minimize_scalar(loss, bounds=(low, high), method="bounded").x)
