"""The prepare command: its flags, its drafts, its report, and one line with exit code 2 for whatever is wrong."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyreadstat
import pytest

from command import Prepare
from survey_jax.survey.table import read_table

CSV = """id,country,gender,age,q1,q2,w
11,Kenya,1,25,1,3,1.5
12,Kenya,2,35,2,9,0.5
13,Kenya,2,70,1,,1
14,Peru,1,44,2,1,1
15,Peru,1,999,3,2,2
16,Peru,2,19,8,2,1
"""
CODEBOOK = """survey: Test
weight: w
min_n: 1
missing: [8, 9]
attributes:
  country: country
  sex: {column: gender, recode: {1: male, 2: female}}
  age: {column: age, recode: [18-29, 30-44, 45-64, 65+], missing: [999]}
breakdowns: [[country], [country, sex]]
questions:
  q1:
    text: Do you agree?
    options: {1: Yes, 2: No, 3: Maybe}
    scale: nominal
  q2:
    text: How much?
    options: {1: low, 2: mid, 3: high}
    scale: ordinal
"""


@pytest.fixture
def command(capfd, monkeypatch) -> Prepare:
    return Prepare(capfd, monkeypatch)


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """Flags of a command that works."""
    (tmp_path / "data.csv").write_text(CSV)
    (tmp_path / "codebook.yaml").write_text(CODEBOOK)
    return {
        "source": "microdata",
        "input": tmp_path / "data.csv",
        "codebook": tmp_path / "codebook.yaml",
        "output": tmp_path / "out" / "table.parquet",
    }


def refused(command: Prepare, flags: dict[str, object], *switches: str) -> str:
    """The one line of a command that fails; it has written nothing."""
    output = Path(str(flags.get("output", ".")))
    code, _, error = command(*switches, **flags)
    assert code == 2, error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    if output.parent.name == "out" and output.parent.is_dir():
        assert not list(output.parent.iterdir())
    return error


def test_says_what_became_of_the_file(command, files):
    files["output"].parent.mkdir()
    code, out, error = command(**files)
    assert (code, error) == (0, "")
    assert out.splitlines() == [
        "kept 10 rows: 2 questions, 6 groups, 1 survey",
        "dropped 2 rows",
        "  2 nobody in the group gave an answer",
        "repaired 0 rows",
        "note: in no breakdown, so not used: age",
        "weights (w): mean 1.17, from 0.5 to 2, design effect 1.16 (Kish); of 6 respondents 0.0% have weight 0 and "
        "0.0% have none",
        "answers of all respondents of 2 countries together, weighted, to hold against published ones:",
        "  q1: Do you agree?",
        "    Yes 42%, No 25%, Maybe 33% (n 5, no answer 14.3%)",
        "  q2: How much?",
        "    low 18%, mid 55%, high 27% (n 4, no answer 8.3%)",
        "rows in words:",
        "  “Do you agree?” Of 100 people like “someone from Kenya”, 83 say “Yes”, 17 say “No”.",
        "  “How much?” Of 100 people like “someone from Kenya”, 100 say “high”.",
        "  “How much?” Of 100 people like “someone from Peru, who is female”, 100 say “mid”.",
        "prompts call the groups:",
        "  country (2 groups): someone from Kenya",
        "  country+sex (4 groups): someone from Kenya, who is male",
        f"table: {files['output']}",
    ]
    rows = read_table(files["output"])
    assert {a.source for a in rows} == {"data.csv"}
    kenya = next(a for a in rows if a.question_id == "q2" and a.group == (("country", "Kenya"),))
    assert (kenya.counts, kenya.n, kenya.scale) == ((0, 0, 1.5), 1, "ordinal")
    assert kenya.extra == {"item_nonresponse": 0.25, "country_iso3": "KEN"}


def test_toplines_and_what_weights_do_are_those_of_all_respondents(command, files):
    """Against pandas; people in no group count too, and people without a weight nowhere."""
    people = pd.DataFrame({
        "country": ["Kenya", "Peru", None] * 40,
        "gender": [1, 2] * 60,
        "age": [20 + i % 60 for i in range(120)],
        "q1": [1, 2, 3, 8, 1] * 24,
        "q2": [1, 2, 3, None] * 30,
        "w": [0.2 + (i * 7 % 23) / 10 for i in range(110)] + [0.0] * 6 + [None] * 4,
    })  # fmt: skip
    people.to_csv(files["input"], index=False)
    files["output"].parent.mkdir()
    out = command(**files)[1]
    w = people.w[people.w > 0]
    effect = len(w) * (w**2).sum() / w.sum() ** 2
    assert f"mean {w.mean():.3g}, from {w.min():.3g} to {w.max():.3g}, design effect {effect:.2f} (Kish)" in out
    assert "of 120 respondents 5.0% have weight 0 and 3.3% have none" in out
    asked = people[people.w > 0]
    valid = asked[asked.q1 != 8]
    shares = valid.groupby("q1").w.sum() / valid.w.sum()
    missing = 1 - valid.w.sum() / asked.w.sum()
    yes, no, maybe = (f"{100 * shares[code]:.0f}%" for code in (1, 2, 3))
    assert f"    Yes {yes}, No {no}, Maybe {maybe} (n {len(valid)}, no answer {missing:.1%})\n" in out
    assert "weights: none; each of 120 respondents counts 1\n" in command("unweighted", **files)[1]


@pytest.mark.parametrize("table", [False, True])
def test_one_question_by_group(command, files, table):
    """From respondents it begins with all of them; from a table it has only groups. Nothing is written."""
    files["output"].parent.mkdir()
    if table:
        assert command(**files)[0] == 0
        code, out, error = command(source="table", input=files["output"], show="Q1")
    else:
        code, out, error = command(show="q1", **{k: v for k, v in files.items() if k != "output"})
    assert len(list(files["output"].parent.iterdir())) == table
    assert (code, error) == (0, "")
    title, *options, head = out.splitlines()[:5]
    assert (title, options) == ("q1 (Test; scale nominal): Do you agree?", ["  A  Yes", "  B  No", "  C  Maybe"])
    assert head.split() == ["group", "n", "missing", "A", "B", "C"]
    rows = {" ".join(line.split()[:-6]): line.split()[-6:] for line in out.splitlines()[5:] if line.strip()}
    assert list(rows)[: 3 - table] == ["all respondents", "Kenya", "Peru"][table:]
    *figures, bar = rows["Kenya"]
    assert figures == ["3", "0.0%", "83%", "17%", "0%"]
    assert set(bar) == {"A", "B"}
    assert abs(bar.count("A") / len(bar) - 2.5 / 3) < 1 / len(bar)
    assert table or rows["all respondents"][:5] == ["5", "14.3%", "42%", "25%", "33%"]


def test_in_a_narrow_terminal_a_question_keeps_its_bars(command, files, monkeypatch):
    monkeypatch.setenv("COLUMNS", "44")
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    out = command(show="q1", **{k: v for k, v in files.items() if k != "output"})[1]
    assert "42%" not in out
    assert "AAA" in out
    assert max(map(len, re.sub("\x1b[^m]*m", "", out).splitlines())) <= 44


def test_a_question_that_is_not_there(command, files):
    files["output"].parent.mkdir()
    assert "--show=q11: no such question among 2; did you mean q1?" in refused(command, files | {"show": "q11"})
    assert "--show=zzz: no such question among 2; the first are q1, q2" in refused(command, files | {"show": "zzz"})


def test_the_table_as_a_page(command, files, tmp_path):
    files["codebook"].write_text(CODEBOOK.replace("Do you agree?", '"Do <script>alert(1)</script> you agree?"'))
    page = tmp_path / "table.html"
    given = {k: v for k, v in files.items() if k != "output"} | {"page": page}
    code, out, _ = command(**given)
    assert code == 0
    assert out.endswith(f"page: {page}\n")
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "Do &lt;script&gt;alert(1)&lt;/script&gt; you agree?" in text
    assert "--page=" in refused(command, given | {"page": tmp_path / "nowhere" / "table.html"})


def test_breakdowns_and_format_of_the_output(command, files, tmp_path):
    files |= {"output": tmp_path / "table.jsonl.gz", "breakdowns": "sex,age+country"}
    assert command(**files)[0] == 0
    groups = {tuple(dict(a.group)) for a in read_table(files["output"])}
    assert groups == {("sex",), ("age", "country")}


def test_an_output_that_exists_is_replaced_in_one_piece_or_left_alone(command, files):
    files["output"].parent.mkdir()
    files["output"].write_bytes(b"precious")
    assert command(**files | {"codebook": "nowhere.yaml"})[0] == 2
    assert files["output"].read_bytes() == b"precious"
    assert command(**files)[0] == 0
    assert len(read_table(files["output"])) == 10
    assert [p.name for p in files["output"].parent.iterdir()] == ["table.parquet"]


def test_what_the_codebook_says_of_the_survey_is_in_every_row(command, files):
    about = "about: {sponsor: The city, fieldwork: 2024}\n"
    files["codebook"].write_text(CODEBOOK.replace("weight: w\n", f"weight: w\n{about}"))
    files["output"].parent.mkdir()
    assert command(**files)[0] == 0
    rows = read_table(files["output"])
    assert rows
    assert all(a.extra["about"] == {"sponsor": "The city", "fieldwork": "2024"} for a in rows)
    files["codebook"].write_text(CODEBOOK)
    assert command(**files)[0] == 0
    assert not any("about" in a.extra for a in read_table(files["output"]))


FLAGS: dict[str, tuple[dict, str]] = {
    "no input": ({"input": None}, "--input: say which file to read"),
    "no source": ({"source": None}, "--source: say what the file is; choose from microdata"),
    "unknown source": ({"source": "census"}, "--source=census: unknown; choose from microdata"),
    "no output": ({"output": None}, "--output: say where the table goes"),
    "output of another kind": ({"output": "table.xlsx"}, "table.xlsx: tables are written as .jsonl"),
    "no such folder": ({"output": "nowhere/table.parquet"}, "nowhere: no such folder"),
    "no codebook": ({"codebook": None}, "--codebook: microdata need one; --draft_codebook=FILE.yaml drafts it"),
    "no such codebook": ({"codebook": "no.yaml"}, "no.yaml: no such file"),
    "no such input": ({"input": "no.csv"}, "no.csv: no such file"),
    "input of another kind": ({"input": "data.xlsx"}, "data.xlsx: not a kind of file that can be read; expected"),
    "unknown attribute": ({"breakdowns": "country+income"}, "--breakdowns: unknown attribute 'income'; choose from"),
    "breakdown twice": ({"breakdowns": "country+sex,sex+country"}, "the breakdown sex+country is there twice"),
    "min_n of 0": ({"min_n": 0}, "--min_n"),
    "nothing left": ({"min_n": 7}, "no row is left: fewer than 7 respondents in the group answered (min_n): 10"),
}


@pytest.mark.parametrize("name", FLAGS)
def test_bad_flags(command, files, name):
    changes, reason = FLAGS[name]
    files["output"].parent.mkdir()
    flags = {k: v for k, v in (files | changes).items() if v is not None}
    assert reason in refused(command, flags)


CODEBOOKS: dict[str, tuple[str, str, str]] = {
    "not YAML": ("survey: Test", "survey: [Test", "line 2: not YAML: expected ',' or ']'"),
    "no mapping": (CODEBOOK, "- a\n", "not a codebook; expected keys such as survey"),
    "unknown key": ("weight: w", "wieght: w", "line 2: unknown key 'wieght'; did you mean 'weight'?"),
    "unknown key of a question": ("    scale: nominal", "    skale: nominal", "line 14: questions: q1: unknown key"),
    "unknown key of an attribute": ("recode: {1: male", "code: {1: male", "line 7: attributes: sex: unknown key"),
    "key twice": ("weight: w", "survey: Other", "line 2: not YAML: 'survey' is there twice"),
    "no survey": ("survey: Test\n", "", "line 1: survey is missing"),
    "no questions": (CODEBOOK[CODEBOOK.index("questions:") :], "", "line 1: questions must map names to entries"),
    "text to be written": ("How much?", "TODO", "line 16: questions: q2: text is still to be written"),
    "option to be written": ("3: high", "3: TODO", "line 17: questions: q2: options: 3 is still to be written: 'TODO'"),
    "no text": ("    text: How much?\n", "", "line 15: questions: q2: text is missing"),
    "no options": ("    options: {1: low, 2: mid, 3: high}\n", "", "questions: q2: options must map codes to texts"),
    "one option": ("{1: low, 2: mid, 3: high}", "{1: low}", "q2: needs at least two options, has 1"),
    "equal options": ("2: mid", "2: LOW", "q2: two equal options: 'LOW'"),
    "code twice": ("2: mid", "01: mid", "line 17: questions: q2: options: the code '01' is empty"),
    "empty option": ("2: mid", "2: ''", "line 17: questions: q2: options: 2 must be a text that is not empty"),
    "unknown scale": ("scale: ordinal", "scale: ratio", 'q2: scale must be "ordinal" or "nominal", got'),
    "option is missing": ("3: high", "9: high", "q2: the code 9 is an option and also in the list `missing`"),
    "min_n of no number": ("min_n: 1", "min_n: few", "line 3: min_n must be a whole number of at least 1 and at"),
    "min_n of 5,000 digits": ("min_n: 1", f"min_n: {'1' * 5000}", "line 3: min_n must be a whole number of at least 1"),
    "deep nesting": ("missing: [8, 9]", f"missing: {'[' * 5000}{']' * 5000}", "lists or mappings are nested too"),
    "about of one text": ("weight: w", "about: a panel", "line 2: about must map names to texts, such as {{sponsor:"),
    "about of a list": ("weight: w", "about: {mode: [web]}", "line 2: about: mode must be a text that is not empty"),
    "about to be written": ("weight: w", "about: {mode: TODO}", "line 2: about: mode is still to be written"),
    "missing of no list": ("missing: [8, 9]", "missing: {8: x}", "line 4: missing must be a list"),
    "no such question column": ("  q2:\n", "  q3:\n", "questions: q3: {data} has no column 'q3'; it has 7"),
    "no such attribute column": ("column: gender", "column: genre", "attributes: sex: {data} has no column 'genre'"),
    "no such weight": ("weight: w", "weight: weight", "weight: {data} has no column 'weight'"),
    "column and value": ("column: gender,", "column: gender, value: x,", "sex: needs either a column or"),
    "overlapping bands": ("30-44", "29-44", "line 8: attributes: age: the bands 18-29 and 29-44 overlap"),
    "backward band": ("30-44", "44-30", "line 8: attributes: age: the band 44-30 ends before it begins"),
    "unlisted code": ("missing: [8, 9]", "missing: [9]", "line 11: questions: q1: column q1 of {data} holds the code 8 "
                      "(1 time); add each to the question's options, missing or not_asked"),
    "unlisted codes": ("missing: [8, 9]", "missing: [7]", "{book}: 2 things to mend: line 11: questions: q1: column"),
    "unlisted attribute": ("2: female", "3: female", "sex: column gender of {data} holds the code 2 (3 times)"),
    "common code in a band": (", missing: [999]}", "}\nnot_asked: [70]", "age: the code 70 is both in the common list"),
    "unknown breakdown": ("[[country], ", "[[state], ", "line 9: unknown attribute 'state'; choose from country"),
    "weight of text": ("weight: w", "weight: country", "column country of {data} holds the codes"),
}  # fmt: skip


@pytest.mark.parametrize("name", CODEBOOKS)
def test_bad_codebooks(command, files, name):
    old, new, reason = CODEBOOKS[name]
    assert CODEBOOK.count(old) >= 1
    files["codebook"].write_text(CODEBOOK.replace(old, new, 1))
    files["output"].parent.mkdir()
    flags = files | ({"breakdowns": "age"} if name == "common code in a band" else {})
    error = refused(command, flags)
    assert reason.format(data=files["input"], book=files["codebook"]) in error
    if "{data} holds the codes" not in reason:
        assert str(files["codebook"]) in error


def test_one_scale_for_all_questions_that_do_not_say_theirs(command, files):
    files["output"].parent.mkdir()
    silent = CODEBOOK.replace("    scale: ordinal\n", "")
    assert silent.count("scale:") == 1  # q1 is nominal
    for head, scale in (("", None), ("scale: ordinal\n", "ordinal")):
        files["codebook"].write_text(head + silent)
        assert command(**files)[0] == 0
        assert {a.question_id: a.scale for a in read_table(files["output"])} == {"q1": "nominal", "q2": scale}
    files["codebook"].write_text("scale: ratio\n" + silent)
    assert 'line 1: scale must be "ordinal" or "nominal", got' in command(**files)[2]


ALIASES = {
    "a list in itself": ("missing: &m [8, *m]", "not YAML: found unconstructable recursive node"),
    "lists of lists": ("missing: [&a [9, 9], &b [*a, *a], &c [*b, *b], *c]", "missing must be a list of texts"),
    "an alias of nothing": ("missing: *no", "not YAML: found undefined alias"),
}


@pytest.mark.parametrize("name", ALIASES)
def test_bad_aliases(command, files, name):
    line, reason = ALIASES[name]
    files["codebook"].write_text(CODEBOOK.replace("missing: [8, 9]", line, 1))
    files["output"].parent.mkdir()
    assert reason in refused(command, files)


def test_aliases_within_aliases_take_no_time(command, files):
    """Thirty lists, each twice in the next, would be a billion texts."""
    lists = "".join(f"a{i}: &a{i} [{f'*a{i - 1}, *a{i - 1}' if i else 'x'}]\n" for i in range(30))
    files["codebook"].write_text(lists + CODEBOOK)
    files["output"].parent.mkdir()
    assert "unknown key 'a0'" in refused(command, files)


DATA: dict[str, tuple[str, str, str]] = {
    "negative weight": (",1.5\n", ",-1.5\n", "column w of {data} holds the code -1.5 (1 time): a weight must be"),
    "weight whose square is no number": (",1.5\n", ",1e200\n", "holds the code 1e200 (1 time): a weight must be"),
    "weight whose square is nothing": (",1.5\n", ",1e-200\n", "holds the code 1e-200 (1 time): a weight must be"),
    "weight of infinity": (",1.5\n", ",inf\n", "column w of {data} holds the code inf (1 time): a weight must be"),
    "weight that is no number": (
        ",1.5\n",
        ",NaN\n",
        "column w of {data} holds the code NaN (1 time): a weight must be",
    ),
    "ragged row": (",1.5\n", ",1.5,7\n", "{data}: cannot be read: CSV parse error: Expected 7 columns, got 8"),
    "column twice": ("q1,q2", "q1,q1", "{data}: its header has two columns named 'q1'"),
    "header alone": (CSV[CSV.index("\n") + 1 :], "", "{data}: has no respondents"),
    "empty": (CSV, "", "{data}: has no respondents"),
}


@pytest.mark.parametrize("name", DATA)
def test_bad_data(command, files, name):
    old, new, reason = DATA[name]
    files["input"].write_text(CSV.replace(old, new, 1))
    files["output"].parent.mkdir()
    assert reason.format(data=files["input"]) in refused(command, files)


def test_identifiers_are_no_groups(command, files):
    files["output"].parent.mkdir()
    people = "".join(f"{i},Kenya,1,30,1,1,1\n" for i in range(10, 10_011))
    files["input"].write_text(CSV.splitlines()[0] + "\n" + people)
    files["codebook"].write_text(CODEBOOK.replace("country: country", "country: country\n  person: id"))
    error = refused(command, files | {"breakdowns": "person"})
    assert "attributes: person: column id" in error
    assert "has 10,001 values, which are no groups" in error


@pytest.mark.parametrize("suffix", [".sav", ".zsav", ".dta", ".sas7bdat", ".xpt", ".parquet", ".csv.gz"])
def test_damaged_files(command, files, tmp_path, suffix):
    files["output"].parent.mkdir()
    files["input"] = tmp_path / f"data{suffix}"
    files["input"].write_bytes(b"no data at all" * 20)
    assert f"{files['input']}: cannot be read: " in refused(command, files)


def test_text_of_an_undeclared_encoding(command, files):
    files["output"].parent.mkdir()
    files["input"].write_bytes(CSV.replace("Peru", "Perú").encode("latin1"))
    assert "with `encoding:` in the codebook (--encoding: a draft), as cp1252" in refused(command, files)
    files["codebook"].write_text(CODEBOOK + "encoding: klingon\n")
    assert "unknown encoding 'klingon'" in refused(command, files)
    files["codebook"].write_text(CODEBOOK + "encoding: latin1\n")
    assert command(**files)[0] == 0


def test_as_a_program(files):
    """Once as users run it: the rest of this file calls what it calls."""
    files["output"].parent.mkdir()
    program = [sys.executable, "-m", "survey_jax.prepare"]
    good = subprocess.run([*program, *(f"--{k}={v}" for k, v in files.items())], capture_output=True, text=True)
    assert (good.returncode, good.stderr) == (0, "")
    bad = subprocess.run([*program, "--source=microdata"], capture_output=True, text=True)
    assert (bad.returncode, bad.stderr) == (2, "error: --input: say which file to read\n")


# ---------------------------------------------------------------------------------------------- drafts


def write_labelled(path: Path) -> Path:
    """Respondents with labels, one undeclared don't know, a declared refusal and a declared 'not asked'."""
    frame = pd.DataFrame({
        "caseid": range(1, 61),
        "CNTRY": list(itertools.islice(itertools.cycle([1.0, 2.0]), 60)),
        "AGEA": [float(15 + i) for i in range(60)],
        "TRUST": list(itertools.islice(itertools.cycle([1.0, 2, 3, 8, -1, -4]), 60)),
        "PSPWGHT": [0.5 + i / 60 for i in range(60)],
        "INTERVIEW": [float(20240000 + i) for i in range(60)],
    })  # fmt: skip
    labels = {
        "CNTRY": {1.0: "Kenya", 2.0: "Peru"},
        "TRUST": {1.0: "Not at all", 2.0: "Some", 3.0: "A lot", 8.0: "Don't know", -1.0: "Refused", -4.0: "Not asked"},
    }
    pyreadstat.write_sav(
        frame,
        path,
        column_labels={"TRUST": "Trust in the council"},
        variable_value_labels=labels,
        missing_ranges={"TRUST": [{"lo": -9, "hi": -1}]},
        variable_measure={"TRUST": "ordinal"},
    )
    return path


