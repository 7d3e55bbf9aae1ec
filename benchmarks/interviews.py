"""How many interviews a prediction saves; no language model.

    python -m benchmarks.interviews --table=PATH [--preset=paper] [--draws=5]

PATH: World Values Survey wave 7 by country, as a survey table. Predictions are the rules' pool, of rows that its rules
have not seen: known questions in the preset's held-out countries, and in each country of train, hidden in turn. 25, 50,
100 and 200 people of each country are interviewed (drawn from the survey's shares, which count as the truth), and the
error (total variation distance) of these interviews, of the prediction, and of both together (`update`) is compared.
Then new questions of train, hidden in turn, when a few countries only are interviewed; and what intervals of
prediction-powered inference hold for all of train's countries, with the predictions and with random ones.
Writes benchmarks/results/interviews.json and prints Markdown tables.
"""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from survey_jax import cli
from survey_jax.survey.evaluation import metrics
from survey_jax.survey.evaluation.bootstrap import Bootstrap
from survey_jax.survey.prediction import dirichlet
from survey_jax.survey.prediction.concentration import fit_concentration
from survey_jax.survey.prediction.crossfit import crossfit
from survey_jax.survey.prediction.forecast import Forecast
from survey_jax.survey.prediction.pool import Pool, fit_pool
from survey_jax.survey.prediction.rectify import rectified
from survey_jax.survey.prediction.stack import MEMBERS
from survey_jax.survey.prediction.update import update
from survey_jax.survey.splits.kinds import KNOWN, NEW, kinds
from survey_jax.survey.splits.split import TRAIN, SplitConfig, split
from survey_jax.survey.table import Answer, Group, read_table

TABLE = flags.DEFINE_string("table", None, "Survey table.", required=True)
PRESET = flags.DEFINE_string("preset", "paper", "Preset of survey/presets.py.")
DRAWS = flags.DEFINE_integer("draws", 5, "Samples of interviews.")
INTERVIEWS = (25, 50, 100, 200)
ASKED = (1, 2, 4, 8)  # countries
RESULT = Path("benchmarks/results/interviews.json")
Rows = Sequence[Answer]


