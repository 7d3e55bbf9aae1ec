"""`data.drop_bad`: bad rows are left out of tables and said, or refuse them; never by default."""

import json
from collections import Counter

import pytest

from survey_jax.common.errors import UserError
from survey_jax.config import Config, DataConfig
from survey_jax.inputs.task import read_answers

ROW = {"survey": "S", "question": "How?", "options": ["Yes", "No"], "group": {"country": "Kenya"}, "counts": [3, 1]}


def test_bad_rows_are_said_and_counted_or_refused(tmp_path, capsys):
    many = {"options": [str(i) for i in range(36)], "counts": [1] * 36}
    rows = [ROW | {"question_id": f"q{i}"} | (many if i % 3 == 0 else {}) for i in range(10)]
    table = tmp_path / "t.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = Config(data=DataConfig(tables=(str(table),)))
    with pytest.raises(UserError) as error:
        read_answers(config)
    assert str(error.value) == (
        f"{table} row 1: has 36 options; at most 26 can have a letter (and 3 more bad rows). Mend them, or leave them "
        "out with config.data.drop_bad=True"
    )
    config.data.drop_bad = True
    bad: Counter[str] = Counter()
    assert [a.question_id for a in read_answers(config, bad)] == [f"q{i}" for i in range(10) if i % 3]
    reason = "has 36 options; at most 26 can have a letter"
    assert bad == {reason: 4}
    assert capsys.readouterr().out == f"left out 4 rows of {table} (data.drop_bad): {reason}\n"
