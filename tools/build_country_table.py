"""Builds survey_jax/data/countries.csv, the covariates of countries that no survey asks for.

    npm pack cldr-core@48.2.0 && tar xzf cldr-core-48.2.0.tgz
    python tools/build_country_table.py package/supplemental/territoryInfo.json

Source: Unicode CLDR 48.2 (package cldr-core, licence Unicode-3.0, kept beside the table), territoryInfo.json.
"""

import csv
import json
import sys
from pathlib import Path

from survey_jax.survey.country_facts import converter

TABLE = Path(__file__).parents[1] / "survey_jax" / "data" / "countries.csv"
OFFICIAL = ("official", "de_facto_official")  # in the whole country


def main(path: str) -> None:
    territories = json.loads(Path(path).read_text(encoding="utf-8"))["supplemental"]["territoryInfo"]
    known = converter().data
    rows = []
    for iso2, iso3 in zip(known.ISO2, known.ISO3, strict=True):
        entry = territories.get(iso2.split("|")[0].strip("^$"))
        if entry and float(entry["_population"]) > 0:
            languages = {
                k.split("_")[0] for k, v in entry["languagePopulation"].items() if v.get("_officialStatus") in OFFICIAL
            }
            rows.append([iso3, round(float(entry["_gdp"]) / float(entry["_population"])), " ".join(sorted(languages))])
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["iso3", "gdp_per_capita", "languages"])
        writer.writerows(sorted(rows))
    print(f"{TABLE}: {len(rows)} countries")


if __name__ == "__main__":
    main(sys.argv[1])
