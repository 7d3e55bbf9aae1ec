"""Makes the page of predictions of questions that nobody was asked yet: data/forecast.html.jinja, self-contained."""

import base64
import dataclasses
import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from survey_jax.common.errors import UserError, plural, some
from survey_jax.survey import countries
from survey_jax.survey.prediction import dirichlet
from survey_jax.survey.prediction.forecast import Forecast, Similar
from survey_jax.survey.report import figures, page, world_map
from survey_jax.survey.report.words import interviews, system_name
from survey_jax.survey.table import Answer, group_name
from survey_jax.survey.text import is_country, shorten

QUESTIONS = 20  # shown in full, at most
GROUPS = 30  # drawn of a question, at most, and with what each member said
PANELS = 6  # options drawn of a question whose options are not ordered, at most
CAUTIONS = 10  # shown at the top, at most
MODEL = "model"  # the member that is the language model
_FEW_GROUPS = 3  # fewer have a figure each, with a bar an option
_MIN_COUNTRIES = 3  # fewer make no map
_NAMED, _NAME = 3, 60  # surveys named at the top, and characters of a name
_ENDS = ("share", "low", "high")  # as the explorer's script calls them
_TITLE = 60  # characters of a question in a figure's title

Bounds = tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."], Float[np.ndarray, "..."]]  # value, low, high


