"""The designs of published papers: their sizes, their names, and what they refuse."""

import pytest

from places import SHARED
from survey_jax.common.errors import UserError
from survey_jax.survey.splits import presets
from survey_jax.survey.splits.near_duplicates import NearDuplicates
from survey_jax.survey.splits.split import SplitConfig, counts_table, split
from survey_jax.survey.table import Answer, read_table

WVS = SHARED / "wvs7_country.jsonl.gz"
BLOCKS = {"train", "valid", "C1Q3", "C2Q1", "C2Q2", "C2Q3", "C3Q1", "C3Q2", "C3Q3"}
C1, C2, C3 = (presets.PRESETS["paper"]["group_sets"][name] for name in ("C1", "C2", "C3"))


def answer(question, country, survey="WVS") -> Answer:
    text = f"{survey} asks {question}?"
    return Answer(survey, question, text, ("Yes", "No"), (("country", country),), (0.5, 0.5))


def survey(countries) -> list[Answer]:
    return [answer(f"Q{q}", c) for q in range(1, 260) for c in countries]


ALL = survey(sorted({*C1, *C2, *C3}))


def test_paper():
    rows = split(ALL, SplitConfig(preset="paper")).rows
    assert (len(C1), len(C2), len(C3)) == (46, 8, 11)  # Table 10
    questions, countries = {"Q1": 150, "Q2": 35, "Q3": 60}, {"C1": 46, "C2": 8, "C3": 11}
    expected = {c + q: n * m for c, n in countries.items() for q, m in questions.items()}
    expected["train"], expected["valid"] = expected.pop("C1Q1"), expected.pop("C1Q2")
    assert {name: len(r) for name, r in rows.items()} == expected
    excluded = {f"Q{n}" for n in (82, 223, *range(94, 106))}
    assert excluded.isdisjoint(a.question_id for r in rows.values() for a in r)
    double = {dict(a.group)["country"] for a in rows["C2Q1"] if a in rows["C3Q1"]}
    assert double == {"Nigeria", "Morocco"}


def test_paper_distinct_counts_no_country_twice():
    rows = split(ALL, SplitConfig(preset="paper_distinct")).rows
    assert rows.keys() == BLOCKS
    keys = [a.key for r in rows.values() for a in r]
    assert len(keys) == len(set(keys)) == 63 * 245
    assert len({a.group for a in rows["C3Q1"]}) == 9


def test_other_spellings_and_codes_of_the_papers_countries():
    spelled = {"Turkey": "Türkiye", "Great Britain": "United Kingdom", "South Korea": "Korea, Republic of",
               "Taiwan ROC": "TWN", "Czechia": "Czech Republic", "Vietnam": "Viet Nam"}  # fmt: skip
    result = split(survey([spelled.get(c, c) for c in sorted({*C1, *C2, *C3})]), SplitConfig(preset="paper"))
    assert len(result.rows["train"]) == 46 * 150
    assert not result.notes
    assert result.left_out.keys() == {"question in none of Q1, Q2, Q3"}


def test_countries_outside_the_paper_are_counted():
    result = split(ALL + survey(["Northern Ireland", "India"]), SplitConfig(preset="paper"))
    assert result.left_out["country in none of C1, C2, C3: Northern Ireland"] == 245
    assert result.left_out["country in none of C1, C2, C3: India"] == 245


def test_an_unseen_survey_beside_the_paper():
    pew = [answer("Q1", c, "Pew") for c in ("Kenya", "Peru")]
    rows = split(ALL + pew, SplitConfig(preset="paper", unseen_surveys=("Pew",))).rows
    assert rows["unseen_survey"] == pew
    assert rows.keys() == {*BLOCKS, "unseen_survey"}


def test_subpop():
    rows = [answer(f"Q{q}", c, presets.SUBPOP_TRAIN) for q in range(50) for c in ("A", "B")]
    rows += [answer("Q1", "A", s) for s in ("SubPOP-Eval", "OpinionQA")]
    result = split(rows, SplitConfig(preset="subpop"))
    assert {name: len(r) for name, r in result.rows.items()} == {"train": 90, "valid": 10, "unseen_survey": 2}
    questions = [{a.question_id for a in result.rows[name]} for name in ("train", "valid")]
    assert questions[0].isdisjoint(questions[1])
    with pytest.raises(UserError, match="unknown survey 'SubPOP-Train'; available: WVS"):
        split(ALL, SplitConfig(preset="subpop"))


def test_refused():
    with pytest.raises(UserError, match="unknown preset 'papr'; one of: paper, paper_distinct, subpop"):
        split(ALL, SplitConfig(preset="papr"))
    with pytest.raises(UserError, match="preset 'subpop' sets valid_question_fraction, so the config cannot"):
        split(ALL, SplitConfig(preset="subpop", valid_question_fraction=0.2))
    with pytest.raises(UserError, match="so unseen_regions cannot be set too"):
        split(ALL, SplitConfig(preset="paper", unseen_regions=("Asia",)))


@pytest.mark.shared_data
def test_paper_on_the_world_values_survey():
    if not WVS.is_file():
        pytest.skip(f"{WVS} is not here")
    result = split(read_table(WVS), SplitConfig(preset="paper"))
    assert (len(result.rows["train"]), len(result.rows["valid"])) == (6841, 1586)
    own = {"C1Q3": "test_unseen_question", "C3Q1": "test_unseen_country", "C3Q3": "test_unseen_both"}
    for name, value in {"train": "train", "valid": "valid", **own}.items():  # as the file itself has it
        assert {a.extra["split"] for a in result.rows[name]} == {value}
    assert "no rows for: C2Q1, C2Q2, C2Q3" in counts_table(result)
    # No copies in either wording, with room to spare.
    for columns in (("question",), ("question_paper", "question")):
        rows = split(read_table(WVS, columns), SplitConfig(preset="paper")).rows
        assert NearDuplicates(rows).questions() == []
        assert NearDuplicates({name: rows[name] for name in ("train", "valid")}, 0.8).questions() == []
