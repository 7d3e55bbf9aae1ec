"""What a file of respondents is to those who count it: variables, read a column at a time.

A column is a list of distinct codes (`codes.canonical`) and the code of each respondent: all that counting needs. SPSS,
Stata and SAS files also have labels and declare missing values.
"""

import dataclasses
import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from survey_jax.common.errors import UserError
from survey_jax.sources.microdata.codes import canonical, order
from survey_jax.survey.text import fold


class EncodingError(UserError):
    """A file's text is in another encoding than the one tried."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One variable.

    Attributes:
      codes: the distinct codes; a blank one is "".
      index: which code each respondent has; -1 is blank too.
    """

    codes: list[str]
    index: Int[np.ndarray, " respondents"]


@dataclasses.dataclass(frozen=True)
class Variable:
    """What a file says about a variable.

    Attributes:
      label: its description, which is rarely the question as asked.
      values: code -> label.
      scale: "ordinal" or "nominal", where an SPSS file says so.
      declared: ranges of codes that the file declares missing, both ends included; text codes in SPSS have no order.
      date: the file shows its numbers as dates or times.
      lettered: the codes .a to .z (and ._) are missing values, by the kind of file.
      asked: the label is the question as respondents read it.
    """

    label: str | None = None
    values: Mapping[str, str] = dataclasses.field(default_factory=dict)
    scale: str | None = None
    declared: tuple[tuple[Any, Any], ...] = ()
    lettered: bool = False
    date: bool = False
    asked: bool = False

    def declared_missing(self, code: str) -> bool:
        """Whether the file declares this code to be a missing value."""
        if self.lettered and len(code) == 2 and code[0] == ".":
            return True
        word, number, _ = order(code)
        return any(
            code == canonical(low) if isinstance(low, str) else not word and low <= number <= high
            for low, high in self.declared
        )


@dataclasses.dataclass(frozen=True)
class Respondents:
    """A file of respondents, opened.

    Attributes:
      variables: name -> what the file says about it, in file order.
      comma: decimal commas are to be expected.
      encoding: what a codebook must say of the file's text, since the file does not.
      guessed: `encoding` is a guess.
      notes: what to tell the user about how the file was read.
    """

    path: Path
    variables: Mapping[str, Variable]
    _read: Callable[[Sequence[str]], Iterator[tuple[str, Column]]]
    comma: bool = False
    encoding: str | None = None
    guessed: bool = False
    notes: tuple[str, ...] = ()

    def find(self, name: str) -> str | None:
        """The variable of this name; failing that, the only one that differs in letter case and blank space alone."""
        if name in self.variables:
            return name
        alike = [v for v in self.variables if fold(v) == fold(name)]
        return alike[0] if len(alike) == 1 else None

    def require(self, name: str, who: str) -> str:
        """As `find`, but raises UserError if there is none; the message begins with `who` needs the variable."""
        if found := self.find(name):
            return found
        close = difflib.get_close_matches(name, self.variables, n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else f"; it has {len(self.variables)} other columns"
        raise UserError(f"{who}: {self.path} has no column {name!r}{hint}")

    def columns(self, names: Sequence[str]) -> Iterator[tuple[str, Column]]:
        """The named variables, each once, in the order named; only they are read from the file."""
        return self._read(list(dict.fromkeys(names)))

    def column(self, name: str) -> Column:
        """One variable."""
        return next(self.columns([name]))[1]


def from_arrow(array: pa.Array) -> Column:
    """A column of an Arrow table, in one chunk."""
    if not isinstance(array, pa.DictionaryArray):
        array = array.dictionary_encode()
    index = array.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    values = array.dictionary
    narrow = pa.types.is_float16(values.type) or pa.types.is_float32(values.type)  # as NumPy's, which keep the width
    return Column(
        [canonical(v) for v in (values.to_numpy(zero_copy_only=False) if narrow else values.to_pylist())], index
    )


def positions(path: Path, names: Sequence[str]) -> dict[str, int]:
    """Name -> its place in the file; a column without a name cannot be asked for.

    Raises UserError where two columns have one name.
    """
    if twice := [name for name, n in Counter(names).items() if name and n > 1]:
        raise UserError(f"{path}: its header has two columns named {twice[0]!r}; rename one of them")
    return {name: place for place, name in enumerate(names) if name}


def check_rows(path: Path, rows: int) -> None:
    """Raises UserError where there are none."""
    if rows < 1:
        raise UserError(f"{path}: has no respondents")


def unreadable(path: Path, error: Exception) -> UserError:
    """The error of a library in one line."""
    cause = " ".join(str(error).split()) or type(error).__name__
    if any(word in cause.lower() for word in ("utf", "codec", "encoding", "invalid byte", "character set")):
        return EncodingError(f"{path}: cannot be read: {cause}; {say_encoding('cp1252')}")
    return UserError(f"{path}: cannot be read: {cause}")


def say_encoding(example: str) -> str:
    """What to do where a file's text is in another encoding than it says."""
    return f"if it is sound, say what its text is with `encoding:` in the codebook (--encoding: a draft), as {example}"
