"""The figures of the report and of the page of predictions, as SVG for HTML.

They are without scripts or links, with text as text, and reproducible.
Human shares are dark and predicted ones light, so that a print in grey can be read.
"""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from survey_jax.survey.evaluation.metrics import Shares
from survey_jax.survey.table import Answer
from survey_jax.survey.text import shorten

Numbers = Float[np.ndarray, " rows"]
HUMAN, PREDICTED = "#1b4f72", "#f0a83c"
_INK, _FAINT = "#1a1a1a", "#999999"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the reader's font
    "text.parse_math": False,  # a dollar sign in a question is no formula
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12,  # figures are shown at about nine tenths of their size
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _FAINT,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "savefig.dpi": 150,  # for points that are drawn as an image
}
_NOTHING = Markup("")
_styled = matplotlib.rc_context(_STYLE)  # a decorator: the settings hold while the function runs
_Z = 1.959964  # standard errors to either side of a 95 % interval
_LABEL, _SPLIT, _GROUP = 30, 50, 28  # characters of an option's text, of a split's name and of a row's label
_WIDE = 0.08  # a part of a stacked bar that has room for its number
SKILLS = (-3.0, 3.0)  # the most that the axis of skills shows


def sampling_error(answer: Answer) -> Float[np.ndarray, "2 k"] | None:
    """95 % interval of each human share from the number of respondents (Wilson 1927); None where that is not known."""
    n = answer.n_effective or answer.n
    if n is None:
        return None
    p = np.array(answer.probs)
    middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(p * (1 - p) / n + (_Z / (2 * n)) ** 2)
    return np.stack([np.minimum(middle - half, p), np.maximum(middle + half, p)])  # no rounding past a share of 0 or 1


@_styled
def bars(answer: Answer, prediction: Float[np.ndarray, " k"], title: str) -> Markup:
    """One question put to one group: what people answered, with sampling error, and what was predicted."""
    count = len(answer.options)
    figure = Figure(figsize=(4.6, 1.0 + 0.44 * count), layout="constrained")
    axes = figure.subplots()
    place = np.arange(count)
    human = np.array(answer.probs)
    error = sampling_error(answer)
    spread = None if error is None else np.abs(error - human)
    axes.barh(place - 0.2, human, 0.38, color=HUMAN, label="people")
    if spread is not None:
        axes.errorbar(human, place - 0.2, xerr=spread, fmt="none", ecolor=_INK, elinewidth=1, capsize=2)
    axes.barh(place + 0.2, prediction[:count], 0.38, color=PREDICTED, label="predicted")
    axes.set_yticks(place, [shorten(option, _LABEL) for option in answer.options])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    _percent(axes, "x")
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=11)
    return _svg(figure, title)


@_styled
def reliability(calibration: Mapping[str, Any], title: str) -> Markup:
    """Predicted shares against the human ones that came with them, by bin; `calibration` as `diagnostics` gives it."""
    figure, axes = _panel("predicted share of an option", "human share, mean of the bin")
    axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=1, zorder=0)
    table = calibration["table"]
    x, n = (np.array([b[key] for b in table]) for key in ("predicted", "n"))
    y = np.array([b["human"]["value"] for b in table])
    low, high = (np.array([_or(b["human"][edge], b["human"]["value"]) for b in table]) for edge in ("low", "high"))
    axes.errorbar(x, y, yerr=[y - low, high - y], fmt="none", ecolor=HUMAN, elinewidth=1)
    axes.scatter(x, y, s=20 + 120 * n / n.max(), color=HUMAN, edgecolor="white")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    _percent(axes, "x")
    _percent(axes, "y")
    return _svg(figure, title)


