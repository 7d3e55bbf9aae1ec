"""Baselines against plain loops, and the known numbers of the World Values Survey."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity

from places import ROOT, SHARED
from survey_jax.survey.baselines import by_group, by_text, paper, seen_groups
from survey_jax.survey.baselines.registry import BASELINES
from survey_jax.survey.evaluation.metrics import row_metrics
from survey_jax.survey.splits.split import SplitConfig, split
from survey_jax.survey.table import Answer, read_table

WVS = SHARED / "wvs7_country.jsonl.gz"


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
    predictions, sources = seen_groups.seen_group_mean(TRAIN, [row])
    np.testing.assert_allclose(predictions[0], expected)
    assert sources == [source]


def test_a_question_with_other_options_is_another_question():
    predictions, sources = seen_groups.seen_group_mean(TRAIN, [answer([1, 0], "Q1", "C", ["No", "Yes"])])
    assert sources == ["same number of options"]
    np.testing.assert_allclose(predictions[0], [0.6, 0.4])


def test_the_same_id_in_another_survey_is_another_question():
    row = answer([1, 0], "Q1", "C", ["Yes", "No"], survey="T")
    assert seen_groups.seen_group_mean(TRAIN, [row])[1] == ["same options"]


def test_seen_group_mean_of_a_full_table_equals_a_loop():
    rng = np.random.default_rng(0)
    rows = [answer(rng.dirichlet(np.ones(4)), f"Q{q}", f"C{c}") for q in range(20) for c in range(15)]
    train = [a for i, a in enumerate(rows) if i % 15 < 10]
    test = [a for i, a in enumerate(rows) if i % 15 >= 10]
    predictions, sources = seen_groups.seen_group_mean(train, test)
    assert set(sources) == {seen_groups.SAME_QUESTION}
    for row, prediction in zip(test, predictions, strict=True):
        same = [a.probs for a in train if a.question_id == row.question_id]
        np.testing.assert_allclose(prediction, [sum(p[k] for p in same) / len(same) for k in range(4)])


def test_uniform():
    rows = [answer([1, 0]), answer([1, 0, 0])]
    assert [list(p) for p in seen_groups.uniform(rows)] == [[1 / 2] * 2, [1 / 3] * 3]


def test_half_seen_mean_is_half_way_to_uniform():
    rows = [row for row, _ in FILLED.values()]
    mean, sources = seen_groups.seen_group_mean(TRAIN, rows)
    halved, same = seen_groups.half_seen_mean(TRAIN, rows)
    assert same == sources
    for half, whole in zip(halved, mean, strict=True):
        np.testing.assert_allclose(half - 1 / len(half), (whole - 1 / len(whole)) / 2, atol=1e-15)


def swapped_pairs(rows, seed=0):
    swapped = seen_groups.swap_groups(rows, seed)
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
    swapped = seen_groups.swap_groups(rows, 0)
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
    swapped = seen_groups.swap_groups(rows, 0)
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

    uniform = {name: score(name, seen_groups.uniform(rows[name])) for name in ("valid", "unseen_question")}
    assert uniform == pytest.approx({"valid": 0.664, "unseen_question": 0.741}, abs=5e-4)
    predictions, sources = seen_groups.seen_group_mean(rows["train"], rows["unseen_group"])
    assert Counter(sources)[seen_groups.SAME_QUESTION] == 599
    assert score("unseen_group", predictions) == pytest.approx(0.832, abs=5e-4)
    same = [i for i, s in enumerate(sources) if s == seen_groups.SAME_QUESTION]
    values = row_metrics(rows["unseen_group"], predictions)["paper_1_minus_jsd"][same]
    assert values.mean() == pytest.approx(0.865, abs=5e-4)


def table(groups, questions, seed=0, options=3, **extra):
    """Groups x questions with structure: two hidden traits move every answer."""
    rng = np.random.default_rng(seed)
    traits, loadings = rng.normal(size=(len(groups), 2)), rng.normal(size=(len(questions), 2, options))
    means = rng.normal(size=(len(questions), options))
    logits = means + np.einsum("gt,qtk->gqk", traits, loadings)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return [
        answer(shares[g, q].tolist(), question, group, **extra)
        for g, group in enumerate(groups)
        for q, question in enumerate(questions)
    ]


GROUPS = [f"G{i}" for i in range(24)]
ROWS = table(GROUPS, [f"Q{i}" for i in range(30)])
NEW = ("G1", "G2", "G3")  # of whom Q0 .. Q9 are known
FEW = [a for a in ROWS if dict(a.group)["country"] not in NEW or int(a.question_id[1:]) < 10]
ASKED = [a for a in ROWS if a not in FEW]


def tv(rows, predictions):
    return row_metrics(rows, predictions)["tv"].mean()


def naive_neighbours(target, k):
    """The k groups that differ least from the row's group on the ten known questions, averaged on its question."""
    shares = {(dict(a.group)["country"], a.question_id): np.array(a.probs) for a in FEW}
    mine = dict(target.group)["country"]

    def distance(other):
        return sum(((shares[mine, f"Q{q}"] - shares[other, f"Q{q}"]) ** 2).sum() for q in range(10))

    others = sorted((g for g in GROUPS if g not in NEW), key=distance)[:k]
    return np.mean([shares[g, target.question_id] for g in others], axis=0)