def test_a_draft_becomes_a_table_once_its_texts_are_written(command, tmp_path):
    data, draft, table = write_labelled(tmp_path / "own.sav"), tmp_path / "own.yaml", tmp_path / "own.parquet"
    code, out, _ = command(input=data, draft_codebook=draft)
    assert code == 0
    assert f"drafted {draft}: questions: 1, attributes: 2, columns left out: 2" in out
    flags = {"source": "microdata", "input": data, "codebook": draft, "output": table, "min_n": 1}
    assert "text is still to be written: 'TODO: Trust in the council'" in refused(command, flags)
    text = draft.read_text()
    assert "weight: PSPWGHT" in text
    draft.write_text(text.replace("TODO: Trust in the council", "Do you trust the council?"))
    code, out, error = command(**flags)
    assert (code, error) == (0, "")
    rows = read_table(table)
    kenya = next(a for a in rows if dict(a.group) == {"country": "Kenya"})
    assert kenya.options == ("Not at all", "Some", "A lot")
    assert kenya.scale == "ordinal"
    assert kenya.n == 20  # every other respondent: codes 1, 3 and -1 in turn
    assert {dict(a.group)["age"] for a in rows if "age" in dict(a.group)} == {"18-29", "30-44", "45-64", "65+"}
    peru = next(a for a in rows if dict(a.group) == {"country": "Peru"})
    weight = {code: sum(0.5 + i / 60 for i in range(60) if i % 6 == at) for at, code in ((1, 2), (3, 8))}
    assert peru.extra["item_nonresponse"] == pytest.approx(weight[8] / (weight[2] + weight[8]))


