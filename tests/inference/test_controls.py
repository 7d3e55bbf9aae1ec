"""Controls ask the same rows otherwise: what the model is shown, and where its answers go."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from byte_tokenizer import answer, byte_tokenizer
from survey_jax.common.errors import UserError
from survey_jax.config import Config, RunConfig
from survey_jax.inference import controls
from survey_jax.inference.controls import make_controls
from survey_jax.inputs.prompts import LETTERS, Prompter

OPTIONS = 5
TOKENIZER = byte_tokenizer([("Ġ", letter) for letter in LETTERS])
ROWS = [
    answer("abcde"[: 2 + i % 3], (("country", c),), f"Is thing {i} good?", question_id=f"q{i}")
    for i in range(3)
    for c in ("Kenya", "Peru")
]


class Predictor(SimpleNamespace):
    """Gives letter k the share that `by_letter` says, and remembers what it was shown."""

    def __call__(self, train: Any, prompts: Any, label: str, letters: np.ndarray, weights: str) -> np.ndarray:
        self.shown += [TOKENIZER.decode(p.tokens) for p in prompts]
        self.letters = letters
        result = np.zeros((len(prompts), OPTIONS))
        for row, prompt in zip(result, prompts, strict=True):
            shares = np.arange(1.0, len(prompt.order) + 1)
            row[list(prompt.order)] = shares / shares.sum()
        return result


def predict(name: str, rows=ROWS, max_tokens: int = 1000, **settings: Any) -> tuple[np.ndarray, Predictor]:
    config = Config(run=RunConfig(seed=3))
    for key, value in settings.items():
        setattr(config.data, key, value)
    [control] = make_controls([name], config, TOKENIZER)
    predictor = Predictor(options=OPTIONS, shown=[])
    asked = controls.make_prompts(control, rows, max_tokens, OPTIONS)
    return controls.predict(asked, predictor, None, name), predictor  # type: ignore[arg-type]


def by_position(row: Any, order: Any) -> np.ndarray:
    shares = np.arange(1.0, len(row.options) + 1)
    result = np.zeros(OPTIONS)
    result[list(order)] = shares / shares.sum()
    return result


def test_a_wrong_group_is_asked_and_answers_stay_with_the_row():
    _, predictor = predict("group_swapped")
    for row, text in zip(ROWS, predictor.shown, strict=True):
        [(_, mine)] = row.group
        other = {"Kenya": "Peru", "Peru": "Kenya"}[mine]
        assert row.question in text
        assert f"from {other}" in text
        assert f"from {mine}" not in text


def test_where_there_is_no_other_group_there_is_no_prediction():
    alone = [answer(group=(("country", "Kenya"),), question_id=str(i)) for i in range(2)]
    predictions, predictor = predict("group_swapped", rows=alone)
    assert np.isnan(predictions).all()
    assert predictor.shown == []


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("question_first", "\nIf someone had to select"),
        ("paper", "How would someone answer"),
        ("subpop_qa", "<s>Question: Is"),
    ],
)
def test_without_a_group(template: str, words: str):
    _, predictor = predict("no_group", template=template)
    for text in predictor.shown:
        assert words in text
        assert "Kenya" not in text


def option_order(row, order: str, seed: int = 0) -> tuple[int, ...]:
    return Prompter(TOKENIZER, "paper", order=order, seed=seed).option_order(row)


@pytest.mark.parametrize("name", ["reversed", "shuffled"])
def test_other_orders(name: str):
    predictions, _ = predict(name)
    for row, found in zip(ROWS, predictions, strict=True):
        np.testing.assert_allclose(found, by_position(row, option_order(row, name, 4)))


@pytest.mark.parametrize("order", ["reversed", "shuffled"])
def test_a_control_is_not_the_run_itself(order: str):
    _, plain = predict("orders:2", option_order=order)
    _, predictor = predict(order, option_order=order)
    assert predictor.shown != plain.shown[: len(ROWS)]


def test_orders_are_averaged():
    predictions, predictor = predict("orders:3")
    assert len(predictor.shown) == 3 * len(ROWS)
    for row, found in zip(ROWS, predictions, strict=True):
        orders = [option_order(row, "listed", 0), option_order(row, "shuffled", 4), option_order(row, "shuffled", 5)]
        np.testing.assert_allclose(found, np.mean([by_position(row, order) for order in orders], axis=0))


def test_another_template_has_its_own_letters():
    _, plain = predict("template:paper")
    _, spaced = predict("template:subpop_portray")
    assert all(text.startswith("<s>How would someone from") for text in plain.shown)
    assert all(text.startswith("<s>Answer the following question as if you lived in") for text in spaced.shown)
    assert set(plain.letters) & set(spaced.letters) == set()


def test_another_language():
    _, predictor = predict("language:zh")
    assert all("如果必须" in text for text in predictor.shown)


@pytest.mark.parametrize("own", ["", "en"])
def test_a_rows_own_language_changes_nothing(own: str):
    predictions, predictor = predict("language:en", language=own)
    assert np.isnan(predictions).all()
    assert predictor.shown == []


def test_a_prompt_that_is_too_long_has_no_prediction(capsys):
    long = answer(question="x" * 500, question_id="long")
    predictions, _ = predict("no_group", rows=[*ROWS, long], max_tokens=300)
    assert np.isnan(predictions).all(axis=1).tolist() == [False] * len(ROWS) + [True]
    assert "left out 1 of 7 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("swapped", "'swapped' is no control; choose from group_swapped, no_group"),
        ("orders:1", "'orders:1' is no control"),
        ("template:nope", "'nope' is unknown; choose from paper"),
        ("language:sw", "has no 'sw', only en, zh"),
        ("template:question_first", "is the run's own; choose another"),
    ],
)
def test_unknown_controls_are_refused(name: str, message: str):
    with pytest.raises(UserError, match=message):
        make_controls([name], Config(), TOKENIZER)
