"""What the package says of countries, against the standard and the table it comes from."""

import math

import pycountry
import pytest

from places import ROOT
from survey_jax.survey import countries
from survey_jax.survey.splits import presets


@pytest.mark.parametrize(
    ("label", "regions"),
    [("Kenya", {"Africa", "Eastern Africa"}), ("KEN", {"Africa", "Eastern Africa"}),
     ("Mexico", {"America", "Central America"}), ("Türkiye", {"Asia", "Western Asia"}),
     ("Kosovo", {"Europe", "Southern Europe"}), ("Northern Ireland", set()), ("Atlantis", set()), ("", set())],
)  # fmt: skip
def test_regions(label, regions):
    assert countries.regions(label) == regions


def test_every_country_has_its_regions():
    without = {c.name for c in pycountry.countries if len(countries.regions(c.alpha_3)) != 2}
    assert without == {"Antarctica"}


def test_features():
    kenya = countries.features("Kenya")
    assert {k for k, v in kenya.items() if v == 1} == {
        "region: Africa", "region: Eastern Africa", "language: en", "language: sw",
    }  # fmt: skip
    assert {"OECD", "EU27", "language: de"} <= countries.features("Germany").keys()
    assert {"CIS", "APEC", "language: ru"} <= countries.features("Russia").keys()
    table = ROOT / "survey_jax" / "data" / "countries.csv"
    income = {line.split(",")[0]: line.split(",")[4] for line in table.read_text().splitlines()}
    assert kenya["log income"] == pytest.approx(math.log(float(income["KEN"]) / 20_000))
    assert countries.features("Atlantis") == countries.features("Northern Ireland") == {}


def test_memberships_have_as_many_members_as_the_organisations():
    members = dict.fromkeys(("OECD", "EU27", "CIS", "APEC"), 0)
    for code in ("XKX", *(c.alpha_3 for c in pycountry.countries)):
        for club in members.keys() & countries.features(code).keys():
            members[club] += 1
    assert members == {"OECD": 38, "EU27": 27, "CIS": 9, "APEC": 21}


def test_every_country_of_the_paper_has_income_and_a_language():
    for name in {c for group in presets.PRESETS["paper"]["group_sets"].values() for c in group}:
        assert countries.code(name), name
        features = countries.features(name)
        assert "log income" in features, name
        assert any(f.startswith("language: ") for f in features), name
