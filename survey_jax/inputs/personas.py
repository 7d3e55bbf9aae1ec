"""Words for a group: how a prompt tells the model whose answers to predict.

There are four ways. `someone` is a noun phrase ("someone from Kenya, aged 18-29"), for templates that talk about the
group. The other three are OpinionQA's (Santurkar et al. 2023, arXiv 2303.17548, section 3) as SubPOP words them (Suh et
al. 2025, arXiv 2502.16761): a question that the respondent has answered (`qa`), a description of oneself (`bio`) and an
instruction (`portray`). A group with several attributes gets a question, a sentence or a clause for each; one without
any gets nothing.

SubPOP's surveys are from the United States and its prompts do not say so; nor do these three, unless the country is a
group's only attribute.
"""

import dataclasses
import functools
import string
from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml

from survey_jax.survey import countries
from survey_jax.survey.table import Group

_HOME = ("country", "United States")


@dataclasses.dataclass(frozen=True)
class Attribute:
    """SubPOP's wording of an attribute.

    Attributes:
      question: the question of `qa`.
      options: its answers. Any other value is written without a letter.
      topic: completes "provide a short description of ..." in `bio`.
      bio, portray: sentence and clause, with {} for the value.
      values: value -> wording, where SubPOP's prompts use another word than its tables.
    """

    question: str
    options: tuple[str, ...]
    topic: str
    bio: str
    portray: str
    values: Mapping[str, str] = dataclasses.field(default_factory=dict)


@functools.cache
def subpop_attributes() -> dict[str, Attribute]:
    """SubPOP's words by attribute, from `data/subpop_attributes.yaml`."""
    text = (resources.files("survey_jax") / "data" / "subpop_attributes.yaml").read_text(encoding="utf-8")
    return {
        name: Attribute(**words | {"options": tuple(words.get("options", ()))})
        for name, words in yaml.safe_load(text).items()
    }


# Attribute -> how it continues "someone ...", in this order. Other attributes read "whose ATTRIBUTE is VALUE".
_PHRASES = {
    "country": "from {}",
    "state": "living in {}",
    "region": "living in the region {}",
    "age": "aged {}",
    "sex": "who is {}",
    "race": "who is {}",
    "citizen": "whose answer to being a citizen is {}",
    "religion": "whose religion is {}",
    "religious_attendance": "whose attendance of religious services is: {}",
    "education": "whose level of education is {}",
    "degree": "whose highest degree is {}",
    "party": "who identifies as {}",
    "ideology": "who is politically {}",
    "year": "asked in {}",
}
_PHRASES_ZH = {"country": "来自{}", "region": "住在{}", "age": "年龄为{}", "sex": "性别为{}", "year": "在{}年受访"}


def someone(group: Group) -> str:
    """E.g. "someone from Kenya, aged 18-29, asked in 2014"; "someone" for an empty group."""
    known, others = _phrases(group, _PHRASES)
    return "someone" + " " * bool(group) + ", ".join(known + [f"whose {a.replace('_', ' ')} is {v}" for a, v in others])


def someone_zh(group: Group) -> str:
    """The same in Chinese, e.g. "来自Kenya、年龄为18-29的人"; values stay as the table has them."""
    if not group:
        return "一个人"
    known, others = _phrases(group, _PHRASES_ZH)
    return "、".join(known + [f"{a.replace('_', ' ')}为{v}" for a, v in others]) + "的人"


@functools.cache
def _words() -> dict[str, dict[str, Any]]:
    """Language -> its words, from `data/persona_words.yaml`."""
    read: dict[str, dict[str, Any]] = yaml.safe_load(
        (resources.files("survey_jax") / "data" / "persona_words.yaml").read_text(encoding="utf-8")
    )
    return read


LANGUAGES = frozenset(_words())  # of `someone_in`


def someone_in(language: str, group: Group) -> str:
    """The same in one of LANGUAGES, e.g. "jemand (Land: Kenia, Alter: 18-29)".

    Countries have their names in that language, as ISO 3166 is translated; other values stay as the table has them.
    """
    words = _words()[language]
    if not group:
        return str(words["someone"])
    values = dict(group)
    if "country" in values:
        values["country"] = countries.in_language(values["country"], language)
    labels = words["labels"]
    order = [*(a for a in labels if a in values), *(a for a in values if a not in labels)]
    said = [f"{labels.get(a, a.replace('_', ' '))}: {values[a]}" for a in order]
    return f"{words['someone']} ({words.get('comma', ', ').join(said)})"


def _phrases(group: Group, phrases: dict[str, str]) -> tuple[list[str], list[tuple[str, str]]]:
    """The phrases of the attributes that have one, in the order of `phrases`, and the other attributes."""
    values = dict(group)
    known = [phrases[a].format(values.pop(a)) for a in phrases if a in values]
    return known, list(values.items())


def qa(group: Group) -> str:
    """Questions about the group with its answers, and a line that leads to the next question."""
    if not group:
        return ""
    blocks = []
    for attribute, word in _said(group):
        letters = dict(zip(attribute.options, string.ascii_uppercase, strict=False))
        lines = [f"Question: {attribute.question}", *(f"{x}. {option}" for option, x in letters.items())]
        answer = f"{letters[word]}. {word}" if word in letters else word
        blocks.append("\n".join(lines if word in letters else lines[:1]) + f"\n\nAnswer: {answer}\n\n")
    return "".join(blocks) + "Answer the following question keeping in mind your previous answers.\n"


def bio(group: Group) -> str:
    """A request to describe oneself, and the description."""
    if not group:
        return ""
    topics = " and ".join(attribute.topic for attribute, _ in _said(group))
    sentences = " ".join(attribute.bio.format(word) + "." for attribute, word in _said(group))
    request = f"Below you will be asked to provide a short description of {topics} and then answer some questions."
    return f"{request}\nDescription: {sentences}\n\n"


def portray(group: Group) -> str:
    """An instruction to answer as a member of the group would."""
    if not group:
        return ""
    clauses = " and ".join(attribute.portray.format(word) for attribute, word in _said(group))
    return f"Answer the following question as if {clauses}.\n\n"


def _said(group: Group) -> list[tuple[Attribute, str]]:
    """SubPOP's wording (or plain words like it) of the attributes that its three ways mention, and of their values."""
    said = []
    for name, value in [pair for pair in group if pair != _HOME] or group:
        plain = name.replace("_", " ")
        form = plain.replace("{", "{{").replace("}", "}}")
        own = Attribute(f"What is your {plain}?", (), f"your {plain}", f"My {form} is {{}}", f"your {form} were {{}}")
        attribute = subpop_attributes().get(name, own)
        said.append((attribute, attribute.values.get(value, value)))
    return said
