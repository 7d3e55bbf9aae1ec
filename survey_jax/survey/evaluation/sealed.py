"""Scores predictions that were sealed before anybody had answered."""

from collections.abc import Sequence
from typing import Any

from survey_jax.survey.evaluation import metrics
from survey_jax.survey.evaluation.scoring import HEADLINE, plain
from survey_jax.survey.evaluation.stacked import LEVELS, coverage
from survey_jax.survey.evaluation.worth import worth
from survey_jax.survey.prediction.seal import SealedRows, read_seal, sealed_rows
from survey_jax.survey.prediction.stack import Stacked
from survey_jax.survey.table import Answer


def score_sealed(path: str, answers: Sequence[Answer], seed: int = 0) -> dict[str, Any]:
    """What exactly the sealed predictions score on answers that came in later.

    Raises:
      UserError: no seal or an altered one; answers without a sealed prediction.
    """
    content = read_seal(path)
    rows = sealed_rows(content, answers)
    shares = metrics.stack(rows.answers, rows.shares)
    stacked = Stacked(shares, rows.concentration, shares)
    return plain({
        "sealed": content["sealed"],
        "sha256": content["sha256"],
        "n": len(rows.answers),
        "of": len(content["predictions"]),
        "scores": metrics.summarise(rows.answers, metrics.row_metrics(rows.answers, shares), seed),
        "uniform": metrics.summarise(rows.answers, metrics.row_metrics(rows.answers, _even(rows)), seed),
        "worth": worth(rows.answers, shares, seed),
        "coverage": {f"{100 * level:.0f}": coverage(rows.answers, stacked, level, seed) for level in LEVELS},
    })  # fmt: skip


def in_words(found: dict[str, Any]) -> str:
    """Plain text, a line each."""

    def shown(entry: dict[str, Any]) -> str:
        interval = "" if entry["low"] is None else f" [{entry['low']:.3f}, {entry['high']:.3f}]"
        return f"{entry['value']:.3f}{interval}"

    lines = [f"{found['n']} answers to {found['of']} predictions sealed {found['sealed']} (SHA-256 {found['sha256']})"]
    for metric, title in HEADLINE.items():
        scale = " / 100" if metric == "tv" else ""
        lines.append(f"{title}{scale}: {shown(found['scores'][metric])}; even guess {shown(found['uniform'][metric])}")
    held = (f"{100 * entry['value']:.0f} % of {level} % intervals" for level, entry in found["coverage"].items())
    return "\n".join([*lines, f"hold what people answered: {', '.join(held)}"])


def _even(rows: SealedRows) -> list[list[float]]:
    return [[1 / len(a.options)] * len(a.options) for a in rows.answers]
