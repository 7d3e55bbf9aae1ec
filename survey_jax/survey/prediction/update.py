"""What a few human answers do to predictions: to the cells that were answered, and to the others of a question.

A cell is a question put to a group. Its forecast has shares p and is worth k interviews: the true shares t have the
Dirichlet distribution of k p, with mean p and covariance tau^2 (diag(p) - p p'), where tau^2 = 1 / (k + 1).

**The cell itself.** n people answer, x_j of them option j. The Dirichlet distribution of k p + x follows (conjugacy):

    shares (k p + x) / (k + n),    worth k + n

**The other groups of the question.** A prediction that is wrong for one group tends to be wrong for others in the same
way. In units of s_j = sqrt(p_j), in which errors of large and small shares vary alike, the error r = (t - p) / s of
cell c of a question is

    r_c = tau_c P_c (sqrt(rho) u + sqrt(1 - rho) v_c),    P_c = I - s_c s_c'    (errors of shares sum to 0)

u is the question's own error, common to its cells, and v_c the rest; both have mean 0 and covariance I. So rho is the
part of the variance that is the question's, and the covariance of each cell stays that of its forecast. The sample has
residuals y_c = (x_c / n_c - p_c) / s_c, whose sampling covariance is P_c k_c / ((k_c + 1) n_c). With
d_c = tau_c^2 (1 - rho) + k_c / ((k_c + 1) n_c), the best linear prediction of u from answered cells is

    A = I + sum_c tau_c^2 rho / d_c P_c,    b = sum_c tau_c sqrt(rho) / d_c y_c,    u: mean A^-1 b, covariance A^-1

(Robinson 1991, Statistical Science 6(1), on such predictions.) For every cell, u comes from the *other* cells. Its
shares become p + s tau sqrt(rho) P A^-1 b; no share falls below a tenth of itself in this way. With V the covariance
that is left, and phi = (sum_j p_j V_jj) / (sum_j p_j (1 - p_j)) its size (tau^2 before), its worth becomes
k / ((k + 1) phi): the concentration whose variance is the one left, on average over what the answers may be. Then the
cell's own answers are added as above.

**How much is shared.** rho is found from the answers: its mean under a Beta distribution (with the mean of SHARED, as
firm as FIRMNESS observations) times the normal likelihood of the residuals. Where few questions have answers from two
groups, it stays near SHARED. On the World Values Survey, with rules that had not seen the 150 questions or the 46
countries they predicted, it is .65 for new questions and 0 for known ones, whose common level train gives. So it is
found for each kind of row by itself, and only cells of one kind share an error.

Groups have no error of their own: the options of different questions do not correspond, so what a group's answers to
one say of its answers to another is left to the rules that predict few-shot groups.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import special, stats

from survey_jax.common.errors import UserError
from survey_jax.survey.evaluation.worth import sizes
from survey_jax.survey.prediction.cells import Cells, in_order
from survey_jax.survey.prediction.forecast import SHARED, Forecast
from survey_jax.survey.table import Answer

Array = np.ndarray
FIRMNESS = 4.0
LEAST_SHARE = 0.01  # smaller shares count as this one in s: the normal distribution is not for them
_KEPT = 0.1  # of a share, whatever other groups answer
_GRID = np.linspace(0.0, 0.98, 50)  # of rho


def update(forecasts: Sequence[Forecast], answers: Sequence[Answer]) -> list[Forecast]:
    """The forecasts once people's answers to some of them are known; see the module for the model.

    Args:
      forecasts: one a cell.
      answers: rows of a survey table for some of the cells, as `Cells` finds them; several rows of a cell add up. A
        row's respondents are `n_effective`, else `n`, else the sum of `counts`. They must be different people: do not
        give the answers of a country together with those of its young people.

    Returns:
      a forecast for each of `forecasts`, in their order; those of questions without answers are the same objects.

    Raises:
      UserError: as `Cells`, or a row that does not say how many people answered.

    >>> row = Answer("S", "q1", "Fair?", ("Yes", "No"), (("age", "18-29"),), (0.5, 0.5))
    >>> forecast = Forecast(row, np.array([0.8, 0.2]), 20.0, "new question", {})
    >>> (after,) = update([forecast], [dataclasses.replace(row, counts=(18, 12), probs=(0.6, 0.4))])
    >>> [round(float(share), 2) for share in after.shares], round(after.concentration)
    ([0.68, 0.32], 50)
    """
    counts = _counts(forecasts, answers)
    questions: dict[tuple[str, tuple[str, str]], list[int]] = defaultdict(list)
    for number, forecast in enumerate(forecasts):
        questions[forecast.kind, forecast.answer.question_key].append(number)
    tables = {
        key: _Table.of([forecasts[i] for i in cells], [counts.get(i) for i in cells])
        for key, cells in questions.items()
        if any(i in counts for i in cells)
    }
    rho = {
        kind: _shared_part([table for (other, _), table in tables.items() if other == kind], SHARED[kind])
        for kind in {kind for kind, _ in tables}
    }
    result = list(forecasts)
    for key, table in tables.items():
        for i, shares, worth in zip(questions[key], *table.from_others(rho[key[0]]), strict=True):
            x = counts.get(i, np.zeros(len(shares)))
            mixed = (worth * shares + x) / (worth + x.sum())
            result[i] = dataclasses.replace(forecasts[i], shares=mixed, concentration=float(worth + x.sum()))
    return result


def _counts(forecasts: Sequence[Forecast], answers: Sequence[Answer]) -> dict[int, Float[Array, " K"]]:
    """Number of a forecast -> how many people chose each option, in the order of its options."""
    places = Cells([f.answer for f in forecasts]).places(answers)
    counts: dict[int, Float[Array, " K"]] = {}
    for answer, place, size in zip(answers, places, sizes(answers), strict=True):
        if np.isnan(size):
            raise UserError(f"{answer.describe()}: does not say how many people answered; give counts, or n")
        counts[place.cell] = counts.get(place.cell, 0.0) + size * in_order(answer.probs, place)
    return counts


@dataclasses.dataclass(frozen=True)
class _Table:
    """The cells of a question, in the units of the module.

    Attributes:
      shares, scale: p and s.
      variance: tau^2.
      noise: the size of the sampling covariance; infinite where nobody answered.
      residual: y; 0 where nobody answered.
    """

    shares: Float[Array, "c K"]
    scale: Float[Array, "c K"]
    variance: Float[Array, " c"]
    noise: Float[Array, " c"]
    residual: Float[Array, "c K"]

    @classmethod
    def of(cls, forecasts: Sequence[Forecast], counts: Sequence[Float[Array, " K"] | None]) -> "_Table":
        shares = np.stack([f.shares for f in forecasts])
        floored = np.maximum(shares, LEAST_SHARE)
        scale = np.sqrt(floored / floored.sum(-1, keepdims=True))
        k = np.array([f.concentration for f in forecasts])
        x = np.stack([np.zeros(shares.shape[1]) if c is None else c for c in counts])
        n = x.sum(-1)
        with np.errstate(divide="ignore"):
            noise = np.where(n > 0, k / (k + 1) / n, np.inf)
        observed = np.where(n[:, None] > 0, x / np.maximum(n, 1e-300)[:, None], shares)
        return cls(shares, scale, 1 / (k + 1), noise, (observed - shares) / scale)

    def evidence(self, rho: float) -> tuple[Float[Array, " c"], Float[Array, "c K"]]:
        """What each cell adds to A (times P) and to b; 0 where nobody answered."""
        spread = self.variance * (1 - rho) + self.noise
        return self.variance * rho / spread, np.sqrt(self.variance * rho)[:, None] / spread[:, None] * self.residual

    def log_likelihood(self, rho: float) -> float:
        """The log likelihood of the residuals if they are normal, less a constant."""
        asked = np.isfinite(self.noise)
        spread = (self.variance * (1 - rho) + self.noise)[asked]
        weights, pulls = self.evidence(rho)
        precision, pull = np.eye(self.shares.shape[1]) + self._projections(weights).sum(0), pulls.sum(0)
        squares = ((self.residual[asked] ** 2).sum(-1) / spread).sum() - pull @ np.linalg.solve(precision, pull)
        logs = (self.shares.shape[1] - 1) * np.log(spread).sum() + np.linalg.slogdet(precision)[1]
        return -float(squares + logs) / 2

    def from_others(self, rho: float) -> tuple[Float[Array, "c K"], Float[Array, " c"]]:
        """Shares and worth of each cell by what the others' answers say."""
        weights, pulls = self.evidence(rho)
        parts = self._projections(weights)
        covariance = np.linalg.inv(np.eye(self.shares.shape[1]) + parts.sum(0) - parts)
        mean = np.einsum("cjk,ck->cj", covariance, pulls.sum(0) - pulls)
        project = self._projections(np.ones(len(weights)))
        shift = self.scale * np.sqrt(self.variance * rho)[:, None] * np.einsum("cjk,ck->cj", project, mean)
        shares = np.maximum(self.shares + shift, _KEPT * self.shares)
        size = (self.scale**2 * (1 - self.scale**2)).sum(-1)
        of_question = np.einsum("cj,cjk,ckl,clj->c", self.scale**2, project, covariance, project) / size
        left = self.variance * (rho * of_question + 1 - rho)
        return shares / shares.sum(-1, keepdims=True), (1 - self.variance) / left

    def _projections(self, sizes: Float[Array, " c"]) -> Float[Array, "c K K"]:
        """Each cell's P, times a number."""
        identity = np.eye(self.scale.shape[1])
        return sizes[:, None, None] * (identity - self.scale[:, :, None] * self.scale[:, None, :])


def _shared_part(tables: Sequence[_Table], before: float) -> float:
    """rho: its mean, given the answers to some questions, and what it is before there are any."""
    inside = np.clip(_GRID, _GRID[1] / 4, None)  # the density may be infinite at 0
    prior = stats.beta.logpdf(inside, before * FIRMNESS, (1 - before) * FIRMNESS)
    logs = prior + np.array([sum(table.log_likelihood(rho) for table in tables) for rho in _GRID])
    return float(_GRID @ special.softmax(logs))
