"""Do the intervals of the stack hold the truth as often as they say? On surveys whose true answers are drawn.

    python -m benchmarks.coverage [--surveys=20]

Each made-up survey has questions on topics that their words name. Questions of a topic have answers in common, those of
groups are near the question's. Some surveys are small, some have errors with heavy tails. New questions or new groups
are predicted by the stack, with a language model that knows nothing, or one that knows half. Prints the share of 80 and
95 % intervals that hold what people answered, and its standard error over surveys.
"""

import dataclasses
import itertools
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
TESTED = {NEW: 80, KNOWN: 12}  # new questions, new areas
Model = Callable[[list[Answer], np.random.Generator], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Shape:
    """A kind of survey.

    Attributes:
      questions, areas: how many train and validation have.
      tails: how much areas, questions and answers differ in how far they are from what is typical; 0: not at all.
    """

    questions: tuple[int, int] = (40, 20)
    areas: tuple[int, int] = (7, 2)
    tails: float = 0.0


SHAPES = {"plain": Shape(), "small": Shape((24, 16), (4, 2)), "heavy tails": Shape(tails=0.8)}


def main() -> None:
    print("| survey | kind of row | model | 80 % intervals | 95 % intervals |\n|---|---|---|---|---|")
    for (name, shape), kind in itertools.product(SHAPES.items(), (NEW, KNOWN)):
        for model in (nothing, half):
            held = np.array([_held(shape, kind, model, seed) for seed in range(SURVEYS.value)])
            error = held.std(0, ddof=1) / np.sqrt(len(held))
            cells = [f"{100 * m:.1f} ± {100 * e:.1f}" for m, e in zip(held.mean(0), error, strict=True)]
            print(f"| {name} | {kind} | knows {model.__name__} | {' | '.join(cells)} |", flush=True)


def nothing(rows: list[Answer], rng: np.random.Generator) -> np.ndarray:
    return rng.dirichlet(np.full(len(OPTIONS), 0.5), len(rows))


def half(rows: list[Answer], rng: np.random.Generator) -> np.ndarray:
    noisy = np.array([a.probs for a in rows]) * np.exp(0.5 * rng.normal(size=(len(rows), len(OPTIONS))))
    return (noisy + 1e-6) / (noisy + 1e-6).sum(-1, keepdims=True)


def survey(questions: int, areas: int, tails: float, rng: np.random.Generator) -> list[Answer]:
    """Questions put to 600 people of each area."""
    topics = rng.dirichlet(np.full(len(OPTIONS), 2.0), len(TOPICS))
    tilts = 0.3 * rng.normal(size=(areas, len(OPTIONS)))  # how an area differs on every question
    tilts *= np.exp(tails * rng.normal(size=(areas, 1)) - tails**2)  # the mean square stays the same
    rows = []
    for q in range(questions):
        topic = q % len(TOPICS)
        question = rng.dirichlet(30 * np.exp(1.5 * tails * rng.normal()) * topics[topic] + 1e-3)
        text = f"How often are you content with the {TOPICS[topic]}, as of statement {q}?"
        for area, tilt in enumerate(tilts):
            shares = question * np.exp(tilt)
            near = 100 * np.exp(tails * rng.normal())
            people = rng.dirichlet(near * shares / shares.sum() + 1e-3)
            counts = rng.multinomial(600, people)
            group = (("area", f"Area {area}"),)
            rows.append(Answer("Made up", f"q{q}", text, OPTIONS, group, tuple(counts / 600), n=600))
    return rows


def _held(shape: Shape, kind: str, model: Model, seed: int) -> list[float]:
    """The share of intervals of each level that hold, on rows of a kind that neither training nor validation has."""
    rng = np.random.default_rng(seed)
    questions, areas = list(shape.questions), list(shape.areas)
    (questions if kind == NEW else areas).append(TESTED[kind])
    rows = survey(sum(questions), sum(areas), shape.tails, rng)
    units = np.array([int(a.question_id[1:] if kind == NEW else a.group[0][1].split()[1]) for a in rows])
    sizes = questions if kind == NEW else areas
    part = np.repeat(np.arange(3), sizes)[rng.permutation(sum(sizes))[units]]
    train, valid, test = ([a for a, own in zip(rows, part, strict=True) if own == i] for i in range(3))
    said = [{name: rule(train, asked)[0] for name, rule in MEMBERS.items()} for asked in (valid, test)]
    stack = fit_stack(train, valid, kinds(train, valid), said[0], model(valid, rng), [kind])
    unlike = Similarity(train).features(test)
    found = stack.predict(test, kinds(train, test), said[1], model(test, rng), unlike)
    return [float(covered(test, found, level).mean()) for level in LEVELS]


if __name__ == "__main__":
    cli.run(main)
