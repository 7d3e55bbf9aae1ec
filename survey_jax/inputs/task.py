"""The data of a run: tables, splits and tokenised prompts."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from etils import epath

from survey_jax.common.console import say
from survey_jax.common.errors import BadSetting, UserError, plural
from survey_jax.config import Config
from survey_jax.inputs.batches import Batches
from survey_jax.inputs.chat import Chat
from survey_jax.inputs.prompts import Prompt, Prompter, limited, with_prior
from survey_jax.inputs.token_cache import LazyTokenizer, TokenCache
from survey_jax.inputs.trees import BatchShape, group_questions, trunk_room
from survey_jax.pretrained.open import Pretrained
from survey_jax.survey.bad_rows import BadRows
from survey_jax.survey.evaluation.metrics import scale_points
from survey_jax.survey.splits.presets import expand
from survey_jax.survey.splits.split import TRAIN, Splits, split
from survey_jax.survey.table import DEMO, Answer, read_table

if TYPE_CHECKING:
    import transformers

    from survey_jax.inputs.known_answers import KnownAnswers
    from survey_jax.survey.prediction.prior import RulesPrior

EXTRA = "data"  # the split of tables given by eval.py --data


@dataclasses.dataclass(frozen=True)
class Task:
    """The data of a run."""

    splits: Splits
    prompter: Prompter
    prompts: dict[str, list[Prompt]]
    letters: np.ndarray  # token ids, int32 [K]
    prior: "RulesPrior | None" = None  # which the prompts of all splits but TRAIN start from
    known: "KnownAnswers | None" = None  # what the prompts of all splits but TRAIN tell
    bad_rows: Mapping[str, int] = dataclasses.field(default_factory=dict)  # left out by data.drop_bad: reason -> rows


def open_tokenizer(config: Config, pretrained: Pretrained) -> tuple[LazyTokenizer, TokenCache | None]:
    """The model's tokenizer, and the cache of tokens under `run.cache`."""
    tokenizer = LazyTokenizer(pretrained.tokenizer, pretrained.config.vocab_size)
    if not config.run.cache:
        return tokenizer, None
    return tokenizer, TokenCache(epath.Path(config.run.cache) / "tokens", pretrained.tokenizer_fingerprint())


def make_prompter(
    config: Config, tokenizer: "transformers.PreTrainedTokenizerBase | LazyTokenizer", cache: TokenCache | None = None
) -> Prompter:
    """The config's template on a tokenizer."""
    d = config.data
    order, seed = d.option_order, config.run.seed
    return Prompter(tokenizer, d.template, make_chat(config), language=d.language, order=order, seed=seed, cache=cache)


def make_chat(config: Config) -> Chat | None:
    """How the config's chat template is filled in; None where prompts are plain text."""
    return Chat(config.data.chat_date, config.data.chat_arguments) if config.data.chat else None


def read_data(table: str, config: Config, bad_rows: Counter[str] | None = None) -> list[Answer]:
    """The rows of one table. With `data.drop_bad` bad ones are left out; says how many, and why.

    Args:
      bad_rows: gets what is left out, by reason.

    Raises:
      UserError: as `read_table` does.
    """
    dropped: Counter[str] = Counter()
    try:
        answers = read_table(table, config.data.question_columns, dropped if config.data.drop_bad else None)
    except BadRows as error:
        raise UserError(f"{error}. Mend them, or leave them out with config.data.drop_bad=True") from error
    for reason, count in dropped.items():
        say(f"left out {plural(count, 'row')} of {table} (data.drop_bad): {reason}")
    if bad_rows is not None:
        bad_rows.update(dropped)
    return answers


def read_answers(config: Config, bad_rows: Counter[str] | None = None) -> list[Answer]:
    """All rows of the config's tables, as `read_data`. Raises UserError where two tables hold the same row."""
    answers: list[Answer] = []
    for table in config.data.tables:
        answers += read_data(DEMO if table == "demo" else table, config, bad_rows)
    seen: set[object] = set()
    for answer in answers:
        if answer.key in seen:
            raise UserError(f"config.data.tables: {answer.describe()} appears in more than one table")
        seen.add(answer.key)
    return answers


