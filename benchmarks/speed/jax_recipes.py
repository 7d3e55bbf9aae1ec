"""This project: the paper's template (c), question-first trees (d), and such trees of short branches (e).

A worker of benchmarks.speed; `python -m benchmarks.speed.jax_recipes SPECIFICATION` is not for people. Trains and
evaluates as the binaries do, with their own functions.
"""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.speed import speed_data
from benchmarks.speed.speed_data import Round, Tree
from benchmarks.speed.speed_worker import fingerprint, mean_kl, serve
from survey_jax.config import BatchConfig, Config, DataConfig, LoraConfig, ModelConfig, OptimConfig, RunConfig, validate
from survey_jax.inference.predictor import Predictor, evaluation_layout
from survey_jax.inputs.batches import Batches, evaluation_batches, prefetch, to_device
from survey_jax.inputs.task import build_task, make_prompter
from survey_jax.inputs.trees import Question, group_questions
from survey_jax.parallel.distributed import use_compilation_cache
from survey_jax.pretrained.open import open_pretrained
from survey_jax.training.build import build_model
from survey_jax.training.optimizer import init_optimizer
from survey_jax.training.step import TrainState, compiled_train_step


@dataclasses.dataclass(frozen=True)
class How:
    """A recipe: settings of `Config` for training, and what evaluation changes in them.

    Attributes:
      eval_rows: so many of the job's, spread over their lengths; 0: all.
      steps: in a round, for each of the driver's.
    """

    template: str
    batch: BatchConfig
    attention: str = "dense"
    remat: str = "none"
    eval_batch: BatchConfig | None = None
    eval_attention: str | None = None
    eval_rows: int = 0
    steps: int = 1


RECIPES = {
    "c": How(
        template="paper",
        batch=BatchConfig(batch_size=4, seq_len=256, answers_per_seq=4, groups_per_tree=1),
        remat="dots",
        eval_batch=BatchConfig(batch_size=8, seq_len=256, answers_per_seq=4),
        eval_rows=192,
    ),
    "d": How(
        template="question_first",
        batch=BatchConfig(batch_size=1, seq_len=1024, answers_per_seq=72, groups_per_tree=46),
        attention="two_part",
        remat="dots",
        eval_batch=BatchConfig(batch_size=2, seq_len=1024, answers_per_seq=72),
        steps=4,
    ),
    "e": How(
        template="group_last",
        batch=BatchConfig(batch_size=2, seq_len=512, answers_per_seq=128, groups_per_tree=46),
        attention="two_part",
        remat="dots",
        eval_batch=BatchConfig(batch_size=4, seq_len=512, answers_per_seq=128),
        steps=4,
    ),
}
MANY = 1 << 30  # steps


