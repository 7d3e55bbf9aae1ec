"""Splits: every row in at most one place, nothing held out seen in training, the same seed the same splits."""

import dataclasses
import random
from collections import Counter

import pytest

from places import SHARED
from survey_jax.common.errors import UserError
from survey_jax.survey.splits.kinds import KNOWN, NEW, kinds
from survey_jax.survey.splits.split import PROMISES, SPLITS, Promise, SplitConfig, audit, counts_table, split
from survey_jax.survey.table import Answer, read_table
from survey_jax.survey.text import same_group

WVS = SHARED / "wvs7_country.jsonl.gz"
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
    assert "left out: 1 row: unseen group, validation question" in counts_table(result)
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


LONG = "S asks: are you satisfied with life these days?"
COPIES = {
    "verbatim": answer(99, text=LONG),
    "punctuation": answer(99, text="s asks -- are you satisfied with life, these days"),
    "reversed options": dataclasses.replace(answer(99, text=LONG), options=("No", "Yes")),
    "lead-in": answer(99, text="Now to something else. " + LONG),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_of_train_questions_leave_valid_too_and_the_audit_refuses_them(name):
    rows = [*grid(), answer(50, text=LONG), COPIES[name]]
    result = split(rows, SplitConfig(valid_questions=("Q9", "Q99")))
    assert ids(result.rows["valid"]) == {"Q9"}
    assert result.left_out == {"same question as in train (valid)": 1}
    for split_name in ("valid", "unseen_question"):
        with pytest.raises(UserError, match=f"leak: {split_name} shares a question wording and options with train"):
            audit({"train": [answer(50, text=LONG)], split_name: [COPIES[name]]})


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
    assert one.rows.keys() == two.rows.keys() == set(SPLITS) - {"unseen_wave", "unseen_subgroup"}
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


def waves(*names):
    return [dataclasses.replace(a, wave=wave) for wave in names for a in grid(3, "AB")]


def test_unseen_waves():
    result = split(waves("5", "6", "7"), SplitConfig(unseen_waves=("7",)))
    assert {name: len(rows) for name, rows in result.rows.items()} == {"train": 12, "unseen_wave": 6}
    assert {a.wave for a in result.rows["unseen_wave"]} == {"7"}


def test_unseen_topics():
    rows = [answer(q, c, topic="Trust" if q < 2 else "Work") for q in range(6) for c in "ABC"]
    result = split(rows, SplitConfig(unseen_topics=("Trust",), unseen_groups={"country": ("C",)}))
    sizes = {name: len(rows) for name, rows in result.rows.items()}
    assert sizes == {"train": 8, "unseen_question": 4, "unseen_group": 4, "unseen_both": 2}
    assert ids(result.rows["unseen_question"]) == {"Q0", "Q1"}


def test_unseen_regions_by_continent_or_region_and_unknown_countries_are_counted():
    rows = grid(2, ["Kenya", "NGA", "Morocco", "Peru", "Northern Ireland"])
    rows.append(dataclasses.replace(answer(1), group=(("age", "18-29"),)))
    africa = split(rows, SplitConfig(unseen_regions=("Africa",)))
    assert countries(africa.rows["unseen_group"]) == {"Kenya", "NGA", "Morocco"}
    assert countries(africa.rows["train"]) == {"Peru"}
    reason = "unseen_regions is set, and no region is known of "
    assert africa.left_out == {f"{reason}country 'Northern Ireland'": 2, f"{reason}groups without a country": 1}
    east = split(rows, SplitConfig(unseen_regions=("Eastern Africa",)))
    assert countries(east.rows["unseen_group"]) == {"Kenya"}


def test_all_surveys_but_the_seen_ones_are_unseen():
    rows = grid(3) + grid(2, survey="T") + grid(2, survey="U")
    result = split(rows, SplitConfig(seen_surveys=("S",)))
    assert {a.survey for a in result.rows["unseen_survey"]} == {"T", "U"}
    assert {a.survey for a in result.rows["train"]} == {"S"}


FEW = SplitConfig(unseen_groups={"country": ("D", "E")}, unseen_questions=("Q8", "Q9"), known_answers=3, seed=2)


def test_few_shot_moves_k_questions_of_each_held_out_group_to_train():
    result = split(grid(), FEW)
    sizes = {name: len(rows) for name, rows in result.rows.items()}
    assert sizes == {"train": 24 + 6, "unseen_question": 6, "few_shot_group": 10, "few_shot_both": 4}
    for country in "DE":
        known = [a for a in result.rows["train"] if dict(a.group)["country"] == country]
        assert len(known) == 3
        assert ids(known).isdisjoint({"Q8", "Q9"})
    again = split(random.Random(0).sample(grid(), 50), FEW)
    assert {a.key for a in again.rows["train"]} == {a.key for a in result.rows["train"]}
    other = split(grid(), dataclasses.replace(FEW, seed=3))
    assert {a.key for a in other.rows["train"]} != {a.key for a in result.rows["train"]}


def test_few_shot_draws_the_same_questions_for_groups_that_contain_each_other():
    rows = [answer(q, "A", age=a) for q in range(10) for a in (None, "young", "old")] + grid(10, "B")
    result = split(rows, SplitConfig(unseen_groups={"country": ("A",)}, known_answers=3))
    known = {group: ids(a for a in result.rows["train"] if a.group == group) for group in {a.group for a in rows}}
    of_a = [questions for group, questions in known.items() if ("country", "A") in group]
    assert len(of_a) == 3
    assert of_a[0] == of_a[1] == of_a[2]
    assert len(of_a[0]) == 3


def test_audit_counts_the_known_answers_of_few_shot_groups():
    rows = {"train": [answer(q, "A") for q in range(4)], "few_shot_group": [answer(9, "A")]}
    audit(rows, {"train": Promise(), "few_shot_group": Promise(known_answers=4)})
    with pytest.raises(UserError, match="train has more than 3 answers of a group of few_shot_group"):
        audit(rows, {"train": Promise(), "few_shot_group": Promise(known_answers=3)})


SETS = SplitConfig(
    group_sets={"G1": ("A", "B"), "G2": ("C", "D"), "G3": ("D", "E")},
    question_sets={"Q1": ("Q0", "Q1", "Q2"), "Q2": ("Q3",), "Q3": ("Q4", "Q5")},
)


def test_sets_crossed_with_sets():
    result = split(grid(7, "ABCDEF"), SETS)
    sizes = {name: len(rows) for name, rows in result.rows.items()}
    assert list(sizes)[:2] == ["train", "valid"]
    assert sizes == {
        "train": 6, "valid": 2, "G1Q3": 4, "G2Q1": 6, "G2Q2": 2, "G2Q3": 4, "G3Q1": 6, "G3Q2": 2, "G3Q3": 4,
    }  # fmt: skip
    assert [a.key for a in result.rows["G2Q1"] if a in result.rows["G3Q1"]] == [answer(q, "D").key for q in range(3)]
    assert result.left_out == {"question in none of Q1, Q2, Q3": 6, "country in none of G1, G2, G3: F": 6}


def test_sets_of_another_attribute_and_few_shot():
    rows = [answer(q, "A", age=a) for q in range(4) for a in ("young", "old")]
    sets = {"group_sets": {"seen": ("young",), "new": ("OLD",)}, "question_sets": {"1": ("Q0", "Q1", "Q2")}}
    result = split(rows, SplitConfig(group_attribute="age", known_answers=1, **sets))
    assert {name: len(r) for name, r in result.rows.items()} == {"train": 4, "few_shot_new1": 2}


def test_blocks_without_rows_are_noted():
    table = counts_table(split(grid(4, "ABC"), SETS))
    assert "note: G3: 2 of 2 not in the tables: D, E" in table
    assert "note: no rows for: G1Q3, G2Q3, G3Q1, G3Q2, G3Q3" in table


def test_near_duplicates_are_removed_on_request():
    twin = answer(9, text="In general: how satisfied you are with your life as a whole these days")
    rows = [*grid(9), answer(10, text="In general, how satisfied are you with your life as a whole, these days?"), twin]
    config = SplitConfig(unseen_questions=("Q8", "Q9"))
    assert ids(split(rows, config).rows["unseen_question"]) == {"Q8", "Q9"}
    clean = split(rows, dataclasses.replace(config, remove_near_duplicates=0.87))
    assert ids(clean.rows["unseen_question"]) == {"Q8"}
    assert clean.left_out == {"near-duplicate of a question of train (unseen_question)": 1}


NEWLY_REFUSED = {
    "wave": (SplitConfig(unseen_waves=("9",)), "unknown wave '9'; available: 5"),
    "topic": (SplitConfig(unseen_topics=("X",)), "unknown value of column topic 'X'; available: Work"),
    "region": (SplitConfig(unseen_regions=("Atlantis",)), "unknown region 'Atlantis'; available: Africa, Eas"),
    "seen survey": (SplitConfig(seen_surveys=("T",)), "unknown survey 'T'; available: S"),
    "sets alone": (SplitConfig(group_sets={"a": ("A",)}), "group_sets and question_sets go together"),
    "empty set": (SplitConfig(group_sets={"a": ()}, question_sets={"b": ("Q1",)}), "a set is empty"),
    "seen and unseen": (
        SplitConfig(group_sets={"a": ("Kenya",), "b": ("KEN",)}, question_sets={"q": ("Q1",)}),
        "'KEN' is in both a, which is seen, and b, which is not",
    ),
    "question in two sets": (
        SplitConfig(group_sets={"a": ("Kenya",)}, question_sets={"p": ("Q1",), "q": ("Q1",)}),
        "question_sets: 'Q1' is in both p and q",
    ),
    "two ways": (
        SplitConfig(group_sets={"a": ("Kenya",)}, question_sets={"p": ("Q1",)}, unseen_topics=("Work",)),
        "splits come from group_sets x question_sets, so unseen_topics cannot be set too",
    ),
    "threshold": (SplitConfig(remove_near_duplicates=1.5), "remove_near_duplicates must be at least 0 and at most 1"),
    "few-shot of nobody": (SplitConfig(known_answers=3), "known_answers is set, but no group is held out"),
    "nothing left to predict": (
        SplitConfig(unseen_groups={"country": ("Kenya",)}, known_answers=3),
        "split few_shot_group has no rows",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NEWLY_REFUSED)
def test_newer_settings_are_refused_with_a_reason(name):
    config, reason = NEWLY_REFUSED[name]
    rows = [dataclasses.replace(a, wave="5") for a in grid(3, ["Kenya", "Zambia"], topic="Work")]
    with pytest.raises(UserError) as error:
        split(rows, config)
    assert reason in str(error.value)


def test_sets_refuse_question_ids_of_two_surveys():
    rows = grid(3, "AB") + grid(3, "AB", "T")
    with pytest.raises(UserError, match="'Q0' is a question of 'S' and 'T'; name one in unseen_surveys"):
        split(rows, SETS)
    result = split(rows, dataclasses.replace(SETS, unseen_surveys=("T",)))
    assert {name: len(r) for name, r in result.rows.items()} == {"train": 6, "unseen_survey": 6}


BY_GROUP = SplitConfig(
    unseen_questions=("Q8", "Q9"),
    unseen_groups={"country": ("E",)},
    valid_questions=("Q7",),
    valid_group_fraction=0.3,
    seed=1,
)


def test_validation_groups_are_drawn_from_those_that_are_not_held_out():
    result = split(grid(10, "ABCDE"), BY_GROUP)
    known = [a for a, kind in zip(result.rows["valid"], kinds(result.rows["train"], result.rows["valid"]), strict=True)
             if kind == KNOWN]  # fmt: skip
    drawn = countries(known)
    assert len(drawn) == 2  # .3 of 4, rounded up
    assert "E" not in drawn
    assert ids(known) == {f"Q{q}" for q in range(7)}
    assert countries(result.rows["train"]) == set("ABCD") - drawn
    assert {(a.question_id, *countries([a])) for a in result.rows["valid"] if a not in known} == {
        ("Q7", country) for country in "ABCD"
    }
    assert countries(result.rows["unseen_question"]) == set("ABCD") - drawn
    assert result.left_out == {"validation group, unseen question": 4, "unseen group, validation question": 1}
    again = split(random.Random(0).sample(grid(10, "ABCDE"), 50), BY_GROUP)
    assert {a.key for a in again.rows["valid"]} == {a.key for a in result.rows["valid"]}
    others = [
        countries(split(grid(10, "ABCDE"), dataclasses.replace(BY_GROUP, seed=s)).rows["train"]) for s in range(8)
    ]
    assert len(set(map(frozenset, others))) > 2


def test_one_validation_group_is_one_country_under_all_its_names():
    rows = [*grid(4, ["Kenya", "Peru", "Chile"]), *grid(4, ["KEN", "PER", "CHL"], "T")]
    result = split(rows, SplitConfig(valid_group_fraction=0.1))
    assert len({same_group(a.group) for a in result.rows["valid"]}) == 1
    assert len(result.rows["valid"]) == 8


def test_ancestors_of_validation_groups_leave_train():
    rows = [answer(q, "A", age=a) for q in range(3) for a in (None, "young", "old")] + grid(3, "BCD")
    left = set()
    for seed in range(10):
        result = split(rows, SplitConfig(valid_group_fraction=0.1, seed=seed))
        left.add(result.left_out.get("includes people of a held-out group (train)", 0))
    assert left == {0, 3}


def test_audit_holds_valid_to_its_new_groups():
    promises = PROMISES | {"valid": Promise(new_groups=frozenset({(("age", "old"), ("country", "a"))}))}
    old = answer(1, age="old")
    audit({"train": [answer(1, age="young")], "valid": [old]}, promises)
    with pytest.raises(UserError, match="leak: valid shares a group with train: S / Q1 / age=old, country=A"):
        audit({"train": [answer(2, age="old")], "valid": [old]}, promises)
    with pytest.raises(
        UserError, match="leak: train gives a group with the people of a held-out row: S / Q1 / age=old"
    ):
        audit({"train": [answer(1)], "valid": [old]}, promises)


def test_validation_groups_of_the_first_set():
    rows = grid(7, "ABCDEFG")
    result = split(
        rows, dataclasses.replace(SETS, group_sets={"G1": ("A", "B", "C"), "G2": ("D",)}, valid_group_fraction=0.1)
    )
    (drawn,) = set("ABC") - countries(result.rows["train"])
    valid = {(a.question_id, *countries([a])) for a in result.rows["valid"]}
    assert valid == {(f"Q{q}", drawn) for q in range(3)} | {("Q3", c) for c in "ABC"}
    assert countries(result.rows["G1Q3"]) == set("ABC") - {drawn}
    assert countries(result.rows["G2Q1"]) == {"D"}


def test_questions_that_only_validation_groups_answer_are_lost_to_held_out_groups():
    rows = [*grid(5, "ABE"), answer(7, "A"), answer(7, "E"), answer(8, "B"), answer(8, "E")]
    result = split(rows, SplitConfig(unseen_groups={"country": ("E",)}, valid_group_fraction=0.1))
    assert ids(result.rows["unseen_group"]) <= ids(result.rows["train"])
    assert result.left_out == {"question that all rows of train left": 1}


def test_max_rows_keeps_both_kinds_of_validation_rows():
    def sizes(max_rows, valid_questions):
        config = dataclasses.replace(BY_GROUP, valid_questions=valid_questions, max_rows=max_rows)
        rows = split(grid(20, "ABCDE"), config).rows
        return Counter(kinds(rows["train"], rows["valid"]))

    assert sizes(10, ("Q6", "Q7")) == {KNOWN: 5, NEW: 5}
    assert sizes(11, ("Q6", "Q7")) == {KNOWN: 6, NEW: 5}
    assert sizes(20, ("Q7",)) == {KNOWN: 16, NEW: 4}  # all four new ones, and the rest
    assert sizes(1000, ("Q7",)) == {KNOWN: 2 * 17, NEW: 4}


def test_validation_groups_and_a_column_exclude_each_other():
    with pytest.raises(UserError, match="splits come from the column 'split', so valid_group_fraction cannot be set"):
        split(grid(split="train"), SplitConfig(column="split", valid_group_fraction=0.1))
    with pytest.raises(UserError, match="valid_group_fraction must be at least 0 and less than 1, got 1"):
        split(grid(), SplitConfig(valid_group_fraction=1.0))
