"""Do the intervals of the stack hold the truth as often as they say? On surveys whose true answers are drawn.

    python -m benchmarks.coverage [--surveys=20]

Each made-up survey has questions on topics that their words name. Questions of a topic have answers in common, those of
groups are near the question's. A survey's new questions are predicted by the stack, with a language model that knows
nothing, or one that knows half. Prints the share of 80 and 95 % intervals that hold what people answered, and its
standard error over surveys.
"""

import functools
from collections.abc import Callable

import numpy as np
from absl import flags

from survey_jax import cli
from survey_jax.survey.evaluation.stacked import LEVELS, covered
from survey_jax.survey.prediction.similar import Similarity
from survey_jax.survey.prediction.stack import MEMBERS, fit_stack
from survey_jax.survey.splits.kinds import KNOWN, NEW, kinds
from survey_jax.survey.table import Answer

SURVEYS = flags.DEFINE_integer("surveys", 20, "How many to draw.")
TOPICS = ("parks", "trains", "schools", "rivers", "markets", "roads", "theatres", "forests")
OPTIONS = ("Never", "Sometimes", "Often", "Always")
AREAS = [f"Area {letter}" for letter in "ABCDEFGHIJKL"]
Model = Callable[[list[Answer], np.random.Generator], np.ndarray]


def main() -> None:
    print("| kind of row | model | 80 % intervals | 95 % intervals |\n|---|---|---|---|")
    for kind in (NEW, KNOWN):
        for name, model in (("knows nothing", nothing), ("knows half", half)):
            held = np.array([_held(kind, model, seed) for seed in range(SURVEYS.value)])
            error = held.std(0, ddof=1) / np.sqrt(len(held))
            cells = [f"{100 * m:.1f} ± {100 * e:.1f}" for m, e in zip(held.mean(0), error, strict=True)]
            print(f"| {kind} | {name} | {' | '.join(cells)} |", flush=True)


def nothing(rows: list[Answer], rng: np.random.Generator) -> np.ndarray:
    return rng.dirichlet(np.full(len(OPTIONS), 0.5), len(rows))


def half(rows: list[Answer], rng: np.random.Generator) -> np.ndarray:
    noisy = np.array([a.probs for a in rows]) * np.exp(0.5 * rng.normal(size=(len(rows), len(OPTIONS))))
    return (noisy + 1e-6) / (noisy + 1e-6).sum(-1, keepdims=True)


def survey(seed: int) -> list[Answer]:
    """80 questions put to 12 areas, 600 people each."""
    rng = np.random.default_rng(seed)
    topics = rng.dirichlet(np.full(len(OPTIONS), 2.0), len(TOPICS))
    tilts = 0.3 * rng.normal(size=(len(AREAS), len(OPTIONS)))  # how an area differs on every question
    rows = []
    for q in range(80):
        topic = q % len(TOPICS)
        question = rng.dirichlet(30 * topics[topic])
        text = f"How often are you content with the {TOPICS[topic]}, as of statement {q}?"
        for area, tilt in zip(AREAS, tilts, strict=True):
            shares = question * np.exp(tilt)
            people = rng.dirichlet(100 * shares / shares.sum() + 1e-3)
            counts = rng.multinomial(600, people)
            rows.append(Answer("Made up", f"q{q}", text, OPTIONS, (("area", area),), tuple(counts / 600), n=600))
    return rows


def _held(kind: str, model: Model, seed: int) -> list[float]:
    """The share of intervals of each level that hold, on rows of a kind that neither training nor validation has."""
    rows, rng = survey(seed), np.random.default_rng(seed + 1)
    part = functools.partial(_part, kind, rng.permutation(80), rng.permutation(len(AREAS)))
    train, valid, test = ([a for a in rows if part(a) == name] for name in ("train", "valid", "test"))
    said = [{name: rule(train, asked)[0] for name, rule in MEMBERS.items()} for asked in (valid, test)]
    stack = fit_stack(train, valid, kinds(train, valid), said[0], model(valid, rng), [kind])
    unlike = Similarity(train).features(test)
    found = stack.predict(test, kinds(train, test), said[1], model(test, rng), unlike)
    return [float(covered(test, found, level).mean()) for level in LEVELS]


def _part(kind: str, questions: np.ndarray, areas: np.ndarray, answer: Answer) -> str:
    """Where a row goes: new questions are drawn, or new areas."""
    place = int(np.flatnonzero(questions == int(answer.question_id[1:]))[0])
    area = int(np.flatnonzero(areas == AREAS.index(answer.group[0][1]))[0])
    if kind == NEW:
        return "train" if place < 40 else "valid" if place < 60 else "test"
    return "train" if area < 7 else "valid" if area < 9 else "test"


if __name__ == "__main__":
    cli.run(main)
