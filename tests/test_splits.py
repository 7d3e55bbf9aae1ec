"""Splits: every row in at most one place, nothing held out seen in training, the same seed the same splits."""

import dataclasses
import random
from pathlib import Path

import pytest

from survey_jax.errors import UserError
from survey_jax.survey.splits import SPLITS, SplitConfig, audit, counts_table, split
from survey_jax.survey.table import Answer, read_table

WVS = Path(__file__).parents[2] / "shared" / "data" / "wvs7_country.jsonl.gz"
WVS_SPLITS = {
    "train": "train",
    "valid": "valid",
    "test_unseen_question": "unseen_question",
    "test_unseen_country": "unseen_group",
    "test_unseen_both": "unseen_both",
}


def answer(question=1, country="A", survey="S", text=None, age=None, **extra) -> Answer:
    group = (("age", age), ("country", country)) if age else (("country", country),)
    text = text or f"{survey} asks {question}?"
    return Answer(survey, f"Q{question}", text, ("Yes", "No"), group, (0.5, 0.5), extra=extra)


def grid(questions=10, countries="ABCDE", survey="S", **extra) -> list[Answer]:
    return [answer(q, c, survey, **extra) for q in range(questions) for c in countries]


def ids(rows):
    return {a.question_id for a in rows}


def countries(rows):
    return {dict(a.group)["country"] for a in rows}


def test_four_way_hold_out():
    config = SplitConfig(unseen_questions=("Q8", "Q9"), unseen_groups={"country": ("E",)}, valid_questions=("Q7",))
    result = split(grid(), config)
    sizes = {name: len(rows) for name, rows in result.rows.items()}
    assert sizes == {"train": 28, "valid": 4, "unseen_question": 8, "unseen_group": 7, "unseen_both": 2}
    assert result.left_out == {"unseen group, validation question": 1}
    assert ids(result.rows["unseen_both"]) == ids(result.rows["unseen_question"]) == {"Q8", "Q9"}
    assert countries(result.rows["unseen_both"]) == countries(result.rows["unseen_group"]) == {"E"}
    assert ids(result.rows["valid"]) == {"Q7"}
    assert "left out: 1 rows: unseen group, validation question" in counts_table(result)
    assert "unseen_group            7          7        1        1" in counts_table(result)


def test_a_group_is_unseen_if_any_attribute_is():
    rows = [answer(q, c, age=a) for q in range(3) for c in "AB" for a in ("young", "old")]
    result = split(rows, SplitConfig(unseen_groups={"country": ("B",), "age": ("old",)}))
    assert {a.group for a in result.rows["train"]} == {(("age", "young"), ("country", "A"))}
    assert len(result.rows["unseen_group"]) == 9


def test_unseen_survey_loses_questions_that_train_asks_too():
    twin = answer(99, "A", "T", text="  s ASKS 3? ")
    result = split([*grid(), *grid(4, "AZ", "T"), twin], SplitConfig(unseen_surveys=("T",)))
    assert len(result.rows["unseen_survey"]) == 8
    assert result.left_out == {"same question as in train (unseen_survey)": 1}


def test_unseen_question_loses_twins_of_train_questions():
    twin = answer(99, "A", text="S asks 3?")
    result = split([*grid(), twin], SplitConfig(unseen_questions=("Q9", "Q99")))
    assert ids(result.rows["unseen_question"]) == {"Q9"}
    assert result.left_out == {"same question as in train (unseen_question)": 1}


SEEDED = SplitConfig(
    unseen_question_fraction=0.2,
    valid_question_fraction=0.1,
    valid_row_fraction=0.1,
    unseen_groups={"country": ("B",)},
    unseen_surveys=("T",),
    max_rows=12,
    seed=3,
)


def test_seeded_draws_do_not_depend_on_row_order():
    rows = grid(20) + grid(5, survey="T")
    shuffled = random.Random(0).sample(rows, len(rows))
    one, two = split(rows, SEEDED), split(shuffled, SEEDED)
    assert one.rows.keys() == two.rows.keys() == set(SPLITS) - {"unseen_wave"}
    for name in one.rows:
        assert {a.key for a in one.rows[name]} == {a.key for a in two.rows[name]}
    assert one.left_out == two.left_out
    assert [a for a in rows if a in one.rows["valid"]] == one.rows["valid"]  # order of the file is kept


def test_sizes_and_accounting_of_seeded_draws():
    rows = grid(20) + grid(5, survey="T")
    result = split(rows, SEEDED)
    sizes = {name: len(r) for name, r in result.rows.items()}
    # 14 training questions x 4 groups = 56, of which 6 rows for validation.
    assert sizes == {
        "train": 50,
        "valid": 12,
        "unseen_question": 12,
        "unseen_group": 12,
        "unseen_both": 4,
        "unseen_survey": 12,
    }
    assert sum(sizes.values()) + sum(result.left_out.values()) == len(rows)


def test_another_seed_draws_other_questions():
    rows = grid(40)
    drawn = [
        frozenset(ids(split(rows, SplitConfig(unseen_question_fraction=0.25, seed=s)).rows["unseen_question"]))
        for s in range(3)
    ]
    assert len(set(drawn)) == 3
    assert all(len(d) == 10 for d in drawn)


def test_a_surveys_draw_ignores_other_surveys():
    config = SplitConfig(unseen_question_fraction=0.2)
    alone = split(grid(30), config).rows["unseen_question"]
    beside = split(grid(30) + grid(30, survey="T"), config).rows["unseen_question"]
    assert ids(alone) == {a.question_id for a in beside if a.survey == "S"}
    assert len({a.question_id for a in beside if a.survey == "T"}) == 6


