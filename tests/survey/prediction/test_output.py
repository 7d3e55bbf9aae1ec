"""Forecasts as tables: the three formats read back, and the figures in them against textbook formulas."""

import csv
import math

import numpy as np
import pyarrow.parquet
import pyreadstat
import pytest
from scipy import stats

from survey_jax.common.errors import UserError
from survey_jax.survey.prediction.forecast import Forecast, Similar
from survey_jax.survey.prediction.output import write_forecasts
from survey_jax.survey.prediction.questions import Question

FAR = Question("far", 'Is it far, or "nearby"?', ("Yes", "No"))
OLD = Question("old", "How old\nis it? 很老", ("New", "Fair", "Old"), "ordinal", "Town")
YOUNG, KENYA = (("age", "18-29"),), (("age", "18-29"), ("country", "Kenya"))
COLUMNS = [
    *("survey", "question_id", "question", "group", "group.age", "group.country", "option_number", "option"),
    *("share", "low", "high", "low_80", "high_80", "expected_misplaced", "worth_interviews", "kind"),
    *("nearest_question", "nearest_similarity", "member.model", "member.seen mean", "cautions"),
]
NUMBERS = {*COLUMNS[8:15], "nearest_similarity", "member.model", "member.seen mean"}


def forecasts() -> list[Forecast]:
    """One with everything, and one of which the group's country, the second member and the nearest are not known."""
    shares = np.array([0.2, 0.3, 0.5])
    members = {"model": (0.7, np.array([0.1, 0.3, 0.6])), "seen mean": (0.3, np.array([0.4, 0.3, 0.3]))}
    similar = (Similar(FAR.put_to(YOUNG), 0.75), Similar(OLD.put_to(YOUNG), 0.5))
    return [
        Forecast(
            OLD.put_to(KENYA), shares, 24.0, "known question", members, similar, ("No such age.", "A long question.")
        ),
        Forecast(
            FAR.put_to(YOUNG), np.array([0.25, 0.75]), 9.0, "new question", {"model": (1.0, np.array([0.25, 0.75]))}
        ),
    ]


def read(path) -> list[dict]:
    """The lines of a file by a reader of its own; None or "" where nothing is known; names with dots."""
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        kinds = {"option_number": int} | dict.fromkeys(NUMBERS, float)
        return [{k: kinds.get(k, str)(v) if v else None for k, v in line.items()} for line in lines]
    frame, meta = (pyreadstat.read_sav if path.suffix == ".sav" else pyreadstat.read_dta)(path)
    dotted = {name.replace(".", "_").replace(" ", "_"): name for name in COLUMNS}
    assert list(dotted) == list(frame.columns)
    assert meta.column_names_to_labels["low_80"] == "Low end of the share's 80 % interval"
    assert meta.column_names_to_labels["group_age"] == "Group: age"
    assert meta.column_names_to_labels["member_seen_mean"] == "Share that seen mean predicts"
    lines = frame.rename(columns=dotted).to_dict("records")
    return [{k: None if v == "" or v != v else v for k, v in line.items()} for line in lines]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".sav", ".dta"])
def test_a_file_gives_back_every_figure_and_text(tmp_path, suffix):
    path = tmp_path / f"forecasts{suffix}"
    write_forecasts(forecasts(), path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    lines = [{k: v or None for k, v in line.items()} for line in read(path)]
    assert all(list(line) == COLUMNS for line in lines)
    assert [(line["question_id"], line["option_number"], line["option"]) for line in lines] == [
        *(("old", 1, "New"), ("old", 2, "Fair"), ("old", 3, "Old")),
        *(("far", 1, "Yes"), ("far", 2, "No")),
    ]
    third, last = lines[2], lines[4]
    expected = {
        "survey": "Town",
        "question": "How old\nis it? 很老",
        "group": "18-29, Kenya",
        "group.age": "18-29",
        "group.country": "Kenya",
        "share": 0.5,
        "worth_interviews": 24.0,
        "kind": "known question",
        "nearest_question": 'Is it far, or "nearby"?',
        "nearest_similarity": 0.75,
        "member.model": 0.6,
        "member.seen mean": 0.3,
        "cautions": "No such age.; A long question.",
    }
    assert {name: third[name] for name in expected} == expected
    unknown = {"group.country", "nearest_question", "nearest_similarity", "member.seen mean", "cautions"}
    assert {name for name, value in last.items() if value is None} == unknown


def test_the_figures_are_those_of_the_dirichlet_distribution(tmp_path):
    write_forecasts(forecasts(), tmp_path / "a.parquet")
    lines = read(tmp_path / "a.parquet")
    for line, (mean, k) in zip(lines, [(0.2, 24), (0.3, 24), (0.5, 24), (0.25, 9), (0.75, 9)], strict=True):
        share = stats.beta(mean * k, (1 - mean) * k)
        assert (line["low"], line["high"]) == pytest.approx(share.interval(0.95))
        assert (line["low_80"], line["high_80"]) == pytest.approx(share.interval(0.8))
    truths = np.random.default_rng(0).dirichlet([4.8, 7.2, 12.0], 200_000)
    misplaced = 100 * np.abs(truths - [0.2, 0.3, 0.5]).sum(1).mean() / 2
    assert [line["expected_misplaced"] for line in lines[:3]] == pytest.approx([misplaced] * 3, rel=0.01)


def test_spss_gets_names_and_texts_that_it_can_hold(tmp_path):
    long = "Is it far? " * 2900 + "Yes?"
    group = (("Age", "18-29"), ("age", "18-29"), ("år & måned", "1"), ("z" * 80, "1"), ("z" * 90, "2"))
    asked = Question("far", long, ("Yes", "No")).put_to(group)
    write_forecasts([Forecast(asked, np.array([0.5, 0.5]), 9.0, "new question", {})], tmp_path / "a.sav")
    frame, meta = pyreadstat.read_sav(tmp_path / "a.sav")
    assert frame["question"].tolist() == [long] * 2
    names = [name for name in frame.columns if name.startswith("group_")]
    assert names == ["group_Age", "group_age_2", f"group_{'z' * 58}", f"group_{'z' * 56}_2", "group_år___måned"]
    assert frame[names].to_numpy().tolist() == [["18-29", "18-29", "1", "2", "1"]] * 2
    assert math.isclose(frame["share"][0], 0.5)
    assert meta.original_variable_types["share"] == "F10.4"


def test_a_text_that_is_too_long_for_spss_is_refused_and_nothing_written(tmp_path):
    asked = Question("far", "å" * 16384, ("Yes", "No")).put_to(YOUNG)
    forecast = Forecast(asked, np.array([0.5, 0.5]), 9.0, "new question", {})
    with pytest.raises(
        UserError,
        match=r"a\.sav: cannot be written: question \('å+' .*\) has 32,768 bytes, of which SPSS holds 32,767; write",
    ):
        write_forecasts([forecast], tmp_path / "a.sav")
    assert not list(tmp_path.iterdir())
    write_forecasts([forecast], tmp_path / "a.csv")


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"a\.xlsx: forecasts are written as \.csv, \.parquet, \.sav, \.dta"):
        write_forecasts(forecasts(), tmp_path / "a.xlsx")
    with pytest.raises(UserError, match=r"none: no such folder; make it first"):
        write_forecasts(forecasts(), tmp_path / "none" / "a.csv")


def test_no_forecasts_are_no_file(tmp_path):
    with pytest.raises(UserError, match=r"a\.csv: there are no forecasts to write"):
        write_forecasts([], tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())
