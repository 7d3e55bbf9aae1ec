"""A log-linear pool: several predictions become one by adding their logarithms, each with a weight.

    shares ~ product over members m of p_m ^ w_m,    w_m >= 0

(Genest & Zidek 1986, Statistical Science 1(1), section 3). Weights that add up to less than 1 also flatten, as a
temperature above 1 does, so a pool needs no calibration after it. KL(human || pool) is convex in the weights: there is
one best set of them on given rows. As validation rows are few, they are shrunk towards equal weights, and a member
without which other rows are predicted as well has weight 0.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import optimize, special

from survey_jax.common.errors import UserError
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.evaluation.bootstrap import factorize
from survey_jax.survey.splits.kinds import is_evidence
from survey_jax.survey.table import Answer

FLOOR = 1e-3  # of even shares is mixed into each member: one that rules out what somebody answered would veto it
_STRENGTHS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the pull towards equal weights
PATIENCE = 0.5  # standard errors: a stronger pull is taken if it costs at most so many
_FOLDS = 10

Array = np.ndarray
Members = Mapping[str, metrics.Distributions]  # member -> a distribution a row; padded with zeros or not


@dataclasses.dataclass(frozen=True)
class Pool:
    """The weights of the members for one kind of row, and the evidence for them.

    Attributes:
      weights: 0 for a member that adds nothing.
      questions, rows: how many the weights were fitted on; 0 rows: nothing was, and weights are equal.
      kl: of the pool, on rows left out; nats, every question counting the same. None where nothing was fitted.
      gains: what the pool's KL on rows left out gains by each member (0 for one of weight 0), and the standard error;
        if no other member has weight, over the pool of all others.
    """

    weights: dict[str, float]
    questions: int = 0
    rows: int = 0
    kl: float | None = None
    gains: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def __call__(self, answers: Sequence[Answer], members: Members) -> Float[Array, "n K"]:
        """The pooled predictions; 0 where an option does not exist.

        Raises:
          UserError: a member with weight predicts no distribution (such as NaN); names the member and the row.
        """
        used = {name: weight for name, weight in self.weights.items() if weight}
        return _pooled(_logs(answers, {m: members[m] for m in used}), [*used.values()], _exists(answers))


def equal(names: Sequence[str]) -> Pool:
    """The pool before anything is known: equal weights that add up to 1."""
    return Pool(dict.fromkeys(names, 1 / len(names)))


def fit_pool(answers: Sequence[Answer], members: Members, kind: str = "") -> tuple[Pool, Float[Array, "n K"]]:
    """Fits weights on rows that every member predicted without having seen their question or group.

    Minimises the mean KL over questions plus a pull towards equal weights, whose strength is chosen by leaving out
    questions (a tenth at a time, or one where there are fewer than ten), and groups in the same way: the stronger of
    both is used. Where the rows are too few to be evidence (`kinds.is_evidence`), the pull is as strong as can be. Then
    members are taken out one at a time, as long as the rows left out are predicted no worse without. In the end, the
    KL on these rows is no worse than that of any member by more than the standard error of the difference: else the
    pull is weakened until it is so.

    Args:
      answers: n rows.
      members: what each member predicts for them.
      kind: of the rows, see `splits.kinds`.

    Returns:
      the pool, and what it predicts for each row with weights fitted on the other questions.

    Raises:
      UserError: a member predicts no distribution, such as NaN; names the member and the row.

    >>> rng = np.random.default_rng(0)
    >>> truth, noise = rng.dirichlet([2, 2, 2], size=60), rng.dirichlet([1, 1, 1], size=60)
    >>> answers = [Answer("S", f"q{i}", "Fair?", ("A", "B", "C"), (), tuple(p)) for i, p in enumerate(truth)]
    >>> pool, _ = fit_pool(answers, {"truth": truth, "noise": noise})
    >>> {name: round(weight, 1) for name, weight in pool.weights.items()}
    {'truth': 1.0, 'noise': 0.0}
    """
    fit = _Fit.of(answers, members)
    folds = _folds(fit.question)
    evidence = is_evidence(kind, int(fit.question.max()) + 1, int(fit.group.max()) + 1)
    everyone = np.ones(len(members), bool)
    strength = _STRENGTHS[-1]
    if evidence:
        clusters = [fit.question, *([fit.group] if fit.group.any() else [])]
        strength = max(_best_strength(fit, _folds(cluster), everyone, cluster) for cluster in clusters)
    used = _without_useless(fit, folds, everyone, strength) if evidence else everyone
    weights, used, strength = _no_worse_than_any(fit, used, strength)
    held_out = _held_out(fit, folds, used, strength)
    losses = fit.by_question(held_out)
    gains = {}
    for i, name in enumerate(members):
        others = np.arange(len(used)) != i
        without = used & others if (used & others).any() else others
        other = fit.by_question(_held_out(fit, folds, without, strength)) if used[i] else losses
        gains[name] = (float((other - losses).mean()), _standard_error(other - losses))
    pool = Pool(
        dict(zip(members, weights.tolist(), strict=True)), len(losses), len(answers), float(losses.mean()), gains
    )
    return pool, held_out


@dataclasses.dataclass(frozen=True)
class _Fit:
    """Rows as arrays.

    Attributes:
      logs: log shares of each member; 0 where an option does not exist.
      size: one over the number of rows of a row's question, so that questions count the same.
    """

    logs: Float[Array, "m n K"]
    exists: Bool[Array, "n K"]
    target: Float[Array, "n K"]
    question: Int[Array, " n"]
    group: Int[Array, " n"]
    size: Float[Array, " n"]

    @classmethod
    def of(cls, answers: Sequence[Answer], members: Members) -> "_Fit":
        question = factorize([a.question_key for a in answers])
        group: Int[Array, " n"] = factorize([a.group for a in answers])
        target = metrics.stack(answers, [a.probs for a in answers])
        size = 1 / np.bincount(question)[question]
        return cls(_logs(answers, members), _exists(answers), target, question, group, size)

    def weights(self, rows: Bool[Array, " n"], used: Bool[Array, " m"], strength: float) -> Float[Array, " m"]:
        """The best weights of the members used, on some of the rows; 0 for the others."""
        if not used.any():
            return np.zeros(len(used))
        logs, target, exists = self.logs[used][:, rows], self.target[rows], self.exists[rows]
        share = self.size[rows] / self.size[rows].sum()
        goal = np.einsum("mnk,nk,n->m", logs, target, share)
        even = 1 / used.sum()

        def loss(w: Float[Array, " u"]) -> tuple[float, Float[Array, " u"]]:
            scores = np.where(exists, np.tensordot(w, logs, 1), -np.inf)
            total = special.logsumexp(scores, axis=-1, keepdims=True)
            predicted = np.einsum("mnk,nk,n->m", logs, np.exp(scores - total), share)
            pull = w - even
            return float(
                share @ total[:, 0] - w @ goal + strength * (pull @ pull)
            ), predicted - goal + 2 * strength * pull

        found = optimize.minimize(
            loss, np.full(used.sum(), even), jac=True, method="L-BFGS-B", bounds=[(0, None)] * int(used.sum())
        )
        result = np.zeros(len(used))
        result[used] = found.x
        return result

    def by_question(self, predicted: Float[Array, "n K"]) -> Float[Array, " q"]:
        """KL of each question, averaged over its rows."""
        return np.bincount(self.question, self.kl(predicted) * self.size)

    def kl(self, predicted: Float[Array, "n K"]) -> Float[Array, " n"]:
        """KL of each row."""
        return metrics.kl(self.target, predicted, self.exists.sum(-1))


def _logs(answers: Sequence[Answer], members: Members) -> Float[Array, "m n K"]:
    exists = _exists(answers)
    even = exists / exists.sum(-1, keepdims=True)
    logs = np.zeros((len(members), *exists.shape))
    for row, (name, predicted) in zip(logs, members.items(), strict=True):
        shares = metrics.stack(answers, predicted)
        if not np.isfinite(shares).all():
            bad = answers[int(np.flatnonzero(~np.isfinite(shares).all(-1))[0])]
            raise UserError(f"{name}: predicts no distribution for {bad.describe()}: its shares are not finite")
        row[exists] = np.log(((1 - FLOOR) * shares + FLOOR * even)[exists])
    return logs


def _exists(answers: Sequence[Answer]) -> Bool[Array, "n K"]:
    options = np.array([len(a.options) for a in answers])
    return np.arange(options.max()) < options[:, None]


def _pooled(
    logs: Float[Array, "m n K"], weights: Sequence[float] | Array, exists: Bool[Array, "n K"]
) -> Float[Array, "n K"]:
    scores = np.tensordot(np.asarray(weights, float), logs, 1) if len(logs) else np.zeros(exists.shape)
    return special.softmax(np.where(exists, scores, -np.inf), axis=-1)


def _folds(cluster: Int[Array, " n"]) -> Int[Array, " n"]:
    """The fold of each row: rows of a cluster stay together."""
    count = int(cluster.max()) + 1
    return np.random.default_rng(0).permutation(count)[cluster] % min(_FOLDS, count)


def _held_out(fit: _Fit, folds: Int[Array, " n"], used: Bool[Array, " m"], strength: float) -> Float[Array, "n K"]:
    """Each row as predicted with weights fitted on the other folds; by equal weights where there is one fold only."""
    predicted = np.zeros(fit.exists.shape)
    for fold in range(int(folds.max()) + 1):
        own = folds == fold
        weights = fit.weights(~own, used, strength) if not own.all() else used / max(used.sum(), 1)
        predicted[own] = _pooled(fit.logs[:, own], weights, fit.exists[own])
    return predicted


def _best_strength(fit: _Fit, folds: Int[Array, " n"], used: Bool[Array, " m"], cluster: Int[Array, " n"]) -> float:
    """The strongest pull that costs at most PATIENCE standard errors (over clusters) on rows left out."""
    size = np.bincount(cluster, fit.size)
    losses = np.stack([
        np.bincount(cluster, fit.kl(_held_out(fit, folds, used, s)) * fit.size) / size.mean() for s in _STRENGTHS
    ])  # fmt: skip
    extra = losses - losses[losses.mean(1).argmin()]
    good = [s for s, cost in zip(_STRENGTHS, extra, strict=True) if cost.mean() <= PATIENCE * _standard_error(cost)]
    return max(good)


def _without_useless(fit: _Fit, folds: Int[Array, " n"], used: Bool[Array, " m"], strength: float) -> Bool[Array, " m"]:
    """Takes members out, the most useless first, as long as rows left out are predicted no worse without."""

    def loss(members: Bool[Array, " m"]) -> float:
        return float(fit.by_question(_held_out(fit, folds, members, strength)).mean())

    best = loss(used)
    while used.sum() > 1:
        fewer = [used & (np.arange(len(used)) != i) for i in np.flatnonzero(used)]
        losses = [loss(members) for members in fewer]
        if min(losses) > best:
            return used
        best, used = min(losses), fewer[int(np.argmin(losses))]
    return used


def _no_worse_than_any(
    fit: _Fit, used: Bool[Array, " m"], strength: float
) -> tuple[Float[Array, " m"], Bool[Array, " m"], float]:
    """Weights with which the pool is no worse than any member by more than a standard error, on the rows themselves.

    Without a pull, and with all members, it cannot be worse than one of them: that member alone is one of its choices.
    """
    everything = np.ones(len(fit.target), bool)
    alone = [fit.by_question(_pooled(fit.logs[[i]], [1.0], fit.exists)) for i in range(len(fit.logs))]
    best = min(alone, key=np.mean)
    weaker = [s for s in reversed(_STRENGTHS) if s <= strength]
    for members, pull in itertools.chain(((used, s) for s in weaker), ((np.ones(len(used), bool), s) for s in weaker)):
        weights = fit.weights(everything, members, pull)
        worse = fit.by_question(_pooled(fit.logs, weights, fit.exists)) - best
        if worse.mean() <= max(_standard_error(worse), 1e-9):
            break
    return weights, members, pull


def _standard_error(values: Float[Array, " n"]) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
