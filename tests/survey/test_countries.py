"""Country names: surveys' spellings to ISO and back, nothing guessed."""

import gzip
import json

import pycountry
import pytest

from places import SHARED
from survey_jax.common.errors import UserError
from survey_jax.survey import countries
from survey_jax.survey.text import same_group

SPELLINGS = {
    "GBR": ["Great Britain", "Britain", "United Kingdom", "UK", "the United Kingdom", "GB", "826", "GBR"],
    "TWN": ["Taiwan ROC", "Taiwan", "Taiwan (ROC)", "158"],
    "HKG": ["Hong Kong SAR", "Hong Kong", "344"],
    "MAC": ["Macau SAR", "Macao SAR", "Macau", "Macao"],
    "TUR": ["Türkiye", "Turkey", "Turkiye", "TÜRKİYE", "TR"],
    "VNM": ["Viet Nam", "Vietnam"],
    "KOR": ["South Korea", "S. Korea", "Korea, South", "Republic of Korea", "Korea, Republic of"],
    "RUS": ["Russia", "Russian Federation"],
    "BIH": ["Bosnia Herzegovina", "Bosnia-Herzegovina", "Bosnia and Herzegovina", "Bosnia & Herzegovina"],
    "CZE": ["Czech Rep.", "Czech Republic", "Czechia"],
    "PSE": ["Palest. ter.", "Palestinian territories", "Palestine"],
    "ZAF": ["S. Africa", "South Africa"],
    "CIV": ["Ivory Coast", "Cote d'Ivoire", "Côte d'Ivoire", "Côte d’Ivoire"],
    "MKD": ["Macedonia", "North Macedonia"],
    "NLD": ["the Netherlands", "Netherlands"],
    "USA": ["U.S.", "US", "United States", "USA", "840"],
    "ALB": ["Albania", "8", "008"],
    "XKX": ["Kosovo", "XK"],
}


@pytest.mark.parametrize("iso3", SPELLINGS)
def test_every_spelling_is_one_country_with_one_name(iso3):
    places = {countries.find(spelling) for spelling in SPELLINGS[iso3]}
    assert places == {countries.Place(countries.name(iso3), iso3)}


def test_every_iso_country_is_found_by_its_names_and_codes_and_goes_back():
    for country in pycountry.countries:
        display = countries.name(country.alpha_3)
        for label in (display, country.name, country.alpha_2, country.alpha_3, country.numeric):
            found = countries.find(label)
            assert found is not None, label
            assert (found.iso3, found.name, found.national) == (country.alpha_3, display, True)
    assert len({countries.name(c.alpha_3) for c in pycountry.countries}) == len(pycountry.countries)


def test_names_are_what_english_calls_the_country():
    expected = {"TUR": "Turkey", "RUS": "Russia", "KOR": "South Korea", "VNM": "Vietnam", "GBR": "United Kingdom",
                "TWN": "Taiwan", "HKG": "Hong Kong", "IRN": "Iran", "BOL": "Bolivia", "CZE": "Czechia"}  # fmt: skip
    assert {iso3: countries.name(iso3) for iso3 in expected} == expected


# A pattern or a fuzzy search makes countries of all of these.
@pytest.mark.parametrize(
    "label", ["Narnia", "Michael Jordan", "Somaliland", "New Mexico", "Africa", "Korea", "Indian", "us", "", "Niger?"]
)
def test_nothing_is_guessed(label):
    assert countries.find(label) is None


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Brasil", "Brazil"),
        ("Türkiye", "Turkey"),
        ("République dominicaine", "Dominican Republic"),
        ("中国", "China"),
        ("Россия", "Russia"),
        ("المغرب", "Morocco"),
        ("भारत", "India"),
        ("Alemania", "Germany"),
        ("Vereinigtes Königreich", "United Kingdom"),
        ("日本", "Japan"),
        ("Polska", "Poland"),
        ("EL", "Greece"),
        ("GB-GBN", "United Kingdom"),
        ("DE-W", "West Germany"),
        ("DE-E", "East Germany"),
        ("GB-NIR", "Northern Ireland"),
    ],
)
def test_names_in_other_languages_and_codes_of_surveys(label, name):
    found = countries.find(label)
    assert found
    assert (found.name, found.part) == (name, name in countries.PARTS)