def test_nearest_groups_equal_a_loop():
    predictions, sources = by_group.nearest_groups(FEW, ASKED)
    assert set(sources) == {by_group.NEAREST}
    errors = {
        k: max(np.abs(naive_neighbours(a, k) - p).max() for a, p in zip(ASKED, predictions, strict=True))
        for k in range(1, 13)
    }
    assert min(errors.values()) < 2e-3  # the floor under shares
    mean = seen_groups.seen_group_mean(FEW, ASKED)[0]
    assert tv(ASKED, predictions) < 0.7 * tv(ASKED, mean)


def test_factor_model_recovers_what_two_traits_explain():
    predictions, sources = by_group.factor_model(FEW, ASKED)
    assert set(sources) == {by_group.FACTORS}
    assert tv(ASKED, predictions) < 0.6 * tv(ASKED, seen_groups.seen_group_mean(FEW, ASKED)[0])


def test_factor_model_equals_the_normal_conditional_mean():
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(np.ones(3), size=(12, 5)).reshape(12, 15)
    gaps = shares.copy()
    gaps[0, 6:] = np.nan
    columns = {q: slice(3 * q, 3 * q + 3) for q in range(5)}
    matrix = by_group.Matrix(gaps, columns, {(("country", str(g)),): g for g in range(12)})
    filled = by_group._impute_factors(matrix, [(0, q) for q in (2, 3, 4)], 3)
    # Tipping & Bishop's model covariance, and the textbook formula for a part of a normal vector given the rest.
    others = gaps[1:]
    values, vectors = np.linalg.eigh(np.cov(others.T))
    values, vectors = values[::-1], vectors[:, ::-1]
    noise = values[3:].sum() / 12
    loadings = vectors[:, :3] * np.sqrt(values[:3] - noise)
    covariance = loadings @ loadings.T + noise * np.eye(15)
    mean = others.mean(0)
    expected = mean[6:] + covariance[6:, :6] @ np.linalg.solve(covariance[:6, :6], gaps[0, :6] - mean[:6])
    np.testing.assert_allclose(np.concatenate(filled), expected, atol=1e-10)


def test_a_group_without_answers_falls_back_and_says_so():
    train = [a for a in FEW if dict(a.group)["country"] not in NEW]
    for baseline in (by_group.nearest_groups, by_group.factor_model):
        predictions, sources = baseline(train, ASKED)
        assert set(sources) == {"fallback: same question"}
        np.testing.assert_array_equal(predictions, seen_groups.seen_group_mean(train, ASKED)[0])


def test_an_earlier_wave_of_the_same_group_is_its_own_answer():
    row = answer([0.2, 0.8], "Q1", "A")
    earlier = [replace(row, wave="1"), answer([0.9, 0.1], "Q2", "A"), answer([0.5, 0.5], "Q1", "B")]
    predictions, sources = by_group.nearest_groups(earlier, [replace(row, wave="2")])
    assert sources == ["same question and group"]
    np.testing.assert_allclose(predictions[0], [0.2, 0.8])


COUNTRIES = ["Kenya", "Uganda", "Ghana", "Nigeria", "Senegal", "Peru", "Chile", "Bolivia", "Ecuador", "Uruguay"]


def test_covariates_know_a_countrys_region():
    africa = {"Kenya", "Uganda", "Ghana", "Nigeria", "Senegal", "Zambia"}

    def row(question, country):
        return answer([0.9, 0.1] if country in africa else [0.2, 0.8], question, country)

    train = [row(q, c) for q in ("Q1", "Q2") for c in COUNTRIES]
    predictions, sources = by_group.covariates(train, [row("Q1", "Zambia"), row("Q2", "Colombia")])
    assert sources == ["covariates", "covariates"]
    assert predictions[0][0] > 0.8
    assert predictions[1][0] < 0.3


