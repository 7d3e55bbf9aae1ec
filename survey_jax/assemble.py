"""What training and evaluation set up alike: the data, the prompts, the model on its mesh, and prediction."""

import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from etils import epath
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float
from rich.progress import track

from survey_jax.config import Config
from survey_jax.console import is_first
from survey_jax.distributed import check_stop
from survey_jax.errors import UserError
from survey_jax.input import evaluation_batches, local_rows, to_device
from survey_jax.kept import Kept
from survey_jax.model.decoder import DecoderConfig, Numerics
from survey_jax.model.kernels import why_not_cudnn, why_not_splash
from survey_jax.model.lora import LoraParam
from survey_jax.model.weights import Pretrained, abstract_model, load_model
from survey_jax.objective import Forward, letter_mass, predict_step
from survey_jax.prompts import Prompt, Prompter, limited
from survey_jax.sharding import make_mesh
from survey_jax.survey.metrics import scale_points
from survey_jax.survey.splits import Splits, split
from survey_jax.survey.table import Answer, read_table
from survey_jax.token_cache import CachedTokenizer
from survey_jax.trees import BatchShape, group_questions, tree_shape, trunk_room

if TYPE_CHECKING:
    import transformers

EXTRA = "data"  # the split of tables given to eval.py by --data


@dataclasses.dataclass(frozen=True)
class Task:
    """The data of a run, as text and as tokens."""

    splits: Splits
    prompter: Prompter
    prompts: dict[str, list[Prompt]]
    letters: np.ndarray  # token ids, int32 [K]


@dataclasses.dataclass(frozen=True)
class Model:
    """A model on its mesh, taken apart for functional steps."""

    mesh: jax.sharding.Mesh
    graphdef: Any
    train: nnx.State
    frozen: nnx.State
    forward: Forward  # of training
    shape: BatchShape


def open_tokenizer(config: Config, pretrained: Pretrained) -> CachedTokenizer:
    """The model's tokenizer; what it makes of the tables is kept under `run.cache`."""
    folder = epath.Path(config.run.cache) / "tokens" if config.run.cache else None
    return CachedTokenizer(pretrained.tokenizer, pretrained.tokenizer_fingerprint(), folder)


def make_prompter(config: Config, tokenizer: "transformers.PreTrainedTokenizerBase | CachedTokenizer") -> Prompter:
    """The config's template on a tokenizer."""
    d = config.data
    order, seed = d.option_order, config.run.seed
    return Prompter(tokenizer, d.template, d.chat, language=d.language, order=order, seed=seed)


def read_answers(config: Config) -> list[Answer]:
    """All rows of the config's tables. Raises UserError where two tables hold the same row."""
    answers: list[Answer] = []
    for table in config.data.tables:
        path = str(resources.files("survey_jax") / "data" / "demo.jsonl.gz") if table == "demo" else table
        answers += read_table(path, config.data.question_columns)
    seen: set[object] = set()
    for answer in answers:
        if answer.key in seen:
            raise UserError(f"config.data.tables: {answer.describe()} stands in more than one table")
        seen.add(answer.key)
    return answers


def build_task(config: Config, prompter: Prompter, extra: Sequence[Answer] = ()) -> Task:
    """Reads tables, makes splits, tokenises; every check that can fail on data has run when this returns.

    Args:
      extra: rows to evaluate besides the config's own, as the split EXTRA.
    """
    splits = split(read_answers(config), config.data.splits)
    parts = splits.rows | ({EXTRA: list(extra)} if extra else {})
    rows = [a for part in parts.values() for a in part]
    scale_points(rows)  # refuses bad ones here rather than at the first evaluation
    everything, letters = prompter.tokenise(rows)
    made, limits = iter(everything), (config.batch.row_tokens, config.data.drop_long)
    prompts = {name: limited(list(itertools.islice(made, len(part))), *limits) for name, part in parts.items()}
    for name, part in prompts.items():
        if not part:
            raise UserError(f"split {name}: data.drop_long left none of its rows; raise batch.row_tokens")
    return Task(splits, prompter, prompts, letters)


def batch_shape(config: Config, prompts: Sequence[Prompt], options: int) -> BatchShape:
    """Fixed batch sizes: as configured, and room for the trunks of rows full of these prompts."""
    b = config.batch
    drawn = min(b.groups, b.question_answers or b.groups)
    room = trunk_room(group_questions(prompts), b.row_tokens, drawn)
    return BatchShape(b.rows, b.row_tokens, b.row_answers, room, options)


def trainable(config: Config) -> type:
    """The kind of parameter that training updates."""
    return LoraParam if config.lora.rank else nnx.Param


def check_rows(rows: int, mesh: jax.sharding.Mesh) -> None:
    """UserError unless a microbatch's rows can be dealt out evenly."""
    per_row = mesh.shape["data"] * mesh.shape["fsdp"]
    if rows % per_row:
        raise UserError(f"config.batch.rows = {rows}: must be a multiple of data x fsdp = {per_row}")


def check_attention(config: Config, decoder: DecoderConfig, device: jax.Device) -> None:
    """UserError if the configured back end cannot compute this model's attention on a device."""
    name, tokens, why = config.model.attention, config.batch.row_tokens, None
    if name == "cudnn":
        why = why_not_cudnn(decoder.head_width, decoder.attention_softcap, config.model.dtype, tokens, device)
    elif name == "splash":
        why = why_not_splash(tokens, device)
    if why:
        raise UserError(f"config.model.attention = {name!r}: it {why}; choose two_part, which works everywhere")


def training_forward(config: Config, decoder: DecoderConfig) -> Forward:
    """The computation of training, with dense attention."""
    return Forward(
        decoder=decoder,
        numerics=Numerics(
            dtype=config.model.dtype,
            activations="float32" if jax.default_backend() == "cpu" else config.model.dtype,
            lora_scale=config.lora.alpha / config.lora.rank if config.lora.rank else 0.0,
        ),
        remat=config.model.remat,
        loss=config.optim.loss,
    )


