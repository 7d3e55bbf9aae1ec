"""The stack: rules and a language model, pooled for each kind of row, with the error to expect.

Two pools for each kind of row. The first is of the rules, fitted on many questions: those of train, hidden from the
rules in turn (`crossfit`). The second is of the first one and the language model, fitted on validation rows, which
neither has seen. Its weights say whether the model adds anything to the rules: it has none unless it gains more than
half a standard error, since a smaller gain on few questions is as likely luck.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from survey_jax.survey.baselines.registry import BASELINES
from survey_jax.survey.baselines.seen_groups import Baseline
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.prediction.concentration import Concentration, Predicted, fit_concentration, with_gain
from survey_jax.survey.prediction.crossfit import Hide, crossfit, some_of_each_group
from survey_jax.survey.prediction.pool import PATIENCE, Members, Pool, equal, fit_pool
from survey_jax.survey.prediction.similar import Similarity
from survey_jax.survey.splits.kinds import FEW_ANSWERS, KNOWN, KNOWN_GROUP, NEW, SAME_CELL, is_evidence
from survey_jax.survey.table import Answer

RULES, MODEL = "rules", "model"  # the members of the second pool
# Of the rules, these: the others copy single answers, or repeat one of these with another weight.
MEMBERS: Mapping[str, Baseline] = {
    name: BASELINES[name]
    for name in (
        *("seen_group_mean", "seen_group_mean_by_n", "nearest_groups", "factor_model", "covariates"),
        *("text_neighbours", "text_ridge", "text_and_group"),
    )
}
# How rows of train are hidden that show what a kind of row is predicted with, and how far off that is.
_HIDE: Mapping[str, Hide] = {NEW: "question", KNOWN: "group", FEW_ANSWERS: "most of a group"}
# And how they are hidden to show how far off it is where more is new: a whole survey, a value of an attribute.
_HIDE_MORE: Mapping[str, Hide] = {NEW: "survey", KNOWN: "value"}
_FALLBACK = ("seen_group_mean", "text_and_group")  # pooled where train is too small to hide a part of
# Where validation has no rows of a kind, its weights are those of the next kind here that has some. Without any, a
# known question is left to the rules, which know its answers, and a new question is shared equally.
_NEXT = {SAME_CELL: KNOWN_GROUP, FEW_ANSWERS: KNOWN, KNOWN_GROUP: KNOWN, KNOWN: KNOWN_GROUP}
_UNKNOWN = float(np.log(10.0))  # log concentration where train is too small to tell
_SAME = 1e-9  # rules whose predictions nowhere differ by more are one


@dataclasses.dataclass(frozen=True)
class KindStack:
    """The stack for one kind of row.

    Attributes:
      rules: the pool of the rules.
      members: the pool of RULES and MODEL.
      concentration: of the predictions.
      weighed_on: the kind of the validation rows that `members` was fitted on; "" where there were none.
    """

    rules: Pool
    members: Pool
    concentration: Concentration
    weighed_on: str

    @property
    def model_adds(self) -> bool:
        """Whether the language model has any weight."""
        return self.members.weights.get(MODEL, 0.0) > 0


@dataclasses.dataclass(frozen=True)
class Stacked:
    """Predictions of the stack for n rows: shares, their concentrations, and the shares of the rules' pool."""

    shares: Float[np.ndarray, "n K"]
    concentration: Float[np.ndarray, " n"]
    rules: Float[np.ndarray, "n K"]

    def select(self, rows: Bool[np.ndarray, " n"]) -> "Stacked":
        """The predictions for some of the rows."""
        return Stacked(self.shares[rows], self.concentration[rows], self.rules[rows])


