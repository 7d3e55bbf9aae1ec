"""report.html: what is in it, that texts from outside stay texts, and that a real browser opens it in silence."""

import dataclasses
import itertools
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import made_scores
import populations
from pages import Page
from survey_jax.survey.countries import code
from survey_jax.survey.report import figures as figures_module
from survey_jax.survey.report import page as page_module
from survey_jax.survey.report import verdict, world_map
from survey_jax.survey.report.disclosure import data_sections, surveys
from survey_jax.survey.report.files import write_report
from survey_jax.survey.report.methods import Facts
from survey_jax.survey.splits import presets
from survey_jax.survey.table import Answer

SCRIPT = "<script>alert(1)</script>"
EVIL = {
    "question": f"{SCRIPT} Why?",
    "option": "<b onclick=alert(2)>&amp; \"x\" $x_1^2$ 'y'",
    "group": "</title><img src=x onerror=alert(3)>",
    "topic": "</td></table><script>alert(4)</script>",
    "survey": "<svg onload=alert(5)>",
    "source": "--><iframe src=javascript:alert(6)>",
    "about": "<script>alert(7)</script>",
    "term": "<b>sponsor</b>",
}
COUNTRIES = ("Kenya", "Peru", "Japan", "Norway", "Singapore")


def table(questions: int = 9, groups=COUNTRIES, n: float | None = 300, attribute: str = "country") -> list[Answer]:
    """Questions of three topics; shares from a made-up population."""
    rng = np.random.default_rng(1)
    truth, _ = populations.draw(rng, questions, len(groups))
    rows = populations.with_shares(populations.table(questions, len(groups), n=n), truth)
    return [
        dataclasses.replace(
            row, group=((attribute, groups[i % len(groups)]),), extra={"topic": f"topic {i // len(groups) % 3}"}
        )
        for i, row in enumerate(rows)
    ]


def evil_table() -> list[Answer]:
    rows = table(groups=(*COUNTRIES, EVIL["group"]))
    return [
        dataclasses.replace(
            a, question=EVIL["question"], options=(EVIL["option"], *a.options[1:]), survey=EVIL["survey"],
            source=EVIL["source"],
            extra={"topic": EVIL["topic"] if i % 2 else "other", "about": {EVIL["term"]: EVIL["about"]}},
        )
        for i, a in enumerate(rows)
    ]  # fmt: skip


FACTS = Facts(
    model="hub/model", revision="abc", stored_as="float32", checkpoint="step 9 (best)", training="LoRA of rank 4",
    template="question_first", date="2026-07-14", preset="", seed="0", versions={"survey_jax": "1.0"},
)  # fmt: skip


def write(path: Path, rows: list[Answer], *names: str, preset: str = "", failed: tuple[int, ...] = ()) -> str:
    model = made_scores.noisy(rows, 0.3)
    model[list(failed)] = np.nan
    splits = {name: made_scores.split(rows, name, model) for name in names or ("unseen_question",)}
    card = data_sections(rows, "counts", "leaks")
    write_report(path, splits, [], rows, card, dataclasses.replace(FACTS, preset=preset))
    return (path / "report.html").read_text(encoding="utf-8")


def test_the_page_of_many_splits_can_be_mailed(tmp_path: Path):
    rows = table(20, groups=tuple(f"group {i}" for i in range(100)))
    scored = made_scores.split(rows)
    splits = {name: dataclasses.replace(scored, name=name) for name in ("valid", *"abcdefgh")}
    write_report(tmp_path, splits, [], rows, data_sections(rows, "counts", "leaks"), FACTS)
    assert (tmp_path / "report.html").stat().st_size < 3e6