@_styled
def departures(true: Shares, predicted: Shares, slope: float | None, title: str) -> Markup:
    """How groups depart from their question's mean: true departures against predicted ones, with the slope."""
    figure, axes = _panel("predicted departure", "true departure")
    moved = (true != 0) | (predicted != 0)
    x, y = predicted[moved], true[moved]
    reach = 1.05 * max([np.abs(x).max(), np.abs(y).max()] if len(x) else [0.1])
    axes.plot([-reach, reach], [-reach, reach], color=_FAINT, linewidth=1, zorder=0)
    axes.scatter(x, y, s=5, alpha=0.3, color=HUMAN, linewidth=0, rasterized=True)  # thousands: an image is smaller
    if slope is not None and len(x):
        ends = np.array([x.min(), x.max()])
        axes.plot(ends, slope * ends, color=PREDICTED, linewidth=2)
        axes.text(0.03, 0.97, f"slope {slope:.2f}", transform=axes.transAxes, va="top")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
    _percent(axes, "x")
    _percent(axes, "y")
    return _svg(figure, title)


@_styled
def places(answers: Sequence[Answer], predictions: Shares, orders: Sequence[Sequence[int]], title: str) -> Markup:
    """Mean share of the option shown at each place, of people and predicted; over the rows that have that place."""
    count = max(len(a.options) for a in answers)
    human, predicted = np.full((2, len(answers), count), np.nan)
    for i, (answer, order) in enumerate(zip(answers, orders, strict=True)):
        human[i, : len(order)] = np.array(answer.probs)[list(order)]
        predicted[i, : len(order)] = predictions[i][list(order)]
    figure, axes = _panel("place of the option in the list", "mean share")
    place = np.arange(1, count + 1)
    axes.bar(place - 0.2, np.nanmean(human, 0), 0.38, color=HUMAN, label="people")
    axes.bar(place + 0.2, np.nanmean(predicted, 0), 0.38, color=PREDICTED, label="predicted")
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    _percent(axes, "y")
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=11)
    return _svg(figure, title)


@_styled
def skills(values: Mapping[str, Mapping[str, Any]], title: str) -> Markup:
    """Skill by split with its interval: 0 is the best rule, 1 the sampling ceiling.

    The axis ends at SKILLS at most; what lies beyond is an arrow at the edge with its number.
    """
    figure = Figure(figsize=(6.5, 0.9 + 0.34 * len(values)), layout="constrained")
    axes = figure.subplots()
    for edge in (0.0, 1.0):
        axes.axvline(edge, color=_FAINT, linewidth=1, zorder=0)
    known = [
        (place, (e["value"], _or(e["low"], e["value"]), _or(e["high"], e["value"])))
        for place, e in enumerate(values.values())
        if e["value"] is not None
    ]
    left = max(min([0.0, *(low for _, (_, low, _) in known)]) - 0.1, SKILLS[0])
    right = min(max([1.0, *(high for _, (_, _, high) in known)]) + 0.1, SKILLS[1])
    for place, (value, low, high) in known:
        axes.plot(np.clip([low, high], left, right), [place] * 2, color=HUMAN, linewidth=1.5)
        if left <= value <= right:
            axes.plot([value], [place], "o", color=HUMAN)
        for edge, end, arrow, side in ((left, low, "<", "left"), (right, high, ">", "right")):
            if not left <= end <= right and (end < left) == (edge == left):
                axes.plot([edge], [place], arrow, color=HUMAN, clip_on=False)
                beyond = f"{end:.1f}" if left <= value <= right else f"{value:.1f} (interval to {end:.1f})"
                axes.annotate(beyond, (edge, place), (6 if side == "left" else -6, 5), textcoords="offset points",
                              ha=side, fontsize=10)  # fmt: skip
    axes.set_yticks(range(len(values)), [shorten(name, _SPLIT) for name in values])
    axes.set_ylim(len(values) - 0.5, -0.7)
    axes.set_xlim(left, right)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlabel("skill: 0 = best rule, 1 = knowing the population")
    return _svg(figure, title)


@_styled
def stacked(
    labels: Sequence[str], shares: Shares, colours: Sequence[str], title: str, gap: int | None = None
) -> Markup:
    """A bar a label, in parts of these colours, with the percentages of parts that are wide enough.

    Args:
      gap: the row before which rows are left out; a dashed line shows it.
    """
    figure, axes = _rows(labels, "share of answers", gap)
    rows = np.arange(len(labels))
    left = np.cumsum(shares, 1) - shares
    for colour, part, start in zip(colours, shares.T, left.T, strict=True):
        axes.barh(rows, part, 0.8, left=start, color=colour, edgecolor="white", linewidth=0.5)
        for row in rows[part >= _WIDE]:
            text, middle = f"{100 * part[row]:.0f}", start[row] + part[row] / 2
            axes.text(middle, float(row), text, ha="center", va="center", color=_ink_on(colour), fontsize=10)
    axes.set_xlim(0, 1)
    _percent(axes, "x")
    return _svg(figure, title)


