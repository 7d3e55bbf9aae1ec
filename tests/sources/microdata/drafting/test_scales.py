"""Which options are in an order, by their labels: words of many languages, and rules that need none."""

import pytest

from survey_jax.common.yaml_texts import TODO
from survey_jax.sources.microdata.drafting.scales import Scale, guess


def guessed(labels: str, about: str = "q", **how: object) -> Scale:
    """Of labels between bars, with codes from 1."""
    return guess({str(i): text for i, text in enumerate(labels.split("|"), start=1)}, about, **how)


def texts(labels: str) -> list[str]:
    """The order that is proposed for labels that are codes themselves, as a text file has them, in the alphabet's."""
    found = guess({text: text for text in sorted(labels.split("|"))}, "q")
    assert found.kind == "ordinal"
    return list(found.codes)


ORDERED = [
    "Tend to agree|Neither|Tend to disagree",
    "Completely trust|Somewhat trust|Neither trust nor distrust|Somewhat distrust|Completely distrust",
    "Very difficult|Somewhat difficult|Not very difficult|Not at all difficult",
    "Too much|About the right amount|Too little",
    "Increase a lot|Increase a little|Stay the same|Decrease a little|Decrease a lot",
    "1. Very good|2. Good|3. Bad|4. Very bad",
    "Muy probable|Algo probable|Poco probable|Nada probable",
    "Muito importante|Importante|Pouco importante|Nada importante",
    "Très souvent|Souvent|Parfois|Rarement|Jamais",
    "Sehr wichtig|Eher wichtig|Eher unwichtig|Sehr unwichtig",
    "Molto meglio|Un po' meglio|Uguale|Un po' peggio|Molto peggio",
    "مهم جدا|مهم إلى حد ما|غير مهم|غير مهم على الإطلاق",
    "Безусловно да|Скорее да|Скорее нет|Безусловно нет",
    "非常重要|比较重要|不太重要|完全不重要",
    "बहुत अच्छा|अच्छा|औसत|बुरा|बहुत बुरा",
]


@pytest.mark.parametrize("labels", ORDERED)
def test_scales_by_words(labels):
    forth, back = guessed(labels), guessed("|".join(reversed(labels.split("|"))))
    assert (forth.kind, forth.codes) == (back.kind, back.codes) == ("ordinal", ())


@pytest.mark.parametrize("labels", [labels for labels in ORDERED if not labels.startswith("1.")])
def test_labels_that_are_codes_are_put_in_order(labels):
    given = labels.split("|")
    assert texts(labels) in (given, given[::-1])


def test_codes_out_of_order_are_put_in_order():
    assert guessed("Agree|Strongly agree|Strongly disagree|Disagree").codes == ("2", "1", "4", "3")


def test_without_a_language():
    assert guessed("zcela hip|spise hip|spise hop|zcela hop").kind == "ordinal"  # mirrored
    assert guessed("zcela hip|hip|nevim kam|hop|zcela hop").kind == "ordinal"
    assert guessed("fel|2|3|4|5|6|dol").kind == "ordinal"
    assert guessed("0 (fel)|1|2|3|4|5 (dol)").kind == "ordinal"
    assert guessed("nol|1-2 zib|3-5 zib|5 zib nad").kind == "ordinal"
    assert texts("10000-19999 zib|2000-9999 zib|0-1999 zib") == ["0-1999 zib", "2000-9999 zib", "10000-19999 zib"]


@pytest.mark.parametrize(
    ("labels", "about"),
    [
        ("Yes|No", ""),
        ("Sí|No", ""),
        ("Mentioned|Not mentioned", ""),
        ("Parks|Roads|Schools|Other", ""),
        ("Catholic|Protestant|Muslim", ""),
        ("Verdi|Azzurri|Rossi", "Per quale partito ha votato"),
    ],
)
def test_lists_without_an_order(labels, about):
    assert guessed(labels, about).kind == "nominal"
    assert guessed("Verdi|Azzurri|Rossi", is_list=True).kind == "nominal"


@pytest.mark.parametrize(
    "labels",
    [
        "Red|Green|Blue",
        "Region 1|Region 2|Region 3",
        "Agree|It depends|",
        "Yes|Perhaps|No",
        "Strongly agree|Agree|Disagree|Strongly disagree|It depends",
        "Build the bridge|Keep the ferry|Dig a tunnel",
        "hen|dva|tri",
        "|".join(f"{start} " + "not very much agree " * 100 for start in "abcdefghijklmnopqrstuvwxyz"),  # in no time
        f"{TODO}: what 1 means|{TODO}: what 2 means|Good",
    ],
)
def test_what_is_unclear_is_left_to_the_user(labels):
    assert guessed(labels).kind is None
