"""Country names as surveys write them, ISO 3166 codes, and one English name a country.

Names are looked up, never guessed: ISO's names and codes come from pycountry, which has them in many languages, and the
surveys' spellings from `data/country_names.yaml`.
Libraries that know more spellings know them by patterns, and take "England" for the United Kingdom, "Somaliland" for
Somalia and "Michael Jordan" for Jordan.
"""

import csv
import dataclasses
import difflib
import functools
import gettext
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

import pycountry
import yaml

from survey_jax.common.errors import UserError, some

_TABLE = yaml.safe_load((resources.files("survey_jax") / "data" / "country_names.yaml").read_text(encoding="utf-8"))
NAMES: dict[str, str] = _TABLE["names"]  # where ISO's name is not what English prose calls the country
ALIASES: dict[str, list[str]] = _TABLE["aliases"]  # spellings of surveys, by ISO 3166-1 alpha-3
PARTS: dict[str, str] = _TABLE["parts"]  # parts of a country that surveys sample under their own names -> the country
_PART_CODES: dict[str, str] = _TABLE["part_codes"]
_OTHER_CODES: dict[str, str] = _TABLE["codes"]  # codes of surveys that are not ISO's

_NEARLY = 0.8  # how alike a misspelt name is, as difflib has it
_LABEL = re.compile(r"^(?P<name>.*?)\s*\((?P<sample>[^()]*\bsample\b[^()]*)\)$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Place:
    """What a survey's country label stands for.

    Attributes:
      name: one English name a country, whatever the survey wrote; of a part of a country, the part.
      iso3: ISO 3166-1 alpha-3 code of the country (Kosovo: the user-assigned XKX).
      sample: what the label says of the sample: "Non-national sample", "Current national sample"; else None.
      part: the label names a part of the country, e.g. Northern Ireland.
    """

    name: str
    iso3: str
    sample: str | None = None
    part: bool = False

    @property
    def national(self) -> bool:
        """Whether the sample stands for the whole country."""
        return not self.part and not (self.sample or "").casefold().startswith(("non-national", "non national"))


@functools.cache
def find(label: str) -> Place | None:
    """The place that a name or code ("Great Britain", "TWN", "Brazil (Non-national sample)") stands for, or None.

    Codes are ISO 3166-1 alpha-2, alpha-3 (both in capitals) or numeric, with or without leading zeros.

    A name may be in any official language, as far as pycountry has it, if no other country is called so in one of them.

    >>> find("Brazil (Non-national sample)")
    Place(name='Brazil', iso3='BRA', sample='Non-national sample', part=False)
    """
    label = label.strip()
    if match := _LABEL.match(label):
        inner = find(match["name"])
        return dataclasses.replace(inner, sample=match["sample"].strip()) if inner else None
    part = _PART_CODES.get(label) or _parts().get(_fold(label))
    if part:
        return Place(part, PARTS[part], part=True)
    iso3 = _codes().get(label.zfill(3) if label.isdigit() else label) or _names().get(_fold(label))
    iso3 = iso3 or _translated().get(_fold(label))
    return Place(name(iso3), iso3) if iso3 else None


def code(label: str) -> str | None:
    """ISO 3166-1 alpha-3 code of a country; None for unknown names, and for a part of a country, which is not it.

    >>> code("Türkiye"), code("中国"), code("Great Britain"), code("Northern Ireland"), code("Atlantis")
    ('TUR', 'CHN', 'GBR', None, None)
    """
    place = find(label)
    return place.iso3 if place and place.national else None


def one_name(label: str) -> str:
    """The label under which a country or a part of one is kept in a table; as it is where it is not known.

    So is a sample that does not stand for the whole country: "Brazil (Non-national sample)" is not Brazil.
    """
    place = find(label)
    return place.name if place and (place.national or place.sample is None) else label


def name(iso3: str) -> str:
    """The English name of an ISO 3166-1 alpha-3 code. Raises UserError for a code that is none."""
    if iso3 in NAMES:
        return NAMES[iso3]
    country = pycountry.countries.get(alpha_3=iso3)
    if country is None:
        raise UserError(f"{iso3!r} is no ISO 3166-1 alpha-3 country code")
    return str(getattr(country, "common_name", country.name))


@functools.cache
def in_language(label: str, language: str) -> str:
    """A country's name in another language ("de", "pt"), as ISO 3166 is translated; the label where there is none.

    A name that sorts by its second part ("Korea, Republik") is none that a sentence could have. Parts of countries keep
    their label.

    >>> in_language("Kenya", "de"), in_language("Scotland", "de")
    ('Kenia', 'Scotland')
    """
    place = find(label)
    country = pycountry.countries.get(alpha_3=place.iso3) if place and not place.part else None
    if country is None:
        return label
    words = gettext.translation("iso3166-1", pycountry.LOCALES_DIR, languages=[language], fallback=True)
    english = getattr(country, "common_name", country.name)
    found = words.gettext(english)
    return label if found == english or "," in found else found


def report_unknown(labels: Iterable[str]) -> list[str]:
    """A sentence for the user on labels that `find` does not know, with what may be meant; none if it knows all."""
    unknown = {label for label in labels if find(label) is None}
    told = some(f"{label}{_meant(label)}" for label in unknown)
    return [f"{len(unknown)} country name{'s' * (len(unknown) > 1)} not recognised: {told}"] if unknown else []


def _meant(label: str) -> str:
    """The country whose name is nearly this, in English or else in another language, as a question."""
    for names in (_names() | {part: PARTS[text] for part, text in _parts().items()}, _translated()):
        if close := difflib.get_close_matches(_fold(label), names, n=1, cutoff=_NEARLY):
            return f" (did you mean {_parts().get(close[0]) or name(names[close[0]])}?)"
    return ""


def _fold(text: str) -> str:
    """Text for comparison."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    words = re.sub(r"[.\-’'`_]", " ", plain.casefold().replace("&", " and ")).replace("ı", "i").split()
    return " ".join(words[1:] if words[:1] == ["the"] else words)


@functools.cache
def _names() -> dict[str, str]:
    """Folded name -> alpha-3."""
    found: dict[str, str] = {}
    for country in pycountry.countries:
        for field in ("name", "common_name", "official_name"):
            if text := getattr(country, field, None):
                found[_fold(text)] = country.alpha_3
    found |= {_fold(alias): iso3 for iso3, aliases in ALIASES.items() for alias in aliases}
    return found | {_fold(text): iso3 for iso3, text in NAMES.items()}


@functools.cache
def _translated() -> dict[str, str]:
    """Folded name in a language that is official somewhere -> alpha-3, without names that stand for two countries."""
    found: dict[str, set[str]] = {}
    official = {language for row in _facts().values() for language in row["languages"].split()}
    for locale in (path for path in Path(pycountry.LOCALES_DIR).iterdir() if path.name.split("_")[0] in official):
        texts = gettext.translation("iso3166-1", pycountry.LOCALES_DIR, languages=[locale.name], fallback=True)
        for country in pycountry.countries:
            for field in ("name", "common_name", "official_name"):
                if (text := getattr(country, field, None)) and (folded := _fold(texts.gettext(text))):
                    found.setdefault(folded, set()).add(country.alpha_3)
    return {text: iso3 for text, (iso3, *others) in found.items() if not others and len(text) > 1}


@functools.cache
def _codes() -> dict[str, str]:
    codes = {"XKX": "XKX", "XK": "XKX"} | _OTHER_CODES
    for country in pycountry.countries:
        codes |= dict.fromkeys((country.alpha_2, country.alpha_3, country.numeric), country.alpha_3)
    return codes


@functools.cache
def _parts() -> dict[str, str]:
    return {_fold(part): part for part in PARTS}


_TYPICAL_INCOME = 20_000  # near the world's mean: log income is then 0 for a typical country, as for an unknown one


def regions(label: str) -> frozenset[str]:
    """The country's continent (America is one) and its region after the United Nations; empty if it is not known."""
    row = _facts().get(code(label) or "", {})
    return frozenset({row.get("continent", ""), row.get("un_region", "")} - {""})


def features(label: str) -> dict[str, float]:
    """Covariates of a country: regions, memberships and languages as 1, and log income; {} if the name is unknown."""
    row = _facts().get(code(label) or "")
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
