"""No group with held-out people in it is in train, or can be computed from it."""

import dataclasses
import itertools

import numpy as np
import pytest

from survey_jax.common.errors import UserError
from survey_jax.survey.splits.config import PROMISES, Promise
from survey_jax.survey.splits.split import SplitConfig, audit, counts_table, split
from survey_jax.survey.splits.subtraction import ANCESTOR, DIFFERENCE, determined, leaving
from survey_jax.survey.table import Answer

AGES, SEXES, PARTIES = ("young", "middle", "old"), ("m", "f"), ("left", "right")
VALUES = {"age": AGES, "sex": SEXES, "party": PARTIES}


def row(question="Q1", wave=None, n=100.0, **group) -> Answer:
    pairs = tuple(sorted(group.items()))
    return Answer("S", question, f"{question}?", ("Yes", "No"), pairs, (0.5, 0.5), n=n, wave=wave)


def groups(rows):
    return {tuple(v for _, v in a.group if v != "KEN") for a in rows}


KENYA = [row(country="KEN"), *(row(country="KEN", age=a, n=n) for a, n in zip(AGES, (300, 500, 200), strict=True))]


def test_a_group_with_held_out_people_leaves_train():
    result = split(KENYA, SplitConfig(unseen_groups={"age": ("old",)}))
    assert groups(result.rows["train"]) == {("young",), ("middle",)}
    assert result.left_out == {f"{ANCESTOR} (train)": 1}
    assert "left out: 1 row: includes people of a held-out group (train)" in counts_table(result)


def test_one_of_the_groups_whose_sum_has_held_out_people_leaves_the_largest():
    rows = [*KENYA, row(country="KEN", sex="m", n=480), row(country="KEN", sex="f", n=520)]
    result = split(rows, SplitConfig(unseen_groups={"age": ("old",)}))
    assert groups(result.rows["train"]) == {("young",), ("middle",), ("m",)}
    assert result.left_out == {f"{ANCESTOR} (train)": 1, f"{DIFFERENCE} (train)": 1}
    assert split(rows[::-1], SplitConfig(unseen_groups={"age": ("old",)})).left_out == result.left_out


def test_waves_and_pools_of_waves():
    rows = [row(country="KEN", wave=w) for w in ("5", "6", "7")] + [row(country="KEN"), row(country="PER", wave="6")]
    result = split(rows, SplitConfig(unseen_waves=("7",)))
    assert {(a.group[0][1], a.wave) for a in result.rows["train"]} == {("KEN", "5"), ("KEN", "6"), ("PER", "6")}


def test_regions_inside_a_country_by_any_of_its_names():
    rows = [row(country="Kenya"), *(row(country="KEN", region=r) for r in ("Coast", "Nyanza"))]
    result = split(rows, SplitConfig(unseen_groups={"region": ("Coast",)}))
    assert groups(result.rows["train"]) == {("Nyanza",)}


def test_other_questions_surveys_and_countries_stay():
    others = [row("Q2", country="KEN"), row(country="PER"), dataclasses.replace(row(country="KEN"), survey="T")]
    result = split([*KENYA, *others], SplitConfig(unseen_groups={"age": ("old",)}))
    assert all(a in result.rows["train"] for a in others)


def test_whole_tables_by_countries_lose_nothing():
    rows = [row(q, country=c) for q in ("Q1", "Q2") for c in ("KEN", "PER", "NGA", "CHL")]
    result = split(rows, SplitConfig(unseen_groups={"country": ("PER",)}))
    assert not result.left_out


def test_questions_that_train_loses_are_lost_to_the_held_out_group():
    rows = [*KENYA, row("Q2", country="KEN"), row("Q2", country="KEN", age="old")]
    result = split(rows, SplitConfig(unseen_groups={"age": ("old",)}))
    assert {a.question_id for a in result.rows["unseen_group"]} == {"Q1"}
    assert result.left_out["question that all rows of train left (unseen_group)"] == 1