class JaxRecipe:
    """A worker's recipe, see `speed_worker.Recipe`.

    Args:
      spec: "recipe", "dtype", "job", "data", "weights", "cache" (of compilations).
    """

    def __init__(self, spec: dict[str, Any]):
        self.how, self.job = RECIPES[spec["recipe"]], speed_data.JOBS[spec["job"]]
        self.config = validate(make_config(spec, self.how))
        self.compile_seconds = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def load(self) -> dict[str, Any]:
        use_compilation_cache(self.config)
        config = self.config
        pretrained = open_pretrained(config.model.weights)
        task = build_task(config, make_prompter(config, pretrained.tokenizer()))
        prompts = [p for p in task.prompts[self.job.rows] if len(p.tokens) <= speed_data.LONGEST]
        task = dataclasses.replace(task, prompts={self.job.rows: prompts})
        self.task, self.model = task, build_model(config, pretrained, task.prompts["train"], len(task.letters))
        self.params = self.model.params
        if self.job.train:
            self.prepare()
            state = TrainState(self.params, self.opt_state)
            self.step = compiled_train_step(self.model.graphdef, self.model.step_config, config.optim, state)
            self.batches = self._batches(prompts)
            self.coming: Iterator[Any] = prefetch(self.batches, 0, MANY)
        else:
            self.predictor = Predictor(self.model, task.letters)
            self.chosen = speed_data.spread(prompts, self.how.eval_rows)
        jax.block_until_ready((self.params, self.model.frozen))
        return {"trained": sum(x.size for x in jax.tree.leaves(self.params)), "options": len(task.letters)}

    def first(self) -> dict[str, Any]:
        """The loss of the recipe's own template, by the very step that rounds repeat."""
        prompts = speed_data.checked(self.task.prompts[self.job.rows])
        before = self.compile_seconds
        if self.job.train:
            self.prepare()
            measured = self._train(self._batches(prompts).batch(0))
            if measured["answers"] != len(prompts):
                raise ValueError(f"the first step holds {measured['answers']} of {len(prompts)} rows")
            loss = float(measured["loss"])
        else:
            loss = mean_kl(prompts, self.predictor(self.params, prompts, "first"))
        return {
            "losses": {self.how.template: loss},
            "asked": {self.how.template: fingerprint(prompts)},
            "compile_s": self.compile_seconds - before,
        }

    def prepare(self) -> None:
        if self.job.train:
            self.opt_state = init_optimizer(self.config.optim, self.params, self.model.mesh)
            jax.block_until_ready(self.opt_state)

    def round(self, number: int, steps: int) -> dict[str, Any]:
        seconds: list[float] = []
        if not self.job.train:
            begin = time.perf_counter()
            self.predictor(self.params, self.chosen, "evaluating")
            seconds = [time.perf_counter() - begin]
            shape, _ = evaluation_layout(self.model, self.chosen)
            return told(seconds, evaluation_batches(self.chosen, shape), group_questions(self.chosen))
        used = []
        for _ in range(steps * self.how.steps):
            begin = time.perf_counter()
            _, batch = next(self.coming)
            self._train(batch)
            seconds.append(time.perf_counter() - begin)
            used.append(batch)
        return told(seconds, used, self.batches.questions)

    def rest(self) -> None:
        self.opt_state = None

    def _train(self, batch: Any) -> Any:
        """One step, as train.py takes it."""
        model = self.model
        on_mesh = to_device(batch, model.mesh, model.shape.batch_size, True)
        state = TrainState(self.params, self.opt_state)
        (self.params, self.opt_state), measured = self.step(state, model.frozen, on_mesh, self.task.letters)
        return jax.device_get(measured)

    def _batches(self, prompts: Sequence[Any]) -> Batches:
        b = self.config.batch
        return Batches(prompts, self.model.shape, groups=b.groups_per_tree, microbatches=b.microbatches)

    def _heard(self, event: str, seconds: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            self.compile_seconds += seconds


def make_config(spec: dict[str, Any], how: How) -> Config:
    """The settings of a recipe on a job."""
    job = speed_data.JOBS[spec["job"]]
    batch, attention = how.batch, how.attention
    if not job.train:
        batch, attention = how.eval_batch or batch, how.eval_attention or attention
    return Config(
        model=ModelConfig(weights=spec["weights"], dtype=spec["dtype"], attention=attention, remat=how.remat),
        lora=LoraConfig(rank=job.rank, projections=job.projections),
        data=DataConfig(
            tables=(spec["data"],),
            question_columns=speed_data.COLUMNS,
            template=how.template,
            drop_long=True,
            splits=speed_data.split_config(spec["data"]),
        ),
        batch=batch,
        optim=OptimConfig(lr=1e-5, warmup=0, schedule="constant"),
        run=RunConfig(cache=spec["cache"]),
    )


def told(seconds: list[float], batches: Sequence[Any], questions: Sequence[Question]) -> dict[str, Any]:
    """A `Round` as a dictionary."""
    trees = [tree for batch in batches for tree in trees_of(batch["prompt"], questions)]
    examples = sum(len(branches) for _, branches in trees)
    computed = sum(batch["tokens"].size for batch in batches)
    return dataclasses.asdict(Round(seconds, examples, computed, trees))


def trees_of(prompt: np.ndarray, questions: Sequence[Question]) -> list[Tree]:
    """What a batch holds, token for token once.

    Args:
      prompt: whose answers its rows hold, [..., A], -1 where there is none.
    """
    place = {int(m): (n, i) for n, q in enumerate(questions) for i, m in enumerate(q.members)}
    trees = []
    for row in prompt.reshape(-1, prompt.shape[-1]):
        held = sorted(place[int(m)] for m in row if m >= 0)
        for number, branches in itertools.groupby(held, key=lambda found: found[0]):
            question = questions[number]
            trees.append((len(question.trunk), [len(question.branches[i]) for _, i in branches]))
    return trees


if __name__ == "__main__":
    serve(JaxRecipe)