def build_task(config: Config, prompter: Prompter, extra: Sequence[Answer] = ()) -> Task:
    """Reads tables, makes splits and tokenises; everything that can fail on data has been checked when this returns.

    Args:
      extra: more rows to evaluate, as the split EXTRA.
    """
    bad_rows: Counter[str] = Counter()
    splits = make_splits(read_answers(config, bad_rows), config)
    parts = splits.rows | ({EXTRA: list(extra)} if extra else {})
    rows = [a for part in parts.values() for a in part]
    scale_points(rows)  # refuses bad scales now rather than at the first evaluation
    known = known_answers(config, splits.rows[TRAIN])
    everything, letters = prompter.telling(known).tokenise(rows)
    made, limits = iter(everything), (config.batch.seq_len, config.data.drop_long)
    each = {name: list(itertools.islice(made, len(part))) for name, part in parts.items()}
    if known:
        each[TRAIN] = prompter.telling(known.training).tokenise(splits.rows[TRAIN], len(letters))[0]
    prompts = {name: limited(part, *limits) for name, part in each.items()}
    for name, part in prompts.items():
        if not part:
            raise UserError(f"split {name}: data.drop_long left none of its rows; raise batch.seq_len")
    prior = rules_prior(config, splits.rows[TRAIN])
    prompts = {name: part if name == TRAIN else with_prior(part, prior) for name, part in prompts.items()}
    return Task(splits, prompter.telling(known), prompts, letters, prior, known, bad_rows)


def make_splits(answers: Sequence[Answer], config: Config) -> Splits:
    """The config's splits of its tables' rows. Raises UserError; a name that no table has is told with its setting."""
    try:
        return split(answers, config.data.splits)
    except BadSetting as error:
        setting, value = f"config.data.splits.{error.setting}", getattr(expand(config.data.splits), error.setting)
        tables = ", ".join(config.data.tables)
        raise BadSetting(setting, f"{setting} is {value!r}, for the tables {tables}: {error}") from error


def rules_prior(config: Config, train: Sequence[Answer]) -> "RulesPrior | None":
    """What a run's predictions start from, given its training rows; None where they start from nothing."""
    if not config.model.prior:
        return None
    from survey_jax.survey.prediction.prior import RulesPrior  # here: scikit-learn takes a second

    return RulesPrior(train)


def known_answers(config: Config, train: Sequence[Answer]) -> "KnownAnswers | None":
    """What a run's prompts tell of groups, given its training rows; None where they tell nothing."""
    if not config.data.known_answers:
        return None
    from survey_jax.inputs.known_answers import KnownAnswers  # here: as for the rules

    return KnownAnswers(train, config.data.known_answers)


def make_batches(
    config: Config, prompts: Sequence[Prompt], shape: BatchShape, here: Sequence[int] | None = None
) -> Batches:
    """The batches of a training; `here` as for `Batches`."""
    b = config.batch
    return Batches(
        prompts,
        shape,
        groups=b.groups_per_tree,
        question_answers=b.answers_per_question,
        survey_share=b.survey_share,
        microbatches=b.microbatches,
        seed=config.run.seed,
        here=here,
    )


def steps_of(config: Config, batches: Batches) -> int:
    """How many steps a training has: `optim.steps`, or those of `optim.epochs`."""
    return batches.steps(config.optim.epochs) if config.optim.epochs else config.optim.steps


def batch_shape(config: Config, prompts: Sequence[Prompt], options: int) -> BatchShape:
    """The sizes of a batch: as configured, with room for the trunks of these prompts."""
    b = config.batch
    drawn = min(b.groups_per_tree, b.answers_per_question or b.groups_per_tree)
    room = trunk_room(group_questions(prompts), b.seq_len, drawn)
    return BatchShape(b.batch_size, b.seq_len, b.answers_per_seq, room, options)