def test_parents_may_stay_under_another_name():
    config = SplitConfig(unseen_groups={"age": ("old",)}, parents_in_train=True)
    result = split(KENYA, config)
    assert groups(result.rows["train"]) == {(), ("young",), ("middle",)}
    assert "unseen_group" not in result.rows
    assert groups(result.rows["unseen_subgroup"]) == {("old",)}
    audit(result.rows)
    with pytest.raises(UserError, match="leak: unseen_subgroup shares a group with train"):
        audit({"train": KENYA, "unseen_subgroup": [row("Q2", country="KEN", age="old")]})


LEAKS = {
    "parent": [row(age="young"), row()],
    "sum": [row(sex="m"), row(sex="f")],
    "chain": [row(sex=sex, party=party) for sex in SEXES for party in PARTIES],
}


@pytest.mark.parametrize("name", LEAKS)
def test_audit_finds_groups_with_held_out_people(name):
    held = row(age="old")
    held = dataclasses.replace(held, group=(*held.group, ("country", "KEN")))
    train = [dataclasses.replace(a, group=tuple(sorted((*a.group, ("country", "KEN"))))) for a in LEAKS[name]]
    with pytest.raises(
        UserError, match="leak: train gives a group with the people of a held-out row: S / Q1 / age=old"
    ):
        audit({"train": train, "unseen_group": [held]})
    audit({"train": train[1:] if name != "parent" else train[:1], "unseen_group": [held]}, PROMISES, [*train, held])
    audit({"train": train, "unseen_subgroup": [held]})
    with pytest.raises(UserError, match="leak: train gives"):
        audit({"train": train, "few": [held]}, {"train": Promise(), "few": Promise(known_answers=2)})


def test_audit_knows_by_the_table_that_a_sum_is_not_complete():
    train, held = [row(country="KEN", sex="m")], [row(country="KEN", age="old")]
    with pytest.raises(UserError, match="leak: train gives"):
        audit({"train": train, "unseen_group": held})
    audit({"train": train, "unseen_group": held}, PROMISES, [row(country="KEN", sex="f")])


def given(train, held) -> bool:
    """By linear algebra on all crossings of all values: is the sum over a held-out group's people a combination?"""
    people = list(itertools.product(*VALUES.values()))

    def indicator(answer):
        return [all(dict(zip(VALUES, p, strict=True))[k] == v for k, v in answer.group) for p in people]

    known = np.array([indicator(a) for a in train], float).reshape(len(train), len(people))
    rank = np.linalg.matrix_rank(known)
    larger = [
        dataclasses.replace(held, group=pairs)
        for size in range(len(held.group) + 1)
        for pairs in itertools.combinations(held.group, size)
    ]
    return any(np.linalg.matrix_rank(np.vstack([known, indicator(a)])) == rank for a in larger)


def every_group(most=3):
    """All groups of up to `most` attributes, whose sums are all complete; and everybody."""
    return [
        row(**dict(zip(names, values, strict=True)))
        for size in range(most + 1)
        for names in itertools.combinations(VALUES, size)
        for values in itertools.product(*(VALUES[name] for name in names))
    ]


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_given_by_independent_algebra_and_no_row_leaves_in_vain(most, seed):
    rng = np.random.default_rng(seed)
    table = every_group(most)
    held = [a for a in table if rng.choice(["age", "sex", "party"]) in dict(a.group) and rng.random() < 0.2] or table[
        -1:
    ]
    train = [a for a in table if a not in held and rng.random() < 0.8]
    assert any(given(train, h) for h in held) == (determined(train, held, table) is not None)
    reasons = leaving(train, held, table)
    stay = [a for a, reason in zip(train, reasons, strict=True) if not reason]
    assert not any(given(stay, h) for h in held)
    assert determined(stay, held, table) is None
    for answer, reason in zip(train, reasons, strict=True):
        assert not reason or any(given([*stay, answer], h) for h in held)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_given_in_tables_with_gaps(seed):
    rng = np.random.default_rng(seed)
    table = [a for a in every_group() if rng.random() < 0.6]
    held = [a for a in table if dict(a.group).get("age") == "old"] or table[-1:]
    train = [a for a in table if a not in held]
    stay = [a for a, reason in zip(train, leaving(train, held, table), strict=True) if not reason]
    assert not any(given(stay, h) for h in held)
    assert determined(stay, held, table) is None
