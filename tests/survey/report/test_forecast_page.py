"""The page of predictions: its numbers are those of the forecasts, texts stay texts, limits are said."""

import base64
import dataclasses
import hashlib
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

from pages import Page, browse
from survey_jax.common.errors import UserError
from survey_jax.survey.prediction.forecast import Forecast, Similar, difference
from survey_jax.survey.report import forecast_page
from survey_jax.survey.report.forecast_page import ForecastFacts, render
from survey_jax.survey.table import Answer

FERRIES = "How satisfied are you with the harbour ferries?"
SATISFIED = ("Very satisfied", "Fairly satisfied", "Not satisfied")
SQUARE = "What would you rather see built on the market square?"
BUILT = ("A library", "A garden", "Nothing")
COUNTRIES = ("Kenya", "Peru", "Japan", "Norway")
EVIL = "</script><script>alert(1)</script><b onclick=alert(2)>&\"'<!--"
FACTS = ForecastFacts(
    model="Heron 2B", checkpoint="step 900 (best)", trained_questions=3120, trained_groups=61,
    surveys=("Village Survey", "Town Panel"), date="2031-02-03", remarks=("Nobody in Atlantis was asked before.",),
    weights={"new question": {"half_seen_mean": 0.62, "model": 0.38}},
    model_adds={"new question": "Here the language model adds nothing to the rule."},
)  # fmt: skip


def forecast(group: str, shares, concentration=20.0, attribute="country", **asked) -> Forecast:
    """A forecast of the ferries question unless `asked` says otherwise."""
    asked = {"survey": "Harbour", "question_id": "q1", "question": FERRIES, "options": SATISFIED, "scale": "ordinal",
             **asked}  # fmt: skip
    even = (1 / len(shares),) * len(shares)
    known = Answer("Town Panel", "t7", "Do you like the street lamps?", ("Yes", "No"), (("age", "50+"),), (0.5, 0.5))
    return Forecast(
        answer=Answer(group=((attribute, group),), probs=even, **asked),
        shares=np.array(shares),
        concentration=concentration,
        kind="new question",
        members={"half_seen_mean": (0.62, np.array(shares)), "model": (0.38, np.array(shares)[::-1])},
        similar=(Similar(known, 0.714),),
    )


def ferries(groups=COUNTRIES, **asked) -> list[Forecast]:
    rng = np.random.default_rng(2)
    return [forecast(g, rng.dirichlet((4, 3, 2)), float(rng.uniform(9, 60)), **asked) for g in groups]


def square(groups=COUNTRIES, **asked) -> list[Forecast]:
    return ferries(groups, **{"question_id": "q2", "question": SQUARE, "options": BUILT, "scale": "nominal", **asked})


def section(page: str, name: str) -> Page:
    return Page(page.split(f'<section id="{name}"')[1].split("</section>")[0])


def test_the_table_has_the_numbers_of_every_forecast():
    """Intervals are those of Beta distributions, the error their mean absolute deviation, found by integration."""
    forecasts = ferries()
    rows = {row[0]: row[1:] for row in section(render(forecasts, FACTS), "question-1").rows if len(row) == 7}
    for f in forecasts:
        mean, *shares, misplaced, worth = (cell.replace("\xa0", " ") for cell in rows[f.answer.group[0][1]])
        betas = [stats.beta(f.concentration * q, f.concentration * (1 - q)) for q in f.shares]
        for text, q, beta in zip(shares, f.shares, betas, strict=True):
            assert text == f"{100 * q:.0f} % [{100 * beta.ppf(0.025):.0f} to {100 * beta.ppf(0.975):.0f}]"
        away = sum(
            integrate.quad(lambda x, b=b, q=q: abs(x - q) * b.pdf(x), 0, 1, points=[q])[0]
            for q, b in zip(f.shares, betas, strict=True)
        )
        assert float(misplaced) == pytest.approx(100 * away / 2, abs=0.51)
        assert worth == f"{f.concentration:.0f}"
        drawn = np.random.default_rng(0).dirichlet(f.concentration * f.shares, 20_000) @ [1, 2, 3]
        found = [float(number) for number in re.findall(r"[\d.]+", mean)]
        assert found[0] == pytest.approx(f.shares @ [1, 2, 3], abs=0.006)
        assert found[1:] == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=0.06)


