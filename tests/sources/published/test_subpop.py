"""SubPOP and OpinionQA: small files in the exact published format, with invented texts, one test per quirk."""

import csv
import json

import datasets
import numpy as np
import pandas as pd
import pytest

from survey_jax import sources
from survey_jax.common.errors import UserError
from survey_jax.sources.microdata import counting
from survey_jax.sources.published import opinionqa, subpop
from survey_jax.survey.splits.split import SplitConfig, split
from survey_jax.survey.table import read_table, write_table


def row(qkey="TEA1_W61", attribute="POLPARTY", group="Democrat", **changes):
    """As published: the last option is the refusal, which has neither a response nor an ordinal value."""
    published = {
        "qkey": qkey, "attribute": attribute, "group": group, "question": "Is tea good?",
        "options": ["Very", "Somewhat", "Not", "Refused"], "ordinal": [1.0, 2.0, 3.0],
        "responses": [0.5, 0.3, 0.2], "refusal_rate": 0.04,
    }  # fmt: skip
    return {**published, **changes}


def load(path, rows, source="subpop"):
    file = path / "subpop_train.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return sources.load(source, sources.Request(str(file)))


def only(prepared):
    (answer,) = prepared.answers
    return answer


def test_a_published_row(tmp_path):
    answer = only(load(tmp_path, [row()]))
    assert (answer.survey, answer.wave, answer.question_id) == ("SubPOP-Train", "W61", "TEA1_W61")
    assert (answer.options, answer.probs) == (("Very", "Somewhat", "Not"), (0.5, 0.3, 0.2))
    assert answer.group == (("country", "United States"), ("party", "Democrat"))
    assert answer.scale == "ordinal"
    assert answer.extra["item_nonresponse"] == 0.04
    assert answer.extra["attribute"] == "POLPARTY"


def test_the_general_social_survey_part(tmp_path):
    answer = only(load(tmp_path, [row("tea", "CREGION", "South")]))
    assert (answer.survey, answer.wave) == ("SubPOP-Eval", "2022")
    assert dict(answer.group)["region"] == "South"


def test_every_published_attribute_is_a_group(tmp_path):
    rows = [row(attribute=a, group="x") for a in subpop.ATTRIBUTES] + [row(attribute="Overall", group="Overall")]
    groups = {a.group for a in load(tmp_path, rows).answers}
    assert len(groups) == 13
    assert (("country", "United States"),) in groups


@pytest.mark.parametrize(
    ("ordinal", "scale", "options", "probs"),
    [
        ([1.0, 2.0, 1.5], "ordinal", ("Very", "Not", "Somewhat"), (0.5, 0.2, 0.3)),  # "it depends" stands last
        ([3.0, 2.0, 1.0], "ordinal", ("Not", "Somewhat", "Very"), (0.2, 0.3, 0.5)),
        ([1, 1, 1], "nominal", ("Very", "Somewhat", "Not"), (0.5, 0.3, 0.2)),
        ([1, 2, 2], None, ("Very", "Somewhat", "Not"), (0.5, 0.3, 0.2)),
    ],
)
def test_ordinal_values_set_scale_and_order(tmp_path, ordinal, scale, options, probs):
    prepared = load(tmp_path, [row(ordinal=ordinal)])
    answer = only(prepared)
    assert (answer.scale, answer.options, answer.probs) == (scale, options, probs)
    assert answer.extra["ordinal_values"] == (sorted(ordinal) if scale == "ordinal" else ordinal)
    assert prepared.repaired == ({subpop.REORDERED: 1} if options != ("Very", "Somewhat", "Not") else {})


@pytest.mark.parametrize("responses", [[0.0, 0.0, 0.0], [0.5, 0.3, 0.1], [1.5, -0.5, 0.0], [None, 0.5, 0.5]])
def test_responses_that_are_no_distribution_are_dropped(tmp_path, responses):
    prepared = load(tmp_path, [row(), row(group="Republican", responses=responses)])
    assert len(prepared.answers) == 1
    assert prepared.dropped == {subpop.BAD_RESPONSES: 1}


def test_quotes_around_an_option_are_removed(tmp_path):
    prepared = load(tmp_path, [row(options=["Very", '"No, I don\'t"', "Not", "Refused"])])
    assert only(prepared).options == ("Very", "No, I don't", "Not")
    assert prepared.repaired == {subpop.CLEANED: 1}


def test_one_key_for_several_questions_is_numbered(tmp_path):
    rows = [row(), row(question="Is coffee good?"), row(group="Republican", question="Is coffee good?")]
    prepared = load(tmp_path, rows)
    assert [a.question_id for a in prepared.answers] == ["TEA1_W61", "TEA1_W61#2", "TEA1_W61#2"]
    assert prepared.repaired == {subpop.NUMBERED: 2}


def test_a_repeated_row_is_dropped(tmp_path):
    assert load(tmp_path, [row(), row()]).dropped == {subpop.REPEATED: 1}


