"""What an evaluation says: scores of the model, of baselines and controls, as data, as a table and as one HTML page."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import jinja2
import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from survey_jax.survey import metrics
from survey_jax.survey.baselines import Filled
from survey_jax.survey.table import Answer

SHOWN = ("paper_1_minus_jsd", "kl", "jsd", "tv", "emd", "mode_accuracy", "entropy_ratio")
TITLES = {"paper_1_minus_jsd": "1-√JSD", "kl": "KL", "jsd": "JSD", "tv": "TV", "emd": "EMD", "mode_accuracy": "mode",
          "entropy_ratio": "entropy ratio"}  # fmt: skip
_HEADLINE = ("paper_1_minus_jsd", "kl")  # the metrics of the verdict
_ALWAYS_SHOWN = ("uniform", "seen_group_mean")  # of the baselines; besides them the best
_CEILING = "sampling ceiling"


@dataclasses.dataclass(frozen=True)
class SplitScore:
    """One split's evaluation.

    Attributes:
      predictions: of the subject (the model, or the base model where that is what is evaluated).
      rows: the subject's metrics per row.
      summary: the split's entry in metrics.json.
      verdicts: plain sentences on what the subject beats and does not.
    """

    name: str
    answers: list[Answer]
    predictions: Float[np.ndarray, "n K"]
    rows: dict[str, np.ndarray]
    summary: dict[str, Any]
    verdicts: list[str]


def score_split(
    name: str,
    answers: list[Answer],
    systems: Mapping[str, Float[np.ndarray, "n K"]],
    subject: str,
    filled: Mapping[str, Filled],
    seed: int,
) -> SplitScore:
    """Scores one split.

    Args:
      systems: predictions by system; `subject` is the one under evaluation, the others are controls.
      filled: what each baseline predicts and how each row was made; uniform and seen_group_mean among them.
      seed: of the bootstrap and of the sampling ceiling.
    """
    controls = {system: p for system, p in systems.items() if system != subject}
    predictions = {baseline: shares for baseline, (shares, _) in filled.items()} | controls
    rows = {system: metrics.row_metrics(answers, p) for system, p in predictions.items()}
    mine = metrics.row_metrics(answers, systems[subject])
    same_as = _same_as({baseline: shares for baseline, (shares, _) in filled.items()})
    best = {metric: _best(metric, {b: rows[b] for b in filled if b not in same_as}) for metric in _HEADLINE}
    ceiling = metrics.sampling_ceiling(answers, np.random.default_rng(seed))
    summary = {
        "n": len(answers),
        "questions": len({a.question_key for a in answers}),
        "groups": len({a.group for a in answers}),
        "model": _summary(answers, systems[subject], mine, seed),
        "baselines": {system: _summary(answers, p, rows[system], seed) for system, p in predictions.items()},
        "best_baseline": best,
        "same_as": same_as,
        "sources": {baseline: dict(Counter(sources)) for baseline, (_, sources) in filled.items()},
        "ceiling": metrics.summarise(answers, ceiling, seed),
        "ceiling_n": int(sum(a.n is not None or a.n_effective is not None for a in answers)),
    }
    rivals = [{metric: (f"the best baseline ({name})", rows[name]) for metric, name in best.items()}]
    rivals += [dict.fromkeys(_HEADLINE, (name, rows[name])) for name in controls]
    verdicts = [v for rival in rivals if (v := _verdict(answers, mine, rival, seed))]
    return SplitScore(name, answers, systems[subject], mine, _plain(summary), verdicts)


def _same_as(shares: Mapping[str, Sequence[np.ndarray]]) -> dict[str, str]:
    """Baselines that predict what an earlier one predicts on every row, such as those that always fall back on it."""
    flat = {baseline: np.concatenate(rows) for baseline, rows in shares.items()}
    same: dict[str, str] = {}
    for number, (baseline, mine) in enumerate(flat.items()):
        earlier = (b for b in list(flat)[:number] if np.allclose(flat[b], mine, rtol=0, atol=1e-9))
        if twin := next(earlier, None):
            same[baseline] = twin
    return same


def _best(metric: str, rows: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """The system with the best mean over rows."""
    sign = 1 if metrics.METRICS[metric].better == "higher" else -1
    return max(rows, key=lambda system: sign * rows[system][metric].mean())


def _summary(
    answers: Sequence[Answer], predictions: Any, rows: dict[str, np.ndarray], seed: int
) -> dict[str, metrics.Interval]:
    ratio = metrics.between_group_variance_ratio(answers, predictions, seed)
    return metrics.summarise(answers, rows, seed) | {metrics.BETWEEN_GROUP_VARIANCE_RATIO: ratio}


def _verdict(
    answers: Sequence[Answer], mine: dict[str, np.ndarray], rival: Mapping[str, tuple[str, Any]], seed: int
) -> str:
    """Where the subject stands against a rival of each metric (name, row metrics), by paired differences of rows."""
    parts = []
    for metric, (name, theirs) in rival.items():
        sign = 1 if metrics.METRICS[metric].better == "higher" else -1
        difference = sign * (mine[metric] - theirs[metric])
        if np.isnan(difference).all():  # nobody to swap groups with
            continue
        gain = metrics.summarise(answers, {metric: difference}, seed)[metric]
        word = "better than" if gain["value"] > 0 else "NOT better than"
        sure = "" if gain["low"] > 0 or gain["high"] < 0 else ", within the uncertainty"
        parts.append(f"{TITLES[metric]} {word} {name} by {gain['value']:+.3f}{sure}")
    return "; ".join(parts)


def _plain(value: Any) -> Any:
    """As strict JSON can hold it: NaN (no such value) becomes null."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    return value


