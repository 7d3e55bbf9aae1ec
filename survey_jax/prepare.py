"""Turns a downloaded file into a survey table, or drafts the codebook that says what a file of your own means.

    python -m survey_jax.prepare --source=NAME --input=PATH --output=TABLE.parquet
    python -m survey_jax.prepare --input=MINE.sav --draft_codebook=MINE.yaml
    python -m survey_jax.prepare --source=microdata --input=MINE.sav --codebook=MINE.yaml --output=TABLE.parquet
    python -m survey_jax.prepare --source=table --input=TABLE.parquet --show=QUESTION

With --output=FILE.csv, .sav, .dta or .long.parquet it writes the table for other programs, a line an option
(docs/results.md). docs/data.md has a section for every source. Prints what was kept, dropped and repaired, by reason,
what the weights do, and some of what the table says: toplines, rows in words, and what prompts call the groups.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from survey_jax import cli
from survey_jax.common.console import one_line, say
from survey_jax.common.errors import UserError, plural
from survey_jax.common.files import atomic_write, check_file
from survey_jax.inputs.prompts import who
from survey_jax.sources import SOURCES, Prepared, Request, load
from survey_jax.sources.microdata.drafting.draft import draft_codebook
from survey_jax.survey import overview
from survey_jax.survey.long_table import is_long, write_long_table
from survey_jax.survey.table import check_output, write_table

SOURCE = flags.DEFINE_string("source", None, f"What the file is: {', '.join(SOURCES)}.")
INPUT = flags.DEFINE_string("input", None, "The file, the folder, or where the source has one its hub id.")
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "The table to write: .parquet, .jsonl or .jsonl.gz; in long form: .csv, .sav, .dta or .long.parquet.",
)
CODEBOOK = flags.DEFINE_string("codebook", None, "What the columns of your own file mean (YAML).")
BREAKDOWNS = flags.DEFINE_list("breakdowns", [], "Which groups, such as country,country+age; default: the source's.")
MIN_N = flags.DEFINE_integer("min_n", None, "Least respondents behind a row; default: the source's.", lower_bound=1)
UNWEIGHTED = flags.DEFINE_bool("unweighted", False, "Let every respondent count the same.")
ENCODING = flags.DEFINE_string(
    "encoding", None, "With --draft_codebook: the encoding of the file's text, such as cp1252; default: found."
)
QUESTIONNAIRE = flags.DEFINE_string(
    "questionnaire",
    None,
    "With --draft_codebook: the file with the questions' texts: a survey exported by Qualtrics (.qsf) or LimeSurvey "
    "(.lss), an XLSForm (.xlsx), REDCap's data dictionary, or a CSV file with columns `variable` and `question`.",
)
SHOW = flags.DEFINE_string("show", None, "Print this question by group, as bars; needs no --output.")
PAGE = flags.DEFINE_string("page", None, "Write the whole table as a page, such as table.html; needs no --output.")
DRAFT = flags.DEFINE_string("draft_codebook", None, "Only write a codebook from the labels of a file, for you to edit.")


def main() -> None:
    if not INPUT.value:
        raise UserError("--input: say which file to read")
    if DRAFT.value is not None:
        check_file(DRAFT.value, "--draft_codebook")
        say(draft_codebook(Path(INPUT.value), Path(DRAFT.value), ENCODING.value, _path(QUESTIONNAIRE.value)))
        return
    if ENCODING.value:
        raise UserError("--encoding: is for --draft_codebook; to count, say it in the codebook (encoding: ...)")
    if QUESTIONNAIRE.value:
        raise UserError("--questionnaire: is for --draft_codebook; to count, texts stand in the codebook")
    if not SOURCE.value:
        raise UserError(f"--source: say what the file is; choose from {', '.join(SOURCES)}")
    if OUTPUT.value is None and PAGE.value is None and SHOW.value is None:
        raise UserError("--output: say where the table goes, such as --output=table.parquet")
    if OUTPUT.value is not None:
        if not is_long(Path(OUTPUT.value)):  # whose folder `check_file` looks at, too
            check_output(Path(OUTPUT.value))
        check_file(OUTPUT.value, "--output")
    if PAGE.value is not None:
        check_file(PAGE.value, "--page")

    breakdowns = tuple(tuple(part.strip() for part in item.split("+")) for item in BREAKDOWNS.value)
    request = Request(INPUT.value, _path(CODEBOOK.value), breakdowns, MIN_N.value, UNWEIGHTED.value)
    prepared = load(SOURCE.value, request)
    questions = overview.by_question(prepared.answers, prepared.toplines)
    shown = overview.find(questions, SHOW.value, "--show") if SHOW.value is not None else []
    if OUTPUT.value is not None:
        (write_long_table if is_long(Path(OUTPUT.value)) else write_table)(prepared.answers, Path(OUTPUT.value))
    if OUTPUT.value is not None or PAGE.value is not None:
        report(prepared)
    if OUTPUT.value is not None:
        form = " in long form, which is not read back" if is_long(Path(OUTPUT.value)) else ""
        say(f"table{form}: {OUTPUT.value}")
    if PAGE.value is not None:
        write_page(prepared, questions, PAGE.value)
        say(f"page: {PAGE.value}")
    for question in shown:
        overview.show(question)


def _path(value: str | None) -> Path | None:
    return Path(value) if value else None


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
        say(f"note: {one_line(note)}")
    say_overview(prepared)


def say_overview(prepared: Prepared) -> None:
    """Prints what the weights do, some toplines and rows, and what prompts call the groups."""
    if prepared.respondents is not None:
        every = f"weights: none; each of {plural(prepared.respondents, 'respondent')} counts 1"
        say(prepared.weights.describe() if prepared.weights else every)
    if prepared.toplines:
        countries = {value for a in prepared.answers for name, value in a.group if name == "country"}
        together = f" of {len(countries)} countries together" if len(countries) > 1 else ""
        how = "weighted" if prepared.weights else "unweighted"
        say(f"answers of all respondents{together}, {how}, to hold against published ones:")
        say_lines(overview.topline_lines(prepared.toplines))
    say("rows in words:")
    say_lines(overview.said_lines(prepared.answers, who))
    say("prompts call the groups:")
    say_lines(overview.kind_lines(prepared.answers, who))


def write_page(prepared: Prepared, questions: Sequence[overview.Question], file: str) -> None:
    """Writes the whole table as a page."""
    from survey_jax.survey.report.table_page import TableFacts, render  # here: drawing takes a second to import

    p = prepared
    facts = TableFacts(str(INPUT.value), p.respondents, p.weights, p.dropped, p.repaired, p.notes)
    with atomic_write(Path(file)) as partial:
        partial.write_text(render(p.answers, questions, facts, who), encoding="utf-8")


def say_lines(lines: Sequence[str]) -> None:
    """Prints each in one line."""
    for line in lines:
        say(one_line(line))


def say_counts(what: str, reasons: Mapping[str, int]) -> None:
    """The total, and below it each reason, the most frequent first."""
    say(f"{what} {plural(sum(reasons.values()), 'row')}")
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
        say(f"  {count:,} {reason}")


if __name__ == "__main__":
    cli.run(main)
