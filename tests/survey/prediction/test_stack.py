"""The stack: a model that knows nothing gets no weight, one that knows all gets it; intervals hold what they say."""

import numpy as np
import pytest

from survey_jax.survey.baselines.registry import BASELINES
from survey_jax.survey.evaluation.stacked import covered
from survey_jax.survey.prediction import stack as stack_module
from survey_jax.survey.prediction.similar import Similarity
from survey_jax.survey.prediction.stack import MODEL, RULES, Stack, fit_stack
from survey_jax.survey.splits.kinds import FEW_ANSWERS, KNOWN, NEW, kinds
from survey_jax.survey.table import Answer

MEMBERS = {name: BASELINES[name] for name in ("seen_group_mean", "nearest_groups", "text_ridge")}  # the fast ones
OPTIONS = ("Never", "Sometimes", "Often")
TOPICS = ("parks", "trains", "schools", "rivers", "markets", "roads")


@pytest.fixture(autouse=True)
def fast_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_module, "MEMBERS", MEMBERS)


def survey(prefix: str, questions: int, groups: range, seed: int, survey: str = "Town") -> list[Answer]:
    """Questions whose words tell their topic, and topics that tell most of the answers."""
    rng = np.random.default_rng(seed)
    rows = []
    for q in range(questions):
        topic = q % len(TOPICS)
        typical = np.random.default_rng(topic).dirichlet([2, 2, 2])
        question = rng.dirichlet(40 * typical)
        text = f"How often do you use the {TOPICS[topic]}, version {prefix} {q}?"
        for g in groups:
            probs = rng.multinomial(800, rng.dirichlet(60 * question)) / 800
            rows.append(Answer(survey, f"{prefix}{q}", text, OPTIONS, (("area", f"A{g}"),), tuple(probs), n=800))
    return rows


TRAIN = survey("t", 36, range(8), 0)
VALID = survey("v", 30, range(8), 1)
NEW_ROWS = survey("n", 30, range(8), 2)


def truth(rows: list[Answer]) -> np.ndarray:
    return np.array([a.probs for a in rows])


def rubbish(rows: list[Answer]) -> np.ndarray:
    return np.random.default_rng(9).dirichlet([0.5, 0.5, 0.5], len(rows))


def said_by_rules(rows: list[Answer]) -> dict[str, list[np.ndarray]]:
    return {name: rule(TRAIN, rows)[0] for name, rule in MEMBERS.items()}


def fitted(model: np.ndarray, valid: list[Answer] = VALID, asked: tuple[str, ...] = (NEW,)) -> Stack:
    rules = said_by_rules(valid) if valid else {name: [] for name in MEMBERS}
    return fit_stack(TRAIN, valid, kinds(TRAIN, valid), rules, model, asked)


def predicted(stack: Stack, rows: list[Answer], model: np.ndarray):
    unlike = Similarity(TRAIN).features(rows)
    return stack.predict(rows, kinds(TRAIN, rows), said_by_rules(rows), model, unlike)


def test_a_useless_model_gets_no_weight_and_this_is_said() -> None:
    stack = fitted(rubbish(VALID))
    assert stack.kinds[NEW].members.weights[MODEL] == 0
    assert not stack.kinds[NEW].model_adds
    assert "here the language model adds nothing to them" in stack.text()
    found = predicted(stack, NEW_ROWS, rubbish(NEW_ROWS))
    weight = stack.kinds[NEW].members.weights[RULES]
    again = found.rules**weight / (found.rules**weight).sum(-1, keepdims=True)
    np.testing.assert_allclose(found.shares, again, atol=2e-3)


def test_a_model_that_repeats_the_rules_adds_nothing_and_this_is_said() -> None:
    by_rules = predicted(fitted(rubbish(VALID)), VALID, rubbish(VALID)).rules
    stack = fitted(by_rules)
    assert stack.kinds[NEW].members.weights[MODEL] == 0
    assert stack.kinds[NEW].members.weights[RULES] > 0
    assert stack.kinds[NEW].members.gains[MODEL][0] == pytest.approx(0, abs=1e-3)
    assert "adds nothing" in stack.text()


def test_a_model_that_is_the_truth_gets_the_weight() -> None:
    stack = fitted(truth(VALID))
    assert stack.kinds[NEW].members.weights[MODEL] == pytest.approx(1, abs=0.1)
    assert stack.kinds[NEW].members.weights[RULES] < 0.1
    assert stack.kinds[NEW].members.gains[MODEL][0] > 0


def test_intervals_hold_as_often_as_they_say() -> None:
    """On new questions of surveys whose true answers are drawn; benchmarks/coverage.py has more of them."""
    held = []
    for seed in range(3):
        train, valid, new = (
            survey(name, questions, range(groups), 100 * (i + 1) + seed)
            for i, (name, questions, groups) in enumerate((("t", 30, 5), ("v", 24, 4), ("n", 120, 1)))
        )
        said = [{name: rule(train, rows)[0] for name, rule in MEMBERS.items()} for rows in (valid, new)]
        stack = fit_stack(train, valid, kinds(train, valid), said[0], rubbish(valid), [NEW])
        unlike = Similarity(train).features(new)
        found = stack.predict(new, kinds(train, new), said[1], rubbish(new), unlike)
        held.append([covered(new, found, level).mean() for level in (0.8, 0.95)])
    assert np.mean(held, axis=0) == pytest.approx([0.8, 0.95], abs=0.05)


def test_without_validation_new_questions_are_shared_and_known_ones_left_to_the_rules() -> None:
    stack = fitted(np.zeros((0, 3)), [], (NEW, KNOWN))
    assert stack.kinds[NEW].members.weights == {RULES: 0.5, MODEL: 0.5}
    assert stack.kinds[KNOWN].members.weights == {RULES: 1.0, MODEL: 0.0}
    assert "no validation rows are of this kind" in stack.text()


def test_groups_with_few_answers_are_weighed_on_new_groups_with_as_many() -> None:
    new_groups = survey("t", 36, range(8, 16), 0)
    rules = said_by_rules(new_groups)
    stack = fit_stack(TRAIN, new_groups, kinds(TRAIN, new_groups), rules, rubbish(new_groups), [FEW_ANSWERS], known=10)
    assert stack.kinds[FEW_ANSWERS].weighed_on == KNOWN
    assert stack.kinds[FEW_ANSWERS].members.rows == 8 * (36 - 10)
    assert stack.kinds[FEW_ANSWERS].members.weights[MODEL] == 0


def test_what_is_unlike_train_is_said() -> None:
    similarity = Similarity(TRAIN)
    known, _, new_value = similarity.features([TRAIN[0]])[0]
    assert (known, new_value) == (pytest.approx(1), 0)
    strange = Answer(
        "Other",
        "x",
        "Quelle heure est-il ?",
        ("un", "deux"),
        (("area", "A99"), ("sex", "f")),
        (0.5, 0.5),
        language="fr",
    )
    nearest, new_survey, new_value = similarity.features([strange])[0]
    assert (new_survey, new_value) == (1, 1)
    assert similarity.cautions(strange, nearest) == (
        "No question of the training data reads much like this one.",
        "No question of the training data has 2 options.",
        "The training data has no question in the language 'fr'.",
        "The training data has nobody whose area is A99.",
        "The training data does not tell people apart by sex.",
    )
    assert similarity.cautions(NEW_ROWS[0], 0.9) == ()
    first, *_ = similarity.questions(NEW_ROWS[1])
    assert TOPICS[0] in first.question.question
