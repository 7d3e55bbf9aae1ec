"""GlobalOpinionQA: small files in the exact published format, with invented texts, one test per defect."""

import csv
import json
from collections import defaultdict

import datasets
import pytest

from survey_jax import sources
from survey_jax.common.errors import UserError
from survey_jax.sources.published import shares
from survey_jax.sources.published.option_texts import clean, is_no_answer, is_not_asked, mend_split, scale
from survey_jax.survey.table import read_table, write_table

AGREE = ["Agree", "Disagree", "DK/Refused"]


def row(selections, options=AGREE, question="Is tea better than coffee?", source="GAS"):
    """As published: a printed defaultdict and a printed list."""
    printed = repr(defaultdict(list, selections))
    assert printed.startswith("defaultdict(<class 'list'>, {")
    return {"question": question, "selections": printed, "options": repr(options), "source": source}


def load(path, rows, suffix=".csv"):
    file = path / f"global_opinions{suffix}"
    if suffix == ".csv":
        with file.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, ["question", "selections", "options", "source"])
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == ".jsonl":
        file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    else:
        datasets.Dataset.from_list(rows).to_parquet(str(file))
    return sources.load("global_opinion_qa", sources.Request(str(file)))


def only(prepared):
    (answer,) = prepared.answers
    return answer


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_both_parts_of_the_published_file(tmp_path, suffix):
    rows = [
        row({"Belgium": [0.5, 0.5, 0.0], "S. Korea": [0.25, 0.5, 0.25]}),
        row({"Taiwan ROC": [0.1, 0.2, 0.7]}, ["Good", "Fair", "Bad"], "How is the 'weather', \"really\"?", "WVS"),
    ]
    prepared = load(tmp_path, rows, suffix)
    assert [(a.survey, a.question_id, a.group) for a in prepared.answers] == [
        ("Pew Global Attitudes (GlobalOpinionQA)", "GAS-0", (("country", "Belgium"),)),
        ("Pew Global Attitudes (GlobalOpinionQA)", "GAS-0", (("country", "South Korea"),)),
        ("World Values Survey (GlobalOpinionQA)", "WVS-1", (("country", "Taiwan"),)),
    ]
    assert prepared.answers[2].question == "How is the 'weather', \"really\"?"
    assert prepared.answers[1].extra["country_label"] == "S. Korea"
    assert prepared.answers[1].extra["country_iso3"] == "KOR"
    assert prepared.dropped == {}
    table = tmp_path / "table.parquet"
    write_table(prepared.answers, table)
    again = read_table(table)
    assert again == prepared.answers
    assert [a.extra for a in again] == [a.extra for a in prepared.answers]


def test_dont_know_is_left_out_and_kept_as_a_share(tmp_path):
    answer = only(prepared := load(tmp_path, [row({"Kenya": [0.3, 0.5, 0.2]})]))
    assert answer.options == ("Agree", "Disagree")
    assert answer.probs == pytest.approx((0.375, 0.625))
    assert answer.extra["item_nonresponse"] == pytest.approx(0.2)
    assert prepared.repaired == {shares.NO_ANSWER_OPTIONS: 1}


def test_missing_and_not_asked_are_no_part_of_the_share_of_dont_know(tmp_path):
    options = ["Yes", "No", '"Dont know"', "No answer", "Other missing; Multiple answers Mail (EVS)"]
    answer = only(load(tmp_path, [row({"Kenya": [0.3, 0.3, 0.1, 0.1, 0.2]}, options, source="WVS")]))
    assert answer.options == ("Yes", "No")
    assert answer.probs == pytest.approx((0.5, 0.5))
    assert answer.extra["item_nonresponse"] == pytest.approx(0.2 / 0.8)


def test_numbers_among_the_options_make_an_ordinal_scale(tmp_path):
    options = ["Not at all", 1.0, 2.0, 3.0, "Very"]
    answer = only(load(tmp_path, [row({"Kenya": [0.2] * 5}, options)]))
    assert answer.options == ("Not at all", "1", "2", "3", "Very")
    assert answer.scale == "ordinal"


@pytest.mark.parametrize(
    ("options", "values", "mended"),
    [
        (["Yes", "likely", "No", "not likely"], [0.6, 0.4], ("Yes, likely", "No, not likely")),
        (
            ["Tea (green", "black", "or white)", "Coffee", "al dente"],
            [0.6, 0.3, 0.1],
            ("Tea (green, black, or white)", "Coffee", "al dente"),
        ),
    ],
)
def test_options_split_at_commas_are_joined_where_only_one_way_fits(tmp_path, options, values, mended):
    prepared = load(tmp_path, [row({"Kenya": values, "Ghana": values[::-1]}, options)])
    assert {a.options for a in prepared.answers} == {mended}
    assert prepared.answers[0].probs == pytest.approx(values)
    assert prepared.repaired == {shares.MENDED_LIST: 2}


