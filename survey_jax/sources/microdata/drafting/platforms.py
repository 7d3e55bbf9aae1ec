"""Questionnaires as survey platforms export them: Qualtrics' .qsf, LimeSurvey's .lss, XLSForms of KoBo and ODK."""

import dataclasses
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from survey_jax.common.errors import UserError
from survey_jax.common.reading import parse_json

_NOT_ASKED = ("begin_group", "begin_repeat", "begin", "note", "calculate")  # rows of XLSForms that nobody answers


@dataclasses.dataclass(frozen=True)
class Asked:
    """What respondents read.

    Attributes:
      text: the question.
      options: code -> text, in the questionnaire's order; none where they are not known.
      verbatim: the text is the question itself, not a label.
    """

    text: str
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    verbatim: bool = True


def qualtrics(path: Path) -> dict[str, Asked]:
    """A survey exported by Qualtrics (.qsf): a question's columns are its export tag, with _1, _2, ... for its rows."""
    try:
        elements = parse_json(path.read_text(encoding="utf-8-sig"))["SurveyElements"]
        payloads = [e["Payload"] for e in elements if e.get("Element") == "SQ" and isinstance(e["Payload"], dict)]
        return {name: asked for payload in payloads for name, asked in _qualtrics_columns(payload)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is no survey as Qualtrics exports it ({type(error).__name__}: {error})") from error


def _qualtrics_columns(payload: Mapping[str, Any]) -> Iterator[tuple[str, Asked]]:
    tag, text = payload["DataExportTag"], payload["QuestionText"]
    choices, recoded = _texts(payload, "Choices", "ChoiceOrder"), payload.get("RecodeValues") or {}
    several = payload.get("Selector", "").startswith("MA")
    if payload.get("QuestionType") == "Matrix":
        answers = _texts(payload, "Answers", "AnswerOrder")
        options = {str(recoded.get(key, key)): label for key, label in answers.items()}
        tags = payload.get("ChoiceDataExportTags") or {}
        for key, row in choices.items():
            yield str(tags.get(key) or f"{tag}_{key}"), Asked(f"{text} {row}", options)
    elif payload.get("QuestionType") == "MC" and several:
        for key, choice in choices.items():
            yield f"{tag}_{recoded.get(key, key)}", Asked(f"{text} {choice}")
        yield tag, Asked(text)
    elif payload.get("QuestionType") != "DB":  # a text between questions
        yield tag, Asked(text, {str(recoded.get(key, key)): label for key, label in choices.items()})


def _texts(payload: Mapping[str, Any], key: str, order: str) -> dict[str, str]:
    """Key -> what is displayed, in the order shown; Qualtrics writes a list where keys are numbers from 0 or 1 on."""
    listed = payload.get(key) or {}
    items = dict(enumerate(listed, 1)) if isinstance(listed, list) else listed
    texts = {str(k): str(item["Display"]) for k, item in items.items()}
    shown = [str(k) for k in payload.get(order) or [] if str(k) in texts]
    return {k: texts[k] for k in dict.fromkeys([*shown, *texts])}


def limesurvey(path: Path) -> dict[str, Asked]:
    """A survey's structure exported by LimeSurvey (.lss), of version 2 or later, in its base language.

    A column is called as its question, those of a question with parts as Q1[PART] or Q1_PART.
    """
    text = path.read_bytes()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:  # which may unpack without end; LimeSurvey writes none
        raise UserError(f"{path}: defines entities, as no survey of LimeSurvey does")
    try:
        return dict(_limesurvey_columns(ElementTree.fromstring(text)))
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise UserError(f"{path}: is no survey as LimeSurvey exports it ({type(error).__name__}: {error})") from error


def _limesurvey_columns(document: ElementTree.Element) -> Iterator[tuple[str, Asked]]:
    language = document.findtext("languages/language") or ""
    rows = {part.tag: list(_spoken(part, language)) for part in document}

    def texts(part: str, key: str, text: str) -> dict[str, str]:
        """Number -> text; since version 4 in a part of its own, before in the rows themselves."""
        own = rows.get(f"{part.removesuffix('s')}_l10ns", []) or rows.get(part, [])
        return {row[key]: row[text] for row in own if key in row and row.get(text)}

    asked = texts("subquestions", "qid", "question") | texts("questions", "qid", "question")
    said, answers = texts("answers", "aid", "answer"), defaultdict[str, dict[str, str]](dict)
    for row in sorted(rows.get("answers", []), key=lambda row: int(row.get("sortorder") or 0)):
        answers[row["qid"]][row["code"]] = said.get(row.get("aid", ""), row.get("answer", ""))
    parts = defaultdict[str, list[Mapping[str, str]]](list)
    for row in rows.get("subquestions", []):
        parts[row["parent_qid"]].append(row)
    for row in rows.get("questions", []):
        question, number = asked.get(row["qid"], ""), row["qid"]
        for part in parts[number]:
            text = f"{question} {asked.get(part['qid'], '')}"
            yield f"{row['title']}[{part['title']}]", Asked(text, answers[number])
        if not parts[number]:
            yield row["title"], Asked(question, answers[number])


def _spoken(part: ElementTree.Element, language: str) -> Iterator[dict[str, str]]:
    """The rows of a part of LimeSurvey's file, without those in other languages."""
    for row in part.iter("row"):
        cells = {cell.tag: cell.text or "" for cell in row}
        if cells.get("language", language) == language:
            yield cells


def xlsform(path: Path) -> dict[str, Asked]:
    """A form of KoBoToolbox or ODK: sheets `survey` (type, name, label) and `choices` (list_name, name, label)."""
    try:
        import openpyxl  # here: few need it
    except ImportError as error:
        raise UserError(f"{path}: needs openpyxl (pip install openpyxl)") from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheets = {sheet.title.strip().lower(): _sheet(sheet) for sheet in book.worksheets}
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read as a spreadsheet ({error})") from error
    if "survey" not in sheets:
        raise UserError(f"{path}: has no sheet `survey`, as XLSForms have; it has {', '.join(sheets) or 'none'}")
    lists = defaultdict[str, dict[str, str]](dict)
    for row in sheets.get("choices", []):
        lists[row.get("list_name") or row.get("list name") or ""][row.get("name") or row.get("value", "")] = _label(row)
    found: dict[str, Asked] = {}
    for row in sheets["survey"]:
        kind, _, name = row.get("type", "").partition(" ")
        options = lists[name.split()[0]] if kind.startswith("select_one") and name else {}
        if row.get("name") and _label(row) and kind not in _NOT_ASKED:
            found[row["name"]] = Asked(_label(row), options)
            chosen = lists[name.split()[0]] if kind.startswith("select_multiple") and name else {}
            for code, text in chosen.items():  # a column for each choice, as exports have it
                found[f"{row['name']}_{code}"] = Asked(f"{_label(row)} {text}")
    return found


def _sheet(sheet: Any) -> list[dict[str, str]]:
    rows = sheet.iter_rows(values_only=True)
    lines = [["" if value is None else str(value).strip() for value in row] for row in rows]
    header = [cell.lower() for cell in lines[0]] if lines else []
    return [dict(zip(header, line, strict=False)) for line in lines[1:]]


def _label(row: Mapping[str, str]) -> str:
    """A row's label; of several languages the first."""
    return next((text for name, text in row.items() if name.split("::")[0] == "label" and text), "")
