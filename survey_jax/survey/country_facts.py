"""What is known of a country without asking anybody: its regions, memberships, income and languages.

All from `data/countries.csv`, which `tools/build_country_table.py` makes from Unicode CLDR: continent and region after
the United Nations' standard M49, income as gross domestic product per person at purchasing power parity in
international dollars, and the languages official in the whole country.
"""

import csv
import functools
import math
from collections.abc import Mapping
from importlib import resources

from survey_jax.survey import countries

_TYPICAL_INCOME = 20_000  # near the world's mean: log income is then 0 for a typical country, as for an unknown one


def regions(label: str) -> frozenset[str]:
    """The country's continent (America is one) and its region after the United Nations; empty if it is not known."""
    row = _facts().get(countries.code(label) or "", {})
    return frozenset({row.get("continent", ""), row.get("un_region", "")} - {""})


def features(label: str) -> dict[str, float]:
    """Covariates of a country: regions, memberships and languages as 1, and log income; {} if the name is unknown."""
    row = _facts().get(countries.code(label) or "")
    if row is None:
        return {}
    kinds = [*(f"region: {region}" for region in sorted(regions(label))), *row["memberships"].split()]
    kinds += [f"language: {language}" for language in row["languages"].split()]
    income = {"log income": math.log(float(row["gdp_per_capita"]) / _TYPICAL_INCOME)} if row["gdp_per_capita"] else {}
    return dict.fromkeys(kinds, 1.0) | income


@functools.cache
def _facts() -> Mapping[str, Mapping[str, str]]:
    """ISO 3166-1 alpha-3 code -> row of the table."""
    text = (resources.files("survey_jax") / "data" / "countries.csv").read_text(encoding="utf-8")
    return {row["iso3"]: row for row in csv.DictReader(text.splitlines())}
