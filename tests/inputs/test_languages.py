"""Prompts in other languages than English: every template's words are whole, and a group can be read back from them."""

import re

import pytest

from byte_tokenizer import answer, byte_tokenizer
from survey_jax.inputs import personas
from survey_jax.inputs.prompts import LETTERS, TEMPLATES, Prompter
from survey_jax.survey.countries import find, in_language

OWN = ("paper", "question_first", "group_last")
GROUP = (("age", "18-29"), ("country", "Kenya"), ("home_language", "Twi"), ("sex", "female"))
KENYA = {
    "ar": "كينيا",
    "de": "Kenia",
    "es": "Kenia",
    "hi": "केन्या",
    "pt": "Quénia",
    "ru": "Кения",
    "fr": "Kenya",
    "it": "Kenya",
}


def test_each_template_has_every_language() -> None:
    assert {"en", "zh", "es", "fr", "de", "pt", "it", "ar", "ru", "hi"} == {"en", "zh", *personas.LANGUAGES}
    for name in OWN:
        assert set(TEMPLATES[name]) == {"en", "zh", *personas.LANGUAGES}


@pytest.mark.parametrize("language", sorted(personas.LANGUAGES))
def test_a_group_can_be_read_back(language: str) -> None:
    words = personas.someone_in(language, GROUP)
    said = re.fullmatch(r"[^(]+ \((.*)\)", words)
    parts = dict(part.split(": ") for part in re.split("[,،] ", said[1]))
    assert len(parts) == len(GROUP)
    assert set(parts.values()) == {"18-29", KENYA[language], "Twi", "female"}
    assert find("Kenya").iso3 == "KEN"
    assert "(" not in personas.someone_in(language, ())


@pytest.mark.parametrize("language", sorted(personas.LANGUAGES))
@pytest.mark.parametrize("template", OWN)
def test_a_prompt_holds_question_options_and_group_and_no_english(template: str, language: str) -> None:
    row = answer(("Ja", "Nein"), GROUP[:2], "Frage?", language=f"{language}-XX")
    prompter = Prompter(byte_tokenizer([("Ġ", letter) for letter in LETTERS]), template)
    text = prompter.text(row)
    for part in ("Frage?", "Ja", "Nein", "(A)", "(B)", KENYA[language], "18-29"):
        assert part in text
    assert text.endswith("(")
    assert not re.search(r"\b(answer|someone|from|the)\b", text)
    assert len(prompter.letters([text, prompter.text(answer())], 2)) == 2  # letters are the same tokens as in English


def test_countries_without_a_plain_name_there_keep_theirs() -> None:
    assert in_language("Scotland", "de") == "Scotland"
    assert in_language("Atlantis", "de") == "Atlantis"
    assert in_language("DR Congo", "es") == "DR Congo"  # "Congo, República Democrática del" sorts, and does not read
