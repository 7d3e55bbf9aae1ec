"""Properties of the survey table that hold for any rows: nothing malformed passes, and nothing valid changes."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from survey_jax.common.errors import UserError
from survey_jax.survey.table import MAX_OPTIONS, parse_rows, read_table, write_table

SETTINGS = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

texts = st.text(min_size=1, max_size=12).filter(lambda t: t.strip())
names = st.sampled_from(["country", "age", "sex", "région", "a b"])
shares = st.floats(0, 1e9, allow_nan=False)
positive = st.floats(1e-9, 1e9)


@st.composite
def valid_row(draw: st.DrawFn) -> dict[str, Any]:
    options = draw(st.lists(texts, min_size=2, max_size=6, unique_by=lambda t: t.strip().casefold()))
    counts = draw(st.lists(shares, min_size=len(options), max_size=len(options)).filter(lambda c: math.fsum(c) > 0))
    row: dict[str, Any] = {
        "survey": draw(texts),
        "question_id": draw(texts),
        "question": draw(texts),
        "options": options,
        "group": draw(st.dictionaries(names, texts | st.integers(0, 3000), min_size=1)),
    }
    if draw(st.booleans()):
        row["counts"] = counts
    else:
        row["probs"] = [c / math.fsum(counts) for c in counts]
    optional = {
        "n": positive,
        "n_effective": positive,
        "scale": st.sampled_from(["ordinal", "nominal"]),
        "wave": texts | st.integers(1, 9),
        "language": texts,
        "source": texts,
        "topic": texts,
        "item_nonresponse": st.floats(0, 1),
        "tags": st.lists(texts, max_size=2),
    }
    for name, strategy in optional.items():
        if draw(st.booleans()):
            row[name] = draw(strategy)
    return row


def key(row: dict[str, Any]) -> str:
    """What must not occur twice in a table, worked out from the raw row."""
    group = sorted((name, str(value).strip()) for name, value in row["group"].items())
    return repr([str(row.get(name)).strip() for name in ("survey", "wave", "question_id")] + group)


valid_rows = st.lists(valid_row(), min_size=1, max_size=6, unique_by=key)


def spoiled(row: dict[str, Any], how: str, draw: st.DrawFn) -> dict[str, Any]:
    """The row with one thing wrong."""
    row = copy.deepcopy(row)
    column = "counts" if "counts" in row else "probs"
    at = draw(st.integers(0, len(row[column]) - 1))
    if how == "share":
        bad = [-1, -1e-9, math.nan, math.inf, -math.inf, None, "1", True, [1], 10**400]
        row[column][at] = draw(st.sampled_from(bad))
    elif how == "length":
        row[column] = row[column][1:] if draw(st.booleans()) else [*row[column], 0.0]
    elif how == "sum":
        factor = draw(st.sampled_from([0.9, 1.1, 100]))
        row["probs"] = [p * factor for p in parse_rows([row], "t")[0].probs]
    elif how == "nobody":
        row.pop("probs", None)
        row["counts"] = [0] * len(row["options"])
    elif how == "no answers":
        del row[column]
    elif how == "option":
        row["options"][at] = draw(st.sampled_from(["", "  ", None, 3 + 4j, [], row["options"][at - 1].upper()]))
    elif how == "one option":
        row["options"], row[column] = row["options"][:1], [1.0]
    elif how == "many options":
        row["options"] = [str(i) for i in range(MAX_OPTIONS + 1)]
        row[column] = [1 / len(row["options"])] * len(row["options"])
    elif how == "list":
        row[draw(st.sampled_from(["options", column]))] = draw(st.sampled_from([None, "a, b", 3, {"a": 1}]))
    elif how == "text":
        bad = [None, "", " \t", True, math.nan, ["a"], {"a": "b"}, "\ud800"]
        row[draw(st.sampled_from(["survey", "question_id", "question"]))] = draw(st.sampled_from(bad))
    elif how == "optional text":
        row[draw(st.sampled_from(["wave", "language", "source"]))] = draw(st.sampled_from(["", True, ["a"], math.inf]))
    elif how == "number":
        bad = [0, -5, math.nan, math.inf, "5", True, [5], 10**400]
        row[draw(st.sampled_from(["n", "n_effective"]))] = draw(st.sampled_from(bad))
    elif how == "scale":
        row["scale"] = draw(st.sampled_from(["", "Ordinal", "interval", 1, True]))
    elif how == "group":
        bad = [None, {}, "Kenya", ["Kenya"], {"country": None}, {"country": ""}, {"": "Kenya"}, {"country": ["a"]}]
        row["group"] = draw(st.sampled_from([*bad, {"country": "a", " country": "b"}]))
    return row


WAYS = ["share", "length", "sum", "nobody", "no answers", "option", "one option", "many options", "list", "text",
        "optional text", "number", "scale", "group"]  # fmt: skip


@pytest.mark.parametrize("how", WAYS)
@settings(SETTINGS, max_examples=20)
@given(data=st.data())
def test_any_malformed_row_is_refused_with_its_number(how, data):
    rows = data.draw(valid_rows)
    number = data.draw(st.integers(0, len(rows) - 1))
    rows[number] = spoiled(rows[number], how, data.draw)
    with pytest.raises(UserError) as error:
        parse_rows(rows, "table.jsonl")
    assert str(error.value).startswith(f"table.jsonl row {number + 1}: ")


@SETTINGS
@given(rows=valid_rows, data=st.data())
def test_any_repeated_row_is_refused_with_both_numbers(rows, data):
    first = data.draw(st.integers(0, len(rows) - 1))
    with pytest.raises(UserError, match=rf"row {len(rows) + 1}: same question and group as row {first + 1} "):
        parse_rows([*rows, rows[first]], "t")


@SETTINGS
@given(value=st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2))
def test_what_is_no_object_is_refused(value):
    with pytest.raises(UserError, match=r"t row 1: a row must be an object"):
        parse_rows([value], "t")


@pytest.mark.parametrize("path", [("a.jsonl", "b.parquet"), ("a.parquet", "b.jsonl"), ("a.jsonl.gz", "b.parquet")])
@SETTINGS
@given(rows=valid_rows)
def test_a_valid_table_survives_both_formats_to_the_last_bit(tmp_path, path, rows):
    answers = parse_rows(rows, "made up")
    for name in path:
        write_table(answers, tmp_path / name)
        back = read_table(tmp_path / name)
        assert back == answers
        assert [dict(a.extra) for a in back] == [dict(a.extra) for a in answers]
        answers = back


@settings(SETTINGS, max_examples=15)
@given(rows=valid_rows)
def test_the_datasets_library_reads_both_formats_alike(tmp_path, rows):
    answers = parse_rows(rows, "made up")
    write_table(answers, tmp_path / "t.parquet")
    loaded = datasets.Dataset.from_parquet(
        str(tmp_path / "t.parquet"), cache_dir=str(tmp_path / "cache"), keep_in_memory=True
    )
    assert parse_rows(loaded.to_list(), "t") == answers


@SETTINGS
@given(rows=valid_rows, data=st.data())
def test_a_bad_line_of_a_file_is_told_by_its_number(tmp_path, rows, data):
    lines = [json.dumps(row) for row in rows]
    number = data.draw(st.integers(0, len(lines) - 1))
    lines[number] = data.draw(st.sampled_from(["", "not json", '{"survey": "S"', "3", "[]", '"text"']))
    lines.append(json.dumps(rows[number]))
    path = Path(tmp_path / "t.jsonl")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"(line|row) {number + 1}\b"):
        read_table(path)