def test_bars_have_the_numbers_of_their_groups():
    drawing = render(ferries(), FACTS).split('<svg class="plot"')[1].split("</svg>")[0]
    shown = sorted(int(text) for text in Page(drawing).text if text.isdigit())
    assert shown == sorted(round(100 * share) for f in ferries() for share in f.shares if share >= 0.08)


def test_the_top_says_what_was_asked_of_whom_and_how_sure_it_is():
    """Of unlike predictions it gives the median."""
    worth = {"Kenya": 5.0, "Peru": 16.0, "Japan": 400.0}
    forecasts = [forecast(group, (0.5, 0.3, 0.2), interviews) for group, interviews in worth.items()]
    top = section(render(forecasts, FACTS), "answer").all_text
    assert "3 predictions of what 3 groups of people would answer to 1 question of Harbour. Nobody was asked." in top
    assert f"expect {forecasts[1].misplaced:.0f} to be misplaced; a prediction is worth 16 interviews" in top
    for fact in ("Heron 2B, step 900 (best)", "3,120 questions and 61 groups of Town Panel, Village Survey"):
        assert fact in top
    for fact in (FACTS.date, "new question: 3", *FACTS.remarks):
        assert fact in top
    assert "No prediction has a caution" in top


def test_cautions_are_counted_at_the_top_and_name_their_groups_below():
    new, unlike = "The group was never seen.", "No question reads like it."
    forecasts = [
        dataclasses.replace(f, cautions=(unlike, *((new,) if f.answer.group[0][1] == "Peru" else ())))
        for f in ferries()
    ]
    page = render([*forecasts, *square()], FACTS)
    top = section(page, "answer").all_text
    assert f"4 of 8 predictions: {unlike}" in top
    assert f"1 of 8 predictions: {new}" in top
    below = section(page, "question-1").all_text
    assert f"{unlike} (all groups)" in below
    assert f"{new} (Peru)" in below
    assert unlike not in section(page, "question-2").all_text


def test_many_different_cautions_are_cut_and_it_is_said():
    groups = [f"town {i}" for i in range(forecast_page.CAUTIONS + 2)]
    forecasts = [dataclasses.replace(f, cautions=(f"Nobody in {f.answer.group} was asked.",)) for f in ferries(groups)]
    top = section(render(forecasts, FACTS), "answer").all_text
    assert top.count("of 12 predictions:") == forecast_page.CAUTIONS
    assert "2 other cautions, of fewer predictions, stand with the questions." in top


def in_order(page: Page, groups) -> list[str]:
    return [row[0] for row in page.rows if row and row[0] in groups and len(row) > 4]


def test_groups_stand_by_their_mean_where_options_are_ordered():
    forecasts = ferries()
    mean = {f.answer.group[0][1]: f.shares @ [1, 2, 3] for f in forecasts}
    shown = section(render(forecasts, FACTS), "question-1")
    assert in_order(shown, COUNTRIES) == sorted(mean, key=lambda g: -mean[g])
    assert "in the order of their mean, the largest first" in shown.all_text


@pytest.mark.parametrize("scale", ["nominal", None])
def test_groups_stand_by_the_option_that_differs_most_where_they_are_not(scale: str | None):
    shares = {
        "Kenya": (0.3, 0.5, 0.2),
        "Peru": (0.31, 0.2, 0.49),
        "Japan": (0.29, 0.65, 0.06),
        "Norway": (0.3, 0.3, 0.4),
    }
    forecasts = [forecast(g, s, question=SQUARE, options=BUILT, scale=scale) for g, s in shares.items()]
    shown = section(render(forecasts, FACTS), "question-1")
    assert in_order(shown, COUNTRIES) == ["Japan", "Kenya", "Norway", "Peru"]
    assert "their share of “A garden”" in shown.all_text
    assert "mean" not in shown.all_text
    assert ("Whether the options are ordered is not known" in shown.all_text) == (scale is None)


def test_one_group_alone_is_drawn_by_option():
    page = render(square(("50+",), attribute="age"), FACTS)
    figures = [a for tag, a in Page(page).tags if tag == "svg"]
    assert len(figures) == 1
    drawing = page.split('<svg class="plot"')[1].split("</svg>")[0]
    assert [text for text in Page(drawing).text if text in BUILT] == list(BUILT)


