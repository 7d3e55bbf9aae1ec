"""Texts and options of questionnaires, as platforms export them, in drafts."""

import csv
import json
from pathlib import Path

import openpyxl
import pytest

from command import Prepare
from survey_jax.common.errors import UserError
from survey_jax.sources.microdata.drafting.questionnaire import read_questionnaire
from survey_jax.survey.table import read_table

TRUST, MUCH, BUS = (
    "How far do you trust the town council?",
    "How much do these matter: clean air",
    "Do you take the bus?",
)
POINTS = {"1": "Not at all", "2": "A little", "3": "A lot"}


def qualtrics(path: Path) -> None:
    """Codes of the first question are not its choices' numbers, and its choices are shown in another order."""

    def shown(texts: dict[str, str]) -> dict[str, dict[str, str]]:
        return {key: {"Display": text} for key, text in texts.items()}

    questions = [
        {"DataExportTag": "Q1", "QuestionText": f"<p>{TRUST}</p>", "QuestionType": "MC", "Selector": "SAVR",
         "Choices": shown({"4": "A lot", "7": "Not at all", "8": "A little"}), "ChoiceOrder": ["7", 8, "4"],
         "RecodeValues": {"4": "3", "7": "1", "8": "2"}},
        {"DataExportTag": "Q2", "QuestionText": MUCH[:-10], "QuestionType": "Matrix", "Selector": "Likert",
         "Choices": shown({"1": "clean air"}), "Answers": shown(POINTS), "AnswerOrder": ["1", "2", "3"],
         "ChoiceDataExportTags": False},
        {"DataExportTag": "Q3", "QuestionText": BUS, "QuestionType": "MC", "Selector": "SAHR", "RecodeValues": False,
         "Choices": [{"Display": "Yes"}, {"Display": "No"}], "ChoiceOrder": [1, 2]},
        {"DataExportTag": "Q4", "QuestionText": "Thank you.", "QuestionType": "DB", "Selector": "TB"},
    ]  # fmt: skip
    elements = [{"Element": "SQ", "Payload": question} for question in questions]
    path.write_text(json.dumps({"SurveyEntry": {}, "SurveyElements": [{"Element": "BL", "Payload": []}, *elements]}))


def limesurvey(path: Path) -> None:
    """Version 6: texts stand in parts of their own, in two languages."""

    def part(name: str, *rows: dict[str, object]) -> str:
        cells = ["".join(f"<{key}><![CDATA[{value}]]></{key}>" for key, value in row.items()) for row in rows]
        listed = "".join(f"<row>{row}</row>" for row in cells)
        return f"<{name}><fields><fieldname>x</fieldname></fields><rows>{listed}</rows></{name}>"

    asked = {1: f"<b>{TRUST}</b>", 2: "How much do these matter:", 3: BUS, 4: "clean air"}
    options = {1: POINTS, 2: POINTS, 3: {"1": "Yes", "2": "No"}}
    answers = [
        (10 * qid + i, qid, code, text) for qid, own in options.items() for i, (code, text) in enumerate(own.items())
    ]
    spoken = [("de", "Frage"), ("en", "")]
    parts = [
        part("questions", *({"qid": q, "parent_qid": 0, "title": f"Q{q}", "type": "L"} for q in (1, 2, 3))),
        part("subquestions", {"qid": 4, "parent_qid": 2, "title": "1", "type": "T"}),
        part("question_l10ns", *({"id": 0, "qid": q, "question": other or text, "language": language}
                                 for q, text in asked.items() for language, other in spoken)),
        part("answers", *({"aid": a, "qid": q, "code": c, "sortorder": 100 - int(c)} for a, q, c, _ in answers[::-1])),
        part("answer_l10ns", *({"id": 0, "aid": a, "answer": other or text, "language": language}
                               for a, _, _, text in answers for language, other in spoken)),
    ]  # fmt: skip
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?><document><LimeSurveyDocType>Survey</LimeSurveyDocType><DBVersion>640'
        f"</DBVersion><languages><language>en</language><language>de</language></languages>{''.join(parts)}</document>"
    )


