"""Chat templates: the same prompt on every day, and one line for each way in which a template can fail."""

import datetime
from typing import Any

import pytest

from byte_tokenizer import answer, byte_tokenizer
from survey_jax.common.errors import UserError
from survey_jax.inputs import chat as chat_module
from survey_jax.inputs.chat import Chat
from survey_jax.inputs.prompts import Prompter

TURNS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
# As Llama 3.2's, Granite's and SmolLM3's have it.
DATED = {
    "variable": "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "Today Date: {{ date_string }}" + TURNS,
    "function": "Today's Date: {{ strftime_now('%B %d, %Y') }}." + TURNS,
    "if defined": "{% if strftime_now is defined %}{{ strftime_now('%Y-%m-%d') }}{% else %}2024{% endif %}" + TURNS,
}
TOLD = {
    "variable": "Today Date: 29 Feb 2024",
    "function": "Today's Date: February 29, 2024.",
    "if defined": "2024-02-29",
}


def ask(template: str, date: str = "2024-02-29", **arguments: Any) -> str:
    return Prompter(byte_tokenizer(chat=template), "question_first", Chat(date, arguments)).text(answer())


@pytest.mark.parametrize("name", DATED)
def test_a_template_tells_the_recorded_day(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers.utils.chat_template_utils as theirs

    class Tomorrow(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime.datetime:
            return datetime.datetime.now(tz) + datetime.timedelta(days=1)

    text = ask(DATED[name])
    assert text.startswith(TOLD[name])
    monkeypatch.setattr(theirs, "datetime", Tomorrow)
    assert ask(DATED[name]) == text
    assert theirs.datetime is Tomorrow  # others who use transformers in this process keep their clock
    assert ask(DATED[name], "2024-03-01") != text


def test_a_day_that_nobody_recorded_is_not_made_up() -> None:
    with pytest.raises(UserError, match=r"fails: it tells today's date; set config\.data\.chat_date to a day"):
        ask(DATED["function"], date="")
    assert ask(TURNS, date="").startswith("[user]Is tea good?")


def test_arguments_reach_the_template() -> None:
    template = TURNS + "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
    assert "[assistant]If" in ask(template)
    assert "[assistant]<think></think>If" in ask(template, enable_thinking=False)
    assert ask(DATED["variable"], date_string="some day").startswith("Today Date: some day[user]")


LINES = "{{ messages[0].content }}"
FAILING = {
    "syntax": ("{% for x in %}", "fails: Expected an expression"),
    "raises": ("{{ raise_exception('only\\nfor tools') }}", "fails: only for tools"),
    "undefined": ("{{ tools.x.y }}", "fails: "),
    "no such filter": (LINES + "{{ 1 | frobnicate }}", "fails: No filter named 'frobnicate'."),
    "division": (LINES + "{{ 1 / 0 }}", "fails: division by zero"),
    "kinds": (LINES + "{{ 'x' + 1 }}", "fails: can only concatenate str"),
    "unsafe": (LINES + "{{ messages.__class__.__mro__ }}", "fails: access to attribute '__class__'"),
    "recursion": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "fails: maximum recursion depth exceeded"),
    "a long range": ("{% for x in range(999999999) %}{% endfor %}", "fails: Range too big"),
    "include": ("{% include 'other.jinja' %}", "fails: "),
    "constant": ("hello", "leaves out or changes what is asked, 'Is tea good?'"),
    "other role": ("{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}", "leaves out or changes"),
    "cut": ("{{ messages[0].content[:5] }}", "leaves out or changes what is asked, 'Is tea good?'"),
    "upper": ("{{ messages[0].content | upper }}", "leaves out or changes what is asked"),
    "random": (LINES + "{{ range(90000) | random }}", "says another thing each time it is asked"),
    "huge": (LINES + "{{ 'x' * 1000000 }}", "adds 1,000,000 characters to a question"),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_template_that_cannot_ask_is_refused_in_one_line(name: str) -> None:
    template, message = FAILING[name]
    with pytest.raises(UserError) as error:
        ask(template)
    assert str(error.value).startswith(f"data.chat: the chat template of tiny-bytes {message}")
    assert "\n" not in str(error.value)


def test_one_that_drops_later_questions_is_refused_when_it_does() -> None:
    prompter = Prompter(byte_tokenizer(chat="{{ messages[0].content[:60] }}"), "question_first", Chat())
    prompter.text(answer())
    with pytest.raises(UserError, match="leaves out or changes what is asked, 'Is tea good, and is it better"):
        prompter.text(answer(question="Is tea good, and is it better than coffee in the morning or at night?"))


def test_one_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_module, "SECONDS", 0.05)  # a fast machine takes 0.4
    slow = "{% for x in range(40000) %}{% for y in range(400) %}{% endfor %}{% endfor %}" + TURNS
    with pytest.raises(UserError, match=r"takes more than 0\.05 seconds for a short question"):
        ask(slow)


def test_arguments_that_are_not_the_templates_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"fails: .*multiple values for keyword argument 'tokenize'"):
        ask(TURNS, tokenize=True)
