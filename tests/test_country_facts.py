"""What the package says of countries, against the libraries and tables it comes from."""

import math
from pathlib import Path

import pycountry
import pytest

from survey_jax.survey import country_facts, presets


@pytest.mark.parametrize(
    ("name", "code"),
    [("Great Britain", "GBR"), ("Taiwan ROC", "TWN"), ("Hong Kong SAR", "HKG"), ("Türkiye", "TUR"), ("Namibia", "NAM"),
     ("NA", "NAM"), ("ken", "KEN"), ("Northern Ireland", None), ("Atlantis", None), ("", None), (" ", None)],
)  # fmt: skip
def test_code(name, code):
    assert country_facts.code(name) == code


def test_codes_of_all_countries_agree_with_iso():
    for country in pycountry.countries:
        assert country_facts.code(country.alpha_3) == country.alpha_3
        assert country_facts.code(country.name) == country.alpha_3, country.name


def test_regions():
    assert country_facts.regions("Kenya") == {"Africa", "Eastern Africa"}
    assert country_facts.regions("Mexico") == {"America", "Central America"}
    assert country_facts.regions("Atlantis") == frozenset()


def test_features():
    kenya = country_facts.features("Kenya")
    assert {k for k, v in kenya.items() if v == 1} == {
        "region: Africa", "region: Eastern Africa", "language: en", "language: sw",
    }  # fmt: skip
    assert {"OECD", "EU27", "language: de"} <= country_facts.features("Germany").keys()
    assert {"CIS", "language: ru"} <= country_facts.features("Russia").keys()
    table = Path(country_facts.__file__).parents[1] / "data" / "countries.csv"
    income = {line.split(",")[0]: line.split(",")[1] for line in table.read_text().splitlines()}
    assert kenya["log income"] == pytest.approx(math.log(float(income["KEN"]) / 20_000))
    assert country_facts.features("Atlantis") == {}


def test_every_country_of_the_paper_has_income_and_a_language():
    for name in {c for group in presets.PRESETS["paper"]["group_sets"].values() for c in group}:
        features = country_facts.features(name)
        assert "log income" in features, name
        assert any(f.startswith("language: ") for f in features), name