def systems_of(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The lines of a split's table: the subject, few of the baselines, the controls, the ceiling."""
    scored, best = summary["baselines"], summary["best_baseline"]
    chosen = {}
    for baseline in dict.fromkeys([*_ALWAYS_SHOWN, *best.values()]):
        of = [TITLES[metric] for metric, name in best.items() if name == baseline]
        mark = " (best)" if len(of) == len(best) else f" (best {of[0]})" if of else ""
        chosen[baseline + mark] = scored[baseline]
    controls = {system: scores for system, scores in scored.items() if system not in summary["sources"]}
    return {"model": summary["model"], **chosen, **controls, _CEILING: summary["ceiling"]}


def baselines_of(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Every baseline that is not the same as another, the best first."""
    scores = {b: summary["baselines"][b] for b in summary["sources"] if b not in summary["same_as"]}
    return dict(sorted(scores.items(), key=lambda item: -item[1][_HEADLINE[0]]["value"]))


def sources_of(summary: Mapping[str, Any], baseline: str) -> str:
    """How many rows a baseline predicted in which way, the most frequent first."""
    counts = sorted(summary["sources"][baseline].items(), key=lambda item: -item[1])
    return ", ".join(f"{source} ({n:,})" for source, n in counts)


def cell(scores: Mapping[str, Any], metric: str, interval: bool) -> str:
    """A number for people: value, and its 95 % interval where asked for."""
    entry = scores.get(metric)
    if entry is None or entry["value"] is None:
        return "-"
    shown = f"{entry['value']:.3f}"
    return f"{shown} [{entry['low']:.3f}, {entry['high']:.3f}]" if interval and entry["low"] is not None else shown


def print_table(splits: Iterable[SplitScore]) -> None:
    """One table for all splits, and a verdict below it."""
    splits = list(splits)
    table = Table(title="Predicted against human distributions (95 % intervals clustered by question and group)")
    table.add_column("split", no_wrap=True)
    table.add_column("system", no_wrap=True)
    for metric in SHOWN:
        table.add_column(TITLES[metric], justify="right", no_wrap=True)
    for split in splits:
        for number, (system, scores) in enumerate(systems_of(split.summary).items()):
            head = {0: split.name, 1: f"n = {split.summary['n']}"}.get(number, "")
            table.add_row(head, system, *(cell(scores, m, interval=m in _HEADLINE) for m in SHOWN))
        table.add_section()
    # Wide enough for every column, whatever the terminal: a log must not lose digits.
    Console(width=160).print(table)
    for split in splits:
        for baseline in dict.fromkeys(["seen_group_mean", *split.summary["best_baseline"].values()]):
            if baseline != "uniform":
                print(f"{split.name}: {baseline} is from: {sources_of(split.summary, baseline)}", flush=True)
        for sentence in split.verdicts:
            print(f"{split.name}: {sentence}", flush=True)


def write_predictions(
    splits: Iterable[SplitScore], option_order: Callable[[Answer], Sequence[int]], path: Path
) -> None:
    """predictions.parquet: one row an answer.

    Args:
      option_order: which of a row's options stood under each letter of its prompt; kept as a column. All other columns
        are in the order of `options`.
    """
    rows = []
    for split in splits:
        for i, answer in enumerate(split.answers):
            row = {
                "survey": answer.survey,
                "wave": answer.wave,
                "question_id": answer.question_id,
                "question": answer.question,
                "options": list(answer.options),
                "option_order": list(option_order(answer)),
                "group": dict(answer.group),
                "target": list(answer.probs),
                "prediction": split.predictions[i, : len(answer.probs)].tolist(),
                "n": answer.n,
                "split": split.name,
            }
            rows.append(row | {metric: float(values[i]) for metric, values in split.rows.items()})
    partial = path.with_name(f".partial-{path.name}")
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(rows).to_parquet(str(partial))
    partial.replace(path)


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Survey prediction report</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1a1a1a; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, .text { text-align: left; } tr.model td { font-weight: 600; }
</style>
{% macro table(systems, sources_in=None) %}
<div class="scroll"><table>
<tr><th scope="col">system</th>{% for m in shown %}<th scope="col">{{ titles[m] }}</th>{% endfor %}
{% if sources_in %}<th scope="col" class="text">rows predicted by</th>{% endif %}</tr>
{% for system, scores in systems.items() %}
<tr{% if system == "model" %} class="model"{% endif %}><td>{{ system }}</td>
{% for m in shown %}<td>{{ cell(scores, m, True) }}</td>{% endfor %}
{% if sources_in %}<td class="text">{{ sources_of(sources_in, system) }}</td>{% endif %}</tr>
{% endfor %}
</table></div>
{% endmacro %}
<h1>Predicted against human distributions</h1>
<dl>{% for key, value in about.items() %}<dt>{{ key }}</dt><dd>{{ value }}</dd>{% endfor %}</dl>
<p>Brackets hold 95&nbsp;% intervals from a bootstrap clustered by question and group. The sampling ceiling is what a
second sample of the same size would score.</p>
{% for split in splits %}
<h2>{{ split.name }}</h2>
<p>{{ split.summary.n }} answers, {{ split.summary.questions }} questions, {{ split.summary.groups }} groups.</p>
{{ table(systems_of(split.summary)) }}
<ul>{% for sentence in split.verdicts %}<li>{{ sentence }}</li>{% endfor %}</ul>
<details><summary>All baselines, the best first, and how many rows each predicted in which way</summary>
{{ table(baselines_of(split.summary), split.summary) }}
{% if split.summary.same_as %}<p>On every row the same as another:
{% for baseline, other in split.summary.same_as.items() %}{{ baseline }} as {{ other }}{{ ", " if not loop.last }}
{%- endfor %}.</p>{% endif %}
</details>
{% endfor %}
</html>
"""


def write_html(splits: Iterable[SplitScore], about: Mapping[str, str], path: Path) -> None:
    """report.html: one self-contained page; every text from outside is escaped."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(_PAGE).render(
        splits=list(splits), about=about, shown=SHOWN, titles=TITLES, cell=cell,
        systems_of=systems_of, baselines_of=baselines_of, sources_of=sources_of,
    )  # fmt: skip
    partial = path.with_name(f".partial-{path.name}")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
