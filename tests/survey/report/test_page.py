"""report.html: what is in it, that texts from outside stay texts, and that a real browser opens it in silence."""

import dataclasses
import itertools
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

import populations
from survey_jax.survey.baselines.registry import BASELINES
from survey_jax.survey.countries import code
from survey_jax.survey.evaluation import scoring
from survey_jax.survey.report import figures as figures_module
from survey_jax.survey.report import page as page_module
from survey_jax.survey.report import world_map
from survey_jax.survey.report.disclosure import data_sections, surveys
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
}
COUNTRIES = ("Kenya", "Peru", "Japan", "Norway", "Singapore")


class Page(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    @property
    def all_text(self) -> str:
        return " ".join(" ".join(self.text).split())


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
            source=EVIL["source"], extra={"topic": EVIL["topic"] if i % 2 else "other"},
        )
        for i, a in enumerate(rows)
    ]  # fmt: skip


def score(
    rows: list[Answer], name: str = "new", noise: float = 0.3, failed: tuple[int, ...] = ()
) -> scoring.SplitScore:
    """Scores of a model that predicts people's shares with noise."""
    rng = np.random.default_rng(2)
    shares = np.array([a.probs for a in rows])
    model = softmax(np.log(shares + 1e-3) + noise * rng.normal(size=shares.shape), -1)
    model[list(failed)] = np.nan
    filled = {b: BASELINES[b](rows, rows) for b in ("uniform", "seen_group_mean")}
    orders = [range(len(a.options)) for a in rows]
    return scoring.score_split(name, rows, {"model": model, "other": shares}, "model", filled, orders, 0)


def write(path: Path, rows: list[Answer], *names: str, preset: str = "", **changes) -> str:
    splits = {name: score(rows, name, **changes) for name in names or ("new",)}
    card = data_sections(rows, "counts", "leaks")
    page_module.write_html(splits, [], preset, surveys(rows), card, path / "report.html")
    return (path / "report.html").read_text(encoding="utf-8")


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
    assert "No published score belongs to this split" in in_paper  # valid
    assert "Cao et al. 2025, fine-tuned<" not in write(tmp_path, table(), "C1Q3")


def test_a_failed_prediction_is_told_at_the_top(tmp_path: Path):
    text = Page(write(tmp_path, table(), failed=(3,))).all_text
    said = "new: model: 1 of 45 predictions failed and are scored as uniform: S / Q0 / country=Norway"
    assert said in text.split("What this can and cannot")[0].split("In short")[-1]


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
    scored = score(rows)
    heat = page_module._heat(rows, scored.rows["tv"])
    assert heat["heading"] == "topic by group"
    for group, cells in heat["rows"]:
        for topic, (shown, _) in zip(heat["columns"], cells, strict=True):
            inside = [a.group[0][1] == group and a.extra["topic"] == topic for a in rows]
            assert float(shown) == pytest.approx(scored.rows["tv"][inside].mean(), abs=0.005)
    means = [np.mean([float(shown) for shown, _ in cells]) for _, cells in heat["rows"]]
    assert means == sorted(means, reverse=True)


def test_a_large_heat_map_is_cut_and_says_so():
    rows = table(3, groups=tuple(f"group {i}" for i in range(50)), attribute="who")
    heat = page_module._heat(rows, score(rows).rows["tv"])
    assert len(heat["rows"]) == page_module.CELLS[0]
    assert heat["left_out"] == (50 - page_module.CELLS[0], 0)


def test_examples_are_the_worst_and_the_middle_of_the_questions():
    rows = table(11)
    scored = score(rows)
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
                     ((0, "Kenya: 0.120"), (4, "Peru: 0.520"), (2, "Singapore &lt;3: 0.320"))}  # fmt: skip


def test_unknown_countries_are_named(tmp_path: Path):
    rows = table(groups=(*COUNTRIES, "Atlantis"))
    text = Page(write(tmp_path, rows)).all_text
    assert "Mean TV of 5 countries." in text
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


def test_a_page_of_many_surveys_adds_up_the_small_ones():
    rows = [dataclasses.replace(a, survey=f"S{i}") for i, a in enumerate(table(9))]
    lines = surveys(rows)
    assert len(lines) == 31
    assert lines[-1]["survey"] == "15 others"
    assert sum(int(line["rows"]) for line in lines) == len(rows)


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium is installed here")
    return found


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


def test_a_browser_draws_it(chromium: str, tmp_path: Path):
    image = pytest.importorskip("PIL.Image")
    write(tmp_path, table())
    browse(chromium, tmp_path / "report.html", f"--screenshot={tmp_path / 'page.png'}", "--window-size=1200,6000")
    with image.open(tmp_path / "page.png") as picture:
        colours = {c for _, c in picture.convert("RGB").getcolors(2**24)}
    for colour in (figures_module.HUMAN, figures_module.PREDICTED, world_map.NO_DATA):
        assert tuple(bytes.fromhex(colour[1:])) in colours
