"""What pooled rules say of a row, as the start of a language model's prediction (`config.model.prior = "rules"`).

The model then learns only what is to be added to the rules. So that it does not learn to trust them too much, rules say
nothing of a training row that they have seen.
"""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from survey_jax.common.errors import UserError
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.prediction.crossfit import Hide, folds
from survey_jax.survey.prediction.pool import Pool
from survey_jax.survey.prediction.stack import MEMBERS, pool_of_rules
from survey_jax.survey.splits.kinds import KNOWN, NEW, kinds
from survey_jax.survey.table import Answer
from survey_jax.survey.text import wording

Shares = Float[np.ndarray, " k"]


class RulesPrior:
    """The pooled rules: rows -> a distribution over the options of each. The rows' own answers are not used.

    A row is predicted by the rules' pool of its kind, as in the stack (`stack.fit_stack`).

    Args:
      train: rows that rules know.
    """

    def __init__(self, train: Sequence[Answer]):
        self._train = train

    def __call__(self, rows: Sequence[Answer]) -> list[Shares]:
        found: list[Shares] = [np.empty(0)] * len(rows)
        row_kinds = kinds(self._train, rows)
        for kind in dict.fromkeys(row_kinds):
            places = [i for i, own in enumerate(row_kinds) if own == kind]
            asked = [rows[i] for i in places]
            for i, shares in zip(places, pooled(self._pool(kind), self._train, asked), strict=True):
                found[i] = shares
        return found

    def training(self, rows: Sequence[Answer]) -> list[Shares]:
        """What rules say of rows of train without having seen them.

        Every question is learnt from in one condition, drawn by seed: of half of them, the rules know the question but
        not the group; of the others, and of those that are asked of one group only, they do not know the question.

        Raises:
          UserError: train asks one question only.
        """
        texts = sorted({wording(a) for a in self._train})
        known = {texts[i] for i in np.random.default_rng(0).permutation(len(texts))[: len(texts) // 2].tolist()}
        found: dict[object, Shares] = {}
        steps: tuple[tuple[str, Hide], ...] = ((KNOWN, "group"), (NEW, "question"))
        for kind, hide in steps:
            for hidden, shown in folds(self._train, hide):
                asked = [a for a in hidden if a.key not in found and (kind == NEW or wording(a) in known)]
                if asked and shown:
                    said = pooled(self._pool(kind), shown, asked)
                    found |= {a.key: shares for a, shares in zip(asked, said, strict=True)}
        if len(found) < len(self._train):
            raise UserError("config.model.prior = 'rules': train asks one question only, of which rules know nothing")
        return [found[a.key] for a in rows]

    @functools.cache  # noqa: B019  # there is one object, for as long as the program runs
    def _pool(self, kind: str) -> Pool:
        return pool_of_rules(self._train, kind)[0]


def pooled(pool: Pool, train: Sequence[Answer], asked: Sequence[Answer]) -> list[Shares]:
    """What a pool of rules says of rows, knowing the rows of train."""
    said = {r: metrics.stack(asked, MEMBERS[r](train, asked)[0]) for r, weight in pool.weights.items() if weight}
    return [shares[: len(a.options)] for shares, a in zip(pool(asked, said), asked, strict=True)]
