"""The benchmark of hostile inputs: some of its cases hold, and its judge sees what is wrong."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.hostile import respondents, tables
from benchmarks.hostile.judge import Case, Court


@pytest.fixture(scope="module")
def court() -> Iterator[Court]:
    court = Court()
    yield court
    court.close()


@pytest.mark.parametrize("kind", [tables, respondents], ids=["tables", "respondents"])
def test_inputs_end_in_a_right_result_or_one_line(court, kind):
    rng = random.Random(7)
    verdicts = [court.try_case(case) for case in rng.sample(list(kind.cases(rng)), 40)]
    assert {v.code for v in verdicts} == {0, 2}
    assert not [v for v in verdicts if v.wrong]


def make_table(folder: Path) -> list[str]:
    return ["--source=table", f"--input={tables._jsonl(folder, {})}", "--output={output}.jsonl"]


def test_the_judge_sees_a_wrong_result_unreadable_results_and_too_much_memory(court, monkeypatch):
    assert court.try_case(Case("sound", "prepare", make_table, lambda output: "")).wrong == ""
    assert court.try_case(Case("off", "prepare", make_table, lambda output: "another count")).wrong == "another count"
    unread = court.try_case(Case("unread", "prepare", make_table, lambda output: (output / "x").read_text()))
    assert "FileNotFoundError" in unread.wrong
    monkeypatch.setattr("benchmarks.hostile.judge.MEMORY", -(1 << 60))
    assert "GB" in court.try_case(Case("large", "prepare", make_table, lambda output: "")).wrong


def test_the_judge_does_not_wait_for_ever(court, monkeypatch):
    monkeypatch.setattr("benchmarks.hostile.judge.SECONDS", 0.5)
    monkeypatch.setattr("benchmarks.hostile.judge.SECONDS_A_MB", 0.0)
    began = time.monotonic()
    process = court._serving["prepare"].process
    process.send_signal(19)  # SIGSTOP: as a command that waits for what never comes
    verdict = court.try_case(Case("stopped", "prepare", make_table, lambda output: ""))
    assert verdict.code is None
    assert "no end" in verdict.wrong
    assert time.monotonic() - began < 30
