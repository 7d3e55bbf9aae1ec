"""Whatever a file of respondents holds: the draft that the program writes of it, it reads, and counts by it."""

import contextlib
import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pyreadstat
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from drafts import as_it_stands
from survey_jax.common.errors import UserError
from survey_jax.sources import Prepared, Request
from survey_jax.sources.microdata import own
from survey_jax.sources.microdata.codebook import CodebookQuestion, read_codebook
from survey_jax.sources.microdata.codes import canonical
from survey_jax.sources.microdata.drafting.draft import draft_codebook
from survey_jax.sources.microdata.readers import open_respondents
from survey_jax.sources.microdata.several import split
from survey_jax.sources.microdata.yaml_section import read_yaml
from survey_jax.survey.text import fold

SETTINGS = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
    ],  # a failure is told as it is found: to make it smaller is slow
)
ODD = st.sampled_from(
    [*"\n\t:#'\"{}[]&*!|>%@`-?,;=~\\", "\r\n", ": ", " #", "- ", "\x7f", "\x85", "\u2028", "\x01", "Ω", "中", "é", "’"]
)
PLAIN = st.text("abcdefghij ÄÖü0123456789", min_size=1, max_size=8)


def odd_text(encoding: str) -> st.SearchStrategy[str]:
    """Text with YAML's and CSV's own signs in it, as far as the encoding has them."""

    def fits(text: str) -> bool:
        try:
            return bool(text.strip()) and text.encode(encoding).decode(encoding) == text
        except UnicodeError:
            return False

    return st.lists(ODD | PLAIN, min_size=1, max_size=4).map("".join).filter(fits)


@st.composite
def columns(draw: st.DrawFn, encoding: str = "utf-8") -> dict[str, list[str]]:
    """Sexes, and one to three columns of a few texts each, in any order."""
    texts = odd_text(encoding)
    names = draw(st.lists(texts, min_size=1, max_size=3, unique_by=fold).filter(lambda n: "sex" not in map(fold, n)))
    size = draw(st.integers(20, 40))
    found = {"sex": draw(st.lists(st.sampled_from(["f", "m"]), min_size=size, max_size=size))}
    for name in names:
        answers = draw(st.lists(texts, min_size=2, max_size=5, unique_by=lambda t: fold(canonical(t))))
        found[name] = draw(st.lists(st.sampled_from([*answers, ""]), min_size=size, max_size=size))
    return found


def drafted(data: Path, folder: Path) -> tuple[tuple[CodebookQuestion, ...], Prepared] | None:
    """The questions of a draft that is taken as it stands, and what it counts; None if the file gives none."""
    draft = folder / "draft.yaml"
    draft.unlink(missing_ok=True)
    draft_codebook(data, draft)
    text = draft.read_text(encoding="utf-8")
    draft.write_text(as_it_stands(text), encoding="utf-8")
    sections = read_yaml(draft)
    if not sections["questions"]:  # every column is left out, with a reason
        return None
    codebook = read_codebook(draft)
    with contextlib.suppress(_NoRowIsLeft):
        return codebook.questions, load(Request(str(data), draft))
    return None


class _NoRowIsLeft(Exception):
    pass


def load(request: Request) -> Prepared:
    """As `own.load`; nobody may have answered anything."""
    try:
        return own.load(request)
    except UserError as error:
        if "no row is left" in str(error):
            raise _NoRowIsLeft from error
        raise


def check_counts(file: Sequence[Sequence[str]], names: Sequence[str], result: tuple | None) -> None:
    """Each question has the respondents of the file, counted by hand.

    Args:
      file: the columns' cells, as the program reads them.
    """
    if result is None:
        return
    questions, prepared = result
    cells = dict(zip(names, file, strict=True))
    sexes = next((cells[name] for name in names if fold(name) == "sex"), None)
    for question in questions:
        expected: Counter[tuple[str, str]] = Counter()
        for cell, sex in zip(cells[question.column], sexes, strict=True):
            code = canonical(cell)
            if question.chosen:
                codes = split(code, question.separator)
                if codes and not any(c in question.missing for c in codes):
                    expected[sex, question.options[question.chosen not in codes]] += 1
            elif code in question.codes:
                expected[sex, question.options[question.codes[code]]] += 1
        rows = [a for a in prepared.answers if a.question_id == question.id.strip() and list(dict(a.group)) == ["sex"]]
        counted = Counter(
            {(dict(a.group)["sex"], o): n for a in rows for o, n in zip(a.options, a.counts, strict=True) if n}
        )
        assert counted == expected


def columns_read(data: Path) -> tuple[list[str], list[list[str]]]:
    respondents = open_respondents(data, guess=True)
    found = dict(respondents.columns(list(respondents.variables)))
    return list(found), [[c.codes[i] if i >= 0 else "" for i in c.index] for c in found.values()]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252", "gb18030", "cp932", "cp1251"])
@SETTINGS
@given(data=st.data())
def test_text_files(tmp_path, encoding, data):
    written = data.draw(columns(encoding))
    delimiter = data.draw(st.sampled_from(",;\t|"))
    file = io.StringIO()
    quoting = data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    lines = csv.writer(
        file, delimiter=delimiter, lineterminator=data.draw(st.sampled_from(["\n", "\r\n"])), quoting=quoting
    )
    lines.writerows([list(written), *zip(*written.values(), strict=True)])
    path = tmp_path / "a.csv"
    path.write_bytes(file.getvalue().encode(encoding))
    names, cells = columns_read(path)
    guessed = open_respondents(path, guess=True).guessed
    assert len(names) == len(written)
    for name, read, (real, values) in zip(names, cells, written.items(), strict=True):
        assert guessed or name == real.strip()
        assert guessed or read == [canonical(value) for value in values]
        assert len(set(zip(read, values, strict=True))) == len(set(values))  # a wrong guess mixes nothing up
    check_counts(cells, names, drafted(path, tmp_path))


@SETTINGS
@given(written=columns())
def test_parquet_files(tmp_path, written):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table(written), path)
    names, cells = columns_read(path)
    assert names == list(written)
    assert cells == [[canonical(v) for v in values] for values in written.values()]
    check_counts(cells, names, drafted(path, tmp_path))


@SETTINGS
@given(data=st.data())
def test_labelled_files(tmp_path, data):
    texts = odd_text("utf-8").filter(lambda t: "\0" not in t)
    size = data.draw(st.integers(20, 40))
    codes = data.draw(st.lists(st.integers(-9, 99).map(float), min_size=2, max_size=6, unique=True))
    frame = pd.DataFrame({
        "sex": data.draw(st.lists(st.sampled_from(["f", "m"]), min_size=size, max_size=size)),
        "q1": data.draw(st.lists(st.sampled_from(codes), min_size=size, max_size=size)),
    })  # fmt: skip
    labels = {code: data.draw(texts) for code in codes if data.draw(st.booleans())}
    path = tmp_path / f"a{data.draw(st.sampled_from(['.sav', '.dta']))}"
    write = pyreadstat.write_sav if path.suffix == ".sav" else pyreadstat.write_dta
    if path.suffix == ".dta":
        frame["q1"] = frame["q1"].astype(int)
        labels = {int(code): label for code, label in labels.items()}
    write(frame, path, column_labels={"q1": data.draw(texts)}, variable_value_labels={"q1": labels} if labels else {})
    names, cells = columns_read(path)
    assert cells[1] == [canonical(code) for code in frame["q1"]]
    check_counts(cells, names, drafted(path, tmp_path))
