"""Does a term of a group's own answers and the model's reading of the question add to a trained language model?

    python -m benchmarks.group_scores --workdir=RUN [--factors=8]

To the logits of the letters of a trained run, u(group) . W h(question) is added: u are factor scores of the group's
training answers (less those to the question itself, on training rows), h is the final hidden state at the answer
position, W has a low rank. It is fitted on training rows for several ranks and penalties, and stopped where validation
KL is least. Prints misplaced answers of 100 and KL of every split, before and after.
"""

import functools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from etils import epath
from flax import nnx
from jaxtyping import Array, Float

from survey_jax import cli
from survey_jax.checkpointing.manager import Checkpoints
from survey_jax.common.console import say
from survey_jax.inference.predictor import evaluation_step, over_prompts
from survey_jax.inputs.prompts import Prompt
from survey_jax.inputs.task import Task, build_task, make_prompter, open_tokenizer
from survey_jax.pretrained.open import open_pretrained
from survey_jax.survey.splits.config import TRAIN, VALID
from survey_jax.survey.table import Answer, Group
from survey_jax.survey.text import same_group
from survey_jax.telemetry.manifest import read_config
from survey_jax.training.build import build_model, on_these_devices
from survey_jax.training.step import answer_states, token_logits

WORKDIR = flags.DEFINE_string("workdir", None, "The run.", required=True)
FACTORS = flags.DEFINE_integer("factors", 8, "Scores of a group.")
RANKS, PENALTIES, STEPS, EVERY, RATE = (4, 16), (1e-3, 1e-2, 1e-1), 600, 10, 3e-4
_LEAST_GROUPS = 3  # of a question that scores are from
Weights = dict[str, Array]


class Rows(NamedTuple):
    """The rows of a split."""

    hidden: Float[Array, "n D"]
    logits: Float[Array, "n K"]
    scores: Float[Array, "n F"]
    target: Float[Array, "n K"]
    mask: Float[Array, "n K"]


class Scores:
    """Factor scores: the posterior mean given a group's answers, each less the mean of the groups asked.

    Loadings are the first factors of the matrix of groups x options, whose gaps are filled by themselves in turn.
    """

    def __init__(self, train: Sequence[Answer], size: int, rounds: int = 20):
        asked: dict[Any, list[Answer]] = defaultdict(list)
        self._groups: dict[Group, int] = {}
        for a in train:
            asked[a.question_key].append(a)
            self._groups.setdefault(same_group(a.group), len(self._groups))
        ends = np.cumsum([len(rows[0].probs) for rows in asked.values()]).tolist()
        self._columns = {q: slice(e - len(r[0].probs), e) for (q, r), e in zip(asked.items(), ends, strict=True)}
        self._answers = np.full((len(self._groups), ends[-1]), np.nan)
        for question, rows in asked.items():
            if len({same_group(a.group) for a in rows}) >= _LEAST_GROUPS:
                mean = np.mean([a.probs for a in rows], axis=0)
                for a in rows:
                    self._answers[self._groups[same_group(a.group)], self._columns[question]] = np.array(a.probs) - mean
        known = ~np.isnan(self._answers)
        filled = np.where(known, self._answers, 0.0)
        for _ in range(rounds):
            left, size_of, right = np.linalg.svd(filled, full_matrices=False)
            low_rank = (left[:, :size] * size_of[:size]) @ right[:size]
            filled = np.where(known, self._answers, low_rank)
        self._loadings = right[:size].T * size_of[:size] / np.sqrt(len(self._groups))
        self._noise = np.var((self._answers - low_rank)[known])

    def __call__(self, answer: Answer) -> Float[np.ndarray, " F"]:
        """The scores of the row's group without its answer to the row's question; 0 for a new group."""
        size = self._loadings.shape[1]
        row = self._groups.get(same_group(answer.group))
        if row is None:
            return np.zeros(size)
        known = ~np.isnan(self._answers[row])
        if answer.question_key in self._columns:
            known[self._columns[answer.question_key]] = False
        loadings = self._loadings[known]
        return np.linalg.solve(
            loadings.T @ loadings + self._noise * np.eye(size), loadings.T @ self._answers[row, known]
        )


def main() -> None:
    task, states = read_states(epath.Path(WORKDIR.value))
    scores, letters = Scores(task.splits.rows[TRAIN], FACTORS.value), len(task.letters)
    spread = states[TRAIN][:, :-letters]
    parts = {
        name: _rows(task.prompts[name], found, letters, scores, spread.mean(0), spread.std(0) + 1e-6)
        for name, found in states.items()
    }
    for rank in RANKS:
        for penalty in PENALTIES:
            found, step = fit(parts[TRAIN], parts[VALID], rank, penalty)
            without = found | {"out": jnp.zeros_like(found["out"])}
            each = (f"{n} {_measured(without, p)} -> {_measured(found, p)}" for n, p in parts.items())
            say(f"rank {rank}, penalty {penalty:g}, best after {step} steps: {'; '.join(each)}")