def test_a_draft_of_a_file_without_labels_asks_for_every_meaning(command, files, tmp_path):
    draft = tmp_path / "draft.yaml"
    files["input"].write_text(CSV.replace("2,9,0.5", "2,NA,0.5"))
    assert command(input=files["input"], draft_codebook=draft)[0] == 0
    text = draft.read_text()
    assert 'not_asked: ["NA"]' in text or "not_asked: [NA]" in text
    assert '1: "TODO: what 1 means"' in text
    assert "missing: [999]" in text
    assert "# id is left out" in text
    assert "breakdowns: [[country], [country, sex], [country, age]]" in text
    codebook = text.replace("TODO: what 8 means", "Other").replace("TODO: ", "").replace("min_n: 50", "min_n: 1")
    draft.write_text(codebook)
    assert command(**files | {"codebook": draft, "output": tmp_path / "t.jsonl"})[0] == 0
    assert len(read_table(tmp_path / "t.jsonl")) > 6


NEGATIVE = {  # labels of a variable -> what becomes of its codes -9 and -8, which have none
    "answers from 0": ({0.0: "No", 1.0: "Yes"}, True),
    "another negative code is missing": ({0.0: "No", 1.0: "Yes", -1.0: "Refused"}, True),
    "a scale with a negative half": ({-1.0: "Worse", 0.0: "As before", 1.0: "Better"}, False),
}


