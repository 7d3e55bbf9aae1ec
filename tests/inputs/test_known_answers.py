"""What prompts tell of a group's answers to other questions."""

import dataclasses

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from byte_tokenizer import answer, byte_tokenizer
from survey_jax.common.errors import UserError
from survey_jax.config import Config, DataConfig
from survey_jax.inputs.known_answers import KnownAnswers
from survey_jax.inputs.prompts import Prompter, in_words
from survey_jax.inputs.task import build_task
from survey_jax.survey.splits.config import SplitConfig
from survey_jax.survey.table import Answer, write_table

KENYA, PERU, CHAD = ((("country", name),) for name in ("Kenya", "Peru", "Chad"))
TEXTS = {
    "tea": "How often do you drink black tea at home?",
    "coffee": "How often do you drink coffee at home?",
    "bread": "How often do you eat bread?",
    "trust": "Can most people be trusted?",
    "army": "Would you fight for your country in a war?",
}


def rows(groups=(KENYA, PERU)) -> list[Answer]:
    rng = np.random.default_rng(0)
    return [
        answer(("Yes", "Now and then", "No"), group, text, name, rng.dirichlet(np.ones(3)))
        for name, text in TEXTS.items()
        for group in groups
    ]


def test_it_tells_the_groups_own_answers_to_the_most_similar_questions():
    new = answer(group=KENYA, question="How often do you drink green tea at home?", question_id="new")
    told = KnownAnswers(rows(), 3)(new)
    assert {a.group for a in told} == {KENYA}
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True).fit(TEXTS.values())
    similar = (vectors.transform([new.question]) @ vectors.transform(TEXTS.values()).T).toarray()[0]
    expected = sorted(zip(similar, TEXTS, strict=True))[-3:]  # the most similar one last, beside the answer
    assert [a.question_id for a in told] == [name for _, name in expected]
    assert told[-1].question_id == "tea"


def test_a_row_is_never_told_its_own_question_nor_one_that_nearly_repeats_it():
    repeated = dataclasses.replace(
        answer(group=KENYA, question=TEXTS["tea"] + "!", question_id="again", options=("1", "2")), survey="another"
    )
    known = KnownAnswers([*rows(), repeated], 10)
    for row in rows():
        told = known(row)
        others = {"again"} if row.group == KENYA and row.question_id != "tea" else set()
        assert {a.question_id for a in told} == set(TEXTS) - {row.question_id} | others
        assert {a.group for a in told} == {row.group}


def test_nothing_is_told_of_a_group_without_answers_nor_of_nobody():
    known = KnownAnswers(rows(), 3)
    assert known(answer(group=CHAD)) == []
    assert known(answer(group=())) == []


def test_of_some_training_rows_nothing_is_told():
    many = rows([(("country", f"country {i}"),) for i in range(200)])
    known = KnownAnswers(many, 2)
    told = np.array([len(known.training(row)) for row in many])
    assert set(told.tolist()) == {0, 2}
    assert 0.16 < np.mean(told == 0) < 0.24


def test_the_prompt_tells_them_before_the_group_is_asked():
    shares = answer(("Yes", "Now and then", "No"), KENYA, TEXTS["tea"], probs=(0.6, 0.397, 0.003))
    assert in_words(shares) == "How often do you drink black tea at home? Yes 60%, Now and then 40%"
    plain = Prompter(byte_tokenizer(), "question_first")
    text = plain.telling(lambda row: [shares]).text(answer())
    assert text == (
        "Is tea good?\n(A) Yes\n(B) No\n"
        "Other answers of someone from Kenya:\nHow often do you drink black tea at home? Yes 60%, Now and then 40%\n"
        "If someone from Kenya had to select one of the options, their answer would be ("
    )
    assert plain.telling(lambda row: []).text(answer()) == plain.text(answer())
    chinese = Prompter(byte_tokenizer(), "group_last", language="zh").telling(lambda row: [shares]).text(answer())
    assert "\n来自Kenya的人的其他回答：\nHow often" in chinese


def test_a_template_without_a_place_for_them_is_refused():
    with pytest.raises(UserError, match=r"'paper' has no place .* choose from question_first, group_last"):
        Prompter(byte_tokenizer(), "paper").telling(lambda row: [])


def test_a_task_tells_of_training_rows_alone(tmp_path):
    table = tmp_path / "table.jsonl"
    parts = {"coffee": "unseen_question", "army": "valid"}
    write_table([dataclasses.replace(a, extra={"part": parts.get(a.question_id, "train")}) for a in rows()], table)
    config = Config(data=DataConfig(tables=(str(table),), known_answers=4, splits=SplitConfig(column="part")))
    config.batch.seq_len = 2000
    task = build_task(config, Prompter(byte_tokenizer(), config.data.template))
    tokenizer, hidden = byte_tokenizer(), {"coffee", "army"}
    for prompts in task.prompts.values():
        for prompt in prompts:
            told = tokenizer.decode(prompt.tokens).partition("Other answers")[2]
            assert not any(TEXTS[name] in told for name in hidden | {prompt.answer.question_id})
    [asked] = [p for p in task.prompts["unseen_question"] if p.answer.group == KENYA]
    told = tokenizer.decode(asked.tokens).partition("Other answers")[2]
    assert all(TEXTS[name] in told for name in set(TEXTS) - hidden)
    assert task.prompter.text(asked.answer) == tokenizer.decode(asked.tokens, skip_special_tokens=True)