def read_states(workdir: epath.Path) -> tuple[Task, dict[str, np.ndarray]]:
    """The task of a run; for every split the final hidden states and letters' logits of its prompts [n, D + K]."""
    config = on_these_devices(read_config(workdir))
    pretrained = open_pretrained(config.model.weights, config.model.revision)
    task = build_task(config, make_prompter(config, *open_tokenizer(config, pretrained)))
    model = build_model(config, pretrained, task.prompts[TRAIN], len(task.letters))
    checkpoints = Checkpoints(workdir)
    params = checkpoints.restore_parameters(checkpoints.step("best"), model.params)

    def step(graphdef, params, frozen, batch, letters, *, step_config):
        whole = nnx.merge(graphdef, params, frozen)
        hidden, _ = answer_states(whole, batch, step_config)
        return jnp.concatenate([hidden, token_logits(whole, hidden, letters, step_config.decoder)], axis=-1)

    compiled, states = evaluation_step(model, step), {}
    for name, prompts in task.prompts.items():
        found = np.zeros((len(prompts), model.step_config.decoder.width + len(task.letters)), np.float32)
        for values, places in over_prompts(model, compiled, params, prompts, task.letters, name):
            found[places] = values
        states[name] = found
    return task, states


def _rows(prompts: Sequence[Prompt], found: np.ndarray, letters: int, scores: Scores, mean, scale) -> Rows:
    target, mask = np.zeros((2, len(prompts), letters))
    for row, prompt in enumerate(prompts):
        target[row, : len(prompt.target)] = prompt.target
        mask[row, : len(prompt.target)] = 1
    hidden = (found[:, :-letters] - mean) / scale
    values = (hidden, found[:, -letters:], [scores(p.answer) for p in prompts], target, mask)
    return Rows(*(jnp.asarray(np.array(v), jnp.float32) for v in values))


def log_shares(weights: Weights, rows: Rows) -> Float[Array, "n K"]:
    """Of the model at a temperature, with the term."""
    term = ((rows.hidden @ weights["in"]) * (rows.scores @ weights["group"])) @ weights["out"]
    logits = rows.logits * jnp.exp(weights["temperature"]) + term
    return jax.nn.log_softmax(jnp.where(rows.mask > 0, logits, -1e9), axis=-1)


def kl(weights: Weights, rows: Rows) -> Float[Array, " n"]:
    """In nats."""
    gap = jnp.log(jnp.maximum(rows.target, 1e-12)) - log_shares(weights, rows)
    return jnp.sum(jnp.where(rows.target > 0, rows.target * gap, 0.0), axis=-1)


def fit(train: Rows, valid: Rows, rank: int, penalty: float) -> tuple[Weights, int]:
    """The weights with the least validation KL on the way, and after how many steps."""
    keys = jax.random.split(jax.random.key(0), 2)
    width, size, letters = train.hidden.shape[1], train.scores.shape[1], train.target.shape[1]
    weights = {
        "in": jax.random.normal(keys[0], (width, rank)) / np.sqrt(width),
        "group": jax.random.normal(keys[1], (size, rank)) / np.sqrt(size),
        "out": jnp.zeros((rank, letters)),
        "temperature": jnp.zeros(()),
    }
    optimizer = optax.adamw(RATE, weight_decay=10 * penalty)
    state = optimizer.init(weights)

    def loss(weights: Weights) -> Float[Array, ""]:
        squares = sum(jnp.sum(weights[name] ** 2) for name in ("in", "group", "out"))
        return kl(weights, train).mean() + penalty / 100 * squares

    @jax.jit
    def update(weights: Weights, state: Any) -> tuple[Weights, Any]:
        updates, state = optimizer.update(jax.grad(loss)(weights), state, weights)
        return optax.apply_updates(weights, updates), state

    validation = jax.jit(functools.partial(kl, rows=valid))
    best, found, at = np.inf, weights, 0
    for step in range(STEPS + 1):
        if step % EVERY == 0 and (value := float(validation(weights).mean())) < best:
            best, found, at = value, weights, step
        weights, state = update(weights, state)
    return found, at


def _measured(weights: Weights, rows: Rows) -> str:
    misplaced = 50 * jnp.abs(jnp.exp(log_shares(weights, rows)) * rows.mask - rows.target).sum(-1).mean()
    return f"{float(misplaced):.2f} / {float(kl(weights, rows).mean()):.4f}"


if __name__ == "__main__":
    cli.run(main)