def build_model(config: Config, pretrained: Pretrained, task: Task) -> Model:
    """Loads weights onto the mesh of the config; adapters are fresh."""
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    check_rows(config.batch.rows, mesh)
    check_attention(config, pretrained.config, mesh.devices.flat[0])
    abstract = abstract_model(pretrained.config, config.lora.rank, config.lora.projections, config.model.quantize)
    kind = trainable(config)
    model = load_model(
        pretrained, abstract, mesh, frozen_dtype=config.model.dtype, trainable=kind, seed=config.run.seed
    )
    graphdef, train, frozen = nnx.split(model, kind, ...)  # type: ignore[misc]  # the stubs take no `...`
    prompts = next(iter(task.prompts.values()))
    shape = batch_shape(config, prompts, len(task.letters))
    forward = training_forward(config, pretrained.config)
    if config.model.attention != "dense":
        sizes = tree_shape(group_questions(prompts), shape, config.model.attention)
        forward = dataclasses.replace(forward, tree_shape=sizes)
    return Model(mesh, graphdef, train, frozen, forward, shape)


def evaluation_layout(model: Model, prompts: Sequence[Prompt]) -> tuple[BatchShape, Forward]:
    """Shape of, and computation for, `evaluation_batches` of these prompts.

    Both go by them: what prompts of a question share depends on which of them there are.
    """
    questions = group_questions(prompts)
    room = trunk_room(questions, model.shape.tokens, model.shape.answers)
    shape = dataclasses.replace(model.shape, trunks=room)
    forward = dataclasses.replace(model.forward, remat="none")  # no backward pass, nothing to save
    if forward.tree_shape is not None:
        sizes = tree_shape(questions, shape, forward.tree_shape.back_end)
        forward = dataclasses.replace(forward, tree_shape=sizes)
    return shape, forward


def evaluation_step(model: Model, step: Callable[..., jax.Array]) -> Any:
    """A step over an evaluation batch, compiled; gives its answers [B, A, ...] and whose they are [B, A].

    Every process gets those of all rows, whoever computed them.
    """

    def both(graphdef: Any, train: Any, frozen: Any, batch: Any, letters: Any, *, forward: Forward) -> Any:
        return step(graphdef, train, frozen, batch, letters, forward=forward), batch["prompt"]

    everywhere = NamedSharding(model.mesh, P())
    return jax.jit(both, static_argnums=0, static_argnames="forward", out_shardings=everywhere)


def over_prompts(
    model: Model,
    step: Any,
    train: nnx.State,
    prompts: Sequence[Prompt],
    letters: np.ndarray,
    label: str,
    done: int = 0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """An `evaluation_step` batch after batch: answers [n, ...] and the indices of their prompts [n].

    Args:
      label: what is being done, for the progress bar on a terminal.
      done: batches to leave out at the beginning.

    Raises:
      Stopped: see `distributed.stop_requested`, between two batches.
    """
    shape, forward = evaluation_layout(model, prompts)
    batches = evaluation_batches(prompts, shape, local_rows(model.mesh, shape.rows))[done:]
    hidden = not (is_first() and sys.stdout.isatty())
    for batch in track(batches, label, transient=True, disable=hidden):
        check_stop(label)
        on_mesh = to_device(batch, model.mesh, shape.rows, False)
        answers, prompt = jax.device_get(step(model.graphdef, train, model.frozen, on_mesh, letters, forward=forward))
        yield answers[prompt >= 0], prompt[prompt >= 0]


class Predictor:
    """Option probabilities of any prompts under a model's current parameters; with dense attention compiled once.

    Args:
      letters: token ids of the run's letters.
      kept: where predictions under way are kept, so that the next start need not make them again.
    """

    def __init__(self, model: Model, letters: np.ndarray, kept: Kept | None = None):
        self._model, self._letters, self._kept, self.options = model, letters, kept, model.shape.options
        self._predict, self._mass = evaluation_step(model, predict_step), evaluation_step(model, letter_mass)

    def __call__(
        self, train: nnx.State, prompts: Sequence[Prompt], label: str, letters: np.ndarray | None = None
    ) -> Float[np.ndarray, "n K"]:
        """Predictions in the order of `prompts`, 0 where an option does not exist; a progress bar on a terminal.

        Several processes get the same, unless some were kept: then process 0 alone has all.

        Args:
          letters: token ids of the letters, where the prompts are of another template than the run's.

        Raises:
          Stopped: see `over_prompts`.
        """
        letters = self._letters if letters is None else letters
        result, done = np.zeros((len(prompts), self.options), np.float64), 0
        if self._kept:
            file = self._kept.file(label, prompts, letters)
            done = self._kept.load(file, result)
        try:
            for probs, indices in over_prompts(self._model, self._predict, train, prompts, letters, label, done):
                result[indices] = probs
                done += 1
                if self._kept:
                    self._kept.save(file, done, result)
        finally:
            if self._kept:
                self._kept.save(file, done, result, now=True)
        for row, prompt in zip(result, prompts, strict=True):  # from the letters' order to the options'
            row[list(prompt.order)] = row[: len(prompt.order)].copy()
        return result

    def letter_mass(self, train: nnx.State, prompts: Sequence[Prompt]) -> float:
        """Mean probability of the options' letters among all tokens, over the first batch of prompts."""
        prompts = prompts[: self._model.shape.rows * self._model.shape.answers]  # no more are in it
        mass, _ = next(over_prompts(self._model, self._mass, train, prompts, self._letters, "the letters' mass"))
        return float(mass.mean())
