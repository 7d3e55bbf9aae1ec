"""What an evaluation says: scores of the model, of baselines and controls, as data and as a table.

The page that says it with pictures is `report_page.py`.
"""

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from jaxtyping import Bool, Float
from rich.console import Console
from rich.table import Table

from survey_jax.survey import metrics, uncertainty
from survey_jax.survey.baselines import Filled
from survey_jax.survey.diagnostics import diagnose
from survey_jax.survey.table import Answer

SHOWN = ("paper_1_minus_jsd", "kl", "jsd", "tv", "emd", "mode_accuracy", "entropy_ratio")
TITLES = {"paper_1_minus_jsd": "1-√JSD", "kl": "KL", "jsd": "JSD", "tv": "TV", "emd": "EMD", "mode_accuracy": "mode",
          "entropy_ratio": "entropy ratio"}  # fmt: skip
HEADLINE = ("paper_1_minus_jsd", "kl")  # the metrics of the verdict
LEVEL = 0.05  # a difference is clear where its corrected p-value is below
_ALWAYS_SHOWN = ("uniform", "seen_group_mean")  # of the baselines; besides them the best
_CEILING = "sampling ceiling"

Rows = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class SplitScore:
    """One split's evaluation.

    Attributes:
      predictions: of the subject (the model, or the base model where that is what is evaluated), as scored: uniform
        where it failed.
      failed: which rows those are.
      rows: the subject's metrics per row.
      summary: the split's entry in metrics.json.
      verdicts: plain sentences on what the subject beats and does not; the first is on the best baseline.
      warnings: sentences on predictions that failed.
      orders: which of a row's options was shown at each place.
    """

    name: str
    answers: list[Answer]
    predictions: Float[np.ndarray, "n K"]
    failed: Bool[np.ndarray, " n"]
    rows: Rows
    summary: dict[str, Any]
    verdicts: list[str]
    warnings: list[str]
    orders: Sequence[Sequence[int]]


def score_split(
    name: str,
    answers: list[Answer],
    systems: Mapping[str, Float[np.ndarray, "n K"]],
    subject: str,
    filled: Mapping[str, Filled],
    orders: Sequence[Sequence[int]],
    seed: int,
    controls: Collection[str] = (),
) -> SplitScore:
    """Scores one split.

    Args:
      systems: predictions by system; `subject` is the one under evaluation, the others it is compared with.
      filled: what each baseline predicts and how each row was made; uniform and seen_group_mean among them.
      orders: which of a row's options was shown at each place.
      seed: of the bootstrap and of the sampling ceiling.
      controls: systems whose rows of NaN have nothing to predict, such as a survey's only group to swap. A row of NaN
        of any other system is a prediction that failed.
    """
    baselines = {baseline: shares for baseline, (shares, _) in filled.items()}
    predictions: dict[str, Any] = {**baselines, **systems}
    failures: dict[str, list[str]] = {}
    for system in [s for s in predictions if s not in controls]:
        predictions[system], failed = uncertainty.without_failures(answers, predictions[system])
        failures |= {system: failed} if failed else {}
    rows = {system: metrics.row_metrics(answers, p) for system, p in predictions.items()}
    mine = rows.pop(subject)
    same_as = _same_as(baselines)
    distinct = {baseline: rows[baseline] for baseline in baselines if baseline not in same_as}
    best = {metric: _best(metric, distinct) for metric in HEADLINE}
    ceiling = metrics.sampling_ceiling(answers, np.random.default_rng(seed))
    second = metrics.second_survey(answers, np.random.default_rng(seed))
    others = [system for system in systems if system != subject]
    differences = _differences(answers, mine, {r: rows[r] for r in [*best.values(), *others]}, best, seed)
    summary = {
        "n": len(answers),
        "questions": len({a.question_key for a in answers}),
        "groups": len({a.group for a in answers}),
        "model": _summary(answers, predictions[subject], mine, seed),
        "baselines": {system: _summary(answers, predictions[system], rows[system], seed) for system in rows},
        "best_baseline": best,
        "same_as": same_as,
        "sources": {baseline: dict(Counter(sources)) for baseline, (_, sources) in filled.items()},
        "differences": differences,
        "skill": _skill(answers, mine, distinct, ceiling, seed),
        "ceiling": metrics.summarise(answers, ceiling, seed),
        "ceiling_n": int(sum(a.n is not None or a.n_effective is not None for a in answers)),
        "second_survey": metrics.summarise(answers, second, seed),
        "diagnostics": diagnose(answers, predictions[subject], orders, seed),
        "failures": {"model" if system == subject else system: names for system, names in failures.items()},
    }
    verdicts = _verdicts(differences, best, others)
    warnings = [
        f"{name}: {uncertainty.failures_sentence('model' if system == subject else system, names, len(answers))}"
        for system, names in failures.items()
    ]
    failed_rows = np.isnan(metrics.stack(answers, systems[subject])).any(-1)
    scored = predictions[subject]
    return SplitScore(name, answers, scored, failed_rows, mine, _plain(summary), verdicts, warnings, orders)


def _differences(
    answers: Sequence[Answer], mine: Rows, rivals: Mapping[str, Rows], best: Mapping[str, str], seed: int
) -> dict[str, dict[str, dict[str, float]]]:
    """The subject less each rival, paired by row, by rival and headline metric; p_holm is corrected over the rivals.

    Of the baselines among the rivals each counts for the metric that it is the best of.
    """
    found: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for metric in HEADLINE:
        compared = [r for r in rivals if r == best[metric] or r not in best.values()]
        some_rows = [r for r in compared if not np.isnan(rivals[r][metric]).all()]  # None: nobody to swap groups with
        entries = {r: uncertainty.difference(answers, mine, rivals[r], metric, seed) for r in some_rows}
        corrected = uncertainty.holm({rival: entry["p"] for rival, entry in entries.items()})
        for rival, entry in entries.items():
            found[rival][metric] = entry | {"p_holm": corrected[rival]}
    return dict(found)


