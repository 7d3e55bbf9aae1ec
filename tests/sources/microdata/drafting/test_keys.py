"""Small files of respondents in thirteen languages, drafted, against a key of what each column and code means.

The key (tests/data/draft_keys.yaml) was written by hand from how surveys label their answers. Of what a draft says, at
least nine in ten of each kind must be right, and nothing wrong: the rest is left to the user by a TODO or a comment.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyreadstat
import pytest
import yaml

from places import ROOT
from survey_jax.sources.microdata.drafting.draft import draft_codebook

KEYS = yaml.load((ROOT / "tests" / "data" / "draft_keys.yaml").read_text(encoding="utf-8"), yaml.BaseLoader)  # "No"
ROWS = 240
KINDS = ("scale", "order", "missing", "answer", "weight", "attribute", "language", "wave")


def labels_of(question: dict[str, Any]) -> dict[str, str]:
    """Code -> label, of answers and of missing codes."""
    return question.get("options", question.get("ends")) | question["missing"]


def codes_of(question: dict[str, Any]) -> list[int]:
    """The answers' codes, with those that have no label."""
    ends = [int(code) for code in question.get("ends", ())]
    return [*range(min(ends), max(ends) + 1)] if ends else [int(code) for code in question["options"]]


def write(key: dict[str, Any], folder: Path) -> Path:
    """The file of a key, with respondents drawn at random; a text file holds labels."""
    rng, path = np.random.default_rng(0), folder / key["file"]
    columns: dict[str, Any] = {"id": np.arange(ROWS) + 1000.0}
    values: dict[str, dict[str, str]] = {}
    for name, (_, holds) in key["attributes"].items():
        if holds == "ages":
            columns[name] = rng.integers(18, 90, ROWS).astype(float)
        elif holds == "incomes":
            columns[name] = rng.lognormal(8, 1, ROWS).round()
        else:
            values[name] = holds
            columns[name] = rng.choice(np.array([*holds], float), ROWS)
    for name, question in key["questions"].items():
        values[name] = labels_of(question)
        columns[name] = rng.choice(np.array([*codes_of(question), *question["missing"]], float), ROWS)
    columns[key["weight"]] = (w := rng.lognormal(0, 0.4, ROWS)) / w.mean()
    if wave := key.get("wave"):
        columns[wave] = rng.choice([21.0, 22.0], ROWS)
    frame, labels = pd.DataFrame(columns), {n: q["label"] for n, q in key["questions"].items() if "label" in q}
    labels |= key.get("labels", {}) | ({wave: "Ola"} if wave else {})
    if path.suffix == ".csv":
        for name, texts in values.items():
            frame[name] = frame[name].map({float(code): text for code, text in texts.items()})
        frame.to_csv(path, index=False)
    else:
        writer = pyreadstat.write_sav if path.suffix == ".sav" else pyreadstat.write_dta
        typed = float if path.suffix == ".sav" else int
        for name in values:
            frame[name] = frame[name].astype(typed)
        named = {n: {typed(int(c)): text for c, text in texts.items()} for n, texts in values.items()}
        writer(frame, path, column_labels=labels, variable_value_labels=named)
    return path


def judged(key: dict[str, Any], draft: dict[str, Any], text: str) -> list[tuple[str, str, str]]:
    """(kind, right or unclear or wrong, which) of everything that the key tells."""
    found: list[tuple[str, str, str]] = []

    def judge(kind: str, what: str, right: bool, unclear: bool) -> None:
        found.append((kind, "right" if right else "unclear" if unclear else "wrong", f"{key['file']} {what}"))

    judge("language", "language", draft["language"] == key["language"], "no label has a word" in text)
    judge("weight", "weight", draft.get("weight") == key["weight"], "TODO" in draft.get("weight", "TODO"))
    if wave := key.get("wave"):
        judge("wave", "wave", draft.get("wave") == {"column": wave}, "wave" not in draft)
    columns = {name: of.get("column") for name, of in draft["attributes"].items()}
    for name, (attribute, _) in key["attributes"].items():
        is_text = f"{name}:  # or an attribute" in text
        judge("attribute", name, columns.get(attribute) == name, attribute not in columns or is_text)
    common = {*map(str, draft.get("missing", [])), *map(str, draft.get("not_asked", []))}
    for name, question in key["questions"].items():
        if name not in draft["questions"]:  # an attribute, as the key says of a religion
            judge("attribute", name, columns.get(question.get("attribute")) == name, False)
            continue
        drafted, csv = draft["questions"][name], key["file"].endswith(".csv")
        judge("scale", name, drafted.get("scale", "unknown") == question["scale"], "scale" not in drafted)
        listed = drafted["options"]
        options = listed if isinstance(listed, dict) else dict(zip(listed, listed, strict=True))
        missing = {*map(str, [*drafted.get("missing", common), *drafted.get("not_asked", [])])}
        for code, label in question["missing"].items():
            code = label if csv else code
            judge("missing", f"{name} {code}", code in missing, "TODO" in options.get(code, ""))
        answers = [*question["options"].values()] if csv else [*map(str, codes_of(question))]
        for code in answers:
            judge("answer", f"{name} {code}", "TODO" not in options.get(code, "TODO"), "TODO" in options.get(code, ""))
        if drafted.get("scale") == question["scale"] == "ordinal":
            given = [code for code in options if code in answers]
            judge("order", name, given in (answers, answers[::-1]), False)
    return found


@pytest.fixture(scope="module")
def judgements(tmp_path_factory) -> list[tuple[str, str, str]]:
    folder = tmp_path_factory.mktemp("keys")
    found = []
    for key in KEYS:
        draft = folder / f"{key['file']}.yaml"
        draft_codebook(write(key, folder), draft)
        text = draft.read_text(encoding="utf-8")
        found += judged(key, yaml.load(text, yaml.BaseLoader), text)
    return found


def test_there_are_files_enough_in_languages_enough():
    assert len(KEYS) >= 12
    assert len({key["language"] for key in KEYS}) >= 8


@pytest.mark.parametrize("kind", KINDS)
def test_nine_in_ten_are_right_and_the_rest_is_left_to_the_user(judgements, kind):
    counts = Counter(how for k, how, _ in judgements if k == kind)
    others = [f"{what}: {how}" for k, how, what in judgements if k == kind and how != "right"]
    print(f"{kind}: {counts['right']} of {counts.total()} right, {counts['unclear']} unclear", *others)
    assert counts["right"] >= 0.9 * counts.total()
    assert not counts["wrong"], others