def test_covariates_equal_scikit_learns_ridge():
    rng = np.random.default_rng(0)
    people = [(s, a) for s in ("f", "m") for a in ("young", "middle", "old")]
    train = [
        answer(rng.dirichlet([5, 5]).tolist(), q, "Peru", sex=s, age=a) for s, a in people[:-1] for q in ("Q1", "Q2")
    ]
    train = [replace(a, group=tuple(p for p in a.group if p[0] != "country")) for a in train]
    new = replace(train[0], group=(("age", "old"), ("sex", "m")))
    prediction = by_group.covariates(train, [new])[0][0]
    x = np.array([[a == "middle", a == "old", a == "young", s == "f", s == "m"] for s, a in people], float)
    y = np.array([[p for a in train if a.group == train[2 * i].group for p in a.probs] for i in range(5)])
    expected = [Ridge(alpha=alpha).fit(x[:-1], y).predict(x[-1:])[0, :2] for alpha in by_group._ALPHAS]
    assert min(np.abs(e - prediction).max() for e in expected) < 1e-6


def test_covariates_fall_back_on_groups_they_know_nothing_of():
    train = [answer([0.9, 0.1], "Q1", c) for c in COUNTRIES]
    _, sources = by_group.covariates(train, [answer([1, 0], "Q1", "Atlantis"), answer([1, 0], "Q9", "Zambia")])
    assert sources == ["fallback: same question", "fallback: same options"]


def test_seen_group_mean_by_n():
    train = [replace(answer([0.2, 0.8], "Q1", "A"), n=300.0), replace(answer([0.6, 0.4], "Q1", "B"), n=100.0)]
    train += [replace(answer([0.2, 0.8], "Q2", "A"), n=300.0, n_effective=100.0), answer([0.6, 0.4], "Q2", "B")]
    predictions, sources = by_group.seen_group_mean_by_n(train, [answer([1, 0], "Q1", "C"), answer([1, 0], "Q2", "C")])
    assert sources == ["same question, by n", "fallback: same question"]
    np.testing.assert_allclose(predictions, [[0.3, 0.7], [0.4, 0.6]])


def asked(text, probs, question, country="A"):
    return replace(answer(probs, question, country, ["Yes", "No"]), question=text)


TEXTS = [
    asked(f"Do you trust the {who}?", [0.8, 0.2], f"T{who}") for who in ("police", "army", "courts", "press", "church")
] + [asked(f"Is it justified to {what}?", [0.1, 0.9], f"J{what}") for what in ("steal", "lie", "cheat", "bribe", "beg")]


@pytest.mark.parametrize(
    ("baseline", "source"),
    [(by_text.text_neighbours, "similar questions"), (by_text.text_ridge, "regression on text")],
)
def test_text_baselines_tell_kinds_of_questions_apart(baseline, source):
    new = [asked("Do you trust the parliament?", [1, 0], "N1"), asked("Is it justified to evade taxes?", [1, 0], "N2")]
    predictions, sources = baseline(TEXTS, [*new, TEXTS[0], answer([1, 0, 0], "N3")])
    assert predictions[0][0] > 0.7
    assert predictions[1][0] < 0.2
    assert sources == [source, source, "same question", "fallback: uniform"]


def test_text_neighbours_are_weighted_by_cosine():
    rng = np.random.default_rng(0)
    train = [replace(a, probs=tuple(rng.dirichlet([1, 1]))) for a in TEXTS]
    new = asked("Do you trust the parliament?", [1, 0], "N1")
    prediction = by_text.text_neighbours(train, [new])[0][0]
    vectors = by_text.vectorizer([by_text.text_of(a) for a in train])
    similarity = cosine_similarity(*(vectors.transform([by_text.text_of(a) for a in r]) for r in ([new], train)))[0]
    order = np.argsort(-similarity)
    shares = np.array([a.probs for a in train])
    expected = [np.average(shares[order[:k]], axis=0, weights=similarity[order[:k]]) for k in (1, 2, 3, 5, 8)]
    assert min(np.abs(e - prediction).max() for e in expected) < 1e-6


