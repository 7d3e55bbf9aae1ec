"""Makes report.html: an evaluation as one self-contained page. The template is `data/report.html.jinja`."""

import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from survey_jax.common.errors import plural
from survey_jax.survey import countries
from survey_jax.survey.evaluation.breakdowns import BREAKDOWNS, NO_LABEL, TOPIC, breakdown, cross_table, worst_questions
from survey_jax.survey.evaluation.metrics import deviations
from survey_jax.survey.evaluation.scoring import HEADLINE, SplitScore
from survey_jax.survey.report import figures, tables, verdict, world_map
from survey_jax.survey.report.disclosure import Sections
from survey_jax.survey.report.methods import Facts
from survey_jax.survey.report.words import on_split, split_name, system_name
from survey_jax.survey.table import Answer, group_name
from survey_jax.survey.text import is_country, shorten

SHOWN_METRIC = "tv"  # in figures and parts: misplaced answers
EXAMPLES = 3  # questions shown of each kind
WORST = 5  # parts shown of a breakdown
CELLS = (30, 12)  # rows and columns of a heat map, at most
_NAMED, _NAME = 3, 60  # surveys named at the top, and characters of a name
_MIN_COUNTRIES = 3  # fewer make no map
_BREAKDOWNS = {"topic": "topics", "group": "groups", "region": "regions", "attributes": "kinds of group",
               "options": "numbers of options", "scale": "scales"}  # fmt: skip

# Cao et al. 2025 (NAACL, arXiv 2502.07068): "1 - JSD" of Llama-3-8B-Instruct on the splits of the preset "paper".
PUBLISHED_PRESET = "paper"
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "zero-shot": {"C1Q3": 0.585, "C2Q1": 0.650, "C3Q1": 0.657, "C2Q3": 0.589, "C3Q3": 0.584},
    "fine-tuned": {"C1Q3": 0.777, "C2Q1": 0.881, "C3Q1": 0.890, "C2Q3": 0.783, "C3Q3": 0.784},
    "fine-tuned, country swapped": {"C1Q3": 0.756, "C2Q1": 0.826, "C3Q1": 0.833, "C2Q3": 0.751, "C3Q3": 0.764},
    "fine-tuned, options shuffled": {"C1Q3": 0.753, "C2Q1": 0.820, "C3Q1": 0.815, "C2Q3": 0.761, "C3Q3": 0.761},
}


@dataclasses.dataclass(frozen=True)
class Example:
    """A question put to one group."""

    question: str
    source: str
    group: str
    groups: int
    distance: float
    mean: float
    figure: Markup


@dataclasses.dataclass(frozen=True)
class Details:
    """What the page shows of a split besides its table.

    Attributes:
      heat: heading, labels of columns, and rows of a label and (value, colour); empty without two dimensions.
      breakdowns: heading -> worst parts, and how many there are.
    """

    departures: Markup
    reliability: Markup
    places: Markup
    heat: dict[str, Any]
    map: dict[str, Any]
    breakdowns: dict[str, tuple[dict[str, Any], int]]
    worst: list[Example]
    typical: list[Example]


def render(
    splits: Mapping[str, SplitScore],
    subsets: Sequence[str],
    found: Mapping[str, Details],
    surveys: Sequence[Mapping[str, str]],
    card: Sections,
    facts: Facts,
) -> str:
    """The page; every text from outside is escaped.

    Args:
      subsets: names of splits that are part of another one; they get tables and no figures.
      found: `details` of the other splits.
      surveys, card: as `disclosure` gives them, the card with the model's sections after the data's.
    """
    return template("report.html.jinja").render(
        splits=splits, details=found, surveys=surveys, card=card, facts=facts, asked=_asked(splits, subsets),
        rows=verdict.first_screen(splits, subsets), shown=tables.SHOWN, titles=tables.TITLES, headline=list(HEADLINE),
        spoken=verdict.SPOKEN, verdict=verdict, tables=tables, split_name=split_name, system_name=system_name,
        on_split=on_split, plural=plural, published={name: published(name, facts.preset) for name in splits},
        skills=skill_figure(splits, subsets), pooled=any("stack" in split.summary for split in splits.values()),
        outlines=world_map.outlines() if any(d.map for d in found.values()) else "",
    )  # fmt: skip


