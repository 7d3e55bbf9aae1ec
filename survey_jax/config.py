"""Every setting, its default and its meaning, once. A config file's `get_config()` returns a `Config`.

Unknown names are refused by Python or by the flag parser, wrong types and values by `validate`.
"""

import dataclasses
import math
import types
import typing
from dataclasses import field
from typing import Any

from survey_jax.common.errors import UserError
from survey_jax.inputs.prompts import ORDERS, TEMPLATES
from survey_jax.model.decoder import PROJECTIONS, REMAT
from survey_jax.model.quantize import QUANTIZE
from survey_jax.survey.splits.split import SplitConfig
from survey_jax.training.losses import LOSSES


@dataclasses.dataclass
class ModelConfig:
    weights: str = ""  # a hub id, a Hugging Face directory, or a .gguf file
    revision: str = "main"  # of a hub id: a branch, tag or commit
    dtype: str = "float32"  # of matrix products and frozen weights, and on accelerators of activations; or "bfloat16"
    quantize: str = ""  # store the frozen projections as "int8" | "nf4" (LoRA only), see docs/quantize.md
    attention: str = "two_part"  # | "dense" | "cudnn" (NVIDIA) | "splash" (TPU): the same numbers
    remat: str = "none"  # "none" | "dots" | "full": what the backward pass recomputes to save memory
    check_parity: bool = False  # compare with transformers (torch, if installed) on real prompts at start


@dataclasses.dataclass
class LoraConfig:
    rank: int = 8  # 0 = full fine-tuning
    alpha: float = 16.0  # adapters' output is scaled by alpha / rank
    projections: tuple[str, ...] = PROJECTIONS  # which get adapters


@dataclasses.dataclass
class DataConfig:
    tables: tuple[str, ...] = ()  # survey tables, together one data set; "demo" is the one in this package
    question_columns: tuple[str, ...] = ("question",)  # where the wording stands: the first that a row has
    template: str = "question_first"  # a key of prompts.TEMPLATES
    chat: bool = False  # wrap prompts in the tokenizer's chat template
    language: str = ""  # of the template's own words, see docs/prompts.md; "" = each row's `language`, else English
    option_order: str = "listed"  # under the letters: "listed" | "reversed" | "shuffled" (by run.seed, per question)
    drop_long: bool = False  # leave out (and count) rows whose prompt exceeds batch.seq_len, instead of stopping
    splits: SplitConfig = field(default_factory=SplitConfig)


@dataclasses.dataclass
class BatchConfig:
    batch_size: int = 1  # rows of a microbatch, over all devices
    seq_len: int = 512  # tokens a row; the longest prompt allowed
    answers_per_seq: int = 32  # at most so many answers a row
    groups_per_tree: int = (
        8  # groups of one question in one tree: more shares more, fewer mixes more questions into a step
    )
    answers_per_question: int = 0  # if > 0: at most so many answers to one question an epoch, drawn anew for each epoch
    microbatches: int = 1  # a step sums the gradients of this many


@dataclasses.dataclass
class OptimConfig:
    loss: str = "kl"  # a key of losses.LOSSES; the best checkpoint is always the one of least KL on `valid`
    steps: int = 200
    lr: float = 1e-4  # peak
    warmup: int = 10  # steps of linear warm-up
    schedule: str = "cosine"  # after warm-up, down to lr_end: "cosine" | "linear"; or "constant"
    lr_end: float = 0.0  # as a share of the peak
    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 0.0
    clip_norm: float = 1.0  # of the gradient's global norm


@dataclasses.dataclass
class MeshConfig:
    data: int = 1  # -1 in one of the three: all remaining devices
    fsdp: int = -1
    tensor: int = 1
    devices: int = 0  # how many there should be in all; training refuses to start on more or fewer. 0: any number


@dataclasses.dataclass
class RunConfig:
    seed: int = 0  # of data order and adapters
    log_every: int = 10  # steps
    eval_every: int = 50  # steps between evaluations on `valid`; each is followed by a checkpoint
    save_minutes: float = 15.0  # a checkpoint at least so often, between evaluations too
    keep: int = 2  # latest checkpoints kept; the best one stays as well
    cache: str = "checkpoints/.cache"  # compiled programs and tokens, so that a second start is quick; "" = off
    calibrate: bool = True  # predict at the temperature that suits `valid` best; False: at 1, as published systems do
    profile: tuple[int, ...] = ()  # trace from this step to that one, (10, 12): docs/monitoring.md
    wandb: str = ""  # a project of Weights & Biases that gets the metrics, too; needs its package