def test_text_ridge_equals_scikit_learns_ridge_whatever_number_of_option_lists():
    rng = np.random.default_rng(0)
    train = [
        replace(a, question_id=f"{a.question_id}{i}", options=(f"Yes {i}", "No"), probs=tuple(rng.dirichlet([1, 1])))
        for i in range(4)
        for a in TEXTS
    ]
    new = asked("Do you trust the parliament?", [1, 0], "N1")
    prediction = by_text.text_ridge(train, [new])[0][0]
    texts = [by_text.text_of(a) for a in train]
    vectors, shares = by_text.vectorizer(texts), [a.probs for a in train]
    x, asks = vectors.transform(texts).toarray(), vectors.transform([by_text.text_of(new)]).toarray()
    expected = [Ridge(alpha=alpha).fit(x, shares).predict(asks)[0] for alpha in by_text._ALPHAS]
    assert min(np.abs(e - prediction).max() for e in expected) < 1e-6


def test_the_papers_baselines_as_distributions_and_as_single_answers():
    new = [answer([1, 0], "Q1", "C", ["Yes", "No"]), answer([0, 1, 0], "Q9", "C", scale="ordinal")]
    average, sources = paper.paper_average(TRAIN, new)
    np.testing.assert_allclose(average[0], [0.3, 0.7])
    np.testing.assert_allclose(average[1], [1 / 3] * 3)
    assert sources == ["same question", "uniform"]
    single, sources = paper.paper_average_answer(TRAIN, new)
    assert list(single[0]) == [0, 1]
    assert sorted(single[1]) == [0, 0, 1]
    assert sources == ["same question", "random option"]
    assert paper.paper_average_answer(TRAIN, new)[0][1].tolist() == single[1].tolist()


def test_paper_knn_copies_one_cell():
    new = [answer([1, 0], "Q1", "BB", ["Yes", "No"]), answer([1, 0, 0, 0], "Q9", "A")]
    predictions, sources = paper.paper_knn(TRAIN, new)
    assert list(predictions[0]) in ([0.2, 0.8], [0.4, 0.6])
    assert sources == [paper.NEAREST_CELL, "uniform"]
    twin = replace(TRAIN[3], question_id="Q3b")
    assert list(paper.paper_knn(TRAIN, [twin])[0][0]) == [0.5, 0.3, 0.2]
    assert list(paper.paper_knn_answer(TRAIN, [twin])[0][0]) == [1, 0, 0]


@pytest.fixture(scope="module")
def demo():
    rows = read_table(ROOT / "survey_jax" / "data" / "demo.jsonl.gz")
    size = Counter(a.survey for a in rows)
    rows = [a for a in rows if size[a.survey] < 1500]  # the two large surveys only cost time
    config = SplitConfig(
        unseen_question_fraction=0.1, unseen_groups={"country": ("Albania", "Argentina"), "age": ("18-29",)},
        valid_row_fraction=0.05, known_answers=5, max_rows=150,
    )  # fmt: skip
    return split(rows, config).rows


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_predicts_every_row_without_looking_at_its_answer(demo, name):
    rows = [a for split_name, part in demo.items() if split_name != "train" for a in part]
    hidden = [replace(a, probs=tuple(np.eye(len(a.probs))[0]), counts=None, n=None, n_effective=None) for a in rows]
    predictions, sources = BASELINES[name](demo["train"], hidden)
    assert len(predictions) == len(sources) == len(rows)
    row_metrics(rows, predictions)  # refuses what is not a distribution over the row's options
    for mine, other in zip(predictions, BASELINES[name](demo["train"], rows)[0], strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.shared_data
def test_papers_table_on_the_world_values_survey():
    """Its figures of Avg_Culture (Table 11: .360 C1-Q3, .518 C3-Q1, .368 C3-Q3) are those of one answer a row."""
    if not WVS.is_file():
        pytest.skip(f"{WVS} is not here")
    rows = split(read_table(WVS), SplitConfig(preset="paper")).rows

    def score(name, baseline):
        return row_metrics(rows[name], baseline(rows["train"], rows[name])[0])["paper_1_minus_jsd"].mean()

    single = {name: score(name, paper.paper_average_answer) for name in ("C1Q3", "C3Q1", "C3Q3")}
    assert single == pytest.approx({"C1Q3": 0.360, "C3Q1": 0.518, "C3Q3": 0.368}, abs=0.01)
    assert score("C3Q1", by_group.covariates) > score("C3Q1", seen_groups.seen_group_mean) + 0.02
