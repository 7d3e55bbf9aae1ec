"""Whatever columns and labels are called, a draft is YAML that is read back exactly, and stays on its lines."""

import contextlib
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from command import Prepare
from drafts import as_it_stands
from survey_jax.common.console import printable
from survey_jax.common.errors import UserError
from survey_jax.sources.microdata.codes import canonical
from survey_jax.sources.microdata.drafting import draft
from survey_jax.sources.microdata.drafting.seen import plain
from survey_jax.sources.microdata.drafting.yaml_text import code, comment, entry, quoted
from survey_jax.sources.microdata.readers import Column, Respondents, Variable
from survey_jax.sources.microdata.yaml_section import read_yaml

HARD = [
    *("q\n1", "q2: [", "co{x}", "- a", "? b", "# c", "%d", "@e", "`f`", "'g", '"h"', "!i", "&j", "*k", "|", ">", "---"),
    *("null", "~", "yes", "No", "1", "01", "1e5", "0x1F", "2024-01-01", ".5", ".inf", "=", "<<", "a\x1b[31mb", "\x85"),
    *(
        "\u2028x",
        "a\u202eb",
        "\ufeff",
        "\x7f",
        "😀",
        "نمی\u200cدانم",
        " lead",
        "trail ",
        "\tt",
        "x" * 1500,
        "a\\b",
        "TODO: x",
    ),
    "id\nsurvey: EVIL\nx",
]
TEXTS = st.one_of(st.sampled_from(HARD), st.text(min_size=1, max_size=20))


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6, unique=True))
@example(HARD)
def test_keys_and_values_are_read_back_by_any_reader(texts):
    lines = [entry("  ", quoted(text), quoted(text)) + comment(text) for text in texts]
    document = "a:\n" + "\n".join(lines) + f"\nb: [{', '.join(map(quoted, texts))}]\n"
    expected = {"a": {text: text for text in texts}, "b": texts}
    assert yaml.safe_load(document) == expected
    assert yaml.load(document, Loader=yaml.BaseLoader) == expected
    assert len(document.splitlines()) == 2 + sum(1 + (len(quoted(text)) > 1000) for text in texts)


@settings(deadline=None)
@given(st.one_of(st.integers().map(str), st.floats().map(str), st.sampled_from(["007", "1_000", "-0", "1.10", "12e3"])))
def test_codes_are_read_back_as_the_codes_that_they_are(text):
    value = yaml.safe_load(code(text))
    assert str(value) == text or canonical(value) == canonical(text)
    assert yaml.load(code(text), Loader=yaml.BaseLoader) == text


NAMES = st.one_of(st.sampled_from(HARD), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES, min_size=2, max_size=5, unique=True), st.lists(NAMES, min_size=2, max_size=5, unique=True))
@example(HARD[:20], HARD[3:9])
@example(HARD[20:], HARD[10:30])
def test_a_draft_is_read_back_to_the_names_and_labels_of_the_file(names, answers):
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder) / "own.parquet", Path(folder) / "own.yaml"
        columns = [answers * 4] * len(names)
        pa.parquet.write_table(pa.table([pa.array(c) for c in columns], names=names), path)
        draft.draft_codebook(path, output)
        text = output.read_text(encoding="utf-8")
        books = [read_yaml(output), yaml.safe_load(text)]
    for book in books:
        questions = book["questions"] or {}
        attributes = [a["column"] for a in book["attributes"].values() if "column" in a]
        assert set(questions) | set(attributes) <= set(names)
        left_out = [line for line in text.split("\n") if " is left out: " in line]
        assert len(questions) + len(attributes) + len(left_out) == len(names)
        for question in questions.values():
            written = {key: label.removeprefix("TODO: ") for key, label in question["options"].items()}
            assert {canonical(c) for c in written} <= {canonical(a) for a in answers}
        assert book["survey"] == "own"
    assert not [c for c in text if not c.isprintable() and c not in "\n\u200c\u200d"]


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.lists(TEXTS, min_size=3, max_size=3))
@example("How?\nquestions: {}", ["a: b", "# c", "- d\n  e"])
@example("\x1b]0;x\x07", ["<b>Yes</b>", "yes", "&nbsp;"])
def test_labels_are_read_back_as_the_file_has_them(label, answers):
    values = dict(zip("123", answers, strict=True))
    column = Column(["1", "2", "3"], np.arange(30) % 3)
    file = Respondents(Path("f.sav"), {"q": Variable(label, values)}, lambda names: iter([("q", column)]))
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(draft, "open_respondents", return_value=file):
        output = Path(folder) / "own.yaml"
        draft.draft_codebook(file.path, output)
        questions = read_yaml(output)["questions"]
    if not questions:  # fewer than two answers are left
        return
    question = questions["q"]
    assert question["text"].removeprefix("TODO: ") == plain(label).removeprefix("TODO: ") or (
        question["text"] == "TODO: the question as respondents read it" and not plain(label)
    )
    for answer, text in question["options"].items():
        is_label = plain(values[answer]) or f"what {answer} means"
        itself = () if plain(values[answer]) else (answer,)  # a number without a label, between two that have one
        label_or_code = (is_label, f"{is_label} ({answer})", is_label.removeprefix("TODO: "), *itself)
        assert text.removeprefix("TODO: ") in label_or_code