BROKEN = {
    "lengths": ({"ordinal": [1, 2]}, "TEA1_W61: 4 options, 3 responses, 2 ordinal values"),
    "no refusal": ({"options": ["Very", "Somewhat", "Not", "Never"]}, "option 'Never' after them is no refusal"),
    "attribute": ({"attribute": "CAR"}, "attribute 'CAR' is unknown; one of Overall, CREGION"),
    "no list": ({"options": "Very, Not"}, "is no Python literal: 'Very, Not'"),
    "refusal rate": ({"refusal_rate": None}, "float"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_row_of_another_form_is_refused_with_its_number(tmp_path, name):
    change, reason = BROKEN[name]
    with pytest.raises(UserError, match=f"row 2: .*{reason}"):
        load(tmp_path, [row(), row(**change)])


def test_hub_splits_are_kept_as_a_column(tmp_path, monkeypatch):
    published = datasets.DatasetDict(
        train=datasets.Dataset.from_list([row()]), test=datasets.Dataset.from_list([row("tea")])
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda name: {"jjssuh/subpop": published}[name])
    prepared = sources.load("subpop", sources.Request("jjssuh/subpop"))
    assert [a.extra["published_split"] for a in prepared.answers] == ["train", "test"]


@pytest.mark.parametrize("printed", ["[0.5, 0.3, 0.2]", "[0.5 0.3 0.2]"])
def test_subpops_processed_opinionqa_file_prints_its_lists(tmp_path, printed):
    file = tmp_path / "opinionqa.csv"
    with file.open("w", newline="") as handle:
        published = {**row(), "responses": printed}
        writer = csv.DictWriter(handle, list(published))
        writer.writeheader()
        writer.writerow(published)
    answer = only(sources.load("opinionqa", sources.Request(str(file))))
    assert (answer.survey, answer.options, answer.probs) == ("OpinionQA", ("Very", "Somewhat", "Not"), (0.5, 0.3, 0.2))


def test_the_preset_trains_on_the_training_table_and_tests_on_the_rest(tmp_path):
    rows = [row(f"TEA{i}_W61", question=f"Is tea number {i} good?") for i in range(10)]
    rows += [row("milk", question="Is milk good?")]
    splits = split(load(tmp_path, rows).answers, SplitConfig(preset="subpop"))
    assert {name: len(rows) for name, rows in splits.rows.items()} == {"train": 9, "valid": 1, "unseen_survey": 1}


# OpinionQA's own directory: info.csv, metadata.csv and the respondents in responses.csv.

OPTIONS = ["Yes, I do", "No", "It depends", "Refused"]


def respondents(size=500, seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "QKEY": np.arange(size),
            "TEA_W26": rng.choice([*OPTIONS, ""], size, p=[0.4, 0.3, 0.1, 0.1, 0.1]),  # "" was not asked
            "POLPARTY": rng.choice(["Republican", "Democrat", "Refused"], size),
            "AGE": rng.choice(["18-29", "65+"], size),
            "WEIGHT_W26": rng.uniform(0.2, 3, size).round(4),
        }
    )


def human_resp(path, frame, info=(), name="American_Trends_Panel_W26"):
    wave = path / "human_resp" / name
    wave.mkdir(parents=True)
    frame.to_csv(wave / "responses.csv", index=False)
    line = {"key": "TEA_W26", "question": "Tea?", "references": repr(OPTIONS), "option_ordinal": "[1.0, 2.0, 1.5]"}
    pd.DataFrame([line, *info]).to_csv(wave / "info.csv")
    groups = [("POLPARTY", ["Republican", "Democrat"]), ("AGE", ["18-29", "65+"]), ("INCOME", ["Low"])]
    pd.DataFrame([{"key": k, "options": repr(v)} for k, v in groups]).to_csv(wave / "metadata.csv")
    return path / "human_resp"


def by_group(prepared):
    return {a.group: a for a in prepared.answers}


def test_weighted_shares_of_the_respondents_equal_an_independent_computation(tmp_path):
    from statsmodels.stats.weightstats import DescrStatsW

    frame = respondents()
    prepared = sources.load("opinionqa", sources.Request(str(human_resp(tmp_path, frame))))
    found = by_group(prepared)
    assert set(found) == {
        (("country", "United States"),),
        *((("country", "United States"), ("party", p)) for p in ("Republican", "Democrat")),
        *((("age", a), ("country", "United States")) for a in ("18-29", "65+")),
    }
    answer = found[(("country", "United States"), ("party", "Democrat"))]
    asked = frame[(frame["POLPARTY"] == "Democrat") & (frame["TEA_W26"] != "")]
    members = asked[asked["TEA_W26"] != "Refused"]
    order = ["Yes, I do", "It depends", "No"]
    dummies = np.stack([members["TEA_W26"] == o for o in order], axis=1).astype(float)
    assert answer.options == tuple(order)
    assert answer.probs == pytest.approx(DescrStatsW(dummies, weights=members["WEIGHT_W26"]).mean)
    assert answer.n == len(members)
    weights = list(members["WEIGHT_W26"])
    assert answer.n_effective == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights))
    refused = asked.loc[asked["TEA_W26"] == "Refused", "WEIGHT_W26"].sum() / asked["WEIGHT_W26"].sum()
    assert answer.extra["item_nonresponse"] == pytest.approx(refused)
    assert (answer.survey, answer.wave, answer.scale) == ("OpinionQA", "W26", "ordinal")
    assert prepared.repaired == {subpop.REORDERED: 5}


