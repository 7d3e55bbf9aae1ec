"""Builds survey_jax/data/countries.csv, what is known of countries without asking anybody.

    npm pack cldr-core@48.2.0 && tar xzf cldr-core-48.2.0.tgz
    python tools/build_country_table.py package/supplemental

Source of regions, EU, income and languages: Unicode CLDR 48.2 (package cldr-core, licence Unicode-3.0, kept beside the
table), territoryContainment.json and territoryInfo.json. The other memberships are listed below.
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pycountry

TABLE = Path(__file__).parents[1] / "survey_jax" / "data" / "countries.csv"
OFFICIAL = ("official", "de_facto_official")  # in the whole country

# Codes of the United Nations' standard M49, which CLDR uses, and its names; "America" is its Americas.
CONTINENTS = {"002": "Africa", "009": "Oceania", "019": "America", "142": "Asia", "150": "Europe"}
REGIONS = {
    "005": "South America", "011": "Western Africa", "013": "Central America", "014": "Eastern Africa",
    "015": "Northern Africa", "017": "Middle Africa", "018": "Southern Africa", "021": "Northern America",
    "029": "Caribbean", "030": "Eastern Asia", "034": "Southern Asia", "035": "South-eastern Asia",
    "039": "Southern Europe", "053": "Australia and New Zealand", "054": "Melanesia", "057": "Micronesia",
    "061": "Polynesia", "143": "Central Asia", "145": "Western Asia", "151": "Eastern Europe",
    "154": "Northern Europe", "155": "Western Europe",
}  # fmt: skip

# Members in 2025, as the organisations' own sites list them.
CLUBS = {
    "OECD": "AUS AUT BEL CAN CHE CHL COL CRI CZE DEU DNK ESP EST FIN FRA GBR GRC HUN IRL ISL ISR ITA JPN KOR LTU LUX "
            "LVA MEX NLD NOR NZL POL PRT SVK SVN SWE TUR USA",
    "CIS": "ARM AZE BLR KAZ KGZ MDA RUS TJK UZB",
    "APEC": "AUS BRN CAN CHL CHN HKG IDN JPN KOR MEX MYS NZL PER PHL PNG RUS SGP THA TWN USA VNM",
}  # fmt: skip


def main(folder: str) -> None:
    containment = _read(Path(folder) / "territoryContainment.json", "territoryContainment")
    territories = _read(Path(folder) / "territoryInfo.json", "territoryInfo")
    region_of = {iso2: code for code in REGIONS for iso2 in containment[code]["_contains"]}
    continent_of = {region: code for code in CONTINENTS for region in containment[code]["_contains"]}
    members = {name: set(text.split()) for name, text in CLUBS.items()}
    rows = []
    for iso2, iso3 in [("XK", "XKX"), *((c.alpha_2, c.alpha_3) for c in pycountry.countries)]:
        region = region_of.get(iso2)
        clubs = ["EU27"] * (iso2 in containment["EU"]["_contains"]) + [c for c in members if iso3 in members[c]]
        rows.append({
            "iso3": iso3,
            "continent": CONTINENTS[continent_of[region]] if region else "",
            "un_region": REGIONS[region] if region else "",
            "memberships": " ".join(sorted(clubs)),
            **_people(territories.get(iso2, {})),
        })  # fmt: skip
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: row["iso3"]))
    print(f"{TABLE}: {len(rows)} countries")


def _read(path: Path, key: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["supplemental"][key]
    return content


def _people(entry: dict[str, Any]) -> dict[str, str]:
    """Income and languages; empty where nobody lives."""
    if not float(entry.get("_population", 0)):
        return {"gdp_per_capita": "", "languages": ""}
    spoken = entry.get("languagePopulation", {})
    languages = {code.split("_")[0] for code, v in spoken.items() if v.get("_officialStatus") in OFFICIAL}
    income = round(float(entry["_gdp"]) / float(entry["_population"]))
    return {"gdp_per_capita": str(income), "languages": " ".join(sorted(languages))}


if __name__ == "__main__":
    main(sys.argv[1])
