"""The paper's processed files: small files in the exact published format, with invented texts, one test per quirk."""

import json

import pytest

from survey_jax import sources
from survey_jax.common.errors import UserError
from survey_jax.sources.published import paper_json, shares

EN, ZH = "How would someone from {} answer the following question:\n\n", "来自{}的人会如何回答以下问题：\n\n"


def item(
    number="164", country="Kenya", options=("(A)Yes", "(B)No"), dist=None, data_type="valid", text="Tea?", zh=False
):
    """An object of the World Values Survey files: the id is text, shares are percentages."""
    return {
        "id": number,
        "instruction": (ZH if zh else EN).format(country),
        "input": text + (" \n以下是选项：\n" if zh else " \nHere are the options: \n"),
        "options": list(options),
        "options_dist": dist or {"B": 75.0, "A": 25.0},
        "data_type": data_type,
    }


def pew(number=347, **changes):
    """An object of the Pew file: the id is a row of GlobalOpinionQA, shares are fractions padded with zeros."""
    return item(number=number, data_type="test", **{"dist": {"A": 0.25, "B": 0.75}, **changes})


def load(path, items):
    file = path / "data.json"
    file.write_text(json.dumps(items, indent=4))
    return sources.load("paper_json", sources.Request(str(file)))


def only(prepared):
    (answer,) = prepared.answers
    return answer


def test_percentages_in_any_order_of_letters(tmp_path):
    prepared = load(tmp_path, [item()])
    answer = only(prepared)
    assert (answer.survey, answer.wave, answer.question_id) == ("World Values Survey", "7", "Q164")
    assert (answer.question, answer.options) == ("Tea?", ("Yes", "No"))
    assert answer.probs == pytest.approx((0.25, 0.75))
    assert answer.group == (("country", "Kenya"),)
    assert answer.extra["paper_block"] == "C1 x Q2"
    assert prepared.repaired == {shares.RESCALED: 1}


def test_fractions_stay_fractions(tmp_path):
    prepared = load(tmp_path, [pew()])
    answer = only(prepared)
    assert (answer.survey, answer.question_id, answer.wave) == ("Pew Global Attitudes", "goqa-347", None)
    assert answer.probs == pytest.approx((0.25, 0.75))
    assert prepared.repaired == {}


def test_one_file_may_mix_both_scales(tmp_path):
    prepared = load(tmp_path, [item(), item(country="Ghana", dist={"A": 0.4, "B": 0.6})])
    assert [a.probs for a in prepared.answers] == [pytest.approx((0.25, 0.75)), pytest.approx((0.4, 0.6))]


@pytest.mark.parametrize("dist", [{"A": 0, "B": 1, "C": 2, "D": 3}, {"A": 20.0, "B": 20.0}, {"A": 1.0, "B": 1.0}])
def test_numbers_that_are_no_shares_are_dropped(tmp_path, dist):
    options = [f"({letter})Option {letter}" for letter in dist]
    prepared = load(tmp_path, [item(), item(country="Ghana", dist=dist, options=options)])
    assert len(prepared.answers) == 1
    assert prepared.dropped == {shares.BAD_SUM: 1}


def test_a_letter_without_a_share_is_zero(tmp_path):
    answer = only(load(tmp_path, [item(options=["(A)Yes", "(B)No", "(C) Maybe"], dist={"B": 100.0})]))
    assert answer.options == ("Yes", "No", "Maybe")
    assert answer.probs == (0, 1, 0)


def test_code_0_is_the_letter_x_and_comes_first(tmp_path):
    options = ["(A)Not essential", "(B)2", "(C)Essential", "(X)Against it"]
    prepared = load(tmp_path, [item(number="241", options=options, dist={"X": 10.0, "A": 20.0, "B": 30.0, "C": 40.0})])
    answer = only(prepared)
    assert answer.options == ("Against it", "Not essential", "2", "Essential")
    assert answer.probs == pytest.approx((0.1, 0.2, 0.3, 0.4))
    assert prepared.repaired[paper_json.CODE_0_FIRST] == 1


def test_code_0_without_an_option_is_left_out_and_counted(tmp_path):
    prepared = load(tmp_path, [item(dist={"X": 20.0, "A": 20.0, "B": 60.0})])
    assert only(prepared).probs == pytest.approx((0.25, 0.75))
    assert prepared.repaired[paper_json.CODE_0_LEFT_OUT] == 1


def test_another_letter_without_an_option_is_dropped(tmp_path):
    prepared = load(tmp_path, [item(), item(country="Ghana", dist={"A": 50.0, "B": 25.0, "C": 25.0})])
    assert only(prepared).group == (("country", "Kenya"),)
    assert prepared.dropped == {paper_json.NO_OPTION: 1}


