"""Questions to predict: the forms that files may have give the same questions, and what is refused with which words."""

import dataclasses
import json

import pytest

from survey_jax.common.errors import UserError
from survey_jax.survey.prediction.questions import SURVEY, Question, read_questions
from survey_jax.survey.table import MAX_OPTIONS, parse_rows

LIGHTS = Question("lights", "Should street lights be off at night?", ("Yes", "No"), "nominal", "Town", "en")
BINS = Question("bins", "How clean are the streets?", ("Very", "Fair, not more", "2.50"), "ordinal", "Town", "en")

FORMS = {
    "cells.csv": """question_id,question,options,scale,survey,language
lights,Should street lights be off at night?,Yes; No,nominal,Town,en
bins,How clean are the streets?,"Very|Fair, not more|2.50",ordinal,Town,en
""",
    "columns.csv": """ID,Question,option_1,option_2,option_3,scale,survey,language
lights,Should street lights be off at night?,Yes,No,,nominal,Town,en
bins,How clean are the streets?,Very,"Fair, not more",2.50,ordinal,Town,en
""",
    "lines.jsonl": "\n".join(json.dumps(dataclasses.asdict(question)) for question in (LIGHTS, BINS)),
    "list.json": json.dumps([dataclasses.asdict(LIGHTS), dataclasses.asdict(BINS)], indent=2),
    "questions.yaml": """
survey: Town
language: en
questions:
  lights: {question: "Should street lights be off at night?", options: [Yes, No], scale: nominal}
  bins: {text: "How clean are the streets?", options: [Very, "Fair, not more", 2.50], scale: ordinal}
""",
    "codebook.yml": """
survey: Town
wave: 2024
language: en
weight: w
missing: [9]
attributes: {country: {value: Norway}}
breakdowns: [[country]]
questions:
  lights:
    column: q1
    text: Should street lights be off at night?
    options: {1: Yes, 2: No, 3: No}
    scale: nominal
    not_asked: [7]
  bins:
    column: q2
    text: How clean are the streets?
    options: {1: Very, 2: "Fair, not more", 3: 2.50}
    scale: ordinal
    missing: [8]
""",
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_questions(tmp_path, name):
    (tmp_path / name).write_text(FORMS[name], encoding="utf-8")
    assert read_questions(tmp_path / name) == [LIGHTS, BINS]


def test_the_least_a_file_can_say(tmp_path):
    (tmp_path / "a.csv").write_text("question,options\nIs it far?,Yes|No\nIs it new?,Yes|No\n", encoding="utf-8")
    first, second = read_questions(tmp_path / "a.csv")
    assert (first.question_id, second.question_id) == ("q1", "q2")
    assert second == Question("q2", "Is it new?", ("Yes", "No"), None, SURVEY, None)


def test_a_question_put_to_a_group_is_a_row_that_a_table_may_hold():
    answer = BINS.put_to((("age", "18-29"),))
    row = {name: value for name, value in vars(answer).items() if name != "extra"} | {"group": dict(answer.group)}
    assert parse_rows([row], "t") == [answer]
    assert answer.counts is None
    assert answer.probs == pytest.approx([1 / 3] * 3)


GOOD = {"question": "How full is the train?", "options": ["Full", "Half full", "Empty"]}
BAD = {
    "no options": ({"options": None}, "options are missing"),
    "one option": ({"options": ["Full"]}, "needs at least two options, has 1"),
    "equal options": ({"options": ["Full", "Empty", "FULL"]}, "two equal options: 'FULL'"),
    "too many options": (
        {"options": [str(i) for i in range(MAX_OPTIONS + 1)]},
        "has 27 options; at most 26 can have a letter",
    ),
    "a column that comes too late": ({"options": None, "option_27": "Full"}, "option 1 is missing"),
    "columns with a gap": ({"options": None, "option_1": "Full", "option_3": "Empty"}, "option 2 is missing"),
    "options twice": ({"option_1": "Full"}, "has options and option_1, option_2, ... too; keep one of them"),
    "empty option": ({"options": "Full||Empty"}, "option 2 is empty"),
    "true": ({"options": [True, False]}, "option 1 must be text, got True"),
    "number": ({"options": 3}, "options must be a list, got 3"),
    "list in a mapping": ({"options": {"1": ["Full"], "2": "Empty"}}, "option 1 must be text, got ['Full']"),
    "no separator": ({"options": "Full, Empty"}, "options in one cell must be separated by | or ;, got 'Full, Empty'"),
    "two separators": ({"options": "Full|Half; or so"}, "options hold both | and ;"),
    "empty question": ({"question": " "}, "question is empty"),
    "no question": ({"question": None}, "question is missing"),
    "two texts": ({"text": "How full?"}, "gives its question twice, once as text"),
    "draft": ({"question": "TODO: fullness"}, "a text is still to be written: 'TODO: fullness'"),
    "scale": ({"scale": "interval"}, 'scale must be "ordinal" or "nominal", got \'interval\''),
    "misspelled column": ({"langauge": "en"}, "unknown column 'langauge'; did you mean language?"),
    "unknown column": ({"remark": None}, "unknown column 'remark'; choose from question, options, question_id"),
    "counts": ({"counts": [1, 2, 3]}, "counts is a column of tables of answers, which are compared"),
    "probs": ({"Probs": None}, "Probs is a column of tables of answers, which are compared"),
    "duplicate id": ({"id": "q1"}, "the question_id 'q1' is also that of FILE row 1"),
    "same question": (
        {"question": "how heavy is THE bag", "options": ["light", "heavy"]},
        "the same question and options as FILE row 1",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_question_is_refused_with_file_row_and_reason(tmp_path, name):
    changes, reason = BAD[name]
    path = tmp_path / "a.jsonl"
    rows = [{"question": "How heavy is the bag?", "options": ["Heavy", "Light"]}, GOOD | changes]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_questions(path)
    assert str(error.value).startswith(f"{path} row 2: {reason.replace('FILE', str(path))}")
    assert "\n" not in str(error.value)


def test_a_column_of_counts_is_refused_whatever_its_cells_hold(tmp_path):
    (tmp_path / "a.csv").write_text("question,options,counts\nIs it far?,Yes|No,\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.csv row 2: counts is a column of tables .* `eval --data`"):
        read_questions(tmp_path / "a.csv")


def test_two_surveys_may_use_the_same_id(tmp_path):
    rows = [GOOD | {"id": "a", "survey": "North"}, GOOD | {"id": "a", "survey": "South", "question": "Is it late?"}]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    assert [q.survey for q in read_questions(tmp_path / "a.json")] == ["North", "South"]


FILES = {
    "a.xlsx": ("", ": questions are read from .csv, .jsonl, .json, .yaml, .yml files"),
    "empty.json": ("[]", ": has no questions"),
    "empty.yaml": ("survey: Town\nquestions: {}\n", ": has no questions"),
    "list.yaml": ("- text: How\n", ": needs `questions`, a mapping from ids to text and options"),
    "key.yaml": ("survy: Town\nquestions: {}\n", ": unknown key 'survy'; choose from survey, language, questions"),
    "text.yaml": ("questions: {q: How}\n", ": questions: q: must map text and options to their values"),
    "one.yaml": ("questions: {q: {text: How, options: [Well]}}\n", ": questions: q: needs at least two options"),
    "coded.yaml": ("questions: {q: {text: How, optoins: [a, b]}}\n", ": questions: q: unknown column 'optoins'; did"),
    "id.yaml": ("questions: {q: {question_id: r}}\n", ": questions: q: has its id as its name; leave question_id out"),
    "survey.yaml": (
        "survey: A\nquestions: {q: {Survey: B}}\n",
        ": questions: q: gives its survey twice, once as Survey",
    ),
    "twice.yaml": ("questions:\n  q: {text: How}\n  q: {text: Who}\n", " line 3: not YAML: 'q' is there twice"),
    "broken.yaml": ("questions:\n  q: [\n", " line 2: not YAML: "),
    "object.yaml": ("questions: !!python/object:os.system {}\n", " line 1: not YAML: a text without quotes holds tag:"),
    "colon.yaml": (
        "questions:\n  q:\n    text: What do you think: yes or no?\n    options: [a, b]\n",
        " line 3: not YAML: mapping values are not allowed here (text: What do you think: yes or no?); put a text that",
    ),
    "hash.yaml": ("questions: {q: {text: Is it #1?, options: [a, b]}}\n", " line 1: not YAML: "),
    "deep.yaml": ("questions: " + "[" * 5000, ": lists or mappings are nested too deeply"),
    "todo.yaml": ('questions: {q: {text: "TODO: x", options: [a, b]}}\n', ": questions: q: a text is still to be"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_no_use_is_refused_in_one_line(tmp_path, name):
    content, reason = FILES[name]
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_questions(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}{reason}")
    assert "\n" not in str(error.value)