@_styled
def means(
    labels: Sequence[str], mean: Numbers, low: Numbers, high: Numbers, points: int, title: str, gap: int | None = None
) -> Markup:
    """The mean on a scale from 1 to `points` with its interval, a row a label; `gap` as in `stacked`."""
    figure, axes = _rows(labels, "mean, in points of the scale", gap)
    rows = np.arange(len(labels))
    axes.hlines(rows, low, high, color=_INK, linewidth=1)
    axes.plot(mean, rows, "o", color=PREDICTED, markeredgecolor=_INK)
    axes.set_xlim(1, points)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    return _svg(figure, title)


@_styled
def predicted_shares(
    labels: Sequence[str], share: Numbers, low: Numbers, high: Numbers, reach: float, title: str, gap: int | None = None
) -> Markup:
    """A bar a label, with its interval, on an axis from 0 to `reach`; `gap` as in `stacked`."""
    figure, axes = _rows(labels, "share of answers", gap)
    rows = np.arange(len(labels))
    axes.barh(rows, share, 0.7, color=PREDICTED)
    axes.hlines(rows, low, high, color=_INK, linewidth=1)
    axes.set_xlim(0, reach)
    _percent(axes, "x")
    return _svg(figure, title)


def ordered_colours(count: int) -> list[str]:
    """Colours from light to dark, which the colour-blind and a print in grey tell apart; "#rrggbb" each."""
    return [to_hex(colour) for colour in matplotlib.colormaps["cividis_r"](np.linspace(0.05, 1, count))]


def _rows(labels: Sequence[str], x: str, gap: int | None) -> tuple[Figure, Axes]:
    """A panel with a row a label, the first on top; as high for every x, so that two stand side by side."""
    figure = Figure(figsize=(5.4, 0.75 + 0.27 * len(labels)), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(labels)), [shorten(label, _GROUP) for label in labels], fontsize=11)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel(x)
    if gap is not None:
        axes.axhline(gap - 0.5, color=_FAINT, linestyle="--", linewidth=1)
    return figure, axes


def _ink_on(colour: str) -> str:
    """Dark or white, whichever can be read on the colour, by its brightness as the eye has it (ITU-R BT.601)."""
    return _INK if np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) > 0.5 else "white"


def _panel(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.2, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y)
    return figure, axes


def _percent(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(lambda share, _: f"{round(100 * share, 6):z.3g} %")


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def _svg(figure: Figure, title: str) -> Markup:
    """The figure as an element of an HTML page, with `title` for those who cannot see it."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": title}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the browser has more fonts
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    drawing = text[text.index(">", text.index("<svg")) + 1 :]
    for useless in (r"<metadata>.*?</metadata>", r"<style .*?</style>", r"<!--.*?-->"):
        drawing = re.sub(useless, "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing)  # the same in every figure; what is referred to is not on a <g>
    drawing = re.sub(r">\s+<", "><", drawing)
    found = re.search(r'viewBox="([^"]*)"', text)
    assert found, "matplotlib writes a viewBox"
    label = escape(title)
    return Markup(f'<svg class="plot" role="img" aria-label="{label}" viewBox="{found[1]}">{drawing.strip()}')


def standalone(figure: Markup, outlines: Markup = _NOTHING) -> str:
    """A figure as a file of its own; `outlines` are those of the map, which a page has once."""
    found = re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', figure)
    assert found, "every figure has a viewBox"
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = f'<svg {names} width="{found[1]}" height="{found[2]}" stroke-linejoin="round" '
    shapes = re.sub(r"^<svg[^>]*>|</svg>$", "", str(outlines))
    opening, rest = str(figure).replace("<svg ", head, 1).split(">", 1)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{opening}>{shapes}{rest}\n'