def test_zeros_in_all_of_three_countries_are_filling_of_a_split_list(tmp_path):
    options, countries = ["Yes", "likely", "No", "not likely"], ("Kenya", "Ghana", "Peru")
    prepared = load(tmp_path, [row({c: [0.6, 0.4, 0.0, 0.0] for c in countries}, options)])
    assert [(a.options, a.probs) for a in prepared.answers] == [(("Yes, likely", "No, not likely"), (0.6, 0.4))] * 3
    assert prepared.repaired == {shares.MENDED_LIST: 3}


def test_zeros_of_few_countries_or_not_of_all_are_answers(tmp_path):
    options = ["Good", "so-so", "Bad"]
    few = row({"Kenya": [0.6, 0.4, 0.0], "Ghana": [1.0, 0.0, 0.0]}, options)
    used = row({"Kenya": [0.6, 0.4, 0.0], "Ghana": [1.0, 0.0, 0.0], "Peru": [0.0, 0.9, 0.1]}, options)
    prepared = load(tmp_path, [few, used])
    assert {a.options for a in prepared.answers} == {tuple(options)}
    assert prepared.repaired == {}


@pytest.mark.parametrize(
    "options",
    [
        ["Yes", "No", "Maybe", "So"],  # no hint which comma was inside a text
        ["Tea", "or coffee", "Water", "or milk", "or juice", "Beer"],  # the hint gives three options, not two
    ],
)
def test_options_that_cannot_be_mended_are_dropped(tmp_path, options):
    good = row({"Kenya": [1.0, 0.0, 0.0]})
    prepared = load(tmp_path, [good, row({"Kenya": [0.5, 0.5], "Ghana": [0.5, 0.5]}, options)])
    assert len(prepared.answers) == 1
    assert prepared.dropped == {shares.SPLIT_LIST: 2}


def test_two_ways_to_mend_are_none():
    options = ["Tea (green", "black)", "al dente", "Beer"]
    assert mend_split(options, 3, exact=True) == ("Tea (green, black)", "al dente", "Beer")
    assert mend_split(options, 2, exact=True) == ("Tea (green, black), al dente", "Beer")
    assert mend_split(options, 2, exact=False) is None  # the last of three options may be one that nobody took


def test_lower_case_options_with_a_share_each_are_no_split():
    options = ["Agree", "neither agree nor disagree", "disagree"]
    assert mend_split(options, 3, exact=True) == tuple(options)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([0.0, 0.0, 0.0], shares.ZERO_SUM),
        ([0.5, 0.3, 0.0], shares.BAD_SUM),
        ([0.9, 0.9, 0.0], shares.BAD_SUM),
        ([-0.5, 1.5, 0.0], shares.BAD_SHARE),
        ([0.0, 0.0, 1.0], shares.NO_ANSWERS),
    ],
)
def test_shares_that_are_no_distribution_are_dropped(tmp_path, values, reason):
    prepared = load(tmp_path, [row({"Kenya": [0.5, 0.5, 0.0], "Ghana": values})])
    assert only(prepared).group == (("country", "Kenya"),)
    assert prepared.dropped == {reason: 1}


def test_nan_is_dropped(tmp_path):
    broken = row({"Kenya": [0.5, 0.5, 0.0], "Ghana": [float("nan"), 0.5, 0.5]})
    assert "[nan, 0.5" in broken["selections"]
    assert load(tmp_path, [broken]).dropped == {shares.BAD_SHARE: 1}


def test_rounded_percents_are_renormalised(tmp_path):
    prepared = load(tmp_path, [row({"Kenya": [0.49, 0.49, 0.0]})])
    assert only(prepared).probs == pytest.approx((0.5, 0.5))
    assert prepared.repaired[shares.ROUNDED] == 1


def test_sub_national_samples_are_dropped(tmp_path):
    third = [0.5, 0.5, 0.0]
    prepared = load(tmp_path, [row({"China (Non-national sample)": third, "Northern Ireland": third, "Japan": third})])
    assert only(prepared).group == (("country", "Japan"),)
    assert prepared.dropped == {shares.SUB_NATIONAL: 2}


def test_the_current_national_sample_goes_before_the_old_one(tmp_path):
    both = {"India (Old national sample)": [1.0, 0.0, 0.0], "India (Current national sample)": [0.0, 1.0, 0.0]}
    prepared = load(tmp_path, [row(both)])
    assert only(prepared).probs == (0, 1)
    assert only(prepared).group == (("country", "India"),)
    assert prepared.dropped == {shares.SECOND_SAMPLE: 1}


def test_shifted_country_labels_of_the_wvs_part_are_dropped(tmp_path):
    half = [0.5, 0.5, 0.0]
    countries = ["Andorra", "Argentina", "Armenia", "Australia", "Albania", "Austria", "Azerbaijan", "Bangladesh"]
    rows = [row(dict.fromkeys([*countries, "Bolivia"], half), source=s) for s in ("WVS", "GAS")]
    prepared = load(tmp_path, rows)
    assert [a.question_id for a in prepared.answers] == ["WVS-0", *["GAS-1"] * 9]
    assert prepared.dropped == {shares.SHIFTED: 8}