def test_countries_that_the_paper_counts_twice(tmp_path):
    prepared = load(tmp_path, [item(country="Nigeria", data_type=t) for t in ("test_4", "test_7")])
    assert only(prepared).extra["paper_block"] == "C2 x Q3 + C3 x Q3"
    assert prepared.dropped == {paper_json.TWICE: 1}


def test_a_second_copy_with_other_shares_has_its_own_reason(tmp_path):
    prepared = load(tmp_path, [item(data_type="test_4"), item(data_type="test_7", dist={"A": 50.0, "B": 50.0})])
    assert only(prepared).extra["paper_block"] == "C2 x Q3"
    assert prepared.dropped == {paper_json.TWICE_DIFFERENT: 1}


def test_all_blocks_of_the_paper():
    assert set(paper_json.BLOCKS.values()) == {f"C{c} x Q{q}" for c in (1, 2, 3) for q in (1, 2, 3)}


def test_chinese(tmp_path):
    answer = only(load(tmp_path, [item(country="Taiwan ROC", options=["(A) 是", "(B)否"], text="茶？", zh=True)]))
    assert (answer.question, answer.options, answer.language) == ("茶？", ("是", "否"), "zh")
    assert answer.group == (("country", "Taiwan"),)


def test_the_pew_file_carries_the_defects_of_global_opinion_qa(tmp_path):
    split = ["(A)Yes", "(B)likely", "(C)No", "(D)not likely"]
    padded = {"A": 0.6, "B": 0.4, "C": 0.0, "D": 0.0}
    dk = ["(A)Yes", "(B)No", "(C)DK/Refused"]
    items = [
        pew(1, options=split, dist=padded),
        pew(1, options=split, dist={"A": 1.0, "B": 0.0, "C": 0.0, "D": 0.0}, country="Ghana"),
        pew(2, options=dk, dist={"A": 0.2, "B": 0.6, "C": 0.2}),
        pew(3, country="Brazil (Non-national sample)"),
        pew(4, dist={"A": 0.0, "B": 0.0}),
    ]
    prepared = load(tmp_path, items)
    assert [a.options for a in prepared.answers] == [("Yes, likely", "No, not likely")] * 2 + [("Yes", "No")]
    assert [a.probs for a in prepared.answers] == [
        pytest.approx((0.6, 0.4)), pytest.approx((1, 0)), pytest.approx((0.25, 0.75))
    ]  # fmt: skip
    assert prepared.answers[2].extra["item_nonresponse"] == pytest.approx(0.2)
    assert prepared.repaired == {shares.MENDED_LIST: 2, shares.NO_ANSWER_OPTIONS: 1}
    assert prepared.dropped == {shares.SUB_NATIONAL: 1, shares.ZERO_SUM: 1}


def test_wvs_rows_of_the_pew_file_are_told_apart_and_lose_shifted_labels(tmp_path):
    options = ["(A)Yes", "(B)No", '(C)"Dont know"', "(D)No answer", "(E)Missing; Not available"]
    dist = {"A": 0.4, "B": 0.4, "C": 0.2, "D": 0.0, "E": 0.0}
    prepared = load(tmp_path, [pew(2300, options=options, dist=dist, country=c) for c in ("Armenia", "Bolivia")])
    answer = only(prepared)
    assert (answer.survey, answer.group) == ("World Values Survey (GlobalOpinionQA)", (("country", "Bolivia"),))
    assert (answer.options, answer.extra["item_nonresponse"]) == (("Yes", "No"), pytest.approx(0.2))
    assert prepared.dropped == {shares.SHIFTED: 1}


def test_shifted_labels_are_a_matter_of_global_opinion_qa_only(tmp_path):
    assert only(load(tmp_path, [item(country="Armenia")])).group == (("country", "Armenia"),)


BROKEN = {
    "no country": ({"instruction": "Answer:\n"}, "instruction names no country: 'Answer:"),
    "options without letters": ({"options": ["Yes", "No"]}, r"expected options of the form '\(A\)text'"),
    "shares in a list": ({"options_dist": [25, 75]}, r"expected options of the form '\(A\)text' and their shares"),
    "text as share": ({"options_dist": {"A": "many", "B": 1}}, "could not convert string to float"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_object_of_another_form_is_refused_with_its_row(tmp_path, name):
    change, reason = BROKEN[name]
    with pytest.raises(UserError, match=f"row 2: {reason}"):
        load(tmp_path, [item(), {**item(country="Ghana"), **change}])


def test_a_file_of_another_form(tmp_path):
    with pytest.raises(UserError, match="has no column 'options'"):
        load(tmp_path, [{"id": 1, "instruction": "", "input": "", "output": "89.54% of people select option A"}])
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match=r"bad\.json: cannot be read: "):
        sources.load("paper_json", sources.Request(str(tmp_path / "bad.json")))
