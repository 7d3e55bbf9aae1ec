"""The groups to ask: from a file, or those of the training data."""

import difflib
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from survey_jax.common.errors import UserError, some
from survey_jax.survey import countries
from survey_jax.survey.prediction.questions import Question
from survey_jax.survey.prediction.rows import SUFFIXES, read_rows
from survey_jax.survey.table import Answer, Group, as_text, group_name
from survey_jax.survey.text import fold, is_country, same_group

TRAIN = "train"  # stands for every group of the training data
PEOPLE = "people"  # a column of a file of groups, and no attribute: how many people a group stands for
_JOINED = re.compile(r"\s*,\s*|\s+x\s+")
_SIZES = f"give a file of groups with a column `{PEOPLE}`"
Pair = tuple[str, str]  # attribute and value


def read_groups(source: str | Path, trained: Sequence[Group]) -> tuple[list[Group], list[str]]:
    """The groups to ask, each once.

    Args:
      source: a .csv, .jsonl or .json file (see `rows`) with a group a row and a column for each attribute, where an
        empty cell means that the attribute is not given, and the column "people" is for `read_people`; or "train",
        every group of `trained`; or an attribute of `trained`, a group for each of its values; or several of them, as
        in "country x age" or "country,age", a group for each combination of their values.
      trained: the groups of the training data. Attributes and values of a file that are the same to a reader get their
        spelling; a country that is not among them gets its usual name.

    Returns:
      the groups, and sentences on values of a file that `trained` does not have or spells in another way.

    Raises:
      UserError: no such file and no such attribute either, or a row that is no group or is one a second time; names
        the file, the row and the reason.

    >>> trained = [(("age", "18-29"), ("country", "Kenya")), (("age", "30 or older"), ("country", "Peru"))]
    >>> read_groups("country", trained)
    ([(('country', 'Kenya'),), (('country', 'Peru'),)], [])
    """
    known = _known(trained)
    if str(source).endswith(SUFFIXES):
        return _read_file(Path(source), known)
    if str(source) == TRAIN:
        groups: dict[Group, Group] = {}
        for group in trained:
            groups.setdefault(same_group(group), group)
        return list(groups.values()), []
    names = _JOINED.split(str(source).strip())
    for name in names:
        if fold(name) not in known:
            raise UserError(
                f"{source}: is no {', '.join(SUFFIXES)} file, not `{TRAIN}`, and {_unknown(name, known)}; "
                "several attributes are joined as in: country x age"
            )
    if len({*map(fold, names)}) < len(names):
        raise UserError(f"{source}: has an attribute twice")
    values = [list(known[fold(name)].values()) for name in names]
    return [tuple(sorted(pairs)) for pairs in itertools.product(*values)], []


def read_people(source: str | Path) -> list[float]:
    """How many people each group of a file stands for: its column "people". Only their proportions matter.

    Raises:
      UserError: not a file of groups, no such column, or a group whose number is missing or not positive; names the
        file, the row and the reason.

    >>> _ = Path("sizes.csv").write_text("country,people\\nKenya,55000000\\nPeru,34000000\\n")
    >>> read_people("sizes.csv")
    [55000000.0, 34000000.0]
    """
    if not str(source).endswith(SUFFIXES):
        raise UserError(f"--groups={source}: does not say how many people each group stands for; {_SIZES}")
    rows = read_rows(Path(source))
    if not any(fold(column) == PEOPLE for _, row in rows for column in row):
        raise UserError(f"{source}: does not say how many people each group stands for; {_SIZES}")
    return [_people(where, row) for where, row in rows]


def _people(where: str, row: Mapping[str, Any]) -> float:
    text = next((value for column, value in row.items() if fold(column) == PEOPLE), None)
    try:
        people = math.nan if isinstance(text, bool) else float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        people = math.nan
    if not (math.isfinite(people) and people > 0):
        raise UserError(f"{where}: people must be a positive number, got {'nothing' if text is None else repr(text)}")
    return people


def ask(questions: Sequence[Question], groups: Sequence[Group]) -> list[Answer]:
    """Every question put to every group, by question: rows of a survey table whose shares nothing reads.

    >>> question = Question("q1", "Is the bus on time?", ("Yes", "No"))
    >>> [a.describe() for a in ask([question], [(("age", "18-29"),), (("age", "30 or older"),)])]
    ['new questions / q1 / age=18-29', 'new questions / q1 / age=30 or older']
    """
    return [question.put_to(group) for question in questions for group in groups]


def _known(trained: Sequence[Group]) -> dict[str, dict[Pair, Pair]]:
    """Attribute -> its pairs, as they are compared -> as they were first spelled."""
    known: dict[str, dict[Pair, Pair]] = {}
    names: dict[str, str] = {}
    for attribute, value in itertools.chain.from_iterable(trained):
        name = names.setdefault(fold(attribute), attribute)
        known.setdefault(fold(attribute), {}).setdefault(_same(attribute, value), (name, value))
    return known


def _same(attribute: str, value: str) -> Pair:
    """A pair, as it is compared."""
    return same_group(((attribute, value),))[0]


def _read_file(path: Path, known: Mapping[str, Mapping[Pair, Pair]]) -> tuple[list[Group], list[str]]:
    rows = read_rows(path)
    if not rows:
        raise UserError(f"{path}: has no groups")
    groups: list[Group] = []
    places: dict[Group, str] = {}
    remarks: dict[str, None] = {}
    for where, row in rows:
        try:
            pairs = _pairs({column: value for column, value in row.items() if fold(column) != PEOPLE}, known)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
        spelled = [_spelled(pair, known) for pair in pairs]
        group = tuple(sorted(pair for pair, _ in spelled))
        if first := places.get(same_group(group)):
            raise UserError(f"{where}: the same group as {first} ({group_name(group)})")
        places[same_group(group)] = where
        groups.append(group)
        remarks |= dict.fromkeys(remark for _, remark in spelled if remark)
    return groups, list(remarks)


def _pairs(row: Mapping[str, Any], known: Mapping[str, Mapping[Pair, Pair]]) -> list[Pair]:
    """The attributes that a row gives. Raises ValueError for one that is not known, and if there is none."""
    for attribute in row:
        if fold(attribute) not in known:
            raise ValueError(_unknown(attribute, known))
    pairs = [(attribute, as_text(value, attribute)) for attribute, value in row.items() if value is not None]
    if not pairs:
        raise ValueError("is a group without any attribute")
    return pairs


def _spelled(pair: Pair, known: Mapping[str, Mapping[Pair, Pair]]) -> tuple[Pair, str | None]:
    """A pair in the spelling of the training data, and a sentence if it has another one or no such value."""
    attribute, value = pair
    trained = known[fold(attribute)]
    found = trained.get(_same(attribute, value))
    name = next(iter(trained.values()))[0]
    new = found or (name, countries.one_name(value) if is_country(name) else value)
    said = f"{attribute} = {value}" if new[1] == value else f"{attribute} = {value}, asked as {new[1]}"
    if not found:
        return new, f"{said}: no group of the training data has this value"
    return new, f"{said}, which is how the training data spells it" if new[1] != value else None


def _unknown(attribute: str, known: Mapping[str, Mapping[Pair, Pair]]) -> str:
    names = {folded: next(iter(pairs.values()))[0] for folded, pairs in known.items()}
    close = difflib.get_close_matches(fold(attribute), names, n=1)
    hint = f"did you mean {names[close[0]]}? " if close else ""
    return f"no attribute {attribute!r} in the training data; {hint}it has {some(names.values(), limit=20)}"