def template(name: str) -> jinja2.Template:
    """A template of `data/`; it escapes every text."""
    loader = jinja2.FunctionLoader(lambda file: (resources.files("survey_jax") / "data" / file).read_text("utf-8"))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name)


def skill_figure(splits: Mapping[str, SplitScore], subsets: Sequence[str]) -> Markup:
    """Skill by split; empty where no row says how many people answered."""
    skills = {n: s.summary["skill"].get(verdict.SPOKEN) for n, s in splits.items() if n not in subsets}
    names = Counter(split_name(n) for n in skills)
    known = {
        split_name(n) if names[split_name(n)] == 1 else f"{split_name(n)} ({n})": skill
        for n, skill in skills.items()
        if skill
    }
    return figures.skills(known, "Skill by split, with 95 % intervals") if known else Markup("")


def _asked(splits: Mapping[str, SplitScore], subsets: Sequence[str]) -> dict[str, Any]:
    """What was asked of whom: numbers, and the largest surveys by name."""
    answers = [a for name, split in splits.items() if name not in subsets for a in split.answers]
    names = Counter(a.survey for a in answers)
    shown = [shorten(name, _NAME) for name, _ in names.most_common(_NAMED)]
    return {"questions": len({a.question_key for a in answers}), "groups": len({a.group for a in answers}),
            "rows": len({a.key for a in answers}), "surveys": len(names), "names": shown}  # fmt: skip


def published(split: str, preset: str) -> dict[str, dict[str, Any]]:
    """Published scores of a split as lines of its table; empty where nobody published any."""
    if preset != PUBLISHED_PRESET:
        return {}
    return {
        f"Cao et al. 2025, {system}": {"paper_1_minus_jsd": {"value": scores[split], "low": None, "high": None}}
        for system, scores in PUBLISHED.items()
        if split in scores
    }


def details(split: SplitScore) -> Details:
    """Figures and parts of a split."""
    answers, predictions, values = split.answers, split.predictions, split.rows[SHOWN_METRIC]
    found = split.summary["diagnostics"]
    true, predicted = deviations(answers, predictions)
    worst, typical = _examples(split)
    titles = (f"{what}, {split.name}" for what in (
        "Predicted against true departures of groups", "Predicted against human shares by bin",
        "Mean share by place in the list"))  # fmt: skip
    return Details(
        departures=figures.departures(true, predicted, found["collapse"]["slope"]["value"], next(titles)),
        reliability=figures.reliability(found["calibration"], next(titles)),
        places=figures.places(answers, predictions, split.orders, next(titles)),
        heat=_heat(answers, values),
        map=_map(split),
        breakdowns=_breakdowns(answers, values),
        worst=worst,
        typical=typical,
    )


def _breakdowns(answers: Sequence[Answer], values: np.ndarray) -> dict[str, tuple[dict[str, Any], int]]:
    """The worst parts with more than one question: of a single one, it may be the question that is difficult."""
    found = {}
    for by, heading in _BREAKDOWNS.items():
        parts = breakdown(answers, values, SHOWN_METRIC, by)
        several = {label: part for label, part in parts.items() if part["questions"] > 1}
        if len(parts) > 1 and several:
            worst = list(several.items())[:WORST]
            named = {plural(int(label), "option") if by == "options" else label: part for label, part in worst}
            found[heading] = (named, len(several))
    return found