@dataclasses.dataclass
class Config:
    model: ModelConfig = field(default_factory=ModelConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    data: DataConfig = field(default_factory=DataConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    run: RunConfig = field(default_factory=RunConfig)


_CHOICES: dict[str, typing.Collection[str]] = {
    "model.dtype": ("float32", "bfloat16"),
    "model.quantize": QUANTIZE,
    "model.attention": ("dense", "two_part", "cudnn", "splash"),
    "model.remat": REMAT,
    "data.template": TEMPLATES,
    "data.option_order": ORDERS,
    "optim.loss": LOSSES,
    "optim.schedule": ("cosine", "linear", "constant"),
}
_POSITIVE = (
    "batch.batch_size batch.seq_len batch.answers_per_seq batch.groups_per_tree batch.microbatches "
    "optim.steps optim.lr optim.clip_norm run.log_every run.eval_every run.save_minutes run.keep"
)
_NOT_NEGATIVE = "mesh.devices batch.answers_per_question optim.warmup optim.weight_decay run.seed"
_MAX_SEED = 2**63 - 1  # of jax
_SHARES = "optim.lr_end optim.b1 optim.b2"


def validate(config: Config) -> Config:
    """Checks types and values. Raises UserError that names the setting, its value and what it should be."""
    _check_types(config, Config, "config")
    for path, choices in _CHOICES.items():
        if (value := _get(config, path)) not in choices:
            raise UserError(f"config.{path} = {value!r}: choose from {', '.join(c or repr(c) for c in choices)}")
    for path in _POSITIVE.split():
        if (value := _get(config, path)) <= 0:
            raise UserError(f"config.{path} = {value!r}: must be positive")
    for path in _NOT_NEGATIVE.split():
        if (value := _get(config, path)) < 0:
            raise UserError(f"config.{path} = {value!r}: must not be negative")
    for path in _SHARES.split():
        if not 0 <= (value := _get(config, path)) < 1:
            raise UserError(f"config.{path} = {value!r}: must be at least 0 and less than 1")
    if config.run.seed > _MAX_SEED:
        raise UserError(f"config.run.seed = {config.run.seed}: must be at most {_MAX_SEED}")
    if config.lora.rank < 0:
        raise UserError(f"config.lora.rank = {config.lora.rank}: must be 0 (full fine-tuning) or more")
    if config.model.quantize and not config.lora.rank:
        raise UserError(
            f"config.model.quantize = {config.model.quantize!r}: full fine-tuning (lora.rank = 0) trains the weights, "
            "which quantised ones cannot be; set config.lora.rank"
        )
    if (steps := config.run.profile) and not (len(steps) == 2 and 1 <= steps[0] <= steps[1] <= config.optim.steps):
        raise UserError(
            f"config.run.profile = {steps!r}: must be the first and last step to trace, of 1 to {config.optim.steps}"
        )
    if not config.data.tables:
        raise UserError('config.data.tables is empty: name at least one survey table (or "demo")')
    if not config.data.question_columns:
        raise UserError("config.data.question_columns is empty: name at least one column")
    if not config.model.weights:
        raise UserError("config.model.weights is empty: give a hub id, a Hugging Face directory or a .gguf file")
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """All values, as JSON can hold them."""
    return dataclasses.asdict(config)


def from_dict(values: dict[str, Any], kind: Any = Config, where: str = "config") -> Any:
    """The inverse of `to_dict`; lists become tuples. Raises UserError on unknown settings and wrong types."""
    if not isinstance(values, dict):
        raise UserError(f"{where} = {values!r}: must be a JSON object")
    hints = typing.get_type_hints(kind)
    if unknown := set(values) - set(hints):
        raise UserError(f"{where}: unknown setting {sorted(unknown)[0]!r}; known: {', '.join(hints)}")

    def convert(name: str, value: Any) -> Any:
        if dataclasses.is_dataclass(hints[name]):
            return from_dict(value, hints[name], f"{where}.{name}")
        if isinstance(value, dict):
            return {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        return tuple(value) if isinstance(value, list) else value

    result = kind(**{name: convert(name, value) for name, value in values.items()})
    _check_types(result, kind, where)
    return result


# What may differ when a run is resumed: where files lie, how it computes and what it tells. Anything else would change
# what is trained under the recorded settings; whether weights and data are the same is told by their fingerprints.
MAY_CHANGE = (
    "config.model.weights config.model.revision config.model.attention config.model.remat config.model.check_parity "
    "config.data.tables config.mesh config.run.log_every config.run.eval_every config.run.save_minutes config.run.keep "
    "config.run.cache config.run.profile config.run.wandb config.optim.steps"
)


def differences(before: Any, after: Any, where: str = "config") -> dict[str, tuple[Any, Any]]:
    """Settings that differ: path -> (before, after)."""
    if not dataclasses.is_dataclass(before):
        return {where: (before, after)} if before != after else {}
    found: dict[str, tuple[Any, Any]] = {}
    for f in dataclasses.fields(before):
        found |= differences(getattr(before, f.name), getattr(after, f.name), f"{where}.{f.name}")
    return found


def setting_names(kind: Any = Config, where: str = "config") -> list[str]:
    """All settings as the command line calls them."""
    if not dataclasses.is_dataclass(kind):
        return [where]
    return [n for name, hint in typing.get_type_hints(kind).items() for n in setting_names(hint, f"{where}.{name}")]


def _get(config: Config, path: str) -> Any:
    section, name = path.split(".")
    return getattr(getattr(config, section), name)


def _check_types(value: Any, hint: Any, where: str) -> None:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, hint):  # type: ignore[arg-type]
            raise UserError(f"{where} must be a {hint.__name__}, got {value!r}")  # type: ignore[union-attr]
        for name, inner in typing.get_type_hints(hint).items():
            _check_types(getattr(value, name), inner, f"{where}.{name}")
    elif not _is(value, hint):
        shown = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
        found = "" if shown.startswith(kind := type(value).__name__) else f", not {kind}"
        comma = "; a tuple of one is written ('x',), with a comma" if "tuple" in shown else ""
        raise UserError(f"{where} = {value!r}: must be {shown}{found}{comma}")
    elif hint is float and not math.isfinite(value):
        raise UserError(f"{where} = {value!r}: must be finite")


def _is(value: Any, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is(value, a) for a in args)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is(v, args[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is(k, args[0]) and _is(v, args[1]) for k, v in value.items())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
