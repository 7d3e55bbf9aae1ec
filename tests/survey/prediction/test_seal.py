"""A seal breaks when anything in it is changed, gives back what was predicted, and a registration hides no gap."""

import dataclasses
import datetime
import hashlib
import json

import numpy as np
import pytest

from survey_jax.common.errors import UserError
from survey_jax.survey.prediction.forecast import Forecast
from survey_jax.survey.prediction.seal import read_seal, registration, seal, sealed_rows, write_seal
from survey_jax.survey.table import Answer

FACTS = {"id": "ab12", "identity": {"data": "f00d"}, "prompts": "¿Cómo?"}


def cell(question: str, town: str) -> Answer:
    return Answer("New", question, f"Is it {question}?", ("Yes", "Perhaps", "No"), (("town", town),), (1 / 3,) * 3)


def forecasts() -> list[Forecast]:
    rng = np.random.default_rng(0)
    cells = [cell(question, town) for question in ("far", "dear", "über") for town in ("A", "B")]
    return [Forecast(row, rng.dirichlet(np.ones(3)), 10.0 + i, "new question", {}) for i, row in enumerate(cells)]


def test_a_seal_reads_back_and_says_when_and_by_what_it_was_made(tmp_path) -> None:
    sealed = seal(forecasts(), FACTS)
    write_seal(sealed, tmp_path / "seal.json")
    assert read_seal(tmp_path / "seal.json") == sealed
    assert sealed["facts"] == FACTS
    made = datetime.datetime.fromisoformat(sealed["sealed"])
    assert made.utcoffset() == datetime.timedelta(0)
    assert abs(datetime.datetime.now(datetime.UTC) - made) < datetime.timedelta(minutes=5)
    assert len(sealed["predictions"]) == 6


def test_the_digest_is_that_of_the_canonical_content() -> None:
    sealed = seal(forecasts(), FACTS)
    content = {name: value for name, value in sealed.items() if name != "sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert sealed["sha256"] == hashlib.sha256(text.encode("utf-8")).hexdigest()


def test_rounding_errors_of_a_machine_do_not_change_a_share() -> None:
    shares = np.array([0.1 + 0.2, 0.3, 0.4])
    other = np.array([0.3, 0.3, 0.4])
    sealed = [seal([Forecast(cell("far", "A"), p, 10.0, "new question", {})], FACTS) for p in (shares, other)]
    assert sealed[0]["predictions"] == sealed[1]["predictions"]


@pytest.mark.parametrize(("old", "new"), [('"concentration":10.0', '"concentration":11.0'), ("über", "uber"),
                                          ("f00d", "beef"), ('"town":"A"', '"town":"C"')])  # fmt: skip
def test_an_altered_seal_is_refused(tmp_path, old: str, new: str) -> None:
    path = tmp_path / "seal.json"
    write_seal(seal(forecasts(), FACTS), path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=r"seal.json: was altered after it was sealed"):
        read_seal(path)


def test_layout_of_the_file_does_not_matter(tmp_path) -> None:
    sealed = seal(forecasts(), FACTS)
    path = tmp_path / "seal.json"
    path.write_text(json.dumps(dict(reversed(sealed.items())), indent=4), encoding="utf-8")
    assert read_seal(path) == sealed


def test_files_that_are_no_seal_are_refused(tmp_path) -> None:
    path = tmp_path / "seal.json"
    with pytest.raises(UserError, match="no such file"):
        read_seal(path)
    path.write_text("{}")
    with pytest.raises(UserError, match="not a seal"):
        read_seal(path)
    with pytest.raises(UserError, match="a seal is not written over"):
        write_seal(seal(forecasts(), FACTS), path)
    with pytest.raises(UserError, match="no such folder"):
        write_seal(seal(forecasts(), FACTS), tmp_path / "none" / "seal.json")
    with pytest.raises(UserError, match=r"as \.json"):
        write_seal(seal(forecasts(), FACTS), tmp_path / "seal.csv")


@pytest.mark.parametrize("fact", [{"x": float("nan")}, {"x": object()}])
def test_facts_that_cannot_be_written_are_refused(fact) -> None:
    with pytest.raises(UserError, match="what JSON can hold"):
        seal(forecasts(), fact)


def test_results_find_what_was_sealed_by_wording_and_group(tmp_path) -> None:
    write_seal(seal(forecasts(), FACTS), tmp_path / "seal.json")
    made = {(f.answer.question_id, f.answer.group[0][1]): f for f in forecasts()}
    results = [
        Answer("Field", "v1", "is it DEAR?", ("No", "Yes", "perhaps"), (("Town", "b"),), (0.5, 0.3, 0.2)),
        Answer("Field", "v2", "Is it far?", ("Yes", "Perhaps", "No"), (("town", "A"),), (0.5, 0.3, 0.2)),
    ]
    found = sealed_rows(read_seal(tmp_path / "seal.json"), results)
    assert found.answers == results
    assert found.shares[0] == pytest.approx(made["dear", "B"].shares[[2, 0, 1]], abs=1e-11)
    assert found.shares[1] == pytest.approx(made["far", "A"].shares, abs=1e-11)
    assert found.concentration == pytest.approx([made["dear", "B"].concentration, made["far", "A"].concentration])


def test_a_result_with_a_sealed_id_and_another_wording_is_refused() -> None:
    reworded = dataclasses.replace(cell("far", "A"), question="Is it really so far?")
    with pytest.raises(UserError, match="no prediction for New / far / town=A, New / far / town=Z"):
        sealed_rows(seal(forecasts(), FACTS), [cell("far", "B"), reworded, cell("far", "Z")])


def test_a_registration_says_what_is_known_and_what_is_not() -> None:
    manifest = {
        "id": "ab12",
        "identity": {"data": "f00d"},
        "starts": [
            {"step": 0, "seed": 1, "base_model": {"weights": "old"}},
            {"step": 50, "seed": 7, "base_model": {"weights": "some/model", "commit": None}, "git_changes": []},
        ],
    }
    text = registration(manifest | {"knowledge_cutoff": "August 2024", "prompts": "{question}\n{options}"})
    lines = dict(line.strip().split(": ", 1) for line in text.splitlines() if ": " in line)
    assert lines["Base model"] == "some/model"
    assert lines["Seeds"] == "7"
    assert lines["Knowledge cut-off of the base model"] == "August 2024"
    assert lines["Template"] == "{question} {options}"
    assert lines["Fingerprints"] == "data f00d"
    assert lines["Files changed since"] == "none"
    for gap in ("Revision of the base model", "Configurations tried", "Training data", "Checkpoint"):
        assert lines[gap] == "not recorded"