def main() -> None:
    parts = split(read_table(Path(TABLE.value)), SplitConfig(preset=PRESET.value)).rows
    train = parts[TRAIN]
    in_turn, pool, worth = hidden_in_turn(train, KNOWN)
    rest = [a for name, rows in parts.items() if name != TRAIN for a in rows]
    held_out = [a for a, kind in zip(rest, kinds(train, rest), strict=True) if kind == KNOWN]
    shares = pool(
        held_out, {rule: MEMBERS[rule](train, held_out)[0] for rule, weight in pool.weights.items() if weight}
    )
    result: dict[str, Any] = {
        "held-out countries": saving(forecasts(held_out, shares, worth, KNOWN), DRAWS.value),
        "countries of train in turn": saving(in_turn, DRAWS.value),
        "new questions": other_countries(hidden_in_turn(train, NEW)[0], DRAWS.value),
        "all countries": coverage(in_turn, 4 * DRAWS.value),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(text(result))


def hidden_in_turn(train: Rows, kind: str) -> tuple[list[Forecast], Pool, float]:
    """Forecasts of train's rows that were hidden as rows of a kind are, the rules' pool, and what it is worth."""
    answers, members = crossfit(train, MEMBERS, kind, rows=len(train))
    pool, shares = fit_pool(answers, members, kind)
    worth = float(np.exp(fit_concentration(answers, shares, np.zeros((len(answers), 0))).intercept))
    return forecasts(answers, shares, worth, kind), pool, worth


def forecasts(answers: Rows, shares: np.ndarray, worth: float, kind: str) -> list[Forecast]:
    return [Forecast(a, p[: len(a.options)], worth, kind, {}) for a, p in zip(answers, shares, strict=True)]


def interview(answers: Rows, n: int, rng: np.random.Generator) -> list[Answer]:
    """The rows as n people answer who are drawn from each."""
    drawn = [rng.multinomial(n, a.probs).astype(float) for a in answers]
    return [
        dataclasses.replace(a, counts=tuple(x), probs=tuple(x / n), n=float(n), n_effective=None)
        for a, x in zip(answers, drawn, strict=True)
    ]


def error(answers: Rows, shares: metrics.Distributions) -> np.ndarray:
    """Total variation distance of each row."""
    return metrics.row_metrics(answers, shares)["tv"]


def covered(answers: Rows, found: Sequence[Forecast], level: float) -> float:
    """The part of the options' intervals that hold the share."""
    truth, shares = (metrics.stack(answers, p) for p in ([a.probs for a in answers], [f.shares for f in found]))
    low, high = dirichlet.intervals(shares, np.array([f.concentration for f in found]), level)
    return float(((low <= truth) & (truth <= high))[shares > 0].mean())


def saving(predicted: Sequence[Forecast], draws: int) -> dict[str, Any]:
    """Errors of interviews, of predictions and of both; and how many interviews alone are as good as both.

    The error of interviews falls with the square root of their number: n (error alone / error of both)^2 are as good.
    """
    rng, answers = np.random.default_rng(0), [f.answer for f in predicted]
    bootstrap = Bootstrap(answers)
    sizes = {}
    for n in INTERVIEWS:
        samples = [interview(answers, n, rng) for _ in range(draws)]
        both = [update(predicted, sample) for sample in samples]
        alone_error = np.mean([error(answers, [a.probs for a in sample]) for sample in samples], axis=0)
        both_error = np.mean([error(answers, [f.shares for f in found]) for found in both], axis=0)
        ratio = bootstrap.ratios(alone_error, both_error)[0].interval()
        sizes[n] = {
            "alone": alone_error.mean(),
            "both": both_error.mean(),
            "saved": {end: n * (value**2 - 1) for end, value in ratio.items()},
            "covered": {
                str(level): float(np.mean([covered(answers, f, level) for f in both])) for level in (0.8, 0.95)
            },
        }
    return {
        "rows": len(answers),
        "groups": len({a.group for a in answers}),
        "questions": len({a.question_key for a in answers}),
        "worth": predicted[0].concentration,
        "prediction": error(answers, [f.shares for f in predicted]).mean(),
        "interviews": sizes,
    }


def other_countries(predicted: Sequence[Forecast], draws: int, n: int = 100) -> dict[str, Any]:
    """Errors in the countries that were not interviewed, when n people are interviewed in some others."""
    rng = np.random.default_rng(0)
    groups = list(dict.fromkeys(f.answer.group for f in predicted))
    found = {}
    for count in ASKED:
        draw = [
            _others(predicted, {groups[i] for i in rng.permutation(len(groups))[:count]}, n, rng) for _ in range(draws)
        ]
        found[count] = dict(zip(("before", "after", "covered"), np.mean(draw, axis=0).tolist(), strict=True))
    return {"n": n, "asked": found}


def _others(
    predicted: Sequence[Forecast], asked: Collection[Group], n: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Errors without and with the interviews, and what 95 % intervals then hold."""
    after = update(predicted, interview([f.answer for f in predicted if f.answer.group in asked], n, rng))
    other = [f.answer.group not in asked for f in predicted]
    before, after = ([f for f, own in zip(x, other, strict=True) if own] for x in (predicted, after))
    answers = [f.answer for f in before]
    errors = (float(error(answers, [f.shares for f in x]).mean()) for x in (before, after))
    return *errors, covered(answers, after, 0.95)


def coverage(predicted: Sequence[Forecast], draws: int) -> dict[str, Any]:
    """How often 95 % intervals for all countries together (each counts the same) hold the share, and their gain.

    n people are drawn; the predictions are those of their countries.
    """
    rng = np.random.default_rng(0)
    questions = defaultdict(list)
    for forecast in predicted:
        questions[forecast.answer.question_key].append(forecast)
    found: dict[str, dict[int, list[tuple[float, float]]]] = {"prediction": {}, "random": {}}
    for n in (50, 200):
        for own in questions.values():
            truth = np.array([f.answer.probs for f in own])
            random = rng.dirichlet(np.ones(truth.shape[1]), len(own))
            for _ in range(draws):
                group = rng.integers(len(own), size=n)
                answered = rng.multinomial(1, truth[group]).astype(float)
                for name, said in (("prediction", np.array([f.shares for f in own])), ("random", random)):
                    result = rectified(said[group], answered, np.ones(n), said.mean(0))
                    held = (result.low <= truth.mean(0)) & (truth.mean(0) <= result.high)
                    found[name].setdefault(n, []).append((float(held.mean()), result.as_good_as))
    return {
        name: {
            n: {"covered": float(np.mean([c for c, _ in own])), "as_good_as": float(np.median([g for _, g in own]))}
            for n, own in by_size.items()
        }
        for name, by_size in found.items()
    }


def text(result: dict[str, Any]) -> str:
    """Markdown tables."""
    tables = []
    for name in ("held-out countries", "countries of train in turn"):
        found = result[name]
        lines = [
            f"{name}: {found['groups']} countries, {found['questions']} known questions, {found['rows']} rows; "
            f"prediction alone {found['prediction']:.3f}, worth {found['worth']:.0f} interviews",
            "",
            "| interviews | alone | with prediction | interviews saved | 80 / 95 % intervals hold |",
            "|---|---|---|---|---|",
        ]
        for n, row in found["interviews"].items():
            saved, held = row["saved"], row["covered"]
            lines.append(
                f"| {n} | {row['alone']:.3f} | {row['both']:.3f} | {saved['value']:.0f} [{saved['low']:.0f}, "
                f"{saved['high']:.0f}] | {held['0.8']:.3f} / {held['0.95']:.3f} |"
            )
        tables.append("\n".join(lines))
    lines = [
        f"new questions: error in the other countries when {result['new questions']['n']} people are asked in some",
        "",
        "| countries asked | before | after | 95 % intervals hold |\n|---|---|---|---|",
    ]
    for count, row in result["new questions"]["asked"].items():
        lines.append(f"| {count} | {row['before']:.3f} | {row['after']:.3f} | {row['covered']:.3f} |")
    tables.append("\n".join(lines))
    lines = [
        "all countries together, prediction-powered 95 % intervals",
        "",
        "| interviews | predictions | intervals hold | as good as interviews alone (median) |\n|---|---|---|---|",
    ]
    for name, by_size in result["all countries"].items():
        for n, row in by_size.items():
            lines.append(f"| {n} | {name} | {row['covered']:.3f} | {row['as_good_as']:.0f} |")
    tables.append("\n".join(lines))
    return "\n\n".join(tables)


if __name__ == "__main__":
    cli.run(main)
