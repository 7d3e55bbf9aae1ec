"""What is held out, as settings, and what each split promises."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from survey_jax.survey.table import Group  # reading settings need not wait for Arrow

TRAIN, VALID = "train", "valid"
UNSEEN_QUESTION, UNSEEN_GROUP, UNSEEN_BOTH = "unseen_question", "unseen_group", "unseen_both"
UNSEEN_SUBGROUP = "unseen_subgroup"  # as UNSEEN_GROUP, but train may have groups that give it by subtraction
UNSEEN_WAVE, UNSEEN_SURVEY = "unseen_wave", "unseen_survey"
FEW_SHOT = "few_shot_"  # prefix of a split whose groups have some answers in train
DISTINCT = "_distinct"  # suffix of a split without the rows whose question is a near-duplicate of one of train


@dataclasses.dataclass(slots=True)
class SplitConfig:
    """What is held out, in one of four ways. `unseen_surveys` and the fields from `known_answers` on go with each.

    1. `preset`: a published design. 2. `column`: the table says it. 3. `group_sets` x `question_sets`: named blocks.
    4. Everything else: name or draw what is held out.
    """

    # As config.STRICT: no value is converted, and a name that is no setting is refused.
    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "strict": True,
        "extra": "forbid",
        "allow_inf_nan": False,
        "revalidate_instances": "always",
    }
    preset: str = ""  # "paper" | "paper_distinct" | "subpop": sets the fields that splits/presets.py lists under it
    column: str = ""  # take the splits from this column of the table, instead of holding out
    # Column value -> split; rows with other values are left out. If empty, values that are split names are used as is.
    rename: dict[str, str] = dataclasses.field(default_factory=dict)
    # Set -> values of `group_attribute`. First set of groups x first of questions is train, first x second is valid,
    # any other pair is a test split named after its two sets. Sets of groups other than the first may overlap.
    group_sets: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    # Set -> question ids; see `group_sets`.
    question_sets: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    group_attribute: str = "country"  # what group_sets have values of; countries are compared by ISO code where known
    unseen_surveys: tuple[str, ...] = ()  # surveys held out whole, whatever the other fields say of them
    seen_surveys: tuple[str, ...] = ()  # if set: all other surveys are held out whole
    unseen_waves: tuple[str, ...] = ()  # waves held out whole, in any survey that is not held out
    unseen_questions: tuple[str, ...] = ()  # question ids held out, in any survey
    unseen_question_fraction: float = 0.0  # in addition, this share of all questions, across surveys, by seed
    unseen_topics: tuple[str, ...] = ()  # questions held out that have one of these values in the column `topic_column`
    topic_column: str = "topic"  # where `unseen_topics` are
    # Attribute -> values; a group is held out if any of its attributes has one of them.
    unseen_groups: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    unseen_regions: tuple[str, ...] = ()  # continents or UN regions: groups held out whose country lies there
    # Few-shot adaptation: this many questions of each held-out group, drawn by seed, go to train after all; the group's
    # test splits are then named few_shot_*, not unseen_*.
    known_answers: int = 0
    # Rows that include a held-out group's people, or give such a group by sums, leave train (splits/subtraction.py).
    # True: they stay, and unseen_group is named unseen_subgroup, since a parent less the siblings gives its answers.
    parents_in_train: bool = False
    # Validation picks the checkpoint, calibrates, and chooses the rule to beat. By questions (the paper's way) for new
    # questions, by groups for new groups, by rows for gaps in a table.
    valid_questions: tuple[str, ...] = ()  # question ids for validation, seen groups only
    valid_question_fraction: float = 0.0  # in addition, this share of all questions, across surveys, by seed
    # This share of the groups that are not held out, drawn by seed: their rows on questions of train and of validation.
    valid_group_fraction: float = 0.0
    valid_row_fraction: float = 0.0  # this share of the remaining training rows, drawn by seed
    # If > 0: leaves out rows of other splits whose question is at least this similar to another question of train; see
    # splits/near_duplicates.py (its THRESHOLD is a good value). 0: they stay, and the leakage audit lists them.
    remove_near_duplicates: float = 0.0
    # A Parquet file of embeddings of all questions (docs/baselines.md): with it, near-duplicates are also what another
    # survey asks in other words, by meaning.
    embeddings: str = ""
    max_rows: int = 0  # if > 0: each split but train is cut to at most this many rows, drawn by seed
    seed: int = 0  # seeds every draw above; draws do not depend on the order of rows in the file


@dataclasses.dataclass(frozen=True)
class Promise:
    """The most that a split shares with train; `split.audit` refuses a split that shares more."""

    new_question: bool = False  # no question of train, neither by survey and id nor by wording and options
    known_answers: int | None = None  # the most questions that a group of it has in train; 0: its groups are new
    new_survey: bool = False  # no survey of train
    new_wave: bool = False  # no wave that train has of the same survey
    new_groups: "frozenset[Group]" = frozenset()  # these groups of it (`text.same_group`) have no answer in train
    # Train may have groups that include the people of a group or wave promised as new, or give it by subtraction.
    parents_in_train: bool = False
    may_overlap: bool = False  # its rows may also be in another split of this kind


PROMISES: dict[str, Promise] = {
    TRAIN: Promise(),
    VALID: Promise(),
    UNSEEN_QUESTION: Promise(new_question=True),
    UNSEEN_GROUP: Promise(known_answers=0),
    UNSEEN_SUBGROUP: Promise(known_answers=0, parents_in_train=True),
    UNSEEN_BOTH: Promise(new_question=True, known_answers=0),
    UNSEEN_WAVE: Promise(new_wave=True),
    UNSEEN_SURVEY: Promise(new_question=True, new_survey=True),
}
SPLITS = tuple(PROMISES)


def few_shot_name(split: str) -> str:
    """E.g. unseen_group -> few_shot_group, C2Q1 -> few_shot_C2Q1."""
    return FEW_SHOT + split.removeprefix("unseen_")