@pytest.fixture
def command(capfd, monkeypatch) -> Prepare:
    return Prepare(capfd, monkeypatch)


def test_questions_with_odd_names_are_counted(command, tmp_path):
    names = ["q\n1", "q2: [", "co{x}", " lead", "null", "q#3"]
    data, book, table = tmp_path / "own.parquet", tmp_path / "own.yaml", tmp_path / "own.jsonl"
    pa.parquet.write_table(pa.table([["a", "b"] * 30] * len(names) + [["m", "f"] * 30], names=[*names, "sex"]), data)
    assert command(input=data, draft_codebook=book)[0] == 0
    book.write_text(as_it_stands(book.read_text()))
    code, out, error = command(source="microdata", input=data, codebook=book, output=table)
    assert (code, error) == (0, "")
    assert out.startswith(f"kept {2 * len(names)} rows")


def test_control_characters_reach_no_terminal(command, tmp_path):
    code, _, error = command(input=tmp_path / "a\x1b[2J\u202e.csv", draft_codebook=tmp_path / "x.yaml")
    assert code == 2
    assert "a\\x1b[2J\\u202e.csv: no such file" in error
    assert "\x1b" not in error
    codebook = tmp_path / "book.yaml"
    codebook.write_text('"\\e[31mx": 1\n')
    code, _, error = command(source="microdata", input="x.csv", codebook=codebook, output=tmp_path / "t.jsonl")
    assert code == 2
    assert "\x1b" not in error
    assert printable("a\tb\nc ü 日 😀 نمی\u200cدانم") == "a\tb\nc ü 日 😀 نمی\u200cدانم"
    with contextlib.suppress(UnicodeEncodeError):
        printable("\ud800").encode()
        return
    pytest.fail("half a character reaches the terminal")


MISTAKES = {  # what a text is -> as people write it, and what the message says
    "a colon": ("What do you think: yes or no?", "line 5: not YAML: mapping values are not allowed here"),
    "an open quote": ('"Do you agree', "line 5: not YAML: found unexpected end of stream"),
    "an apostrophe in quotes": ("'It's fine'", "line 5: not YAML: expected <block end>, but found"),
    "an at sign": ("@home?", "line 5: not YAML: found character '@'"),
    "a star": ("*Now* or never?", "line 5: not YAML: expected alphabetic or numeric character"),
    "a mark": ("!important question", "line 5: not YAML: a text without quotes holds !important"),
    "a hash": ("Is it #1 or #2?", "line 5: not YAML: a text without quotes holds #, which begins a remark"),
    "brackets": ("[If asked] How much?", "line 5: not YAML: expected <block end>"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_people_write_without_quotes(name, tmp_path):
    text, message = MISTAKES[name]
    book = tmp_path / "book.yaml"
    book.write_text(f"survey: T\nattributes: {{sex: sex}}\nquestions:\n  q1:\n    text: {text}\n    options: [A, B]\n")
    with pytest.raises(UserError) as caught:
        read_yaml(book)
    assert f"{book} {message}" in str(caught.value)
    assert f"(text: {text})" in str(caught.value)
    assert "put a text that holds" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q: {text: Do you agree, or not?, options: {1: A}}", "line 1: not YAML: expected ',' or '}', but got '?'"),
        (
            "a: 1\n\tb: 2\n",
            "line 2: not YAML: found character '\\t' that cannot start any token (b: 2); indent with spaces",
        ),
        ("a: b\nc: " + "[" * 5000, "nested too deeply"),
        ("c: " + "{a: " * 5000, "nested too deeply"),
        ("a: 1\nb: x\x07y", "line 2: holds U+0007, which is no character of a text"),
        ("a: &b [*b]", "line 1: not YAML: found unconstructable recursive node"),
        ("a: 1\nb: [1, 2\nc: 3", "line 3: not YAML: expected ',' or ']', but got ':' (c: 3), in what begins on line 2"),
    ],
)
def test_other_mistakes_have_their_line(content, message, tmp_path):
    book = tmp_path / "book.yaml"
    book.write_text(content)
    with pytest.raises(UserError) as caught:
        read_yaml(book)
    assert message in str(caught.value)
