"""The Gaussian process: against textbook formulas, and on made-up populations whose structure it must find."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.metrics.pairwise import cosine_similarity

from survey_jax.survey.baselines import by_text, seen_groups, text_and_group
from survey_jax.survey.baselines.group_similarity import GroupSimilarity, position
from survey_jax.survey.baselines.text_and_group import TEXT_AND_GROUP
from survey_jax.survey.evaluation.metrics import row_metrics
from survey_jax.survey.table import Answer

AGES = ("18-29", "30-44", "45-64", "65 or older")
PARTIES = ("Left", "Right")
TRUSTED = ("police", "army", "courts", "press", "church", "government", "banks", "unions")
WRONGS = ("steal", "lie", "cheat", "bribe", "beg", "fight", "drink", "gamble")


def group(**attributes: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(attributes.items()))


def asked(question: str, age: str, party: str, yes: float, options: tuple[str, ...] = ("Yes", "No")) -> Answer:
    return Answer("S", question, question, options, group(age=age, party=party), (yes, 1 - yes))


def world(seed: int = 0) -> list[Answer]:
    """Trust rises with age and is higher on the left; what is justified falls with age, whatever the party."""
    rng = np.random.default_rng(seed)
    rows = []
    for trust, whom in [(True, w) for w in TRUSTED] + [(False, w) for w in WRONGS]:
        level = rng.normal(0, 0.03)
        for a, age in enumerate(AGES):
            for party in PARTIES:
                if trust:
                    yes = 0.45 + 0.1 * a + (0.1 if party == "Left" else -0.1)
                    rows.append(asked(f"Do you trust the {whom}?", age, party, yes + level))
                else:
                    rows.append(asked(f"Is it justified to {whom}?", age, party, 0.4 - 0.08 * a + level))
    return rows


def tv(rows: list[Answer], predictions) -> float:
    return float(row_metrics(rows, predictions)["tv"].mean())


def test_new_groups_follow_the_order_of_ages() -> None:
    """The oldest are beyond all that train has: a trend tells them from the average of the others."""
    rows = world()
    train, old = [a for a in rows if ("age", AGES[3]) not in a.group], [a for a in rows if ("age", AGES[3]) in a.group]
    predictions, sources = text_and_group.text_and_group(train, old)
    assert set(sources) == {TEXT_AND_GROUP}
    assert tv(old, predictions) < 0.6 * tv(old, seen_groups.seen_group_mean(train, old)[0])


def test_new_questions_follow_similar_ones_and_the_group() -> None:
    rows = world()
    new = [a for a in rows if a.question.endswith(("press?", "beg?"))]
    train = [a for a in rows if a not in new]
    predictions, _ = text_and_group.text_and_group(train, new)
    assert tv(new, predictions) < 0.7 * tv(new, by_text.text_ridge(train, new)[0])


def test_predictions_are_the_normal_conditional_mean() -> None:
    """Written out cell by cell: covariances from the definition, and the textbook formula for a part given the rest."""
    rows = world()
    train, new = rows[::3], rows[1::9]
    variances = text_and_group._Variances(
        np.array([0.1, 0.2, 0.5, 0.3]), np.array([0.3, 0.1, 0.6, 0.2]), 0.05, np.array([0.4, 0.7, 0.2, 0.3])
    )
    similarity = GroupSimilarity(sorted({a.group for a in train}))
    assert similarity.names == ["age", "party", "age, trend", "age, order"]
    vectors = by_text.vectorizer(sorted({by_text.text_of(a) for a in train}))

    def number(answers):
        return text_and_group._rows(answers, vectors, by_text.text_of)

    got = text_and_group._predict(train, new, variances, number, similarity)
    places = [position(age) for age in AGES]
    questions = {a.question: by_text.text_of(a) for a in rows}
    between_texts = cosine_similarity(vectors.transform(list(questions.values())))
    cosines = {q: dict(zip(questions, row, strict=True)) for q, row in zip(questions, between_texts, strict=True)}

    def covariance(x: Answer, y: Answer) -> float:
        (_, age), (_, party) = x.group
        (_, other_age), (_, other_party) = y.group
        place, other = ((position(a) - np.mean(places)) / np.std(places) for a in (age, other_age))
        groups = 0.4 * (age == other_age) + 0.7 * (party == other_party)
        groups += 0.2 * place * other + 0.3 * np.exp(-((place - other) ** 2) / 2)
        alike = cosines[x.question][y.question]
        parts = np.array([1, 1, alike, x.question == y.question])
        return float(parts @ [0.1, 0.2, 0.5, 0.3] + groups * parts @ [0.3, 0.1, 0.6, 0.2])

    known = np.array([[covariance(x, y) for y in train] for x in train]) + 0.05 * np.eye(len(train))
    between = np.array([[covariance(x, y) for y in train] for x in new])
    expected = 0.5 + between @ np.linalg.solve(known, np.array([a.probs for a in train]) - 0.5)
    assert ((expected > 0.001) & (expected < 0.999)).all()
    np.testing.assert_allclose(got, expected, atol=1e-9)


def test_the_likelihood_is_the_normal_one_and_its_gradient_right() -> None:
    rows = world()
    rows += [replace(a, options=("A", "B", "C"), probs=(*(np.array(a.probs) / 2), 0.5)) for a in world(1)]
    similarity = GroupSimilarity(sorted({a.group for a in rows}))
    vectors = by_text.vectorizer(sorted({by_text.text_of(a) for a in rows}))

    def number(answers):
        return text_and_group._rows(answers, vectors, by_text.text_of)

    blocks = [text_and_group._block([a for a in rows if len(a.options) == k], number, similarity) for k in (2, 3)]
    start = np.random.default_rng(0).normal(-1, 0.5, 9 + len(similarity.names))

    def loss(logs):
        return text_and_group._loss(logs, blocks, start)

    assert optimize.check_grad(lambda x: loss(x)[0], lambda x: loss(x)[1], start + 0.3) < 1e-3
    expected = 0.0
    for block in blocks:
        values, n = np.exp(start), len(block.target)
        q, g = block.rows.question, block.rows.group
        groups = sum(values[9 + i] * s for i, s in block.by_group)[np.ix_(g, g)]
        parts = [p[np.ix_(q, q)] for p in block.by_question]
        covariance = sum(p * (values[i] + values[4 + i] * groups) for i, p in enumerate(parts)) + values[8] * np.eye(n)
        # K shares that sum to 1 are K - 1 independent numbers in any orthonormal basis of the space where sums are 0.
        basis = np.linalg.svd(np.ones((1, block.target.shape[1])))[2][1:].T
        expected -= sum(
            stats.multivariate_normal(np.zeros(n), covariance).logpdf(y) + n / 2 * np.log(2 * np.pi)
            for y in (block.target @ basis).T
        )
    assert loss(start)[0] == pytest.approx(expected, rel=1e-9)


def test_falls_back_where_no_question_has_as_many_options_or_questions_are_few() -> None:
    train = world()
    other = Answer("S", "N", "Which?", ("a", "b", "c"), group(age=AGES[0]), (0.2, 0.3, 0.5))
    assert text_and_group.text_and_group(train, [other, train[0]])[1] == ["fallback: uniform", TEXT_AND_GROUP]
    few = [a for a in train if a.question.endswith(("police?", "army?"))]
    assert text_and_group.text_and_group(few, [train[0]])[1] == ["fallback: same question"]


def test_very_many_rows_are_cut_to_some_of_every_question(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = world()
    new = [a for a in rows if ("party", "Left") in a.group and ("age", AGES[2]) in a.group]
    train = [a for a in rows if a not in new]
    kept = text_and_group._some(train, 40)
    assert len(kept) == 40
    assert {sum(a.question == q for a in kept) for q in {a.question for a in rows}} == {2, 3}
    monkeypatch.setattr(text_and_group, "_MOST_ROWS", 60)
    monkeypatch.setattr(text_and_group, "_FIT_ROWS", 40)
    monkeypatch.setattr(text_and_group, "_CHUNK", 5)
    predictions, _ = text_and_group.text_and_group(train, new)
    assert tv(new, predictions) < 0.8 * tv(new, seen_groups.seen_group_mean(train, new)[0])


@pytest.mark.parametrize(
    ("values", "rises"),
    [
        (("under 30", "30 to 49", "50 to 64", "65 or older"), True),
        (("Less than $20,000", "$20,000 - $49,999", "$50k to $100k", "over $100,000"), True),
        (("<5 years", "5 to 9 years", "10+ years"), True),
        (("1981", "1994-1995", "2018"), True),
        (("no children", "female", "1 of 2 of 3"), False),
    ],
)
def test_positions_rise_with_ages_incomes_and_years(values: tuple[str, ...], rises: bool) -> None:
    places = [position(v) for v in values]
    assert (places == sorted(p for p in places if p is not None)) if rises else places == [None] * 3


def test_similarities_of_groups() -> None:
    groups = [
        group(age="18-29", country="KEN"),
        group(age="30-44", country="KEN"),
        group(country="UGA"),
        group(sex="f"),
    ]
    similarity = GroupSimilarity(groups)
    found = dict(zip(similarity.names, similarity.between(groups, groups), strict=True))
    assert set(found) == {"age", "country", "sex", "age, trend", "age, order", "country, facts"}
    np.testing.assert_array_equal(found["age"], np.diag([1.0, 1, 0, 0]))  # lacking it is no similarity
    np.testing.assert_array_equal(found["country"][0], [1, 1, 0, 0])
    # 23.5 and 37 are one standard deviation below and above their mean.
    np.testing.assert_allclose(found["age, trend"][0], [1, -1, 0, 0])
    np.testing.assert_allclose(found["age, order"][0], [1, np.exp(-2), 0, 0])
    facts = found["country, facts"]
    assert facts[0, 0] == pytest.approx(facts[0, 1])
    assert facts[0, 2] < facts[0, 0]
    assert (facts[3] == 0).all()
    unknown = dict(zip(similarity.names, similarity.between(groups, [group(country="atlantis")]), strict=True))
    assert not any(matrix.any() for matrix in unknown.values())
