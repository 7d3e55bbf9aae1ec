"""What pooled rules say of rows that they have not seen: the start of a language model's training."""

import numpy as np
import pytest

from survey_jax.common.errors import UserError
from survey_jax.survey.prediction import prior as module
from survey_jax.survey.prediction.prior import RulesPrior
from survey_jax.survey.prediction.similar import Similarity
from survey_jax.survey.prediction.stack import MEMBERS, RULES, fit_stack
from survey_jax.survey.splits.kinds import KNOWN, NEW, kinds
from survey_jax.survey.table import Answer

OPTIONS = ("Never", "Sometimes", "Always")


def survey(questions: int = 20, groups: int = 8) -> list[Answer]:
    rng = np.random.default_rng(0)
    tilts = 0.5 * rng.normal(size=(groups, 3))
    rows = []
    for q in range(questions):
        shares = rng.dirichlet(np.full(3, 2.0))
        for g in range(groups):
            own = shares * np.exp(tilts[g])
            group = (("area", f"Area {g}"),)
            rows.append(
                Answer("S", f"q{q}", f"How often, statement {q}?", OPTIONS, group, tuple(own / own.sum()), n=500)
            )
    return rows


@pytest.fixture(scope="module")
def train() -> list[Answer]:
    return survey()


def test_rules_have_not_seen_a_training_row(train: list[Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor its group, for half of the questions, nor its question, for the others."""
    asked_as = {}

    def pooled(pool, shown, asked):
        questions, groups, keys = (
            {f(a) for a in shown} for f in (lambda a: a.question, lambda a: a.group, lambda a: a.key)
        )
        for a in asked:
            assert a.key not in keys
            assert a.key not in asked_as
            asked_as[a.key] = NEW if a.question not in questions else KNOWN
            assert asked_as[a.key] == NEW or a.group not in groups
        return [np.full(3, 1 / 3)] * len(asked)

    monkeypatch.setattr(module, "pooled", pooled)
    said = RulesPrior(train).training(train)
    assert len(said) == len(train)
    by_question = {a.question: {asked_as[b.key] for b in train if b.question == a.question} for a in train}
    assert all(len(found) == 1 for found in by_question.values())  # one condition a question
    assert sum(found == {NEW} for found in by_question.values()) == len(by_question) // 2


def test_other_rows_start_from_the_pool_of_the_stack(train: list[Answer]) -> None:
    shown, asked = [a for a in train if a.question_id != "q7"], [a for a in train if a.question_id == "q7"]
    other = Answer("S", "q1", "How often, statement 1?", OPTIONS, (("area", "Area 99"),), (1.0, 0.0, 0.0), n=1)
    rows = [*asked, other]
    said = {rule: predict(shown, rows)[0] for rule, predict in MEMBERS.items()}
    row_kinds = kinds(shown, rows)
    assert set(row_kinds) == {NEW, KNOWN}
    stack = fit_stack(shown, [], [], {}, [], row_kinds)
    model, unlike = np.full((len(rows), 3), 1 / 3), Similarity(shown).features(rows)
    expected = stack.predict(rows, row_kinds, said, model, unlike).rules
    np.testing.assert_allclose(RulesPrior(shown)(rows), expected, rtol=1e-6)
    assert RULES in stack.kinds[NEW].members.weights


def test_one_question_cannot_be_hidden() -> None:
    rows = survey(questions=1)
    with pytest.raises(UserError, match="one question only"):
        RulesPrior(rows).training(rows)