@dataclasses.dataclass(frozen=True)
class Stack:
    """A stack for each kind of row."""

    kinds: dict[str, KindStack]

    def predict(
        self,
        answers: Sequence[Answer],
        kinds: Sequence[str],
        rules: Members,
        model: Any,
        unlike: Float[np.ndarray, "n 3"],
    ) -> Stacked:
        """Pools predictions.

        Args:
          answers: rows, whose own answers are not used.
          kinds: of each row; the stack must have been fitted for it.
          rules, model: what each rule and the language model predict.
          unlike: how unlike train each row is, see `Similarity.features`.

        Raises:
          UserError: as `Pool`.
        """
        model, by_rule = metrics.stack(answers, model), {r: metrics.stack(answers, rules[r]) for r in rules}
        result = Stacked(np.zeros(model.shape), np.zeros(len(answers)), np.zeros(model.shape))
        for kind in dict.fromkeys(kinds):
            own, part = np.array([k == kind for k in kinds]), self.kinds[kind]
            rows = [a for a, mine in zip(answers, own, strict=True) if mine]
            pooled = part.rules(rows, {rule: shares[own] for rule, shares in by_rule.items()})
            shares = part.members(rows, {RULES: pooled, MODEL: model[own]})
            result.concentration[own] = part.concentration(features(rows, shares, unlike[own]))
            width = shares.shape[1]
            result.shares[own, :width], result.rules[own, :width] = shares, pooled
        return result

    def text(self) -> str:
        """Plain text: what each kind of row is predicted with, and from how much that is known."""
        return "\n".join(f"{kind}: {_in_words(part)}" for kind, part in self.kinds.items())


def _in_words(stack: KindStack) -> str:
    rules = ", ".join(f"{name} {weight:.2f}" for name, weight in stack.rules.weights.items() if weight)
    found = f"rules ({rules}; from {stack.rules.questions} questions of train)"
    members = stack.members
    if not stack.weighed_on:
        with_model = "and the model alike" if stack.model_adds else "alone"
        return f"{found} {with_model}, as no validation rows are of this kind"
    gain, error = members.gains[MODEL]
    on = f"{members.questions} questions of {members.rows} validation rows with a {stack.weighed_on}"
    if not stack.model_adds:
        return f"{found}; here the language model adds nothing to them ({on})"
    weights = f"weight {members.weights[RULES]:.2f}, the model {members.weights[MODEL]:.2f}"
    return f"{found} {weights}; the model gains {gain:.4f} KL (standard error {error:.4f}; {on})"


