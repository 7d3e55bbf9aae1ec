"""Equal rights: the rule to beat is chosen on valid, all are calibrated alike, and columns change no verdict."""

import zlib

import numpy as np
import pytest

from survey_jax.common.errors import UserError
from survey_jax.survey.baselines.seen_groups import Filled
from survey_jax.survey.evaluation.calibration import with_temperature
from survey_jax.survey.evaluation.scoring import ON_THIS_SPLIT, ON_VALID, SplitScore
from survey_jax.survey.evaluation.systems import Systems
from survey_jax.survey.table import Answer

GROUPS = [f"country {i}" for i in range(12)]
EVERY = "valid", "unseen_question"
EVERY_FEW = "valid", "few_shot_group"


def answers(prefix: str, questions: int, seed: int) -> list[Answer]:
    rng = np.random.default_rng(seed)
    return [
        Answer("S", f"{prefix}{q}", f"Is {prefix} {q}?", ("a", "b", "c"), (("country", g),), tuple(probs), n=500)
        for q in range(questions)
        for g, probs in zip(GROUPS, rng.dirichlet(3 * rng.dirichlet([3, 2, 1]) + 2, len(GROUPS)), strict=True)
    ]


ROWS = {
    "train": answers("old", 10, 0),
    "valid": answers("valid", 40, 1),
    "unseen_question": answers("new", 30, 2),
}


def truth(rows: list[Answer], noise: float, seed: int) -> np.ndarray:
    """Predictions that are the truth and some noise, which a row has whatever rows are beside it."""

    def noise_of(answer: Answer) -> np.ndarray:
        return np.random.default_rng([seed, zlib.crc32(repr(answer.key).encode())]).dirichlet([1, 1, 1])

    return np.array([(1 - noise) * np.array(a.probs) + noise * noise_of(a) for a in rows])


def rule(good_on: str, temperature: float = 1.0):
    """A rule that is good on questions whose id begins so, and fair on others."""

    def predict(train: list[Answer], rows: list[Answer]) -> Filled:
        good = np.array([a.question_id.startswith(good_on) for a in rows])
        shares = np.where(good[:, None], truth(rows, 0.3, 3), truth(rows, 0.5, 3))
        return list(with_temperature(shares, temperature)), ["planted"] * len(rows)

    return predict


def uniform(train: list[Answer], rows: list[Answer]) -> Filled:
    return [np.full(3, 1 / 3)] * len(rows), ["uniform"] * len(rows)


RULES = {"uniform": uniform, "good_on_valid": rule("valid"), "good_on_new": rule("new")}


def score(systems: Systems, split: str = "unseen_question") -> SplitScore:
    every = np.ones(len(ROWS[split]), bool)
    return systems.score(split, split, every, lambda a: range(3), seed=0)


def model(noise: float = 0.4) -> dict[str, np.ndarray]:
    return {split: truth(ROWS[split], noise, 5) for split in EVERY}


def test_the_rule_to_beat_is_the_best_on_valid_not_on_the_scored_rows() -> None:
    found = score(Systems(ROWS, {"model": model()}, RULES)).summary
    assert (set(found["best_baseline"].values()), found["chosen_on"]) == ({"good_on_valid"}, ON_VALID)
    assert found["baselines"]["good_on_new"]["tv"]["value"] < found["baselines"]["good_on_valid"]["tv"]["value"]
    assert found["differences"]["good_on_valid"]["tv"]["comparisons"] == 1


def test_where_valid_lacks_such_rows_the_best_rule_on_the_split_itself_is_the_one_to_beat() -> None:
    """That favours the rule, not the model."""
    rows = ROWS | {"valid": answers("old", 10, 4)[:60]}
    predicted = {"model": {"valid": truth(rows["valid"], 0.4, 5), "unseen_question": model()["unseen_question"]}}
    found = score(Systems(rows, predicted, RULES)).summary
    assert (set(found["best_baseline"].values()), found["chosen_on"]) == ({"good_on_new"}, ON_THIS_SPLIT)
    assert found["calibration"]["model"].get("new question") is None