def test_what_is_not_drawn_is_said_and_in_the_table():
    """Groups at both ends are drawn; those between are not."""
    groups = tuple(f"town {i:02}" for i in range(forecast_page.GROUPS + 3))
    page = render(ferries(groups, attribute="town"), FACTS)
    shown = section(page, "question-1")
    assert (
        "Drawn are the 15 at either end; 3 groups between them, at the dashed line, are in the table only."
        in shown.all_text
    )
    order = [row[0] for row in shown.rows if len(row) == 7 and row[0] in groups]
    assert sorted(order) == sorted(groups)
    for drawing in page.split('<svg class="plot"')[1:]:
        drawn = [text for text in Page(drawing.split("</svg>")[0]).text if text in groups]
        assert drawn == order[:15] + order[-15:]
    members = section(page, "question-1").all_text.split("What each member said")[1]
    assert {g for g in groups if g in members} == {*order[:15], *order[-15:]}


def test_of_many_options_those_that_differ_most_are_drawn():
    options = tuple(f"colour {letter}" for letter in "abcdefgh")
    tilt = np.array([0, 3, 1, 4, 0.5, 5, 2, 0.1]) / 100
    shares = [1 / 8 + sign * (tilt - tilt.mean()) for sign in (1, -1, 0.5)]
    forecasts = [forecast(g, s, options=options, scale="nominal") for g, s in zip("xyz", shares, strict=True)]
    shown = section(render(forecasts, FACTS), "question-1")
    assert "Drawn are the 6 options that differ most between groups; 2 options are in the table only." in shown.all_text
    away = np.abs(tilt - tilt.mean())
    captions = [a["aria-label"].split(": ")[-1] for tag, a in shown.tags if tag == "svg"]
    assert captions == [o for o, d in zip(options, away, strict=True) if d in np.sort(away)[-6:]]