def limesurvey_2(path: Path) -> None:
    """Version 2: texts stand in the rows, which are there once for each language."""
    rows = "".join(
        f"<row><qid>{qid}</qid><parent_qid>0</parent_qid><title>Q{qid}</title><question><![CDATA[{text}]]></question>"
        f"<language>{language}</language></row>"
        for language in ("fr", "en")
        for qid, text in enumerate([TRUST, MUCH, BUS] if language == "en" else ["Un?", "Deux?", "Trois?"], 1)
    )
    answers = "".join(
        f"<row><qid>{qid}</qid><code>{code}</code><answer>{text if language == 'en' else 'mot'}</answer>"
        f"<sortorder>{code}</sortorder><language>{language}</language></row>"
        for language in ("en", "fr")
        for qid in (1, 2, 3)
        for code, text in (POINTS if qid < 3 else {"1": "Yes", "2": "No"}).items()
    ).replace("Q2", "Q2_1")
    path.write_text(
        f"<document><languages><language>en</language></languages><answers><rows>{answers}</rows></answers>"
        f"<questions><rows>{rows.replace('Q2', 'Q2_1')}</rows></questions></document>"
    )


def xlsform(path: Path) -> None:
    book = openpyxl.Workbook()
    survey, choices = book.active, book.create_sheet("choices")
    survey.title = "survey"
    for row in [
        ("type", "name", "label::English (en)", "label::Français (fr)"),
        ("begin_group", "opinions", "Opinions", None),
        ("select_one much", "Q1", TRUST, "Un?"),
        ("select_one much or_other", "Q2_1", MUCH, None),
        ("select_one yesno", "Q3", BUS, None),
        ("end_group", None, None, None),
    ]:
        survey.append(row)
    for row in [("list_name", "name", "label::English (en)"), *(("much", int(c), t) for c, t in POINTS.items()),
                ("yesno", 1, "Yes"), ("yesno", 2, "No")]:  # fmt: skip
        choices.append(row)
    book.save(path)


def redcap(path: Path) -> None:
    rows = [
        ["Variable / Field Name", "Form Name", "Section Header", "Field Type", "Field Label",
         "Choices, Calculations, OR Slider Labels"],
        ["q1", "town", "", "radio", TRUST, "1, Not at all | 2, A little | 3, A lot"],
        ["q2_1", "town", "", "radio", MUCH, "1, Not at all | 2, A little | 3, A lot"],
        ["q3", "town", "", "yesno", BUS, "1, Yes | 2, No"],
    ]  # fmt: skip
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def variables(path: Path) -> None:
    lines = ["Variable;Question;Options", f"Q1;{TRUST};1=Not at all, 2=A little, 3=A lot",
             f'Q2_1;{MUCH};"1 = Not at all\n2 = A little\n3 = A lot"', f"Q3;{BUS};1: Yes | 2: No"]  # fmt: skip
    path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")


FORMS = {
    "survey.qsf": qualtrics,
    "survey.lss": limesurvey,
    "old.lss": limesurvey_2,
    "form.xlsx": xlsform,
    "dictionary.csv": redcap,
    "list.txt": variables,
}


@pytest.fixture
def command(capfd, monkeypatch, tmp_path) -> Prepare:
    monkeypatch.chdir(tmp_path)
    lines = [f"{1 + i % 3},{1 + i % 2},{1 + i % 2},{'fm'[i % 2]}" for i in range(120)]
    Path("town.csv").write_text("Q1,Q2_1,Q3,sex\n" + "\n".join(lines) + "\n")
    return Prepare(capfd, monkeypatch)