def test_one_wave_and_all_waves_read_alike_and_round_trip(tmp_path):
    folder = human_resp(tmp_path, respondents())
    one = sources.load("opinionqa", sources.Request(str(folder / "American_Trends_Panel_W26")))
    assert one == sources.load("opinionqa", sources.Request(str(folder)))
    write_table(one.answers, tmp_path / "table.parquet")
    assert read_table(tmp_path / "table.parquet") == one.answers


def test_unweighted_and_small_groups(tmp_path):
    frame = respondents()
    frame.loc[:3, "AGE"] = "65+"
    frame.loc[4:, "AGE"] = "18-29"
    request = sources.Request(str(human_resp(tmp_path, frame)), unweighted=True, min_n=5)
    prepared = sources.load("opinionqa", request)
    assert prepared.dropped == {"fewer than 5 respondents in the group answered (min_n)": 1}
    overall = by_group(prepared)[(("country", "United States"),)]
    assert overall.counts == tuple((frame["TEA_W26"] == o).sum() for o in ("Yes, I do", "It depends", "No"))


def test_questions_that_cannot_be_told_apart_or_were_not_asked_are_dropped(tmp_path):
    line = {"question": "Milk?", "references": repr(OPTIONS), "option_ordinal": "[1, 2, 3]"}
    info = [{"key": "MILK_W26", **line}, {"key": "TWO_W26", **line}, {"key": "TWO_W26", **line, "question": "Jam?"}]
    frame = respondents().assign(TWO_W26="No", EMPTY_W26="")
    info.append({"key": "EMPTY_W26", **line})
    prepared = sources.load("opinionqa", sources.Request(str(human_resp(tmp_path, frame, info))))
    assert {a.question_id for a in prepared.answers} == {"TEA_W26"}
    assert prepared.dropped == {opinionqa.NO_COLUMN: 5, opinionqa.SHARED_KEY: 10, counting.NOT_ASKED: 5}


def test_answers_that_are_no_option_are_reported(tmp_path):
    frame = respondents()
    frame.loc[:2, "TEA_W26"] = "Perhaps"
    prepared = sources.load("opinionqa", sources.Request(str(human_resp(tmp_path, frame))))
    assert prepared.notes == ["TEA_W26: 3 answers are none of its options, such as 'Perhaps'"]


def test_a_directory_that_is_not_as_published_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no directory American_Trends_Panel_W"):
        sources.load("opinionqa", sources.Request(str(tmp_path)))
    folder = human_resp(tmp_path, respondents().drop(columns="WEIGHT_W26"))
    with pytest.raises(UserError, match=r"responses\.csv: has no column WEIGHT_W26"):
        sources.load("opinionqa", sources.Request(str(folder)))
    (folder / "American_Trends_Panel_W26" / "metadata.csv").unlink()
    with pytest.raises(UserError, match=r"metadata\.csv: cannot be read: "):
        sources.load("opinionqa", sources.Request(str(folder)))


def test_published_shares_cannot_be_unweighted(tmp_path):
    (tmp_path / "opinionqa.csv").write_text("qkey\n")
    with pytest.raises(UserError, match="--unweighted: need the respondents"):
        sources.load("opinionqa", sources.Request(str(tmp_path / "opinionqa.csv"), unweighted=True))


def test_weights_that_are_none_are_left_out_and_said_and_infinite_ones_refused(tmp_path):
    frame = respondents()
    frame.loc[:3, "WEIGHT_W26"] = [0, np.nan, -1, 2]
    request = sources.Request(str(human_resp(tmp_path / "a", frame)))
    assert (
        "W26: 3 of 500 respondents are left out: they have no weight above 0"
        in sources.load("opinionqa", request).notes
    )
    frame.loc[0, "WEIGHT_W26"] = np.inf
    with pytest.raises(UserError, match=r"responses\.csv: WEIGHT_W26 holds an infinite weight"):
        sources.load("opinionqa", sources.Request(str(human_resp(tmp_path / "b", frame))))


def test_a_column_twice_is_refused_by_name(tmp_path):
    frame = respondents().rename(columns={"AGE": "POLPARTY"})
    with pytest.raises(UserError, match=r"responses\.csv: its header has two columns named 'POLPARTY'"):
        sources.load("opinionqa", sources.Request(str(human_resp(tmp_path, frame))))