def test_questions_beyond_those_in_full_are_in_a_table(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(forecast_page, "QUESTIONS", 2)
    many = [f for i in range(5) for f in square(COUNTRIES[:2], question_id=f"r{i}", question=f"Is {i} enough?")]
    page = render(many, FACTS)
    assert "The first 2 questions are shown in full; the other 3 are in the" in section(page, "answer").all_text
    assert 'id="question-2"' in page
    assert 'id="question-3"' not in page
    others = section(page, "others")
    for number in (2, 3, 4):
        assert f"{number + 1}. Is {number} enough?" in others.all_text
    last = many[-1]
    row = [row for row in others.rows if row[0] == last.answer.group[0][1]][-1]
    assert f"A garden: {100 * last.shares[1]:.0f} %" in row[1].replace("\xa0", " ")
    assert row[2:] == [f"{last.misplaced:.0f}", f"{last.concentration:.0f}"]


def test_another_wave_or_wording_is_another_question():
    rows = [*ferries(), *ferries(wave="2032"), *ferries(question="Are the ferries good?")]
    page = render(rows, FACTS)
    assert "12 predictions of what 4 groups of people would answer to 3 questions" in section(page, "answer").all_text
    assert "Harbour, q1, 2032." in section(page, "question-2").all_text


def test_the_map_is_of_countries_only():
    def maps(forecasts) -> list[dict]:
        return [a for tag, a in Page(render(forecasts, FACTS)).tags if a.get("class") == "map"]

    assert len(maps(ferries())) == 1
    assert not maps(ferries(COUNTRIES[:2]))
    assert not maps(ferries(COUNTRIES, attribute="team"))
    by_age = [
        dataclasses.replace(f, answer=dataclasses.replace(f.answer, group=(*f.answer.group, ("sex", "women"))))
        for f in ferries()
    ]
    assert not maps(by_age)  # women of Kenya are not Kenya


@pytest.mark.parametrize("ordinal", [True, False])
def test_the_map_shows_the_mean_between_the_ends_or_the_first_option(ordinal: bool):
    forecasts = (ferries if ordinal else square)((*COUNTRIES, "Atlantis"))
    page = render(forecasts, FACTS)
    for f in forecasts[:4]:
        value = f.shares @ [0, 50, 100] if ordinal else 100 * f.shares[0]
        assert f"<title>{f.answer.group[0][1]}: {value:.1f}</title>" in page
    assert "Not on the map: Atlantis." in page
    assert ("0 if everybody says “Very satisfied”, 100 if everybody says “Not satisfied”" in page) == ordinal
    assert ("Predicted share of “A library” in percent" in page) != ordinal


def test_members_weights_and_similar_questions_are_shown():
    page = render(ferries(), FACTS)
    shown = section(page, "question-1")
    assert "0.71: Do you like the street lamps? (Town Panel, t7; Yes / No)" in shown.all_text
    assert shown.all_text.count("Do you like the street lamps?") == 1  # not once a group
    row = next(row for row in shown.rows if row[0] == "the language model")
    first = max(ferries(), key=lambda f: f.shares @ [1, 2, 3])  # the group that stands first
    assert row[1:] == ["0.38", *(f"{100 * share:.0f}\xa0%" for share in first.shares[::-1])]
    made = section(page, "made")
    assert FACTS.model_adds["new question"] in made.all_text
    assert ["the language model", "0.38"] in made.rows
    assert ["half the average of the groups asked before, half even", "0.62"] in made.rows


def evil_forecasts() -> list[Forecast]:
    made = ferries((*COUNTRIES, EVIL), question=EVIL, options=(EVIL, "b", "c"), survey=EVIL)
    made += square((*COUNTRIES, EVIL), question=EVIL, options=(EVIL, "b", "c"), survey=EVIL)
    known = Similar(dataclasses.replace(made[0].answer), 0.5)
    return [dataclasses.replace(f, cautions=(EVIL,), similar=(known,), kind=EVIL) for f in made]


EVIL_FACTS = ForecastFacts(EVIL, EVIL, 1, 1, (EVIL,), EVIL, (EVIL,), {EVIL: {EVIL: 1.0}}, {EVIL: EVIL})


@pytest.mark.parametrize("explore", [False, True])
def test_texts_from_outside_stay_texts(explore: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(forecast_page, "QUESTIONS", 1)
    page = Page(render(evil_forecasts(), EVIL_FACTS, explore))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == (2 if explore else 0)
    assert "b" not in tags
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.all_text.count(EVIL) > 20
    for name in ("question-1", "others", "made", "answer"):
        assert EVIL in section(render(evil_forecasts(), EVIL_FACTS, explore), name).all_text


@pytest.mark.parametrize("explore", [False, True])
def test_nothing_is_loaded_from_anywhere(explore: bool):
    page = render([*ferries(), *square()], FACTS, explore)
    assert "http" not in page.replace("http-equiv", "")
    for tag, attributes in Page(page).tags:
        assert tag not in ("link", "img", "iframe", "object")
        for name in ("href", "xlink:href", "src"):
            assert attributes.get(name, "#").startswith("#")
    assert page.count("url(") == page.count("url(#")
    assert "default-src 'none'" in page


def test_what_is_referred_to_is_there_once_and_figures_have_names(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(forecast_page, "QUESTIONS", 3)
    texts = render([*ferries(), *ferries(wave="2"), *square(), *square(wave="2")], FACTS, explore=True)
    page = Page(texts)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    targets = {v[1:] for _, a in page.tags for k, v in a.items() if k.endswith("href") and v.startswith("#")}
    assert targets | set(re.findall(r"url\(#([^)]*)\)", texts)) <= set(ids)
    assert len(ids) == len(set(ids))
    figures = [a for tag, a in page.tags if tag == "svg" and "aria-hidden" not in a]
    assert len(figures) == 3 + 3 + 4  # two of ordered options, three of the others, and a map each
    assert len({f["aria-label"] for f in figures}) == len(figures)
    assert all(f["role"] == "img" for f in figures)
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3", "h4")]
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_without_the_explorer_there_is_no_script_and_the_same_page_each_time():
    page = render(ferries(), FACTS)
    assert "script" not in page
    assert "explore" not in page
    assert page == render(ferries(), FACTS)


def test_the_explorers_data_are_those_of_the_forecasts():
    forecasts = [*square(), *ferries((*COUNTRIES, EVIL), question=EVIL)]
    page = render(forecasts, FACTS, explore=True)
    text = page.split('<script type="application/json" id="explore-data">')[1].split("</script>")[0]
    found = json.loads(text)
    assert [q["question"] for q in found] == [SQUARE, EVIL]
    assert found[0]["options"] == list(BUILT)
    for question, asked in zip(found, (forecasts[:4], forecasts[4:]), strict=True):
        groups = {group["name"]: group for group in question["groups"]}
        assert set(groups) == {f.answer.group[0][1] for f in asked}
        for f in asked:
            group = groups[f.answer.group[0][1]]
            beta = stats.beta(f.concentration * f.shares, f.concentration * (1 - f.shares))
            assert group["share"] == pytest.approx(f.shares, abs=1e-4)
            assert group["low"] == pytest.approx(beta.ppf(0.025), abs=1e-4)
            assert group["high"] == pytest.approx(beta.ppf(0.975), abs=1e-4)


def test_the_policy_allows_the_explorers_script_and_no_other():
    page = render(ferries(), FACTS, explore=True)
    script = page.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for tag, a in Page(page).tags if "http-equiv" in a)
    assert [part.strip() for part in policy.split(";") if "script" in part] == [f"script-src 'sha256-{digest}'"]


def test_a_page_of_nothing_is_refused():
    with pytest.raises(UserError, match="no predictions"):
        render([], FACTS)


def test_a_browser_shows_two_groups_side_by_side(chromium: str, tmp_path: Path):
    shares = {"Kenya": (0.2, 0.5, 0.3), "Peru": (0.6, 0.3, 0.1), EVIL: (0.4, 0.4, 0.2)}
    other = [forecast(g, s, question=SQUARE, options=(EVIL, *BUILT[1:]), scale="nominal") for g, s in shares.items()]
    then = """
      const page = this.contentDocument, choose = (name, text) => {
        const select = page.getElementById('explore-' + name);
        select.value = [...select.options].findIndex((option) => option.text.includes(text));
        select.dispatchEvent(new Event('change'));
      };
      choose('question', 'market'); choose('first', 'Kenya'); choose('second', '<script>');
      const cells = [...page.querySelectorAll('.explore tr')].map((row) => [...row.cells].map((c) => c.textContent));
      document.querySelector('pre').textContent = JSON.stringify(cells)"""
    said, console = browse(chromium, render([*ferries(), *other], FACTS, explore=True), tmp_path, then)
    assert console == []
    names, first, second, third = json.loads(said)
    assert names == ["option", "Kenya", EVIL, "differ\xadence"]
    assert [row[0] for row in (first, second, third)] == [EVIL, *BUILT[1:]]
    ends = zip(*difference(other[0], other[2]), strict=True)
    expected = [tuple(round(100 * end) for end in option) for option in ends]
    assert [tuple(map(int, re.findall(r"-?\d+", row[3]))) for row in (first, second, third)] == expected
    low, high = 100 * stats.beta(4, 16).ppf((0.025, 0.975))
    assert first[1].replace("\xa0", " ") == f"20 % [{low:.0f} to {high:.0f}]"


@pytest.mark.parametrize("width", [390, 1300])
def test_a_browser_need_not_scroll_sideways(chromium: str, tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch):
    """With long words from outside, too, and what is folded away unfolded."""
    monkeypatch.setattr(forecast_page, "QUESTIONS", 2)
    long = {"survey": "S" * 150, "question": "q" * 200, "options": ("o" * 80, "b" * 80, "c")}
    forecasts = [f for wave in "12" for f in ferries((*COUNTRIES, "g" * 90), wave=wave, **long)] + square(**long)
    then = """
      const page = this.contentDocument;
      page.querySelectorAll('details').forEach((part) => { part.open = true; });
      const widths = [this.contentWindow.innerWidth, page.documentElement.scrollWidth];
      document.querySelector('pre').textContent = widths.join(' ')"""
    facts = dataclasses.replace(FACTS, model="m" * 120, remarks=("r" * 120,))
    said, console = browse(chromium, render(forecasts, facts, explore=True), tmp_path, then, width)
    assert console == []
    inner, whole = map(int, said.split())
    assert inner == width
    assert whole <= inner
