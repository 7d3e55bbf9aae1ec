"""Respondents' files in the encodings and forms of many programs, drafted; codebooks with every odd value, counted."""

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks.hostile.judge import Case
from benchmarks.hostile.values import ODD, damaged
from survey_jax.survey.table import Answer, read_table

PEOPLE = 240
ANSWERS = {  # language -> the labels of a question, in its own script
    "en": ("Very good", "Fairly good", "Fairly bad", "Very bad"),
    "es": ("Muy bien", "Más o menos", "Está mal", "Pésimo, según usted"),
    "de": ("Sehr gut", "Ganz gut", "Eher schlecht", "Überhaupt nicht; größtenteils"),
    "ru": ("Очень хорошо", "Скорее хорошо", "Скорее плохо", "Очень плохо"),
    "zh": ("非常好", "比较好", "比较差", "非常差"),
    "ja": ("とても良い", "やや良い", "やや悪い", "とても悪い"),
    "el": ("Πολύ καλά", "Μάλλον καλά", "Μάλλον άσχημα", "Πολύ άσχημα"),
}
ENCODINGS = {
    "en": ("ascii", "utf-8-sig", "utf-16"),
    "es": ("utf-8", "utf-8-sig", "cp1252", "utf-16"),
    "de": ("utf-8", "cp1252", "utf-16-le"),
    "ru": ("utf-8", "cp1251", "koi8-r"),
    "zh": ("utf-8", "gb18030", "utf-16"),
    "ja": ("utf-8", "shift_jis"),
    "el": ("utf-8", "iso8859-7"),
}
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
HEADERS = {
    "no odd character": "opinion",
    "a comma": "opinion, of all",
    "a quote": 'the "opinion"',
    "a line break": "opinion\nof all",
    "a colon": "opinion: of all",
    "a bracket": "[opinion]",
    "a dash": "- opinion",
    "a percent sign": "%opinion",
}
CODEBOOK: dict[str, Any] = {
    "survey": "Test",
    "weight": "w",
    "min_n": 1,
    "missing": [8, 9],
    "attributes": {
        "country": "country",
        "sex": {"column": "gender", "recode": {1: "male", 2: "female"}},
        "age": {"column": "age", "recode": ["18-29", "30-44", "45-64", "65+"], "missing": [999]},
    },
    "breakdowns": [["country"], ["country", "sex"]],
    "questions": {
        "q1": {"text": "Do you agree?", "options": {1: "Yes", 2: "No", 3: "Maybe"}, "scale": "nominal"},
        "q2": {"column": "q2", "text": "How much?", "options": {1: "low", 2: "mid", 3: "high"}, "scale": "ordinal"},
    },
}


def cases(rng: random.Random) -> Iterator[Case]:
    """Drafts of files, then codebooks for one file."""
    for language, encodings in ENCODINGS.items():
        for encoding in encodings:
            for delimiter, mark in DELIMITERS.items():
                name = f"respondents: {language} in {encoding}, {delimiter} between"
                yield _drafted(name, language, encoding, mark, "opinion")
    for what, header in HEADERS.items():
        for delimiter in ("comma", "tab"):
            name = f"respondents: a header with {what}, {delimiter} between"
            yield _drafted(name, "en", "utf-8", DELIMITERS[delimiter], header)
    csv = _people(("1", "2", "3", "9")).to_csv(index=False).encode()
    for what, content in damaged(csv, rng, 8):
        yield _counted(f"respondents: file {what}", CODEBOOK, content)
    for path in _paths(CODEBOOK):
        for what, value in ODD.items():
            yield _counted(f"codebook: {'.'.join(map(str, path))} is {what}", _changed(path, value), csv)
        yield _counted(f"codebook: {'.'.join(map(str, path))} is absent", _changed(path, None, delete=True), csv)
    text = yaml.safe_dump(CODEBOOK, sort_keys=False)
    for what, content in damaged(text.encode(), rng, 20):
        yield _counted(f"codebook: {what}", content, csv)
    for what, change in _odd_texts(text).items():
        yield _counted(f"codebook: {what}", change, csv)


