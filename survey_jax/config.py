"""Every setting, its type, its default and its meaning, once. A config file's `get_config()` returns a `Config`.

Types say which values are allowed, and pydantic holds settings to them in `validate`. A name that is no setting is
refused at once: by the dataclass, when it is made or assigned to, or by the parser of flags.
"""

import dataclasses
import datetime
import functools
import inspect
import json
import re
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from survey_jax.common.errors import UserError
from survey_jax.survey.splits.config import SplitConfig

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, revalidate_instances="always")

Positive = Annotated[int, Field(gt=0, lt=2**31)]  # as jax counts steps
Size = Annotated[int, Field(gt=0, le=2**20)]  # of an array's axis
Rank = Annotated[int, Field(ge=0, le=2**14)]  # more than any model is wide
PositiveFloat = Annotated[float, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0, lt=2**31)]
NotNegativeFloat = Annotated[float, Field(ge=0)]
Epochs = Annotated[float, Field(ge=0, le=10_000)]
Share = Annotated[float, Field(ge=0, lt=1)]
ChatArguments = dict[str, str | bool | int | float]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # as jax has it

LossName = Literal[
    "kl", "jsd", "wasserstein", "cross_entropy", "paper_kl", "paper_jsd", "paper_wasserstein", "paper_cross_entropy"
]
TemplateName = Literal["paper", "question_first", "group_last", "subpop_qa", "subpop_bio", "subpop_portray"]
Remat = Literal["none", "dots", "full"]
Projection = Literal["q", "k", "v", "o", "gate", "up", "down", "expert_gate", "expert_up", "expert_down"]
# May differ when a run is resumed: where files lie, how it computes and what it prints. Any other setting would change
# what is trained under the recorded ones; whether weights and data are the same is told by their fingerprints.
MAY_CHANGE = {"may_change": True}


@dataclass(slots=True)
class ModelConfig:
    """The base model, and how it computes."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    # A hub id, or a Hugging Face directory or a .gguf file, here or in a bucket (gs://, s3://).
    weights: str = field(default="", metadata=MAY_CHANGE)
    revision: str = field(default="main", metadata=MAY_CHANGE)  # of a hub id: a branch, tag or commit
    # Fields of its config.json that are not known here and, as you have checked, change no logit: docs/models.md.
    ignore_fields: tuple[str, ...] = ()
    # Of matrix products and frozen weights, and on accelerators of activations.
    dtype: Literal["float32", "bfloat16"] = "float32"
    quantize: Literal["", "int8", "nf4"] = ""  # how to store the frozen projections (LoRA only): docs/quantize.md
    # The same numbers, computed otherwise; "cudnn" is for NVIDIA, "splash" for TPUs.
    attention: Literal["dense", "two_part", "cudnn", "splash"] = field(default="two_part", metadata=MAY_CHANGE)
    # What the backward pass recomputes to save memory.
    remat: Remat = field(default="none", metadata=MAY_CHANGE)
    # Compare with transformers (torch, if installed) on real prompts at start.
    check_parity: bool = field(default=False, metadata=MAY_CHANGE)
    # What predictions start from: "rules" = what rules that need no model say, so that the model learns only what is to
    # be added to them (LoRA only): docs/prediction.md.
    prior: Literal["", "rules"] = ""


@dataclass(slots=True)
class LoraConfig:
    """Low-rank adapters."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    rank: Rank = 8  # 0 = full fine-tuning
    alpha: float = 16.0  # adapters' output is scaled by alpha / rank
    # Which get adapters; those of experts by choice.
    projections: tuple[Projection, ...] = ("q", "k", "v", "o", "gate", "up", "down")
    dropout: Share = 0.0  # share of the ranks of each adapter that a training step leaves out, drawn every step


