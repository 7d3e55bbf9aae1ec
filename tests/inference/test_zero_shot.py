"""The base model is asked in the template that suits it best on `valid`, of those that can be used at all."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from byte_tokenizer import answer, byte_tokenizer
from survey_jax.config import Config
from survey_jax.inference import zero_shot
from survey_jax.inputs.prompts import LETTERS, Prompter

OPTIONS = 3
TOKENIZER = byte_tokenizer([("Ġ", letter) for letter in LETTERS])
PROBS = (0.6, 0.3, 0.1)


def rows(prefix: str) -> list[Any]:
    return [
        answer("abc", (("country", c),), f"Is {prefix} {i} good?", f"{prefix}{i}", PROBS)
        for i in range(4)
        for c in ("Kenya", "Peru")
    ]


class Knows(SimpleNamespace):
    """A base model that answers as people do where it is asked in the template `good`, and otherwise the reverse."""

    def __call__(self, params: Any, prompts: Any, label: str, letters: np.ndarray, weights: str) -> np.ndarray:
        assert weights == "base"
        good = [Prompter(TOKENIZER, self.good).text(p.answer) == TOKENIZER.decode(p.tokens[1:]) for p in prompts]
        return np.array([PROBS if g else PROBS[::-1] for g in good])


def asked(good: str, seq_len: int = 1000, parts: tuple[str, ...] = ("valid", "new")):
    config = Config()
    config.batch.seq_len = seq_len
    made = {name: rows(name) for name in parts}
    predictor = Knows(options=OPTIONS, good=good)
    return zero_shot.prompts(config, (TOKENIZER, None), made, list(parts), predictor, None, "base")


@pytest.mark.parametrize("good", ["paper", "group_last", "subpop_bio"])
def test_the_best_template_on_valid_is_asked_everywhere(good: str, capsys) -> None:
    best, prompts = asked(good)
    assert best == good
    assert f"zero-shot uses {good}" in capsys.readouterr().out
    for made in prompts.values():
        [(shown, places, _)] = made.parts
        assert places == list(range(8))
        assert [TOKENIZER.decode(p.tokens[1:]) for p in shown] == [
            Prompter(TOKENIZER, good).text(p.answer) for p in shown
        ]


def test_a_template_whose_prompts_are_too_long_is_not_tried(capsys) -> None:
    longest = max(len(p.tokens) for p in asked("question_first")[1]["valid"].parts[0][0])
    best, _ = asked("subpop_qa", seq_len=longest)
    assert best != "subpop_qa"
    assert "template subpop_qa is not tried: " in capsys.readouterr().out


def test_without_validation_rows_it_is_the_run_s_own_template() -> None:
    assert asked("paper", parts=("new",))[0] == Config().data.template