@dataclasses.dataclass(frozen=True)
class ForecastFacts:
    """What the page says of how predictions were made.

    Attributes:
      model: its name.
      checkpoint: which state of it, such as "step 900 (best)".
      trained_questions, trained_groups, surveys: what the answers that everything was fitted on are of.
      date: of the predictions.
      remarks: sentences to read before the numbers, such as on groups never seen.
      weights: kind of row -> member of the stack -> its weight there; "model" is the language model.
      model_adds: one of these kinds -> a sentence on what the language model adds there; may be empty.
    """

    model: str
    checkpoint: str
    trained_questions: int
    trained_groups: int
    surveys: Sequence[str]
    date: str
    remarks: tuple[str, ...]
    weights: Mapping[str, Mapping[str, float]]
    model_adds: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Asked:
    """A question and what is predicted of its groups, those that stand out first.

    Attributes:
      answer: of one of the groups, for its question.
      shares: of the options by group, with their intervals; [groups, options] each.
      mean: on the scale from 1 to the number of options, with its interval; [groups] each, None without an order.
      sorted_by: what the groups are sorted by, largest first.
    """

    answer: Answer
    forecasts: list[Forecast]
    shares: Bounds
    mean: Bounds | None
    sorted_by: str

    @property
    def options(self) -> tuple[str, ...]:
        """In the order of the questionnaire."""
        return self.answer.options

    @property
    def drawn(self) -> list[int]:
        """The groups that are drawn: all, or those at both ends of the order."""
        count = len(self.forecasts)
        return list(range(count)) if count <= GROUPS else [*range(GROUPS // 2), *range(count - GROUPS // 2, count)]

    @property
    def similar(self) -> list[Similar]:
        """The questions of train that read most like it, each once."""
        found = {s.question.question_key: s for f in self.forecasts for s in f.similar}
        return sorted(found.values(), key=lambda s: -s.similarity)

    @property
    def cautions(self) -> list[tuple[str, str]]:
        """Each caution, and the groups that it is about."""
        groups: dict[str, list[str]] = defaultdict(list)
        for forecast in self.forecasts:
            for caution in forecast.cautions:
                groups[caution].append(group_name(forecast.answer.group))
        every = len(self.forecasts)
        return [(text, "all groups" if len(names) == every else some(names)) for text, names in groups.items()]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """The figures of a question.

    Attributes:
      plots: captions and figures.
      colours: option -> its colour, where bars are stacked.
      left_out: groups, and options, that are not drawn.
    """

    plots: list[tuple[str, Markup]]
    colours: dict[str, str]
    left_out: tuple[int, int]
    map: dict[str, Any]


def render(forecasts: Sequence[Forecast], facts: ForecastFacts, explore: bool = False) -> str:
    """The page; every text from outside is escaped.

    Args:
      forecasts: in any order; questions are shown in the order in which they first appear.
      explore: whether the page can set two groups side by side. Without, it has no script at all.

    Raises:
      UserError: there are no forecasts.
    """
    if not forecasts:
        raise UserError("there are no predictions to show: ask at least one question of one group")
    asked = by_question(forecasts)
    full, others = asked[:QUESTIONS], asked[QUESTIONS:]
    drawn = [_draw(number, question) for number, question in enumerate(full, start=1)]
    return page.template("forecast.html.jinja").render(
        forecasts=forecasts, facts=facts, summary=summary(forecasts), full=list(zip(full, drawn, strict=True)),
        others=others, cautions=_cautions(forecasts), most_cautions=CAUTIONS,
        trained_on=_named(facts.surveys), asked_in=_named({f.answer.survey for f in forecasts}),
        outlines=world_map.outlines() if any(d.map for d in drawn) else "",
        explorer=explorer_data(asked) if explore else None, digest=_digest,
        plural=plural, group_name=group_name, member_name=_member_name, interviews=interviews, bracket=_bracket,
        shorten=shorten,
    )  # fmt: skip


def by_question(forecasts: Sequence[Forecast]) -> list[Asked]:
    """The questions in the order in which they first appear; another wording, or another wave, is another question."""
    found: dict[Any, list[Forecast]] = defaultdict(list)
    for forecast in forecasts:
        a = forecast.answer
        found[a.question_key, a.wave, a.question, a.options, a.scale].append(forecast)
    return [_sorted(rows) for rows in found.values()]


def summary(forecasts: Sequence[Forecast]) -> dict[str, Any]:
    """What was asked of whom, and how sure predictions are: medians over all of them."""
    return {
        "questions": len(by_question(forecasts)),
        "groups": len({f.answer.group for f in forecasts}),
        "misplaced": float(np.median([f.misplaced for f in forecasts])),
        "worth": interviews(float(np.median([f.concentration for f in forecasts]))),
        "kinds": Counter(f.kind for f in forecasts),
    }


def explorer_data(asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """What the explorer knows by question, group and option: shares, intervals, what differences are made of."""
    return [
        {
            "question": question.answer.question,
            "options": list(question.options),
            "groups": [
                {"name": group_name(forecast.answer.group)}
                | {key: values[row].round(4).tolist() for key, values in zip(_ENDS, question.shares, strict=True)}
                | {"spread": forecast.spread.round(5).tolist(), "shared": forecast.shared}
                for row, forecast in enumerate(question.forecasts)
            ],
        }
        for question in asked
    ]


def _sorted(forecasts: list[Forecast]) -> Asked:
    """The groups of a question in order: by their mean, or by the option that differs most between groups."""
    answer = forecasts[0].answer
    shares = np.array([f.shares for f in forecasts])
    concentration = np.array([f.concentration for f in forecasts])
    bounds = (shares, *dirichlet.intervals(shares, concentration))
    mean = None
    if answer.scale == "ordinal":
        mean = dirichlet.mean_interval(shares, concentration, np.arange(1.0, len(answer.options) + 1))
        by, what = mean[0], "their mean"
    else:
        option = int(shares.var(0).argmax())
        by, what = shares[:, option], f"their share of “{answer.options[option]}”"
    order = np.argsort(-by, kind="stable")
    return Asked(
        answer=answer,
        forecasts=[forecasts[i] for i in order],
        shares=_rows(bounds, order),
        mean=None if mean is None else _rows(mean, order),
        sorted_by=what,
    )


def _draw(number: int, asked: Asked) -> Drawn:
    """Stacked bars and means where options are ordered, else shares with their intervals; and a map."""
    title = f"Question {number}, {shorten(asked.answer.question, _TITLE)}: predicted"
    rows = asked.drawn
    left_out = len(asked.forecasts) - len(rows)
    gap = GROUPS // 2 if left_out else None
    if asked.mean is None:
        plots, options = _panels(asked, title, gap)
        return Drawn(plots, {}, (left_out, len(asked.options) - options), _map(asked, title))
    labels = [group_name(asked.forecasts[row].answer.group) for row in rows]
    count = len(asked.options)
    colours = figures.ordered_colours(count)
    stacked = figures.stacked(labels, asked.shares[0][rows], colours, f"{title} shares by group", gap)
    means = figures.means(labels, *_rows(asked.mean, rows), count, f"{title} mean by group", gap)
    plots = [("Predicted shares, in percent", stacked), ("Predicted mean, with its 95 % interval", means)]
    return Drawn(plots, dict(zip(asked.options, colours, strict=True)), (left_out, 0), _map(asked, title))


def _panels(asked: Asked, title: str, gap: int | None) -> tuple[list[tuple[str, Markup]], int]:
    """A figure an option, with a bar a group; of few groups a figure a group. Also, how many options are drawn."""
    rows = asked.drawn
    labels = [group_name(asked.forecasts[row].answer.group) for row in rows]
    value, low, high = _rows(asked.shares, rows)
    if len(rows) < _FEW_GROUPS:
        options = list(range(len(asked.options)))
        panels: list[tuple[str, Sequence[str], Any]] = [(n, asked.options, np.s_[i, :]) for i, n in enumerate(labels)]
    else:
        options = sorted(np.argsort(-asked.shares[0].var(0), kind="stable")[:PANELS].tolist())
        panels = [(asked.options[k], labels, np.s_[:, k]) for k in options]
    reach = min(1.0, 1.05 * float(high[:, options].max()))
    plots = []
    for number, (name, bars, part) in enumerate(panels, start=1):
        alt = f"{title} shares, figure {number}: {shorten(name, _TITLE)}"
        plots.append((name, figures.predicted_shares(bars, value[part], low[part], high[part], reach, alt, gap)))
    return plots, len(options)


def _map(asked: Asked, title: str) -> dict[str, Any]:
    """The map, where groups are countries and nothing else: of the mean, or of the first option's share."""
    share = asked.shares[0][:, 0]
    if asked.mean:
        share = (asked.mean[0] - 1) / (len(asked.options) - 1)
    members: dict[str, list[float]] = defaultdict(list)
    missing = []
    for forecast, value in zip(asked.forecasts, share, strict=True):
        attribute, label = forecast.answer.group[0]
        if len(forecast.answer.group) > 1 or not is_country(attribute):
            continue
        code = countries.code(label)
        if code and world_map.drawn(code):
            members[code].append(float(value))
        else:
            missing.append(label)
    if len(members) < _MIN_COUNTRIES:
        return {}
    values = {code: float(np.mean(found)) for code, found in members.items()}
    bounds = [f"{100 * low:.0f} to {100 * high:.0f}" for low, high in itertools.pairwise(world_map.classes(values))]
    legend = [*zip(world_map.COLOURS, bounds, strict=True), (world_map.NO_DATA, "not asked")]
    figure = world_map.world_map(values, {c: countries.name(c) for c in values}, f"World map: {title} by country")
    return {"figure": figure, "legend": legend, "missing": sorted(missing), "countries": len(values)}


def _rows(bounds: Bounds, rows: Sequence[int] | np.ndarray) -> Bounds:
    value, low, high = (numbers[rows] for numbers in bounds)
    return value, low, high


def _cautions(forecasts: Sequence[Forecast]) -> list[tuple[str, int]]:
    """Cautions, and of how many predictions, the most frequent first."""
    return Counter(caution for f in forecasts for caution in set(f.cautions)).most_common()


def _named(surveys: Sequence[str] | set[str]) -> str:
    """The surveys, the first by name."""
    names = sorted(surveys)
    shown = ", ".join(shorten(name, _NAME) for name in names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown


def _member_name(code: str) -> str:
    return "the language model" if code == MODEL else system_name(code)


def _bracket(bounds: Bounds, row: int, option: int | None = None) -> str:
    """A number with its interval: of a share in percent, or of the mean where no option is given."""
    value, low, high = (float(n[row] if option is None else 100 * n[row, option]) for n in bounds)
    places = 2 if option is None else 0
    unit = "" if option is None else "\N{NO-BREAK SPACE}%"
    return f"{value:.{places}f}{unit} [{low:.{places}f}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{high:.{places}f}]"


def _digest(script: str) -> str:
    """What the page's policy calls this script, so that the browser runs no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