@dataclass(slots=True)
class DataConfig:
    """Survey tables, and how their rows become prompts."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    # Survey tables, here or in a bucket, together one data set; "demo" is the one in this package.
    tables: tuple[str, ...] = field(default=(), metadata=MAY_CHANGE)
    question_columns: tuple[str, ...] = ("question",)  # columns of the wording: the first that a row has
    template: TemplateName = "question_first"  # of the prompt: docs/prompts.md
    chat: bool = False  # wrap prompts in the tokenizer's chat template
    # What chat templates take for today, YYYY-MM-DD; "" = the day of the first start, which the run keeps.
    chat_date: str = ""
    # Further variables of the chat template, such as {"enable_thinking": False}.
    chat_arguments: ChatArguments = field(default_factory=dict)
    language: str = ""  # of the template's own words, see docs/prompts.md; "" = each row's `language`, else English
    option_order: Literal["listed", "reversed", "shuffled"] = "listed"  # shuffled: by run.seed, per question
    # How many answers of the row's group to other questions each prompt tells, at most: docs/prompts.md.
    known_answers: NotNegative = 0
    drop_bad: bool = False  # leave out (and count) rows that no table may have, instead of refusing the whole table
    drop_long: bool = False  # leave out (and count) rows whose prompt exceeds batch.seq_len, instead of stopping
    splits: SplitConfig = field(default_factory=SplitConfig)


@dataclass(slots=True)
class BatchConfig:
    """The size of a step. A microbatch holds `batch_size` sequences, into which answer trees are packed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    batch_size: Size = 1  # sequences of a microbatch, over all devices
    seq_len: Size = 512  # tokens of a sequence; the longest prompt allowed
    answers_per_seq: Size = 32  # at most so many answers in a sequence
    # Groups of one question in one tree. Larger trees share more prompt tokens; smaller ones put more different
    # questions into a step.
    groups_per_tree: Size = 8
    answers_per_question: NotNegative = 0  # if > 0: at most so many answers to a question an epoch, drawn every epoch
    survey_share: Share = 0.0  # if > 0: at most this share of an epoch's answers to one survey, drawn every epoch
    microbatches: Size = 1  # a step sums the gradients of this many


@dataclass(slots=True)
class OptimConfig:
    """AdamW, its schedule, and the loss."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    loss: LossName = "kl"  # docs/metrics.md; the best checkpoint is always the one of least KL on `valid`
    steps: Positive = field(default=200, metadata=MAY_CHANGE)  # optimizer steps of the whole run
    lr: PositiveFloat = 1e-4  # peak learning rate
    warmup: NotNegative = 10  # steps of linear warm-up
    schedule: Literal["cosine", "linear", "constant"] = "cosine"  # after warm-up, down to lr_end
    lr_end: Share = 0.0  # as a share of the peak
    b1: Share = 0.9  # decay of AdamW's mean of gradients
    b2: Share = 0.999  # decay of its mean of squared gradients
    weight_decay: NotNegativeFloat = 0.0  # times the learning rate, as AdamW has it
    clip_norm: PositiveFloat = 1.0  # of the gradient's global norm
    # In place of `steps`: how many times to go through the training rows. 0: `steps` counts.
    epochs: Epochs = field(default=0.0, metadata=MAY_CHANGE)
    # Training ends after so many evaluations in a row that were no better than the best one. 0: it goes on to the end.
    patience: NotNegative = field(default=0, metadata=MAY_CHANGE)
    # Times the load-balancing loss of a mixture of experts, which is added (full fine-tuning only): docs/models.md.
    balance: NotNegativeFloat = 0.0


@dataclass(slots=True)
class MeshConfig:
    """How devices are arranged: docs/scaling.md."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    data: int = 1  # devices that hold the same parameters and different rows; -1 in one of the four: all that remain
    fsdp: int = -1  # devices over which parameters and rows are split
    tensor: int = 1  # devices over which heads, feed-forward units and vocabulary are split
    devices: NotNegative = 0  # how many there should be; training refuses to start on more or fewer. 0: any number
    expert: int = 1  # devices over which the experts of a layer, and rows, are split: docs/models.md

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """The sizes of the axes, in the mesh's order."""
        return self.data, self.fsdp, self.tensor, self.expert