def test_own_leader_questions_are_marked_and_dropped_where_several_countries_answered(tmp_path):
    from survey_jax.sources.published.global_opinion_qa import OWN_LEADER

    text = "Now I'd like to ask about some additional political leaders. What of Jane Roe?"
    rows = [
        row({"India": [0.5, 0.5, 0.0], "Peru": [0.1, 0.9, 0.0]}, question=text),
        row({"India": [0.5, 0.5, 0.0]}, question=text),
        row({"India": [0.5, 0.5, 0.0], "Peru": [0.1, 0.9, 0.0]}, question="Do men make better political leaders?"),
    ]
    prepared = load(tmp_path, rows)
    assert prepared.dropped == {OWN_LEADER: 2}
    assert [(a.question_id, a.extra["country_specific_label"]) for a in prepared.answers] == [
        ("GAS-1", True),
        ("GAS-2", False),
        ("GAS-2", False),
    ]


def test_rows_without_question_or_options_are_dropped(tmp_path):
    half = {"Kenya": [0.5, 0.5, 0.0]}
    rows = [row(half, question=""), {**row(half), "options": ""}, row(half), row(half, ["Yes", "yes", "DK/Refused"])]
    prepared = load(tmp_path, rows)
    assert only(prepared).question_id == "GAS-2"
    assert prepared.dropped == {"no question text": 1, "no answer options": 1, "two equal answer options": 1}


def test_unknown_countries_are_dropped_and_named(tmp_path):
    prepared = load(tmp_path, [row({"Narnia": [0.5, 0.5, 0.0], "Kenya": [0.5, 0.5, 0.0]})])
    assert prepared.dropped == {shares.UNKNOWN_COUNTRY: 1}
    assert prepared.notes == ["1 country name not recognised: Narnia"]


BROKEN = {
    "code": ({"selections": "defaultdict(<class 'list'>, {'Kenya': [print('run')]})"}, "is no Python literal"),
    "no dictionary": ({"selections": "[0.5, 0.5]"}, "selections must hold a dictionary"),
    "options": ({"options": "'Yes', 'No'"}, "options must hold a list"),
    "source": ({"source": "ESS"}, "source is 'ESS', not GAS or WVS"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_cell_that_is_not_as_published_is_refused_with_its_row(tmp_path, name):
    change, reason = BROKEN[name]
    good = row({"Kenya": [0.5, 0.5, 0.0]})
    with pytest.raises(UserError, match=f"row 2: .*({reason})") as error:
        load(tmp_path, [good, {**good, **change}])
    assert "\n" not in str(error.value)


def test_absent_file_and_absent_column(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv: no such file"):
        sources.load("global_opinion_qa", sources.Request(str(tmp_path / "none.csv")))
    (tmp_path / "x.csv").write_text("question,options\na,b\n")
    with pytest.raises(UserError, match="has no column 'selections'; it has question, options"):
        sources.load("global_opinion_qa", sources.Request(str(tmp_path / "x.csv")))


def test_hub_id_reads_every_split(monkeypatch):
    published = datasets.DatasetDict(train=datasets.Dataset.from_list([row({"Kenya": [0.5, 0.5, 0.0]})]))
    monkeypatch.setattr(datasets, "load_dataset", lambda name: {"Anthropic/llm_global_opinions": published}[name])
    prepared = sources.load("global_opinion_qa", sources.Request("Anthropic/llm_global_opinions"))
    assert only(prepared).group == (("country", "Kenya"),)


def test_unreachable_hub_says_what_to_do(monkeypatch):
    def unreachable(name):
        raise ConnectionError(f"Couldn't reach {name}\non the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(
        UserError, match=r"did not give it: Couldn't reach .*download it and give the file's path"
    ) as error:
        sources.load("global_opinion_qa", sources.Request("Anthropic/llm_global_opinions"))
    assert "\n" not in str(error.value)


def test_the_adapter_refuses_options_it_has_no_use_for():
    with pytest.raises(UserError, match="--min_n: the source global_opinion_qa has no use for it"):
        sources.load("global_opinion_qa", sources.Request("x.csv", min_n=5))


NO_ANSWER = [
    "DK/Refused",
    "DK",
    "Don't know",
    "Don’t know",
    '"Dont know"',
    "Refused",
    "No answer",
    "Don't know/refused",
]
NOT_ASKED = [
    "Missing; Not available",
    "Other missing; Multiple answers Mail (EVS)",
    "INAP: No internet",
    "Not applicable",
]
ANSWERS = [
    "No",
    "Never heard of (VOL)",
    "Not a problem",
    "No difference",
    "Neither (VOL)",
    "Other",
    "Not sure",
    "No answer is right",
]


def test_what_counts_as_an_answer():
    assert [o for o in NO_ANSWER + NOT_ASKED + ANSWERS if is_no_answer(clean(o))] == NO_ANSWER
    assert [o for o in NO_ANSWER + NOT_ASKED + ANSWERS if is_not_asked(clean(o))] == NOT_ASKED


def test_scales_of_words_are_unknown():
    assert scale(["Always", "Often", "Rarely", "Never"]) is None
    assert scale(["Never", "2", "3", "4", "5", "Always"]) == "ordinal"
    assert scale(["1990", "2000", "2010"]) is None
