"""Which columns seem to be weights and attributes: by name, by label and by content."""

import numpy as np
import pandas as pd
import pytest

from survey_jax.sources.microdata.codes import canonical
from survey_jax.sources.microdata.drafting import guesses
from survey_jax.sources.microdata.drafting.seen import Seen, see
from survey_jax.sources.microdata.readers import Column, Variable

ROWS = 300


def column(name: str, data, label: str | None = None, **values: str) -> Seen:
    index, distinct = pd.factorize(np.asarray(data))
    labels = {code.removeprefix("c"): text for code, text in values.items()}
    return see(name, Variable(label=label, values=labels), Column([canonical(v) for v in distinct.tolist()], index))


def around_one(seed: int = 0) -> np.ndarray:
    weights = np.random.default_rng(seed).lognormal(0, 0.4, ROWS)
    return (weights / weights.mean()).round(4)


NAMES = """withinwt combinwt finalwt _LLCPWT PERWT hhwt rakewt S018 weight1500 pspwght anweight dweight PESO fexp ponde
ponderador gewicht poids W_WEIGHT wtssps w vikt waga вес 权重 peso_final factor_expansion v_wt weight"""


@pytest.mark.parametrize("name", NAMES.split())
@pytest.mark.parametrize("data", [around_one(), around_one() * 1234.5], ids=["mean 1", "expansion"])
def test_weights_by_name(name, data):
    found = guesses.weight(column(name, data))
    assert found
    assert found.sure
    assert "its name" in found.why


@pytest.mark.parametrize(
    "label",
    ["Design weight", "Factor de expansión", "Ponderación", "Gewichtung", "Poids de redressement", "加权", "Вес"],
)
def test_weights_by_label(label):
    found = guesses.weight(column("V250", around_one() * 3, label))
    assert found
    assert found.sure
    assert "its label" in found.why


def test_weights_with_decimal_commas_and_a_labelled_code():
    commas = [str(w).replace(".", ",") for w in around_one()]
    assert guesses.weight(column("gewicht", commas))
    assert guesses.weight(column("peso", around_one(), c9999="Sin dato"))


def test_a_weight_by_its_content_alone_is_for_the_user_to_say():
    found = guesses.weight(column("V250", around_one()))
    assert found
    assert not found.sure
    assert found.why == "a mean of 1.00"


@pytest.mark.parametrize(
    ("name", "data", "label"),
    [
        ("w_happy", [1, 2, 3, 4, 5] * 60, None),  # answers
        ("income", around_one() * 1000, None),
        ("V9", around_one() - 1, "A scale of attitudes"),
        ("V9", range(1, 301), None),
        ("newtown", ["a", "b"] * 150, None),
    ],
)
def test_other_columns_are_no_weights(name, data, label):
    assert guesses.weight(column(name, data, label)) is None


def test_what_bodies_weigh_is_for_the_user_to_say():
    kilos = np.random.default_rng(0).integers(45, 120, ROWS)
    for name, label in (("weight", None), ("peso", "Peso corporal"), ("WTKG", None), ("v1", "Weight in kg")):
        found = guesses.weight(column(name, kilos, label))
        assert found is None or not found.sure


def test_of_several_weights_the_likeliest_is_chosen_and_equals_are_left_to_the_user():
    def weight(name: str, data: np.ndarray) -> guesses.Weight:
        found = guesses.weight(column(name, data))
        assert found
        return found

    within, combined = weight("withinwt", around_one()), weight("combinwt", around_one(1))
    cells, expansion = weight("w_cell", np.tile([0.5, 1, 2], 100)), weight("fexp", around_one() * 800)
    assert guesses.choose([cells, within, expansion]) == ([within], [cells, expansion])
    assert guesses.choose([within, combined]) == ([within, combined], [])
    assert guesses.choose([]) == ([], [])


@pytest.mark.parametrize(
    ("attribute", "name", "label", "data"),
    [
        ("country", "pais", None, ["Perú", "Chile"]),
        ("country", "idenpa", "País", [604, 32]),
        ("sex", "sexo", "Sexo", [1, 2]),
        ("sex", "d10", "GENDER", [1, 2]),
        ("age", "edad", None, range(16, 90)),
        ("age", "q2", "Age of respondent", range(16, 90)),
        ("age", "F_AGECAT", None, [1, 2, 3, 4]),
        ("education", "p_education", None, [1, 2, 3]),
        ("religion", "F025", None, [0, 1, 2, 3]),
        (None, "sexual_health", None, [1, 2]),
        (None, "q1", "State of the economy", [1, 2, 3]),
        (None, "sexo", None, range(20)),  # more values than sexes
        (None, "q2", "Age at first marriage", range(16, 60)),
    ],
)
def test_attributes_by_name_label_and_content(attribute, name, label, data):
    seen = column(name, np.tile(np.asarray(data), 10), label)
    assert guesses.attribute_of(seen) == attribute


def test_a_word_for_an_attribute_among_others_is_a_hint():
    assert guesses.perhaps_attribute(column("q2", [1, 2, 3] * 9, "Age at first marriage")) == "age"
    assert guesses.perhaps_attribute(column("educacion_padre", [1, 2, 3] * 9)) == "education"
    assert guesses.perhaps_attribute(column("q3", [1, 2, 3] * 9, "Trust in the council")) is None
