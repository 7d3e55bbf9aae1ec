"""Turns a downloaded file into a survey table, or drafts the codebook that says what a file of your own means.

    python -m survey_jax.prepare --source=NAME --input=PATH --output=TABLE.parquet
    python -m survey_jax.prepare --input=MINE.sav --draft_codebook=MINE.yaml
    python -m survey_jax.prepare --source=microdata --input=MINE.sav --codebook=MINE.yaml --output=TABLE.parquet

docs/data.md has a section for every source. Prints what was kept, dropped and repaired, by reason.
"""

from collections.abc import Mapping
from pathlib import Path

from absl import flags

from survey_jax import cli
from survey_jax.common.console import say
from survey_jax.common.errors import UserError, plural
from survey_jax.sources import SOURCES, Prepared, Request, load
from survey_jax.sources.microdata.draft import draft_codebook
from survey_jax.survey.table import check_output, write_table

SOURCE = flags.DEFINE_string("source", None, f"What the file is: {', '.join(SOURCES)}.")
INPUT = flags.DEFINE_string("input", None, "The file, the folder, or where the source has one its hub id.")
OUTPUT = flags.DEFINE_string("output", None, "The table to write, as .parquet, .jsonl or .jsonl.gz.")
CODEBOOK = flags.DEFINE_string("codebook", None, "What the columns of your own file mean (YAML).")
BREAKDOWNS = flags.DEFINE_list("breakdowns", [], "Which groups, such as country,country+age; default: the source's.")
MIN_N = flags.DEFINE_integer("min_n", None, "Least respondents behind a row; default: the source's.", lower_bound=1)
UNWEIGHTED = flags.DEFINE_bool("unweighted", False, "Let every respondent count the same.")
DRAFT = flags.DEFINE_string("draft_codebook", None, "Only write a codebook from the labels of a file, for you to edit.")


def main() -> None:
    if not INPUT.value:
        raise UserError("--input: say which file to read")
    if DRAFT.value:
        say(draft_codebook(Path(INPUT.value), Path(DRAFT.value)))
        return
    if not SOURCE.value:
        raise UserError(f"--source: say what the file is; choose from {', '.join(SOURCES)}")
    if not OUTPUT.value:
        raise UserError("--output: say where the table goes, such as --output=table.parquet")
    output = Path(OUTPUT.value)
    check_output(output)

    breakdowns = tuple(tuple(part.strip() for part in item.split("+")) for item in BREAKDOWNS.value)
    codebook = Path(CODEBOOK.value) if CODEBOOK.value else None
    request = Request(INPUT.value, codebook, breakdowns, MIN_N.value, UNWEIGHTED.value)
    prepared = load(SOURCE.value, request)
    write_table(prepared.answers, output)
    report(prepared)
    say(f"table: {output}")


def report(prepared: Prepared) -> None:
    """Prints what became of the file."""
    answers = prepared.answers
    questions, groups = {a.question_key for a in answers}, {(a.survey, a.wave, a.group) for a in answers}
    surveys = {a.survey for a in answers}
    say(
        f"kept {plural(len(answers), 'row')}: {plural(len(questions), 'question')}, {plural(len(groups), 'group')}, "
        f"{plural(len(surveys), 'survey')}"
    )
    say_counts("dropped", prepared.dropped)
    say_counts("repaired", prepared.repaired)
    for note in prepared.notes:
        say(f"note: {note}")


def say_counts(what: str, reasons: Mapping[str, int]) -> None:
    """The total, and below it each reason, the most frequent first."""
    say(f"{what} {plural(sum(reasons.values()), 'row')}")
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
        say(f"  {count:,} {reason}")


if __name__ == "__main__":
    cli.run(main)
