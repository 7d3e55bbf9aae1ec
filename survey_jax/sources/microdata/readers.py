"""Opens files of respondents by their kind: text, Parquet, SPSS, Stata and SAS; says how to convert the others."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from survey_jax.common.errors import UserError, some
from survey_jax.common.reading import check_file
from survey_jax.sources.microdata import encodings, packages
from survey_jax.sources.microdata.delimited import open_delimited
from survey_jax.sources.microdata.packages import open_package_file
from survey_jax.sources.microdata.respondents import (
    Column,
    Respondents,
    Variable,
    check_rows,
    from_arrow,
    positions,
    unreadable,
)

_TEXT = tuple(f"{suffix}{packed}" for suffix in (".csv", ".tsv", ".tab", ".txt") for packed in ("", ".gz"))
SUFFIXES = (*_TEXT, ".parquet", *packages.SUFFIXES)
_CONVERT = {  # what cannot be read -> what to do about it
    (".xlsx", ".xls", ".ods", ".numbers"): 'a spreadsheet: save the sheet as "CSV UTF-8"',
    (".rds", ".rda", ".rdata"): 'R\'s own format: in R, haven::write_sav(x, "x.sav") or '
    'arrow::write_parquet(x, "x.parquet")',
    (".feather", ".arrow"): 'in R, arrow::write_parquet(arrow::read_feather("x"), "x.parquet"); in Python, pandas',
    (".json", ".jsonl", ".xml", ".mdb", ".sqlite", ".db"): "no table of respondents: save it as CSV, or in R with "
    'arrow::write_parquet(x, "x.parquet")',
    (".dat", ".asc", ".sps", ".do"): "without names of columns: read it by its setup file, and in R save it with "
    'haven::write_sav(x, "x.sav"); if it has a header, let its name end in .txt',
    (".zip", ".gz", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"): "packed: unpack it, and give the file in it",
}


def open_respondents(path: Path, encoding: str | None = None, guess: bool = False) -> Respondents:
    """Opens a file by its suffix.

    Args:
      path: one of SUFFIXES.
      encoding: the encoding of its text; None: the one that the file declares, or UTF-8.
      guess: take the likeliest encoding where the file's text is in another one than it declares; without this, only
        files of statistics packages that declare none are guessed, and a note says so.

    Raises:
      UserError: no such file, another kind of file, damaged, no respondents, or text in another encoding.
    """
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise UserError(f"{path}: {_how_to_convert(path)}")
    check_file(path)
    if encoding is not None and not encodings.is_known(encoding):
        raise UserError(f"{path}: unknown encoding {encoding!r}")
    if suffix == ".parquet":
        return _open_parquet(path)
    if suffix in packages.SUFFIXES:
        return open_package_file(path, suffix, encoding, guess)
    return open_delimited(path, encoding, guess)


def _how_to_convert(path: Path) -> str:
    name = path.name.lower()
    advice = next((what for suffixes, what in _CONVERT.items() if name.endswith(suffixes)), None)
    expected = f"not a kind of file that can be read; expected one of {', '.join(SUFFIXES)}"
    return f"{expected}; this is {advice}" if advice else expected


def _open_parquet(path: Path) -> Respondents:
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    check_rows(path, file.metadata.num_rows)
    fields = {name: file.schema_arrow.field(i) for name, i in positions(path, file.schema_arrow.names).items()}

    def read(wanted: Sequence[str]) -> Iterator[tuple[str, Column]]:
        for name in wanted:
            stored = fields[name].name
            try:  # by name: Parquet gives columns a.b too where a is asked for
                yield name, from_arrow(file.read(columns=[stored]).column(stored).combine_chunks())
            except (pa.ArrowException, OSError) as error:
                raise unreadable(path, error) from error

    nested = [name for name, field in fields.items() if pa.types.is_nested(field.type)]
    notes = (f"not read, as its cells hold lists or objects: {some(map(repr, nested))}",) if nested else ()
    return Respondents(path, {name: Variable() for name in fields if name not in nested}, read, notes=notes)