def test_a_name_that_is_nearly_a_country_s_gets_a_hint():
    (told,) = countries.report_unknown(["Brazl", "Atlantis", "Scottland", "Alemannia"])
    assert told.startswith("4 country names not recognised: Alemannia (did you mean Germany?), Atlantis, ")
    assert told.endswith("Brazl (did you mean Brazil?), Scottland (did you mean Scotland?)")


def test_unknown_names_are_reported_once():
    assert countries.report_unknown(["Kenya", "Narnia", "Atlantis", "Narnia"]) == [
        "2 country names not recognised: Atlantis, Narnia"
    ]
    assert countries.report_unknown(["Kenya"]) == []


@pytest.mark.parametrize(
    ("label", "name", "iso3", "sample"),
    [
        ("China (Non-national sample)", "China", "CHN", "Non-national sample"),
        ("Brazil (Non-national sample)", "Brazil", "BRA", "Non-national sample"),
        ("S. Africa (Non-national sample)", "South Africa", "ZAF", "Non-national sample"),
        ("Northern Ireland", "Northern Ireland", "GBR", None),
        ("909", "Northern Ireland", "GBR", None),
        ("NIR", "Northern Ireland", "GBR", None),
        ("England", "England", "GBR", None),
    ],
)
def test_sub_national_samples(label, name, iso3, sample):
    place = countries.find(label)
    assert (place.name, place.iso3, place.sample, place.national) == (name, iso3, sample, False)


@pytest.mark.parametrize("sample", ["Current national sample", "Old national sample"])
def test_labelled_national_samples_stay_national(sample):
    place = countries.find(f"India ({sample})")
    assert (place.name, place.sample, place.national) == ("India", sample, True)
    assert countries.find(f"Narnia ({sample})") is None


@pytest.mark.parametrize(
    ("label", "code", "kept_as"),
    [
        ("Great Britain", "GBR", "United Kingdom"),
        ("India (Current national sample)", "IND", "India"),
        ("Northern Ireland", None, "Northern Ireland"),  # a part of a country is not the country
        ("NIR", None, "Northern Ireland"),
        ("Brazil (Non-national sample)", None, "Brazil (Non-national sample)"),
        ("Narnia", None, "Narnia"),
    ],
)
def test_what_stands_for_a_whole_country_and_how_it_is_kept(label, code, kept_as):
    assert countries.code(label) == code
    assert countries.one_name(label) == kept_as


def test_groups_are_compared_by_country_code():
    def group(country):
        return same_group((("Country", country), ("age", "18-29")))

    for one, other in [
        ("Hong Kong SAR", "Hong Kong"), ("Great Britain", "United Kingdom"), ("Taiwan ROC", "Taiwan"),
        ("Türkiye", "TUR"), ("narnia", "Narnia"),
    ]:  # fmt: skip
        assert group(one) == group(other)
    assert group("Northern Ireland") != group("Great Britain")
    assert same_group((("birthplace", "Great Britain"),)) != same_group((("birthplace", "United Kingdom"),))


def test_no_code():
    with pytest.raises(UserError, match="'ZZZ' is no ISO 3166-1 alpha-3 country code"):
        countries.name("ZZZ")


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["wvs7_country", "pew_global_sample", "ess"])
def test_every_country_of_real_surveys_is_known(name):
    path = SHARED / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    with gzip.open(path, "rt") as lines:
        labels = {json.loads(line)["group"]["country"] for line in lines}
    assert len(labels) > 30
    assert countries.report_unknown(labels) == []
    assert len({countries.find(label).iso3 for label in labels}) == len(labels)