def _people(codes: tuple[str, ...]) -> pd.DataFrame:
    """The same people every time; none of what is drawn depends on the codes."""
    draws = random.Random(5)
    rows = [
        {
            "country": draws.choice(("Kenya", "Peru")), "gender": draws.choice((1, 2)), "age": draws.randint(18, 80),
            "q1": draws.choice(codes), "q2": draws.choice(codes), "w": round(draws.uniform(0.5, 1.5), 2),
        }
        for _ in range(PEOPLE)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _drafted(name: str, language: str, encoding: str, mark: str, header: str) -> Case:
    """A draft must hold the labels as they are, of the column of that name."""
    people = _people(ANSWERS[language])[["country", "q1"]].rename(columns={"q1": header})

    def flags(folder: Path) -> list[str]:
        (folder / "people.csv").write_bytes(people.to_csv(index=False, sep=mark).encode(encoding))
        return [f"--input={folder / 'people.csv'}", "--draft_codebook={output}.yaml"]

    def right(output: Path) -> str:
        draft = yaml.safe_load(Path(f"{output}.yaml").read_text(encoding="utf-8"))
        found = [q for q in draft["questions"].values() if set(ANSWERS[language]) <= set(map(str, q["options"]))]
        if not found:
            return f"the labels are not in the draft: {str(draft['questions'])[:200]}"
        if found[0].get("column", next(iter(draft["questions"]))) != header:
            return f"column {found[0].get('column')!r}, not {header!r}"
        return ""

    return Case(name, "prepare", flags, right)


def _counted(name: str, codebook: Any, csv: bytes) -> Case:
    """`codebook`: what to write as YAML, or the file's bytes."""
    content = codebook
    if not isinstance(content, bytes):
        content = yaml.safe_dump(codebook, sort_keys=False, allow_unicode=True).encode("utf-8", "replace")

    def flags(folder: Path) -> list[str]:
        (folder / "people.csv").write_bytes(csv)
        (folder / "book.yaml").write_bytes(content)
        files = [f"--input={folder / 'people.csv'}", f"--codebook={folder / 'book.yaml'}"]
        return ["--source=microdata", *files, "--output={output}.jsonl"]

    return Case(name, "prepare", flags, lambda output: _possible(read_table(Path(f"{output}.jsonl"))))


def _possible(answers: list[Answer]) -> str:
    """No count of a group may exceed what all its people weigh."""
    people = _people(("1", "2", "3", "9"))
    for answer in answers:
        group = dict(answer.group)
        own = people[people["country"] == group["country"]] if group.get("country") in ("Kenya", "Peru") else people
        if sum(answer.counts or ()) > max(own["w"].sum(), len(own)) + 1e-6 or (answer.n or 0) > len(own):
            return f"{answer.question_id} of {group}: {answer.counts} of {len(own)} people"
    return "" if answers else "an empty table"


def _paths(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from _paths(value, (*above, key))


def _changed(path: tuple[Any, ...], value: Any, delete: bool = False) -> dict[str, Any]:
    book = copy.deepcopy(CODEBOOK)
    node: Any = book
    for key in path[:-1]:
        node = node[key]
    if delete:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return book


def _odd_texts(text: str) -> dict[str, bytes]:
    lines = text.splitlines(keepends=True)
    aliases = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    return {
        "a key twice": (text + "survey: Other\n").encode(),
        "a question twice": text.replace("  q2:", "  q1:").encode(),
        "a tab before a key": text.replace("  sex:", "\tsex:").encode(),
        "aliases of aliases": (aliases + text).encode(),
        "an alias that holds itself": ("missing: &m [*m]\n" + text.replace("missing:", "missed:")).encode(),
        "a Python object": text.replace("survey: Test", "survey: !!python/object/apply:os.getcwd []").encode(),
        "nested too deep": (text + "about: " + "[" * 20_000 + "]" * 20_000 + "\n").encode(),
        "two documents": (text + "---\n" + text).encode(),
        "a number of 10,000 digits": text.replace("min_n: 1", "min_n: 1" + "0" * 10_000).encode(),
        "a date for a text": text.replace("survey: Test", "survey: 2024-01-01").encode(),
        "yes for a text": text.replace("text: Do you agree?", "text: yes").encode(),
        "base sixty": text.replace("survey: Test", "survey: 12:30:45").encode(),
        "no line break at the end": text.rstrip().encode(),
        "UTF-16": text.encode("utf-16"),
        "Latin-1": text.replace("agree", "agréez").encode("latin-1"),
        "lines in another order": "".join(lines[1:2] + lines[:1] + lines[2:]).encode(),
    }
