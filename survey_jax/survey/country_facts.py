"""What is known of a country without asking anybody: its code, its regions, its income and its languages.

Names, regions and memberships come from the library country_converter; income (gross domestic product per person at
purchasing power parity, international dollars) and national languages from Unicode CLDR, in `data/countries.csv`, which
`tools/build_country_table.py` makes. Sub-national names ("Northern Ireland") are no countries.
"""

import csv
import functools
import logging
import math
from importlib import resources

import country_converter
import pandas as pd

_TYPICAL_INCOME = 20_000  # near the world's mean: log income is then 0 for a typical country, as for an unknown one


@functools.cache
def converter() -> country_converter.CountryConverter:
    """The library's converter, with its table read so that Namibia's code "NA" stays a text under pandas 3."""
    path = resources.files("country_converter") / "country_data.tsv"
    table = pd.read_csv(str(path), sep="\t", keep_default_na=False, na_values=[""])
    texts = ["name_short", "name_official", "regex", "ISO2", "ISO3", "continent", "UNregion"]
    table[texts] = table[texts].fillna("")
    return country_converter.CountryConverter(country_data=table)


@functools.cache
def code(name: str) -> str | None:
    """ISO 3166 alpha-3 code of a country's name or code, e.g. "Great Britain" -> "GBR"; None if not a country."""
    if not name.strip():
        return None
    logger = logging.getLogger("country_converter")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # unknown names are the caller's to report
    try:
        found = converter().convert(name, to="ISO3", not_found=None)
    finally:
        logger.setLevel(level)
    return found if isinstance(found, str) and found in _by_code().index else None


def regions(name: str) -> frozenset[str]:
    """The country's continent (America is one) and its region after the United Nations' geoscheme; empty if unknown."""
    iso3 = code(name)
    if iso3 is None:
        return frozenset()
    row = _by_code().loc[iso3]
    return frozenset({row["continent"], row["UNregion"]} - {""})


def features(name: str) -> dict[str, float]:
    """Covariates of a country: regions, memberships and languages as 1, and log income; {} if the name is unknown."""
    iso3 = code(name)
    if iso3 is None:
        return {}
    row = _by_code().loc[iso3]
    result = {f"region: {region}": 1.0 for region in regions(name)}
    for club in ("OECD", "EU27", "CIS", "APEC"):
        if not pd.isna(row[club]):
            result[club] = 1.0
    if iso3 in _cldr():
        income, languages = _cldr()[iso3]
        result |= {f"language: {language}": 1.0 for language in languages} | {
            "log income": math.log(income / _TYPICAL_INCOME)
        }
    return result


@functools.cache
def _by_code() -> pd.DataFrame:
    return converter().data.set_index("ISO3")


@functools.cache
def _cldr() -> dict[str, tuple[float, tuple[str, ...]]]:
    """ISO code -> gross domestic product per person, codes of the national languages."""
    text = (resources.files("survey_jax") / "data" / "countries.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {r["iso3"]: (float(r["gdp_per_capita"]), tuple(r["languages"].split())) for r in rows}