def test_a_handful_of_validation_questions_chooses_no_rule() -> None:
    rows = ROWS | {"valid": answers("valid", 14, 1)}
    predicted = {"model": {name: truth(rows[name], 0.4, 5) for name in EVERY}}
    found = score(Systems(rows, predicted, RULES)).summary
    assert (set(found["best_baseline"].values()), found["chosen_on"]) == ({"good_on_new"}, ON_THIS_SPLIT)


def test_a_model_that_no_calibration_changes_is_not_compared_with_itself() -> None:
    found = score(Systems(ROWS, {"model": model()}, RULES, calibrated=False)).summary
    assert "uncalibrated" not in found["differences"]


def test_groups_of_few_shot_splits_are_not_calibrated_as_well_known_ones() -> None:
    """A validation row drawn from train has a group with many answers there; a few-shot group has a handful."""
    train = answers("old", 20, 0)
    rows = {"train": [*train[:1], *train[12:]], "valid": train[1:12], "few_shot_group": train[1:12]}
    systems = Systems(rows, {"model": {name: truth(rows[name], 0.4, 5) for name in EVERY_FEW}}, RULES)
    found = {
        split: systems.score(split, split, np.ones(11, bool), lambda a: range(3), 0).summary for split in EVERY_FEW
    }
    assert set(found["valid"]["kinds"]) == {"known question and group"}
    assert set(found["few_shot_group"]["kinds"]) == {"known question and few answers of the group"}
    assert found["few_shot_group"]["chosen_on"] == ON_THIS_SPLIT


def test_rules_are_calibrated_as_the_model_is() -> None:
    """A rule and a model that predict the same score the same, however overconfident both are."""
    same = {split: np.array(rule("valid", 0.4)(ROWS["train"], ROWS[split])[0]) for split in EVERY}
    rules = {"uniform": uniform, "twin": rule("valid", 0.4)}
    found = score(Systems(ROWS, {"model": same, "zero_shot": same}, rules)).summary
    temperatures = {name: entry["new question"]["value"] for name, entry in found["calibration"].items()}
    assert temperatures["twin"] > 1.5
    assert temperatures["model"] == temperatures["zero_shot"] == pytest.approx(temperatures["twin"])
    for metric in ("tv", "kl"):
        assert found["baselines"]["twin"][metric]["value"] == pytest.approx(found["model"][metric]["value"])
        assert found["differences"]["twin"][metric]["value"] == pytest.approx(0, abs=1e-12)
    assert found["model"]["kl"]["value"] < found["raw"]["model"]["kl"]["value"] - 0.02
    assert found["raw"]["twin"]["kl"]["value"] == pytest.approx(found["raw"]["model"]["kl"]["value"])


def test_without_calibration_nobody_is_calibrated() -> None:
    found = score(Systems(ROWS, {"model": model()}, RULES, calibrated=False)).summary
    assert not any(found["calibration"].values())
    assert found["raw"]["model"]["kl"] == found["model"]["kl"]


def test_more_columns_change_no_verdict() -> None:
    few = score(Systems(ROWS, {"model": model()}, RULES)).summary["differences"]
    controls = {f"template:{i}": {"unseen_question": truth(ROWS["unseen_question"], 0.45, i)} for i in range(8)}
    many = score(Systems(ROWS, {"model": model(), **controls}, RULES)).summary["differences"]
    assert many["good_on_valid"] == few["good_on_valid"]
    assert many["template:0"]["tv"]["comparisons"] == len(controls) + 1  # with the uncalibrated model
    for by_metric in many.values():
        for entry in by_metric.values():
            assert (entry["p"] < 0.05) == (entry["low"] > 0 or entry["high"] < 0)


def test_a_model_whose_numbers_are_all_broken_is_refused() -> None:
    broken = {split: np.full((len(ROWS[split]), 3), np.nan) for split in EVERY}
    with pytest.raises(UserError, match="unseen_question: none of the model's 360 predictions is a distribution"):
        score(Systems(ROWS, {"model": broken}, RULES))
    half = {split: np.where(np.arange(len(p))[:, None] % 2, p, np.nan) for split, p in model().items()}
    found = score(Systems(ROWS, {"model": half}, RULES))
    assert len(found.summary["failures"]["model"]) == 180
    assert "180 of 360 predictions failed" in found.warnings[0]