@dataclass(slots=True)
class RunConfig:
    """When a run evaluates, saves and logs."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    seed: Seed = 0  # of data order and adapters
    log_every: Positive = field(default=10, metadata=MAY_CHANGE)  # steps
    # Steps between evaluations on `valid`; each is followed by a checkpoint.
    eval_every: Positive = field(default=50, metadata=MAY_CHANGE)
    # A checkpoint at least so often, between evaluations too.
    save_minutes: PositiveFloat = field(default=15.0, metadata=MAY_CHANGE)
    keep: Positive = field(default=2, metadata=MAY_CHANGE)  # latest checkpoints kept; the best one stays as well
    # Compiled programs and tokens, so that a second start is quick; "" = off.
    cache: str = field(default="checkpoints/.cache", metadata=MAY_CHANGE)
    calibrate: bool = True  # predict at the temperature that suits `valid` best; False: at 1, as published systems do
    # First and last step to trace: docs/monitoring.md.
    profile: tuple[int, ...] = field(default=(), metadata=MAY_CHANGE)
    # A project of Weights & Biases that gets the metrics, too; needs its package.
    wandb: str = field(default="", metadata=MAY_CHANGE)


@dataclass(slots=True)
class Config:
    """All settings of a run."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    model: ModelConfig = field(default_factory=ModelConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    data: DataConfig = field(default_factory=DataConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig, metadata=MAY_CHANGE)
    run: RunConfig = field(default_factory=RunConfig)


def validate(config: Config) -> Config:
    """Checks types and values. Raises UserError that names the setting, its value and what it should be."""
    try:
        _adapter().validate_python(config)
    except ValidationError as error:
        raise UserError(_explain(error, config, "config")) from None
    if config.model.quantize and not config.lora.rank:
        raise UserError(
            f"config.model.quantize = {config.model.quantize!r}: full fine-tuning (lora.rank = 0) trains the weights, "
            "which quantised ones cannot be; set config.lora.rank"
        )
    if config.lora.dropout and not config.lora.rank:
        raise UserError(
            f"config.lora.dropout = {config.lora.dropout!r}: it leaves out ranks of adapters, and full fine-tuning "
            "(lora.rank = 0) has none; set config.lora.rank"
        )
    if config.model.prior and not config.lora.rank:
        raise UserError(
            f"config.model.prior = {config.model.prior!r}: its scale is trained as adapters are; set config.lora.rank"
        )
    last = config.optim.steps if not config.optim.epochs else sys.maxsize  # known when there are batches
    if (steps := config.run.profile) and not (len(steps) == 2 and 1 <= steps[0] <= steps[1] <= last):
        raise UserError(
            f"config.run.profile = {steps!r}: must be the first and last step to trace, of 1 to {config.optim.steps}"
        )
    if config.optim.loss == "wasserstein" and config.data.option_order == "shuffled":
        raise UserError(
            "config.optim.loss = 'wasserstein' needs options in scale order, but config.data.option_order = 'shuffled' "
            "randomizes it; change one of them"
        )
    if config.data.chat_arguments and not config.data.chat:
        raise UserError("config.data.chat_arguments: they are for the tokenizer's chat template; set config.data.chat")
    if (day := config.data.chat_date) and not _is_day(day):
        raise UserError(f"config.data.chat_date = {day!r}: must be a day, as YYYY-MM-DD")
    if not config.data.tables:
        raise UserError('config.data.tables is empty: name at least one survey table (or "demo")')
    if not config.data.question_columns:
        raise UserError("config.data.question_columns is empty: name at least one column")
    if not config.model.weights:
        raise UserError("config.model.weights is empty: give a hub id, a Hugging Face directory or a .gguf file")
    return config