def test_small_surveys_give_questions_in_proportion():
    rows = [row for number in range(20) for row in grid(2, survey=f"T{number:02}")] + grid(30)
    drawn = split(rows, SplitConfig(unseen_question_fraction=0.1)).rows["unseen_question"]
    questions = {a.question_key for a in drawn}
    assert len(questions) == 7
    assert sum(survey == "S" for survey, _ in questions) == 3


def test_column():
    rows = [*grid(3, split="train"), *grid(2, "XY", "T", split="new"), answer(50, split="bad"), answer(51)]
    result = split(rows, SplitConfig(column="split", rename={"train": "train", "new": "unseen_survey"}))
    assert {name: len(r) for name, r in result.rows.items()} == {"train": 15, "unseen_survey": 4}
    assert result.left_out == {"split = bad": 1, "split = None": 1}


def test_column_whose_values_are_split_names_needs_no_rename():
    rows = [*grid(3, split="train"), *grid(3, "X", split="unseen_group")]
    assert list(split(rows, SplitConfig(column="split")).rows) == ["train", "unseen_group"]


REFUSED = {
    "unknown question": (SplitConfig(unseen_questions=("Q77",)), "unknown question id 'Q77'; available: Q0, Q1"),
    "unknown valid question": (SplitConfig(valid_questions=("Q77",)), "unknown question id 'Q77'"),
    "unknown survey": (SplitConfig(unseen_surveys=("T",)), "unknown survey 'T'; available: S"),
    "unknown attribute": (
        SplitConfig(unseen_groups={"age": ("1",)}),
        "unknown group attribute 'age'; available: country",
    ),
    "unknown value": (SplitConfig(unseen_groups={"country": ("Z",)}), "unknown value of country 'Z'; available: A, B"),
    "no such column": (SplitConfig(column="fold"), "no column 'fold' to take splits from; other columns: split"),
    "unknown split name": (SplitConfig(column="split", rename={"x": "test"}), "unknown split 'test'; available: train"),
    "unknown column value": (SplitConfig(column="split", rename={"y": "train"}), "unknown value of column split 'y'"),
    "rename alone": (SplitConfig(rename={"x": "train"}), "rename is set, but column"),
    "two ways": (SplitConfig(column="split", valid_row_fraction=0.1), "so valid_row_fraction cannot be set too"),
    "question in two": (SplitConfig(unseen_questions=("Q1",), valid_questions=("Q1",)), "'Q1' is in both"),
    "fraction of one": (SplitConfig(unseen_question_fraction=1.0), "unseen_question_fraction must be at least 0 and"),
    "negative": (SplitConfig(max_rows=-1), "must not be negative"),
    "no training rows": (SplitConfig(unseen_surveys=("S",)), "split train has no rows"),
    "no valid rows": (SplitConfig(valid_row_fraction=1e-6), "split valid has no rows"),
    "all groups": (SplitConfig(unseen_groups={"country": tuple("ABCDE")}), "split train has no rows"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason(name):
    config, reason = REFUSED[name]
    with pytest.raises(UserError) as error:
        split(grid(split="x"), config)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_available_values_are_abridged():
    with pytest.raises(UserError, match=r"available: Q0, Q1, Q10, .* \(40 in all\)$"):
        split(grid(40), SplitConfig(unseen_questions=("Q77",)))


def test_nothing_to_split():
    with pytest.raises(UserError, match="no rows to split"):
        split([], SplitConfig())


LEAKS = {
    "row": ({"valid": [answer(1)]}, "is in both train and valid"),
    "question id": ({"unseen_question": [answer(1, "B", text="New wording")]}, "shares a question id with train"),
    "wording": ({"unseen_question": [answer(2, "B", text="s asks  1?")]}, "shares a question wording and options"),
    "wording, both": ({"unseen_both": [answer(2, "B", text="S asks 1?")]}, "shares a question wording and options"),
    "wording, survey": ({"unseen_survey": [answer(1, "B", "T", text="S asks 1?")]}, "shares a question wording"),
    "group": ({"unseen_group": [answer(2, "a")]}, "unseen_group shares a group with train: S / Q2 / country=a"),
    "group, both": ({"unseen_both": [answer(2, "A")]}, "unseen_both shares a group with train"),
    "survey": ({"unseen_survey": [answer(2, "B")]}, "unseen_survey shares a survey with train"),
    "name": ({"test": [answer(2, "B")]}, "unknown split 'test'"),
}


@pytest.mark.parametrize("name", LEAKS)
def test_audit_finds_leaks(name):
    splits, reason = LEAKS[name]
    with pytest.raises(UserError, match=reason):
        audit({"train": [answer(1, "A")], **splits})


def test_column_that_leaks_is_refused():
    rows = [answer(1, "A", split="train"), answer(1, "B", split="unseen_question")]
    with pytest.raises(UserError, match="leak: unseen_question shares a question id with train"):
        split(rows, SplitConfig(column="split"))


def test_same_row_from_two_tables_is_refused():
    rows = [*grid(split="train"), dataclasses.replace(answer(1), extra={"split": "valid"})]
    with pytest.raises(UserError, match="is in both train and valid"):
        split(rows, SplitConfig(column="split"))


@pytest.mark.shared_data
def test_world_values_survey_column():
    if not WVS.is_file():
        pytest.skip(f"{WVS} is not here")
    result = split(read_table(WVS), SplitConfig(column="split", rename=WVS_SPLITS))
    sizes = {name: len(rows) for name, rows in result.rows.items()}
    assert sizes == {"train": 6841, "valid": 1586, "unseen_question": 922, "unseen_group": 739, "unseen_both": 240}
    assert result.left_out == {"split = excluded_in_paper": 251}