def _verdicts(
    differences: Mapping[str, Mapping[str, Mapping[str, float]]], best: Mapping[str, str], others: Sequence[str]
) -> list[str]:
    """A sentence on the best baseline, and one on each other system that could be compared."""
    bar = {metric: (f"the best baseline ({name})", differences[name][metric]) for metric, name in best.items()}
    compared = [{metric: (other, entry) for metric, entry in differences.get(other, {}).items()} for other in others]
    return [_sentence(rivals) for rivals in (bar, *compared) if rivals]


def _skill(
    answers: Sequence[Answer], mine: Rows, baselines: Mapping[str, Rows], ceiling: Rows, seed: int
) -> dict[str, dict[str, Any]]:
    """Skill by headline metric; empty where no row has a number of respondents, and so no ceiling."""
    found = {}
    for metric in HEADLINE:
        if not np.isnan(ceiling[metric]).all():
            baseline, interval = uncertainty.skill(answers, mine, baselines, ceiling, metric, seed)
            found[metric] = {"baseline": baseline, **interval}
    return found


def _sentence(compared: Mapping[str, tuple[str, Mapping[str, float]]]) -> str:
    """Where the subject stands, of each metric: a rival's name and the difference to it.

    E.g. "beats uniform by 0.027 [0.012, 0.041] in 1-√JSD; shows no clear difference from uniform: 0.004 [-0.010,
    0.018] in KL". Where it is not clear, numbers above zero are in the subject's favour.
    """
    said: dict[str, list[str]] = defaultdict(list)
    for metric, (rival, entry) in compared.items():
        value, low, high = gain(metric, entry)
        if math.isnan(entry["p_holm"]):
            start = f"has no interval (one question) against {rival}:"
        elif entry["p_holm"] >= LEVEL:
            start = f"shows no clear difference from {rival}:"
        elif value > 0:
            start = f"beats {rival} by"
        else:
            start, value, low, high = f"falls short of {rival} by", -value, -high, -low
        number = cell({metric: {"value": value, "low": low, "high": high}}, metric, interval=True)
        said[start].append(f"{number} in {TITLES[metric]}")
    return "; ".join(f"{start} {', '.join(numbers)}" for start, numbers in said.items())


def gain(metric: str, entry: Mapping[str, float]) -> tuple[float, float, float]:
    """A difference and its interval, turned so that more is better."""
    if metrics.METRICS[metric].better == "higher":
        return entry["value"], entry["low"], entry["high"]
    return -entry["value"], -entry["high"], -entry["low"]


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


def _plain(value: Any) -> Any:
    """As strict JSON can hold it: NaN (no such value) becomes null, at any depth."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
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
    return dict(sorted(scores.items(), key=lambda item: -item[1][HEADLINE[0]]["value"]))


def sources_of(summary: Mapping[str, Any], baseline: str) -> str:
    """How many rows a baseline predicted in which way, the most frequent first."""
    counts = sorted(summary["sources"][baseline].items(), key=lambda item: -item[1])
    return ", ".join(f"{source} ({n:,})" for source, n in counts)


def cell(scores: Mapping[str, Any], metric: str, interval: bool) -> str:
    """A number for people: value, and its 95 % interval where asked for."""
    entry = scores.get(metric)
    if entry is None or entry["value"] is None or math.isnan(entry["value"]):
        return "-"
    numbers = [entry[part] for part in ("value", "low", "high")]
    if not interval or any(number is None or math.isnan(number) for number in numbers):
        return f"{numbers[0]:z.3f}"
    return "{:z.3f} [{:z.3f}, {:z.3f}]".format(*numbers)


def print_table(splits: Iterable[SplitScore]) -> None:
    """One table for all splits; below it a sentence a split, and any predictions that failed."""
    splits = list(splits)
    table = Table(title="Predicted against human distributions (95 % intervals clustered by question and group)")
    table.add_column("split", no_wrap=True)
    table.add_column("system", no_wrap=True)
    for metric in SHOWN:
        table.add_column(TITLES[metric], justify="right", no_wrap=True)
    for split in splits:
        for number, (system, scores) in enumerate(systems_of(split.summary).items()):
            head = {0: split.name, 1: f"n = {split.summary['n']}"}.get(number, "")
            table.add_row(head, system, *(cell(scores, m, interval=m in HEADLINE) for m in SHOWN))
        table.add_section()
    # Wide enough for every column, whatever the terminal: a log must not lose digits.
    Console(width=160).print(table)
    for split in splits:
        print(f"{split.name}: the model {split.verdicts[0]}", flush=True)
    for warning in dict.fromkeys(w for split in splits for w in split.warnings):
        print(warning, flush=True)


def write_predictions(splits: Iterable[SplitScore], path: Path) -> None:
    """predictions.parquet: one row an answer. All columns are in the order of `options`; `option_order` is as shown."""
    rows = []
    for split in splits:
        for i, answer in enumerate(split.answers):
            row = {
                "survey": answer.survey,
                "wave": answer.wave,
                "question_id": answer.question_id,
                "question": answer.question,
                "options": list(answer.options),
                "option_order": list(split.orders[i]),
                "group": dict(answer.group),
                "target": list(answer.probs),
                "prediction": split.predictions[i, : len(answer.probs)].tolist(),
                "failed": bool(split.failed[i]),
                "n": answer.n,
                "split": split.name,
            }
            rows.append(row | {metric: float(values[i]) for metric, values in split.rows.items()})
    partial = path.with_name(f".partial-{path.name}")
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(rows).to_parquet(str(partial))
    partial.replace(path)