def test_texts_from_outside_stay_texts(tmp_path: Path):
    page = Page(write(tmp_path, evil_table()))
    assert not {"script", "img", "iframe", "b", "object", "link"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    for text in EVIL.values():
        assert " ".join(text.split()) in page.all_text or text[: figures_module._LABEL - 1] in page.all_text


def test_option_texts_are_shown_as_they_are_inside_figures(tmp_path: Path):
    """No mathematics, no markup: matplotlib takes dollar signs for formulas unless told not to."""
    rows = [dataclasses.replace(a, options=("$5 or $10", "<i>a & b</i>", "c\nd", "国")) for a in table()]
    html = write(tmp_path, rows)
    figures = Page("".join(part.split("</svg>")[0] for part in html.split('<svg class="plot"')[1:]))
    for text in ("$5 or $10", "<i>a & b</i>", "c d", "国"):
        assert text in figures.text


def test_nothing_is_loaded_from_anywhere(tmp_path: Path):
    html = write(tmp_path, table())
    assert "http" not in html.replace("http-equiv", "")
    for _, attributes in Page(html).tags:
        for name in ("href", "xlink:href", "src"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;"))
    assert "url(#" in html
    assert html.count("url(") == html.count("url(#")


def test_what_is_referred_to_is_there_once(tmp_path: Path):
    page = Page(write(tmp_path, table(), "a", "b"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    targets = {v[1:] for _, a in page.tags for k, v in a.items() if k.endswith("href") and v.startswith("#")}
    assert targets <= set(ids)
    assert len(ids) == len(set(ids))


def test_the_same_evaluation_gives_the_same_page(tmp_path: Path):
    assert write(tmp_path, table()) == write(tmp_path, table())


def test_every_figure_and_table_has_a_name(tmp_path: Path):
    page = Page(write(tmp_path, table()))
    figures = [attributes for tag, attributes in page.tags if tag == "svg" and "aria-hidden" not in attributes]
    assert len(figures) == 1 + 3 + 1 + 6  # skill, diagnostics, map, examples
    assert all(f["role"] == "img" and f["aria-label"] for f in figures)
    scrolling = [a for tag, a in page.tags if tag == "div" and a.get("class") == "scroll"]
    assert scrolling
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in scrolling)
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))  # no level is skipped


def test_published_scores_stand_beside_the_papers_splits_only(tmp_path: Path):
    in_paper = write(tmp_path, table(), "C1Q3", "valid", preset="paper")
    assert in_paper.count("Cao et al. 2025, fine-tuned<") == 1
    assert "0.777" in in_paper
    without = write(tmp_path, table(), "C1Q3")
    assert "Cao et al. 2025, fine-tuned<" not in without
    assert "ublished score" not in without  # nothing is said of what is not there


def first_screen(html: str) -> str:
    """The answer's section, without what follows."""
    return html.split('<section id="answer">')[1].split("</section>")[0]


def test_the_first_screen_says_what_was_asked_by_whom_when_and_the_verdict(tmp_path: Path):
    html = write(tmp_path, table(), "valid", "unseen_question", "unseen_group", "unseen_both")
    assert html.index('<section id="answer">') < html.index("<h2>")
    text = Page(first_screen(html)).all_text
    for said in (
        "9 questions of 1 survey",
        "5 groups of people",
        "45 pairs",
        "hub/model, fine-tuned, step 9",
        FACTS.date,
    ):
        assert said in text
    scored = made_scores.split(table(), "unseen_question", made_scores.noisy(table(), 0.3))
    assert verdict.sentence("unseen_question", scored.summary) in text
    places = [text.index(f"{name} {code}") for name, code in (
        ("new questions, known groups", "unseen_question"), ("new groups, known questions", "unseen_group"),
        ("new questions, new groups", "unseen_both"), ("used for tuning", "valid"))]  # fmt: skip
    assert places == sorted(places)
    for said in ("Of 100 answers, so many are misplaced", "worth 14 interviews", "the best rule", "a second sample"):
        assert said in text


def test_the_first_screen_fits_a_phone(tmp_path: Path):
    """Three columns of equal width, which break their words; every other table scrolls in a box of its own."""
    html = write(tmp_path, table(), "valid", "unseen_question")
    answer = first_screen(html)
    for row in re.findall(r"<tr.*?</tr>", answer, flags=re.DOTALL):
        cells = re.findall(r"<t[hd]([^>]*)", row)
        assert len(cells) == 3 or (len(cells) == 1 and 'colspan="3"' in cells[0]), row
    style = re.findall(r"\.answer \{([^}]*)\}", html)[0]
    assert "table-layout: fixed" in style
    assert "width: 100%" in style
    elsewhere = html.replace(answer, "")
    assert elsewhere.count("<table") == len(re.findall(r'<div class="scroll"[^>]*><table', elsewhere))
    assert re.search(r'<tbody class="tuning">(?!.*<tbody)', answer, flags=re.DOTALL)  # greyed, and last


def test_predictions_are_called_so_and_one_is_not_many(tmp_path: Path):
    text = Page(write(tmp_path, table(1), "unseen_question")).all_text
    assert "1 questions" not in text
    assert "1 question of 1 survey" in text
    assert "simulated" not in text
    assert "synthetic" not in text


def test_a_failed_prediction_is_told_at_the_top(tmp_path: Path):
    html = write(tmp_path, table(), failed=(3,))
    said = "unseen_question: model: 1 of 45 predictions failed and are scored as uniform: S / Q0 / country=Norway"
    assert said in Page(first_screen(html)).all_text


@pytest.mark.parametrize(
    "rows",
    [table(1), table(2, groups=("Kenya",)), table(n=None), table(attribute="sex"),
     [dataclasses.replace(a, extra={}, scale=None) for a in table(2)]],
    ids=["one question", "one group", "no n", "no countries", "no topics"],
)  # fmt: skip
def test_little_data_still_makes_a_page(tmp_path: Path, rows: list[Answer]):
    text = Page(write(tmp_path, rows)).all_text
    assert "nan" not in text.lower().split()
    assert ("neither a sampling ceiling nor a skill" in text) == (rows[0].n is None)
    assert ("World map" in " ".join(str(a) for _, a in Page(write(tmp_path, rows)).tags)) == (
        len({a.group for a in rows}) > 2 and rows[0].group[0][0] == "country"
    )


def test_sampling_errors_are_wilson_intervals():
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    answer = Answer("S", "Q", "?", ("a", "b", "c"), (("c", "x"),), (0.7, 0.3, 0.0), n=80, n_effective=50)
    low, high = figures_module.sampling_error(answer)
    expected = proportion.proportion_confint(np.array(answer.probs) * 50, 50, method="wilson")
    assert low == pytest.approx(expected[0], abs=1e-6)
    assert high == pytest.approx(expected[1], abs=1e-6)
    assert figures_module.sampling_error(dataclasses.replace(answer, n=None, n_effective=None)) is None


def test_the_heat_map_has_the_mean_of_every_cell():
    rows = table()
    scored = made_scores.split(rows)
    heat = page_module._heat(rows, scored.rows["tv"])
    assert heat["heading"] == "topic by group"
    for group, cells in heat["rows"]:
        for topic, (shown, _) in zip(heat["columns"], cells, strict=True):
            inside = [a.group[0][1] == group and a.extra["topic"] == topic for a in rows]
            assert float(shown) == pytest.approx(100 * scored.rows["tv"][inside].mean(), abs=0.5)
    means = [np.mean([float(shown) for shown, _ in cells]) for _, cells in heat["rows"]]
    assert means == sorted(means, reverse=True)


def test_numbers_of_options_are_labelled():
    rows = [dataclasses.replace(a, extra={}) for a in table()]
    rows += [
        dataclasses.replace(a, question_id=f"{a.question_id}b", options=("y", "n"), probs=(0.25, 0.75)) for a in rows
    ]
    heat = page_module._heat(rows, np.linspace(0, 1, len(rows)))
    assert heat["columns"] == ["2 options", "4 options"]
    assert set(page_module._breakdowns(rows, np.linspace(0, 1, len(rows)))["numbers of options"][0]) == {
        *heat["columns"]
    }


def test_skill_beyond_the_axis_is_marked_with_its_number():
    entries = {
        "far below": {"value": -7.3, "low": -12.2, "high": -1.5},
        "far above": {"value": 0.5, "low": 0.2, "high": 4.4},
        "inside": {"value": 0.4, "low": 0.1, "high": 0.7},
        "none": {"value": None, "low": None, "high": None},
    }
    shown = Page(str(figures_module.skills(entries, "t"))).text
    assert "-7.3 (interval to -12.2)" in shown
    assert "4.4" in shown
    assert not {"-1.5", "0.4", "0.7", "0.5"} & set(shown)
    inside = Page(str(figures_module.skills({"inside": entries["inside"]}, "t"))).text
    assert not any("interval" in text for text in inside)


@pytest.mark.parametrize("options", [2, 7, 26])
def test_ticks_do_not_overlap(options: int):
    """Some ten at most, whole numbers, whatever the number of options."""
    names = tuple(chr(65 + i) for i in range(options))
    rows = [dataclasses.replace(a, options=names, probs=(1 / options,) * options) for a in table(2)]
    drawing = str(figures_module.places(rows, made_scores.mixed(rows, 1.0), [range(options)] * len(rows), "t"))
    numbers = [text.strip() for text in Page(drawing).text if text.strip().isdigit()]
    assert 1 < len(numbers) <= 12
    assert len(set(numbers)) == len(numbers)


def test_a_large_heat_map_is_cut_and_says_so():
    rows = table(3, groups=tuple(f"group {i}" for i in range(50)), attribute="who")
    heat = page_module._heat(rows, made_scores.split(rows).rows["tv"])
    assert len(heat["rows"]) == page_module.CELLS[0]
    assert heat["left_out"] == (50 - page_module.CELLS[0], 0)


def test_examples_are_the_worst_and_the_middle_of_the_questions():
    rows = table(11)
    scored = made_scores.split(rows)
    mean = {q: scored.rows["tv"][[a.question_id == q for a in rows]].mean() for q in {a.question_id for a in rows}}
    order = sorted(mean, key=lambda q: -mean[q])
    worst, typical = page_module._examples(scored)
    assert [e.source for e in worst] == [f"S, {q}" for q in order[:3]]
    assert [e.source for e in typical] == [f"S, {q}" for q in order[4:7]]
    values = scored.rows["tv"][[a.question_id == order[0] for a in rows]]
    assert worst[0].distance == pytest.approx(np.median(values))


@pytest.mark.parametrize("values", [(0.0, 0.0), (0.3, 0.31), (0.05, 0.9), (0.2, 0.4), (0.999, 1.0)])
def test_map_classes_hold_all_values(values: tuple[float, float]):
    edges = world_map.classes(dict(zip("ab", values, strict=True)))
    assert len(edges) == len(world_map.COLOURS) + 1
    assert edges[0] <= min(values)
    assert max(values) <= edges[-1] + 1e-9
    assert np.diff(edges) == pytest.approx(np.full(len(world_map.COLOURS), edges[1] - edges[0]))


def test_the_map_has_every_country_of_the_paper_and_colours_the_right_one():
    for name in (*presets._names(presets.C1), *presets._names(presets.C2), *presets._names(presets.C3)):
        assert world_map.drawn(code(name)), name
    names = {"KEN": "Kenya", "PER": "Peru", "SGP": "Singapore <3"}
    drawing = str(world_map.world_map({"KEN": 0.12, "PER": 0.52, "SGP": 0.32}, names, "t"))
    fills = dict(re.findall(r'fill="(#\w+)"[^>]*><title>([^<]*)', drawing))
    assert fills == {world_map.COLOURS[i]: text for i, text in
                     ((0, "Kenya: 12.0"), (4, "Peru: 52.0"), (2, "Singapore &lt;3: 32.0"))}  # fmt: skip


def test_unknown_countries_are_named(tmp_path: Path):
    rows = table(groups=(*COUNTRIES, "Atlantis"))
    text = Page(write(tmp_path, rows)).all_text
    assert "Misplaced answers of 100, in 5 countries." in text
    assert "Not on the map: Atlantis." in text


def test_the_card_says_what_the_table_says_and_unknown_otherwise():
    rows = [dataclasses.replace(a, n=100, n_effective=50, wave="2018", language="en", source="a file") for a in table()]
    card = data_sections(rows, "counts", "leaks")
    assert card["Weights"]["design effect by weighting"] == "median 2.00, at most 2.00"
    assert card["Dates"] == {"waves or years": "2018"}
    assert card["Whose data"]["sources named by the table"] == "a file: 45 rows"
    assert card["Splits"]["rows and questions"] == "counts"
    assert surveys(rows)[0]["respondents a row"] == "100"
    bare = data_sections(table(n=None), "", "")
    assert bare["Weights"]["weights"].startswith("unknown")
    assert bare["Dates"]["waves or years"] == "unknown"


def test_what_the_table_says_of_itself_is_disclosed():
    about = {
        "sponsor": "A Fund",
        "Population": "adults",
        "mode": "face to face",
        "fieldwork": "May 2020",
        "doi": "10.1/x",
    }
    rows = [dataclasses.replace(a, extra={"about": about}) for a in table()]
    card = data_sections(rows, "", "")
    assert card["Whose data"]["sponsor"] == "A Fund"
    assert card["Whose data"]["doi"] == "10.1/x"
    assert card["Population under study"]["population"] == "adults"
    assert card["Sample"] == {"sample": "unknown: the table's column about does not say", "mode": "face to face"}
    assert card["Dates"]["fieldwork"] == "May 2020"
    assert surveys(rows)[0]["dates"] == "May 2020"
    other = [dataclasses.replace(a, survey="T", extra={"about": {"sponsor": "B"}}) for a in table()]
    assert data_sections(rows + other, "", "")["Whose data"]["sponsor"] == "S: A Fund\nT: B"
    assert "unknown" in data_sections(table(), "", "")["Whose data"]["sponsor"]


def test_a_page_of_many_surveys_adds_up_the_small_ones():
    rows = [dataclasses.replace(a, survey=f"S{i}") for i, a in enumerate(table(9))]
    lines = surveys(rows)
    assert len(lines) == 31
    assert lines[-1]["survey"] == "15 others"
    assert sum(int(line["rows"]) for line in lines) == len(rows)


def browse(chromium: str, page: Path, *flags: str) -> tuple[str, list[str]]:
    """The page's elements once the browser has made them, and what it wrote on its console."""
    profile = page.parent / "profile"
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
               f"--user-data-dir={profile}", *flags, page.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_a_browser_opens_it_without_a_request_or_an_error(chromium: str, tmp_path: Path):
    """The page's own policy forbids every request, so that one would be an error on the console."""
    html = write(tmp_path, evil_table())
    made, console = browse(chromium, tmp_path / "report.html", "--dump-dom")
    assert console == []
    page = Page(made)
    assert not {"script", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert EVIL["question"] in page.all_text
    assert [tag for tag, _ in page.tags].count("svg") == html.count("<svg")

    broken = html.replace("<main>", '<main><img src="http://127.0.0.1:9/x.png"><script>alert(1)</script>')
    (tmp_path / "broken.html").write_text(broken, encoding="utf-8")
    _, console = browse(chromium, tmp_path / "broken.html", "--dump-dom")
    assert len(console) == 2  # it would have been seen


@pytest.mark.parametrize("width", [390, 1300])
def test_a_browser_need_not_scroll_sideways(chromium: str, tmp_path: Path, width: int):
    """With long words from outside, too; the page stands in a frame, and a script beside it tells the width."""
    rows = [dataclasses.replace(a, survey="S" * 150, options=("o" * 60, *a.options[1:])) for a in evil_table()]
    html = write(tmp_path, rows, "valid", "unseen_question", "a" * 80)
    framed = html.replace("&", "&amp;").replace('"', "&quot;")  # a window cannot be so narrow, a frame can
    tell = "document.title = innerWidth + ' ' + this.contentDocument.documentElement.scrollWidth"
    tell = tell.replace("innerWidth", "this.contentWindow.innerWidth")
    outside = f'<iframe style="width: {width}px; border: 0" srcdoc="{framed}" onload="{tell}"></iframe>'
    (tmp_path / "frame.html").write_text(f"<title></title>{outside}", encoding="utf-8")
    made, _ = browse(chromium, tmp_path / "frame.html", "--dump-dom", "--window-size=1400,900")
    inner, whole = map(int, re.search(r"<title>(\d+) (\d+)</title>", made).groups())
    assert inner == width
    assert whole <= inner


def test_a_browser_draws_it(chromium: str, tmp_path: Path):
    image = pytest.importorskip("PIL.Image")
    write(tmp_path, table())
    browse(chromium, tmp_path / "report.html", f"--screenshot={tmp_path / 'page.png'}", "--window-size=1200,6000")
    with image.open(tmp_path / "page.png") as picture:
        colours = {c for _, c in picture.convert("RGB").getcolors(2**24)}
    for colour in (figures_module.HUMAN, figures_module.PREDICTED, world_map.NO_DATA):
        assert tuple(bytes.fromhex(colour[1:])) in colours
