"""The page of a survey table: its numbers, that texts from outside stay texts, and that nothing is loaded."""

import re
from pathlib import Path

import pytest

from pages import Page, browse
from survey_jax.inputs.prompts import who
from survey_jax.survey.overview import by_question
from survey_jax.survey.report.table_page import TableFacts, render
from survey_jax.survey.table import Answer
from survey_jax.survey.weights import Weights

EVIL = "</script><script>alert(1)</script><b onclick=alert(2)>&\"'<!--"
WEIGHTS = Weights(("w",), people=200, zero=10, none=30, mean=1.25, low=0.5, high=4.0, design_effect=1.44)
FACTS = TableFacts("panel.csv", 200, WEIGHTS, {"too few": 3}, {"a comma": 2}, ["30 have no weight"])
NO_FACTS = TableFacts("panel.parquet", None, None, {}, {}, [])


def answer(group: dict[str, str], probs: tuple[float, ...], **other: object) -> Answer:
    about: dict = {
        "survey": "City",
        "question_id": "q1",
        "question": "Fair?",
        "options": ("Yes", "No", "Maybe"),
        "n": 80.0,
    }
    return Answer(**(about | {"group": tuple(group.items()), "probs": probs} | other))


ROWS = [
    answer({"country": "Kenya"}, (0.25, 0.75, 0.0), n_effective=61.0, extra={"item_nonresponse": 0.125}),
    answer({"country": "Peru", "sex": "female"}, (0.5, 0.499, 0.001), n=90.0),
]
TOPLINE = answer({}, (0.3, 0.69, 0.01), n=170.0, n_effective=118.0, extra={"item_nonresponse": 0.05})


def test_it_has_the_toplines_and_the_row_of_every_group():
    page = Page(render(ROWS, by_question(ROWS, [TOPLINE]), FACTS, who))
    rows = {row[0]: [cell.replace("\xa0", " ") for cell in row[1:]] for row in page.rows}
    assert rows["Kenya"] == ["80", "61", "12.5 %", "25%", "75%", "0%"]
    assert rows["Peru, female"] == ["90", "unknown", "unknown", "50%", "50%", "<1%"]
    assert rows["Yes"] == ["30%", ""]
    assert "All respondents: n 170, effective 118, no answer 5.0 %" in page.all_text.replace("\xa0", " ")
    assert rows["country"] == ["1", "1", "80", "someone from Kenya"]
    assert rows["country+sex"] == ["1", "1", "90", "someone from Peru, who is female"]
    bars = [a["style"] for tag, a in page.tags if a.get("class") == "bar people"]
    assert bars == ["width: 30.0%", "width: 69.0%", "width: 1.0%"]


def test_it_says_what_the_weights_do_and_what_was_left_out():
    text = Page(render(ROWS, by_question(ROWS, [TOPLINE]), FACTS, who)).all_text.replace("\xa0", " ")
    for said in (
        "Mean 1.25",
        "Range 0.5 to 4",
        "Design effect 1.44",
        "10 respondents, 5.0 %",
        "30 respondents, 15.0 %",
    ):
        assert said in text
    for said in ("3 rows dropped: too few", "2 rows mended: a comma", "30 have no weight"):
        assert said in text


def test_a_table_without_respondents_has_no_toplines_and_says_what_is_unknown():
    page = Page(render(ROWS, by_question(ROWS), NO_FACTS, who))
    assert "All respondents" not in page.all_text
    assert "unknown: the source has shares, not respondents" in page.all_text
    assert [a for tag, a in page.tags if tag == "details"] == [{"open": None}]


def test_texts_from_outside_stay_texts_and_nothing_is_loaded():
    words = {"survey": EVIL, "question_id": EVIL, "question": EVIL, "options": (EVIL, EVIL + "2"), "wave": EVIL}
    about = {"about": {EVIL: EVIL}}
    rows = [answer({EVIL: EVIL}, (0.5, 0.5), **words, extra=about)]
    top = answer({}, (0.5, 0.5), **words)
    facts = TableFacts(EVIL, 5, WEIGHTS, {EVIL: 1}, {EVIL: 1}, [EVIL])
    text = render(rows, by_question(rows, [top]), facts, who)
    page = Page(text)
    assert not {"script", "b", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.all_text.count(EVIL) > 10
    assert "http" not in text.replace("http-equiv", "").replace(EVIL, "")
    assert "default-src 'none'" in text
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for _, a in page.tags if "href" in a} <= set(ids)


@pytest.mark.parametrize("width", [390, 1300])
def test_a_browser_need_not_scroll_sideways(chromium: str, tmp_path: Path, width: int):
    """With long words from outside, too, and what is folded away unfolded."""
    words = {"survey": "S" * 150, "question": "q" * 200, "options": ("o" * 80, *("b" * i for i in range(60, 70)))}
    shares = (1 / 11,) * 11
    rows = [answer({"a" * 60: "g" * 90}, shares, **words), answer({"country": "Kenya"}, shares, **words)]
    text = render(rows, by_question(rows, [answer({}, shares, **words)]), FACTS, who)
    then = """
      const page = this.contentDocument;
      page.querySelectorAll('details').forEach((part) => { part.open = true; });
      const widths = [this.contentWindow.innerWidth, page.documentElement.scrollWidth];
      document.querySelector('pre').textContent = widths.join(' ')"""
    said, console = browse(chromium, text, tmp_path, then, width)
    assert console == []
    inner, whole = map(int, re.findall(r"\d+", said))
    assert inner == width
    assert whole <= inner