@pytest.mark.parametrize("name", NEGATIVE)
def test_a_draft_takes_unlabelled_negative_codes_for_missing_where_no_answer_is_negative(command, tmp_path, name):
    labels, missing = NEGATIVE[name]
    codes = list(itertools.islice(itertools.cycle([0.0, 1.0, -9.0, -1.0, -8.0]), 60))
    frame = pd.DataFrame({"CNTRY": ["Peru", "Kenya"] * 30, "AGREE": codes, "sex": [1.0, 2.0, -9.0] * 20})
    labelled = {"AGREE": labels, "sex": {1.0: "male", 2.0: "female"}}
    pyreadstat.write_sav(frame, tmp_path / "own.sav", variable_value_labels=labelled)
    draft = tmp_path / "own.yaml"
    assert command(input=tmp_path / "own.sav", draft_codebook=draft)[0] == 0
    text = draft.read_text()
    guessed = "-9, -8, -1" if -1.0 not in labels else "-9, -8"
    assert (f"# a guess, {guessed}: no label" in text) == missing
    assert "missing: [-9]  # a guess, -9: no label" in text  # of sex
    draft.write_text(text.replace("TODO: ", "").replace("min_n: 50", "min_n: 1"))
    flags = {"source": "microdata", "input": tmp_path / "own.sav", "codebook": draft}
    assert command(**flags, output=tmp_path / "t.jsonl")[0] == 0
    rows = read_table(tmp_path / "t.jsonl")
    assert {a.options for a in rows} == {("No", "Yes") if missing else ("-9", "-8", "Worse", "As before", "Better")}
    assert {dict(a.group)["sex"] for a in rows if "sex" in dict(a.group)} == {"male", "female"}


def test_a_draft_never_overwrites(command, files, tmp_path):
    draft = tmp_path / "draft.yaml"
    draft.write_text("my work")
    assert "exists, and may hold your work" in refused(command, {"input": files["input"], "draft_codebook": draft})
    assert draft.read_text() == "my work"


def test_a_draft_finds_the_encoding(command, files, tmp_path):
    files["input"].write_bytes(CSV.replace("Peru", "Perú").encode("latin1"))
    draft = tmp_path / "draft.yaml"
    assert command(input=files["input"], draft_codebook=draft)[0] == 0
    assert "encoding: cp1252  # a guess" in draft.read_text()
