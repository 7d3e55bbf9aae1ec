"""Text of others reaches a terminal as text."""

from pathlib import Path

import pytest

from survey_jax.common.console import one_line, printable, say, track
from survey_jax.common.errors import fail

EVIL = "q\x1b[2J\x07\x9b31m\r\u202eab\ud800\x7f"
SHOWN = r"q\x1b[2J\x07\x9b31m\r\u202eab\ud800\x7f"


def test_control_characters_are_shown_and_not_done(capsys, monkeypatch) -> None:
    persian = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"  # it has an invisible letter
    say(f"{EVIL}: caf\u00e9 {persian}\n\tnext")
    assert capsys.readouterr().out == f"{SHOWN}: caf\u00e9 {persian}\n\tnext\n"
    monkeypatch.setattr("survey_jax.common.console.SECONDS", 0.0)
    list(track([1], 1, EVIL))
    assert capsys.readouterr().out == f"{SHOWN}: 1 of 1\n"


def test_a_log_tells_how_far_it_is_and_the_time_left(capsys, monkeypatch) -> None:
    """The first item takes 40 seconds, as it compiles, and each of the others one: that is what the rest will take."""
    now = 0.0
    monkeypatch.setattr("survey_jax.common.console.time.monotonic", lambda: now)
    for item in track(range(4000), 4000, "evaluating"):
        now += 1 if item else 40
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "evaluating: 1 of 4,000",
        "evaluating: 11 of 4,000, 1:06:29 left",
        "evaluating: 21 of 4,000, 1:06:19 left",
    ]
    assert 50 < len(lines) < 150
    assert lines[-1].endswith("left")


def test_an_error_is_one_line_whatever_it_names(capsys) -> None:
    with pytest.raises(SystemExit):
        fail(f"{Path(EVIL)}: two\nlines\u2028three")
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert not set(error) & set("\x1b\x07\x9b\u202e\x7f\u2028")
    assert "two lines three" in error


def test_a_tab_and_a_line_break_stay() -> None:
    assert printable("a\tb\nc") == "a\tb\nc"
    assert one_line("a\nb\x0bc\x1bd") == "a b c\\x1bd"