@pytest.mark.parametrize("name", FORMS)
def test_a_draft_has_what_was_asked_and_needs_no_more(command, name):
    FORMS[name](Path(name))
    code, out, error = command(input="town.csv", draft_codebook="town.yaml", questionnaire=name)
    assert code == 0, error
    assert f"texts of 3 columns from {name}" in out
    draft = Path("town.yaml").read_text()
    assert draft.partition("\nsurvey:")[2].count("TODO") == 1  # where all of them live
    assert draft.count("scale: ordinal") >= 1
    Path("town.yaml").write_text(draft.replace('"TODO: where all of them live"', "Kenya"))
    code, _, error = command(source="microdata", input="town.csv", codebook="town.yaml", output="town.parquet")
    assert code == 0, error
    found = {(a.question, tuple(a.options)) for a in read_table("town.parquet")}
    assert found == {(TRUST, tuple(POINTS.values())), (MUCH, tuple(POINTS.values())), (BUS, ("Yes", "No"))}


def test_labels_are_not_what_was_asked_and_answers_of_several_are_columns(command, tmp_path):
    (tmp_path / "list.csv").write_text("name,label\nQ1,Trust in council\nQ9,Other\n")
    command(input="town.csv", draft_codebook="town.yaml", questionnaire="list.csv")
    assert 'text: "TODO: Trust in council"' in Path("town.yaml").read_text()

    several = {"DataExportTag": "Q5", "QuestionText": "Which of these?", "QuestionType": "MC", "Selector": "MAVR",
               "Choices": {"1": {"Display": "Bus"}, "4": {"Display": "Train"}}}  # fmt: skip
    (tmp_path / "a.qsf").write_text(json.dumps({"SurveyElements": [{"Element": "SQ", "Payload": several}]}))
    assert read_questionnaire(tmp_path / "a.qsf")["Q5_4"].text == "Which of these? Train"


def test_options_of_the_file_go_first(command, tmp_path):
    """Texts in the file stand for themselves, whatever codes the questionnaire has."""
    qualtrics(tmp_path / "a.qsf")
    (tmp_path / "town.csv").write_text("Q3,sex\n" + "Never,f\nAlways,m\n" * 30)
    command(input="town.csv", draft_codebook="town.yaml", questionnaire="a.qsf")
    assert {"Never", "Always"} <= set(Path("town.yaml").read_text().replace(":", " ").split())


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.pdf", "x", "not a kind of questionnaire"),
        ("a.qsf", "[]", "is no survey as Qualtrics exports it"),
        ("a.qsf", '{"SurveyElements": [{"Element": "SQ", "Payload": {}}]}', "KeyError: 'DataExportTag'"),
        ("a.lss", "<document>", "is no survey as LimeSurvey exports it"),
        ("a.lss", "<!DOCTYPE a><document/>", "defines entities"),
        ("a.lss", "<document><questions><row><title>a</title></row></questions></document>", "KeyError: 'qid'"),
        ("a.xlsx", "x", "cannot be read as a spreadsheet"),
        ("a.csv", "one,two\n1,2\n", "line 1: needs a column with names of variables"),
        ("a.csv", "", "it has nothing"),
        ("a.csv", "variable,question\nQ1,\n", "has no questions"),
        ("a.csv", "variable,question\nQ1,Why?\nQ1,How?\n", "has two rows for 'Q1'"),
        ("a.csv", "variable,question\nq9,Why?\n", "none of the 1 questions (q9, ...) is a column of town.csv"),
    ],
)
def test_what_is_no_questionnaire_is_said_in_one_line(command, name, content, says):
    Path(name).write_text(content)
    code, _, error = command(input="town.csv", draft_codebook="town.yaml", questionnaire=name)
    assert (code, error.count("\n")) == (2, 1)
    assert says in error
    assert not Path("town.yaml").exists()


def test_it_is_for_drafts(command):
    code, _, error = command(source="microdata", input="town.csv", questionnaire="a.qsf", output="a.parquet")
    assert (code, "--questionnaire: is for --draft_codebook" in error) == (2, True)
    with pytest.raises(UserError, match="no such file"):
        read_questionnaire(Path("absent.qsf"))
