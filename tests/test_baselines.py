"""Baselines against plain loops, and the known numbers of the World Values Survey."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from survey_jax.survey import baselines
from survey_jax.survey.metrics import row_metrics
from survey_jax.survey.splits import SplitConfig, split
from survey_jax.survey.table import Answer, read_table

WVS = Path(__file__).parents[2] / "shared" / "data" / "wvs7_country.jsonl.gz"


def answer(probs, question="Q1", country="A", options=None, scale=None, survey="S", **group) -> Answer:
    options = tuple(options or (f"o{i}" for i in range(len(probs))))
    key = tuple(sorted({"country": country, **group}.items()))
    return Answer(survey, question, f"{question}?", options, key, tuple(probs), scale=scale)


TRAIN = [
    answer([0.2, 0.8], "Q1", "A", ["Yes", "No"]),
    answer([0.4, 0.6], "Q1", "B", ["Yes", "No"]),
    answer([0.9, 0.1], "Q2", "A", ["Yes", "No"]),
    answer([0.5, 0.3, 0.2], "Q3", "A", ["Low", "Mid", "High"], "ordinal"),
    answer([0.1, 0.1, 0.8], "Q4", "A", ["Red", "Green", "Blue"], "nominal"),
]
FILLED = {
    "same question": (answer([1, 0], "Q1", "C", ["YES", " no "]), [0.3, 0.7]),
    # Questions count once each: (.3, .7) and (.9, .1), not three rows.
    "same options": (answer([1, 0], "Q9", "C", ["Yes", "No"]), [0.6, 0.4]),
    "same number of options and scale": (answer([1, 0, 0], "Q9", "C", scale="ordinal"), [0.5, 0.3, 0.2]),
    "same number of options": (answer([1, 0, 0], "Q9", "C"), [0.3, 0.2, 0.5]),
    "uniform": (answer([1, 0, 0, 0], "Q9", "C"), [0.25] * 4),
}


@pytest.mark.parametrize("source", FILLED)
def test_seen_group_mean_falls_back_step_by_step(source):
    row, expected = FILLED[source]
    predictions, sources = baselines.seen_group_mean(TRAIN, [row])
    np.testing.assert_allclose(predictions[0], expected)
    assert sources == [source]


def test_a_question_with_other_options_is_another_question():
    predictions, sources = baselines.seen_group_mean(TRAIN, [answer([1, 0], "Q1", "C", ["No", "Yes"])])
    assert sources == ["same number of options"]
    np.testing.assert_allclose(predictions[0], [0.6, 0.4])


def test_the_same_id_in_another_survey_is_another_question():
    row = answer([1, 0], "Q1", "C", ["Yes", "No"], survey="T")
    assert baselines.seen_group_mean(TRAIN, [row])[1] == ["same options"]


def test_seen_group_mean_of_a_full_table_equals_a_loop():
    rng = np.random.default_rng(0)
    rows = [answer(rng.dirichlet(np.ones(4)), f"Q{q}", f"C{c}") for q in range(20) for c in range(15)]
    train = [a for i, a in enumerate(rows) if i % 15 < 10]
    test = [a for i, a in enumerate(rows) if i % 15 >= 10]
    predictions, sources = baselines.seen_group_mean(train, test)
    assert set(sources) == {baselines.SAME_QUESTION}
    for row, prediction in zip(test, predictions, strict=True):
        same = [a.probs for a in train if a.question_id == row.question_id]
        np.testing.assert_allclose(prediction, [sum(p[k] for p in same) / len(same) for k in range(4)])


def test_uniform():
    rows = [answer([1, 0]), answer([1, 0, 0])]
    assert [list(p) for p in baselines.uniform(rows)] == [[1 / 2] * 2, [1 / 3] * 3]


def swapped_pairs(rows, seed=0):
    swapped = baselines.swap_groups(rows, seed)
    return {(a.survey, a.group): b.group for a, b in zip(rows, swapped, strict=True)}


def test_swap_is_a_derangement_within_the_survey():
    rows = [
        answer([1, 0], f"Q{q}", f"C{c}", survey=s) for s in "ST" for q in range(5) for c in range(7 if s == "S" else 3)
    ]
    pairs = swapped_pairs(rows)
    assert all(new != old for (_, old), new in pairs.items())
    for survey in "ST":
        old = {group for s, group in pairs if s == survey}
        assert {new for (s, _), new in pairs.items() if s == survey} == old
    swapped = baselines.swap_groups(rows, 0)
    assert [(a.key[:3], a.probs) for a in swapped] == [(a.key[:3], a.probs) for a in rows]


def test_swap_is_seeded():
    rows = [answer([1, 0], "Q1", f"C{c}") for c in range(20)]
    assert swapped_pairs(rows) == swapped_pairs(rows[::-1])
    assert swapped_pairs(rows) != swapped_pairs(rows, seed=1)


def test_swap_keeps_to_groups_of_the_same_kind_where_it_can():
    rows = [answer([1, 0], "Q1", c) for c in "ABC"] + [answer([1, 0], "Q1", "A", age=a) for a in ("old", "young")]
    rows.append(answer([1, 0], "Q1", "A", sex="f"))
    pairs = swapped_pairs(rows)
    kinds = {old: (dict(old).keys(), dict(new).keys()) for (_, old), new in pairs.items()}
    for old, (before, after) in kinds.items():
        assert before == after or "sex" in dict(old)
    assert pairs["S", rows[-1].group] != rows[-1].group


def test_a_lone_group_comes_back_unchanged():
    rows = [answer([1, 0], "Q1", c) for c in "AB"]
    rows += [answer([1, 0], q, "A", survey="T") for q in ("Q1", "Q2")]
    swapped = baselines.swap_groups(rows, 0)
    assert [a.group == b.group for a, b in zip(rows, swapped, strict=True)] == [False, False, True, True]


@pytest.mark.shared_data
def test_known_numbers_of_the_world_values_survey():
    if not WVS.is_file():
        pytest.skip(f"{WVS} is not here")
    names = ("unseen_question", "unseen_country", "unseen_both")
    rename = {f"test_{n}": n.replace("country", "group") for n in names} | {"train": "train", "valid": "valid"}
    rows = split(read_table(WVS), SplitConfig(column="split", rename=rename)).rows

    def score(name, predictions):
        return row_metrics(rows[name], predictions)["paper_1_minus_jsd"].mean()

    uniform = {name: score(name, baselines.uniform(rows[name])) for name in ("valid", "unseen_question")}
    assert uniform == pytest.approx({"valid": 0.664, "unseen_question": 0.741}, abs=5e-4)
    predictions, sources = baselines.seen_group_mean(rows["train"], rows["unseen_group"])
    assert Counter(sources)[baselines.SAME_QUESTION] == 599
    assert score("unseen_group", predictions) == pytest.approx(0.832, abs=5e-4)
    same = [i for i, s in enumerate(sources) if s == baselines.SAME_QUESTION]
    values = row_metrics(rows["unseen_group"], predictions)["paper_1_minus_jsd"][same]
    assert values.mean() == pytest.approx(0.865, abs=5e-4)
