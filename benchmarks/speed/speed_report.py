"""Figures of the speed benchmark from what its workers said, and tables of them."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import speed_flops
from benchmarks.speed.speed_data import Job, Round
from survey_jax.model.architecture import DecoderConfig

FLOAT32, BFLOAT16 = "float32", "bfloat16"
GIGA = 1e9


def name_of(recipe: str, dtype: str) -> str:
    """As columns and flags call it: "b", "b_bf16"."""
    return recipe + ("_bf16" if dtype == BFLOAT16 else "")


def parse(name: str) -> tuple[str, str]:
    """The inverse of `name_of`."""
    recipe = name.removesuffix("_bf16")
    return recipe, BFLOAT16 if recipe != name else FLOAT32


def family(name: str) -> str:
    """Of "b8_bf16": "b"."""
    return name[0]


@dataclasses.dataclass(frozen=True)
class Spread:
    """Of the rounds' values."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median, least and greatest."""
    return Spread(statistics.median(values), min(values), max(values))


def figures(c: DecoderConfig, job: Job, options: int, rounds: Sequence[Round]) -> dict[str, Any]:
    """What a recipe did in its rounds.

    Returns:
      "examples_per_second", "step_seconds", "flops_per_second" (of the tokens really there, each once): `Spread`s of
      the rounds; "examples_per_step", "tokens_per_example" and, padding included, "computed_per_example".
    """
    seconds = [sum(r.seconds) for r in rounds]
    flops = [speed_flops.unique_flops(c, r.trees, job, options) for r in rounds]
    examples = sum(r.examples for r in rounds)
    return {
        "examples_per_second": spread([r.examples / s for r, s in zip(rounds, seconds, strict=True)]),
        "step_seconds": spread([s / len(r.seconds) for r, s in zip(rounds, seconds, strict=True)]),
        "flops_per_second": spread([f / s for f, s in zip(flops, seconds, strict=True)]),
        "examples_per_step": examples / sum(len(r.seconds) for r in rounds),
        "tokens_per_example": sum(speed_flops.tokens(r.trees) for r in rounds) / examples,
        "computed_per_example": sum(r.computed for r in rounds) / examples,
    }


def ratios(speeds: Mapping[str, float]) -> dict[str, float]:
    """How many times as fast ours are as PyTorch's.

    Args:
      speeds: examples a second by recipe.

    Returns:
      "e/a", "e/b", "d/a" and so on, float32 against the fastest float32 of that letter, and the same with " best", the
      fastest of either type against the fastest of either; what was not measured is left out.
    """
    found = {}
    for suffix, dtypes in (("", {FLOAT32}), (" best", {FLOAT32, BFLOAT16})):
        fastest: dict[str, float] = {}
        for name, speed in speeds.items():
            if parse(name)[1] in dtypes:
                fastest[family(name)] = max(speed, fastest.get(family(name), 0.0))
        found |= {
            f"{ours}/{theirs}{suffix}": fastest[ours] / fastest[theirs]
            for ours in "edc"
            for theirs in "ab"
            if {ours, theirs} <= fastest.keys()
        }
    return found


def peaks(rounds: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """The fastest product of all rounds and shapes, FLOP/s by type."""
    found: dict[str, float] = {}
    for by_dtype in rounds:
        for dtype, shapes in by_dtype.items():
            found[dtype] = max([found.get(dtype, 0.0), *shapes.values()])
    return found


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """Three tables: speeds, their ratios, and everything else.

    Args:
      results: of each model and job, as speed.json has them: "model", "job", "recipes" (name -> figures, memory and
        times, or {"failed": why}), "ratios" and "peaks".
    """
    columns = list(dict.fromkeys(name for result in results for name in result["recipes"]))
    kinds = list(dict.fromkeys(kind for result in results for kind in result["ratios"]))
    speeds = [[*_where(r), *(_speed(r["recipes"].get(name)) for name in columns)] for r in results]
    compared = [[*_where(r), *(_number(r["ratios"].get(kind)) for kind in kinds)] for r in results]
    rest = [
        [*_where(r), name, *_details(found, r["peaks"].get(parse(name)[1]))]
        for r in results
        for name, found in r["recipes"].items()
        if "failed" not in found
    ]
    return "\n\n".join(
        [
            "Examples a second: median (least to most) of the rounds.\n\n" + table(["model", "job", *columns], speeds),
            "How many times as fast.\n\n" + table(["model", "job", *kinds], compared),
            "GFLOP/s are those of the tokens really there, each once, also as a share of the fastest matrix product "
            "of that type measured in the same run. Memory: the process's most while it loads, and after.\n\n"
            + table(["model", "job", "recipe", *DETAILS], rest),
        ]
    )


DETAILS = (
    "examples a step",
    "step, s",
    "tokens an example",
    "with padding",
    "GFLOP/s",
    "of peak",
    "loading, GB",
    "peak, GB",
    "start to first step, s",
    "of it compilation",
    "second start, s",
)


def write_whole(path: Path, text: str) -> None:
    """A file of results, in one piece, and its folder.

    Not by `run_files.write_text`: that asks jax for this process's number; a driver must leave the GPU to its workers.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _where(result: Mapping[str, Any]) -> list[str]:
    return [result["model"], result["job"]]


def _speed(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    if "failed" in found:
        return "failed"
    s = found["examples_per_second"]
    return f"{_number(s['median'])} ({_number(s['low'])} to {_number(s['high'])})"


def _details(found: Mapping[str, Any], peak: float | None) -> list[str]:
    flops = found["flops_per_second"]["median"]
    return [
        f"{found['examples_per_step']:.1f}",
        _number(found["step_seconds"]["median"]),
        f"{found['tokens_per_example']:.1f}",
        f"{found['computed_per_example']:.1f}",
        f"{flops / GIGA:.0f}",
        f"{flops / peak:.0%}" if peak else "",
        f"{found['loading_peak'] / GIGA:.2f}",
        f"{found['peak'] / GIGA:.2f}",
        *(_number(found[name]) for name in ("first_step_s", "compile_s", "second_start_s")),
    ]


def _number(value: float | None) -> str:
    """Three digits."""
    return "" if value is None else f"{value:#.3g}".rstrip(".")
