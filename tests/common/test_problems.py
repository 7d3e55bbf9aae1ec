"""All that is wrong with a file, told in one line."""

from pathlib import Path

import pytest

from survey_jax.common.errors import UserError
from survey_jax.common.problems import Problems

BOOK = Path("book.yaml")


def failing(message: str):
    def read() -> int:
        raise UserError(message)

    return read


def test_one_problem_is_told_as_it_was_and_several_by_line_with_their_number():
    problems = Problems(BOOK)
    problems.check()
    assert problems.tried(lambda: 7) == 7
    assert problems.tried(failing("book.yaml line 12: late")) is None
    with pytest.raises(UserError, match=r"^book\.yaml line 12: late$"):
        problems.check()
    problems.tried(failing("book.yaml line 3: early"))
    problems.tried(failing("book.yaml line 3: early"))  # found twice, told once
    outer = Problems(BOOK)
    outer.tried(problems.check)
    outer.add("book.yaml: whole")
    with pytest.raises(UserError, match=r"^book\.yaml: 3 things to mend: whole; line 3: early; line 12: late$"):
        outer.check()


def test_of_very_many_only_the_lines_are_told():
    problems = Problems(BOOK)
    for line in range(1, 24):
        problems.add(f"book.yaml line {line}: x{line}")
    with pytest.raises(UserError) as error:
        problems.check()
    assert str(error.value).startswith("book.yaml: 23 things to mend: line 1: x1; ")
    assert str(error.value).endswith("line 20: x20; and 3 more, on lines 21, 22, 23")