def features(
    answers: Sequence[Answer], shares: Float[np.ndarray, "n K"], unlike: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 4"]:
    """What foretells the error of a prediction: how even it is (entropy over its maximum), and how unlike train."""
    options = np.array([len(a.options) for a in answers])
    entropy = -(shares * np.log(np.maximum(shares, 1e-12))).sum(-1) / np.log(options)
    return np.concatenate([entropy[:, None], unlike], axis=1)


def fit_stack(
    train: Sequence[Answer],
    valid: Sequence[Answer],
    valid_kinds: Sequence[str],
    rules: Members,
    model: Any,
    kinds: Sequence[str],
    known: int = 0,
) -> Stack:
    """Fits a stack for each of `kinds`.

    Args:
      valid: validation rows, without those whose prediction by the model failed.
      valid_kinds: the kind of each.
      rules, model: what each rule of MEMBERS, from train, and the language model predict for them.
      known: how many answers of a group are known, for rows of groups with few answers.
    """
    wanted = list(dict.fromkeys(kinds))
    model = metrics.stack(valid, model) if valid else np.zeros((0, 2))
    unlike = Similarity(train).features(valid) if valid else np.zeros((0, 3))
    found = {}
    for kind in wanted:
        pool, hidden = _fit_rules(train, kind, known)
        like = KNOWN if kind == FEW_ANSWERS else kind
        own = np.array([k == like for k in valid_kinds], bool)
        said = {rule: metrics.stack(valid, rules[rule])[own] for rule in rules} if own.any() else {}
        if kind == FEW_ANSWERS and own.any():
            own, said = _with_few_answers(train, valid, own, known)
        rows = [a for a, mine in zip(valid, own, strict=True) if mine]
        if rows and is_evidence(like, len({a.question_key for a in rows}), len({a.group for a in rows})):
            members, mixed = _weigh(rows, (by_rules := pool(rows, said)), model[own], like)
            without, together = (Predicted(rows, s, features(rows, s, unlike[own])) for s in (by_rules, mixed))
            alone = fit_concentration(hidden, without) if hidden else fit_concentration(without)
            found[kind] = KindStack(pool, members, with_gain(alone, without, together), like)
        else:
            alone = fit_concentration(hidden) if hidden else Concentration(_UNKNOWN)
            found[kind] = KindStack(pool, _unweighed(kind), alone, "")
    return Stack({kind: _borrowed(kind, found) for kind in wanted})


def _weigh(
    rows: Sequence[Answer], by_rules: Float[np.ndarray, "n K"], model: Float[np.ndarray, "n K"], kind: str
) -> tuple[Pool, Float[np.ndarray, "n K"]]:
    """As `fit_pool` for RULES and MODEL; the model has no weight where it gains at most half a standard error."""
    both, mixed = fit_pool(rows, {RULES: by_rules, MODEL: model}, kind)
    gain, error = both.gains[MODEL]
    if gain > PATIENCE * error:
        return both, mixed
    alone, mixed = fit_pool(rows, {RULES: by_rules}, kind)
    weights, gains = alone.weights | {MODEL: 0.0}, alone.gains | {MODEL: (gain, error)}
    return dataclasses.replace(alone, weights=weights, gains=gains), mixed


def _unweighed(kind: str) -> Pool:
    return equal((RULES, MODEL)) if kind == NEW else Pool({RULES: 1.0, MODEL: 0.0})


def _borrowed(kind: str, found: Mapping[str, KindStack]) -> KindStack:
    """The stack of a kind, with the members' weights of another one where validation has no rows of its own."""
    own, other = found[kind], found.get(_NEXT.get(kind, ""))
    if own.weighed_on or other is None or not other.weighed_on:
        return own
    return dataclasses.replace(own, members=other.members, weighed_on=other.weighed_on)


def _fit_rules(train: Sequence[Answer], kind: str, known: int) -> tuple[Pool, Predicted | None]:
    """As `pool_of_rules`, with more rows hidden where more may be new."""
    pool, hidden = pool_of_rules(train, kind, known)
    more = crossfit(train, MEMBERS, _HIDE_MORE[kind]) if hidden and kind in _HIDE_MORE else None
    if hidden is None or more is None:
        return pool, hidden
    shares = pool(more.answers, more.predicted)
    return pool, hidden + Predicted(more.answers, shares, features(more.answers, shares, more.unlike))


def pool_of_rules(train: Sequence[Answer], kind: str, known: int = 0) -> tuple[Pool, Predicted | None]:
    """The rules' pool for a kind of row, and what it predicts for rows of train that were hidden from it.

    None where train is too small to hide a part of; the pool is then not fitted. `known` as in `fit_stack`.
    """
    seen = crossfit(train, MEMBERS, _HIDE.get(kind, "row"), known)
    if seen is None:
        return equal(_FALLBACK), None
    pool, held_out = fit_pool(seen.answers, _different(seen.predicted), kind)
    return pool, Predicted(seen.answers, held_out, features(seen.answers, held_out, seen.unlike))


def _different(predicted: Members) -> dict[str, np.ndarray]:
    """The rules that predict something else than those before them."""
    different: dict[str, np.ndarray] = {}
    for rule, shares in predicted.items():
        if not any(np.abs(shares - other).max() < _SAME for other in different.values()):
            different[rule] = np.asarray(shares)
    return different


def _with_few_answers(
    train: Sequence[Answer], valid: Sequence[Answer], own: Bool[np.ndarray, " n"], known: int
) -> tuple[Bool[np.ndarray, " n"], dict[str, np.ndarray]]:
    """Which validation rows of new groups are left once some answers of these are known, and what rules say of them.

    The language model's predictions stay those of a group of which nothing is known.
    """
    shown = some_of_each_group([a for a, mine in zip(valid, own, strict=True) if mine], known)
    keys = {a.key for a in shown}
    rest = np.array([mine and a.key not in keys for a, mine in zip(valid, own, strict=True)], bool)
    asked = [a for a, mine in zip(valid, rest, strict=True) if mine]
    if not asked:
        return rest, {}
    return rest, {rule: metrics.stack(asked, predict([*train, *shown], asked)[0]) for rule, predict in MEMBERS.items()}
