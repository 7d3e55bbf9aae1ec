"""Questions put to groups: known ones are recognised, weights are saved, and members are shown."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from survey_jax.common.errors import UserError
from survey_jax.survey.prediction.forecaster import Forecaster, read_stacks
from survey_jax.survey.splits.kinds import KNOWN, NEW, SAME_CELL
from survey_jax.survey.table import Answer

OPTIONS = ("Yes", "No")


def row(number: int, group: int, share: float, survey: str = "Town") -> Answer:
    text = f"Do you like number {number} of the {'new' if number % 2 else 'old'} houses?"
    return Answer(survey, f"q{number}", text, OPTIONS, (("area", f"A{group}"),), (share, 1 - share), n=500)


SHARES = np.random.default_rng(0).beta(3, 3, size=(40, 1)) * np.random.default_rng(1).uniform(0.8, 1, size=(40, 6))
TRAIN = [row(q, g, SHARES[q, g]) for q in range(20) for g in range(6)]
VALID = [row(q, g, SHARES[q, g]) for q in range(20, 40) for g in range(6)]


class Model:
    """A language model that knows the answers, and counts the questions that it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, answers: Sequence[Answer]) -> np.ndarray:
        self.asked += len(answers)
        return np.array([a.probs for a in answers])


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> epath.Path:
    return epath.Path(tmp_path_factory.mktemp("run") / "prediction" / "step_2.json")


@pytest.fixture(scope="module")
def forecaster(model: Model, saved: epath.Path) -> Forecaster:
    found = Forecaster(TRAIN, VALID, model, saved, {"training rows": "abc"})
    found.predict([row(99, 0, 0.5)])
    return found


def test_a_new_question_is_pooled_from_members_that_are_shown(forecaster: Forecaster) -> None:
    (found,) = forecaster.predict([row(99, 0, 0.9, "New")])
    assert found.kind == NEW
    assert found.shares.sum() == pytest.approx(1)
    assert found.members["model"][1] == pytest.approx([0.9, 0.1])
    assert found.shares[0] == pytest.approx(0.9, abs=0.05)  # the model is the truth, and has the weight
    low, high = found.interval(0.95)
    assert (low < found.shares).all()
    assert (found.shares < high).all()
    assert found.similar[0].question in TRAIN


def test_a_question_in_the_words_of_train_is_that_of_train(forecaster: Forecaster) -> None:
    again = Answer("New", "x", TRAIN[0].question.upper(), OPTIONS, (("area", "A77"),), (0.5, 0.5))
    same_cell = Answer("New", "x", TRAIN[0].question, OPTIONS, TRAIN[0].group, (0.5, 0.5))
    turned = Answer("New", "x", TRAIN[0].question, OPTIONS[::-1], (("area", "A77"),), (0.5, 0.5))
    assert [f.kind for f in forecaster.predict([again, same_cell, turned])] == [KNOWN, SAME_CELL, NEW]


def test_weights_are_fitted_once_and_saved(forecaster: Forecaster, model: Model, saved: epath.Path) -> None:
    before = model.asked
    (found,) = forecaster.predict([row(99, 0, 0.5)])
    assert model.asked == before + 1  # validation rows are not asked again
    second = Model()
    (again,) = Forecaster(TRAIN, VALID, second, saved, {"training rows": "abc"}).predict([row(99, 0, 0.5)])
    assert second.asked == 1
    np.testing.assert_array_equal(again.shares, found.shares)
    assert again.concentration == found.concentration
    assert json.loads(Path(saved).read_text())["key"] == {"training rows": "abc"}


def test_weights_of_other_rows_are_not_used(forecaster: Forecaster, saved: epath.Path, tmp_path: Path) -> None:
    copied = epath.Path(tmp_path / "step_2.json")
    copied.write_text(saved.read_text())
    third = Model()
    Forecaster(TRAIN, VALID, third, copied, {"training rows": "others"}).predict([row(99, 0, 0.5)])
    assert third.asked == 1 + len(VALID)


def test_nothing_asked_is_nothing_predicted(forecaster: Forecaster) -> None:
    assert forecaster.predict([]) == []


def test_the_model_is_not_asked_where_it_has_no_weight(forecaster: Forecaster, model: Model) -> None:
    known, new = dataclasses.replace(TRAIN[0], group=(("area", "A77"),)), row(99, 0, 0.9, "New")
    forecaster.predict([known])
    assert not forecaster.stacks[KNOWN].model_adds  # no validation rows are of this kind
    before, (alone,) = model.asked, forecaster.predict([new])
    both = forecaster.predict([known, new])
    assert model.asked == before + 2  # for the new question, twice
    np.testing.assert_allclose(both[1].shares, alone.shares)
    assert "model" not in both[0].members
    assert both[1].members["model"][1] == pytest.approx([0.9, 0.1])


@pytest.mark.parametrize("kinds", [None, [], {"new question": {}}, {"new question": {"rules": 1}}])
def test_stacks_of_another_version_are_named(tmp_path: Path, kinds: object) -> None:
    file = epath.Path(tmp_path / "step_2.json")
    file.write_text(json.dumps({"key": {"fit": "2"}, "kinds": kinds}))
    with pytest.raises(UserError, match=r"step_2\.json: kinds: .*: written by another version of survey_jax"):
        read_stacks(file, {"fit": "2"})
    assert read_stacks(file, {"fit": "3"}) == {}