def _heat(answers: Sequence[Answer], values: np.ndarray) -> dict[str, Any]:
    """Topics by group, or without topics numbers of options by attribute; those with most rows, the worst on top."""
    topics = any(TOPIC in a.extra for a in answers)
    down, across = ("group", "topic") if topics else ("attribute", "options")
    labels = (*cross_table(answers, values, down, across),)
    rows, columns = (_frequent(answers, by, most) for by, most in zip((down, across), CELLS, strict=True))
    if len(rows) < 2 or len(columns) < 2:
        return {}
    columns.sort(key=lambda label: (int(label) if label.isdigit() else 0, label))
    mean = labels[2][np.ix_([labels[0].index(r) for r in rows], [labels[1].index(c) for c in columns])]
    known = ~np.isnan(mean)
    order = np.argsort(-np.where(known, mean, 0).sum(1) / np.maximum(known.sum(1), 1), kind="stable")
    top = np.nanmax(mean)
    lines = [
        (rows[r], [("", "#fff") if np.isnan(v) else (f"{100 * v:.0f}", _shade(v / top)) for v in mean[r]])
        for r in order
    ]
    left_out = (len(labels[0]) - len(rows), len(labels[1]) - len(columns))
    shown = [plural(int(c), "option") if across == "options" else c for c in columns]
    return {"heading": f"{across} by {down}", "columns": shown, "rows": lines, "left_out": left_out}


def _frequent(answers: Sequence[Answer], by: str, most: int) -> list[str]:
    """The labels that most rows have."""
    counts = Counter(label for answer in answers for label in BREAKDOWNS[by](answer) or [NO_LABEL])
    return [label for label, _ in counts.most_common(most)]


def _shade(strength: float) -> str:
    """White to orange; dark text can be read on all of it."""
    low, high = np.array([255, 255, 255]), np.array([240, 140, 60])
    return "#" + "".join(f"{round(c):02x}" for c in low + (high - low) * float(strength))


def _map(split: SplitScore) -> dict[str, Any]:
    """The map where groups are countries, what it shows and what it cannot."""
    members: dict[str, list[int]] = defaultdict(list)
    missing = set()
    for i, answer in enumerate(split.answers):
        for label in [value for attribute, value in answer.group if is_country(attribute)]:
            code = countries.code(label)
            if code and world_map.drawn(code):
                members[code].append(i)
            else:
                missing.add(label)
    if len(members) < _MIN_COUNTRIES:
        return {}
    values = {code: float(split.rows[SHOWN_METRIC][rows].mean()) for code, rows in members.items()}
    names = {code: countries.name(code) for code in values}
    edges = world_map.classes(values)
    bounds = [f"{100 * low:.0f} to {100 * high:.0f}" for low, high in itertools.pairwise(edges)]
    legend = [*zip(world_map.COLOURS, bounds, strict=True), (world_map.NO_DATA, "no data")]
    title = f"World map of misplaced answers of 100 by country, {split.name}"
    return {"figure": world_map.world_map(values, names, title), "legend": legend, "missing": sorted(missing),
            "countries": len(values)}  # fmt: skip


def _examples(split: SplitScore) -> tuple[list[Example], list[Example]]:
    """The worst questions, and those in the middle of the order from worst to best."""
    values = split.rows[SHOWN_METRIC]
    order = list(worst_questions(split.answers, values, SHOWN_METRIC, k=len(values)))
    rows: dict[str, list[int]] = defaultdict(list)
    for i, answer in enumerate(split.answers):
        rows[BREAKDOWNS["question"](answer)[0]].append(i)
    worst = order[:EXAMPLES]
    begin = max(len(worst), (len(order) - EXAMPLES) // 2)
    chosen = (worst, order[begin : begin + EXAMPLES])
    return tuple([_example(split, rows[label]) for label in labels] for labels in chosen)  # type: ignore[return-value]


def _example(split: SplitScore, rows: Sequence[int]) -> Example:
    """A question as put to the group in the middle of its groups."""
    values = split.rows[SHOWN_METRIC]
    i = sorted(rows, key=lambda row: values[row])[len(rows) // 2]
    answer = split.answers[i]
    group = group_name(answer.group)
    title = f"People's and predicted answers of {group} to {answer.question_id}, {split.name}"
    return Example(
        question=shorten(answer.question, 400),
        source=f"{answer.survey}, {answer.question_id}",
        group=group,
        groups=len(rows),
        distance=float(values[i]),
        mean=float(values[list(rows)].mean()),
        figure=figures.bars(answer, split.predictions[i], title),
    )