def _is_day(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def to_dict(config: Config) -> dict[str, Any]:
    """All values, as JSON can hold them."""
    return dataclasses.asdict(config)


def from_dict(values: Any, where: str = "config") -> Config:
    """The inverse of `to_dict`. Raises UserError on unknown settings, wrong types and values not allowed.

    Args:
      where: what messages call the whole, such as the file that the values are from.
    """
    try:
        return _adapter().validate_json(json.dumps(values))
    except ValidationError as error:
        raise UserError(_explain(error, values, where)) from None


@dataclass(frozen=True)
class Setting:
    """One setting: its name on the command line, its type, its default, and the comment beside it in this file."""

    name: str
    type: Any
    default: Any
    comment: str
    may_change: bool  # when a run is resumed

    @property
    def choices(self) -> tuple[str, ...]:
        """The values allowed, or the members of a tuple; () where the type alone says what is."""
        return next((typing.get_args(t) for t in (self.type, *typing.get_args(self.type)) if _is_literal(t)), ())


def settings(kind: Any = Config, where: str = "config", may_change: bool = False) -> Iterator[Setting]:
    """Every setting, section after section."""
    comments = _comments(kind)
    for f in dataclasses.fields(kind):
        name, free = f"{where}.{f.name}", may_change or f.metadata == MAY_CHANGE
        if dataclasses.is_dataclass(f.type):
            yield from settings(f.type, name, free)
        else:
            yield Setting(name, f.type, getattr(kind(), f.name), comments.get(f.name, ""), free)


def differences(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """Settings that differ: name -> (before, after)."""
    pairs = ((s.name, get(before, s.name), get(after, s.name)) for s in settings())
    return {name: (old, new) for name, old, new in pairs if old != new}


def get(config: Config, name: str) -> Any:
    """The value of a setting by its name on the command line, such as "config.optim.lr"."""
    return functools.reduce(getattr, name.split(".")[1:], config)


@functools.cache
def _adapter() -> TypeAdapter[Config]:
    return TypeAdapter(Config)


def _comments(kind: Any) -> dict[str, str]:
    """The comment of each field of a dataclass: behind it, or on the lines before it."""
    found: dict[str, str] = {}
    before: list[str] = []
    for line in inspect.getsource(kind).splitlines():
        if named := re.match(r"    (\w+): [^#]*(?:#(?P<after>.*))?$", line):
            found[named[1]] = " ".join(filter(None, (*before, (named["after"] or "").strip())))
        before = [*before, line.strip(" #")] if line.startswith("    #") else []
    return found


def _explain(error: ValidationError, root: Any, where: str) -> str:
    """The first mistake in one line: which setting, its value, and what it should be."""
    mistake, kind, value, path = error.errors()[0], Config, root, where
    for part in mistake["loc"]:
        if not dataclasses.is_dataclass(kind):
            break  # inside a tuple or dictionary, which is shown whole
        hints = typing.get_type_hints(kind, include_extras=True)
        if part not in hints:
            return f"{path}: unknown setting {part!r}; known: {', '.join(f.name for f in dataclasses.fields(kind))}"
        kind, path = hints[str(part)], f"{path}.{part}"
        value = value[part] if isinstance(value, dict) else getattr(value, str(part))
    if not dataclasses.is_dataclass(kind):
        return f"{path} = {value!r}: must be {_wanted(mistake['type'], kind, value)}"
    if mistake["type"] == "dataclass_type":
        return f"{path} = {value!r}: must be a JSON object"
    return f"{path} must be a {kind.__name__}, got {value!r}"


def _wanted(mistake: str, hint: Any, value: Any) -> str:
    """What a value of this type should be, in words, given pydantic's name of the mistake."""
    base, *limits = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
    bounds = {type(bound).__name__: bound for field in limits for bound in field.metadata}
    literal = next(filter(_is_literal, (base, *typing.get_args(base))), None)
    if literal:
        choices = typing.get_args(literal)
        return f"{'one' if _is_literal(base) else 'a tuple'} of {', '.join(c or repr(c) for c in choices)}"
    if mistake == "finite_number":
        return "finite"
    if base is float and "Lt" in bounds and mistake in ("greater_than_equal", "less_than"):
        return f"at least {bounds['Ge'].ge} and less than {bounds['Lt'].lt}"
    if mistake == "greater_than":
        return "positive"
    if mistake == "greater_than_equal":
        return "0 or more"
    if mistake in ("less_than", "less_than_equal"):
        return f"less than {bounds['Lt'].lt:,}" if "Lt" in bounds else f"at most {bounds['Le'].le:,}"
    shown = base.__name__ if not typing.get_args(base) else str(base)
    found = "" if shown.startswith(kind := type(value).__name__) else f", not {kind}"
    comma = "; a tuple of one is written ('x',), with a comma" if "tuple" in shown else ""
    return f"{shown}{found}{comma}"


def _is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal
