"""What a label says, in any of many languages: no answer, not asked, or what a column is about.

The words are in data/survey_words.yaml. A label says so as a whole ("No sabe / No contesta", "Don't know
(spontaneous)", "INAP: not 1 in Q3"), never for a word in it: "Refuse to pay" and "No religion" are answers.
"""

import enum
import functools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from importlib import resources
from typing import NamedTuple

import yaml

DESIGN = ("identifier", "wave", "year", "stratum", "cluster", "interviewer", "interview")  # of the survey, not asked
ATTRIBUTES = ("country", "region", "sex", "age", "education", "race", "income", "religion", "party")

_BRACKETS = re.compile(r"\([^()]*\)|\[[^][]*\]|（[^（）]*）|【[^【】]*】|<[^<>]*>")
_EXPLAINED = re.compile(r"[:;：；]|,(?=\s)|\s[-–—]+\s")  # what follows explains: "INAP: not 1 in Q3"
_UNSPACED = re.compile(r"([\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")  # Thai, Lao, Japanese, Chinese
_SAME = str.maketrans("ıøłđßىةکیہھے", "iolds" + "يهكيههي")  # letters that are one where accents do not matter
_LONGEST = 12  # tokens of a phrase
_LONGEST_LABEL = 200  # characters; a longer one is an answer


class Says(enum.Enum):
    """What a label says of its code. APART: so where the code stands apart from a scale, else perhaps an answer."""

    NO_ANSWER = "no_answer"
    NOT_ASKED = "not_asked"
    NO_ANSWER_APART = "no_answer_apart"
    NOT_ASKED_APART = "not_asked_apart"
    DOUBTFUL = "doubtful"
    ANSWER = "answer"


_NOT_ASKED = {Says.NOT_ASKED.value, Says.NOT_ASKED_APART.value}
_SAYING = {kind.value for kind in Says} - {Says.ANSWER.value}


class _Words(NamedTuple):
    """Keys of the list ("no_answer", "sex", ...) and languages by phrase: as spaced in the list, and without spaces.

    Short phrases are not among the latter: "no sé" is no "nose".
    """

    spaced: dict[str, set[str]]
    squeezed: dict[str, set[str]]
    languages: dict[str, set[str]]

    def keys(self, part: Sequence[str]) -> set[str]:
        """The keys under which a phrase stands, given as its tokens."""
        return self.spaced.get(" ".join(part), set()) | self.squeezed.get("".join(part), set())


@functools.cache
def _words() -> _Words:
    text = (resources.files("survey_jax") / "data" / "survey_words.yaml").read_text(encoding="utf-8")
    found = _Words(defaultdict(set), defaultdict(set), defaultdict(set))
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # the fast one, if there is one; "no" and "y" are words here
    for language, section in yaml.load(text, Loader=loader).items():
        for key, phrases in section.items():
            for phrase in phrases:
                spaced = " ".join(tokens(phrase))
                found.spaced[spaced].add(key)
                if len(spaced) > 6 or " " not in phrase or not spaced.isascii():
                    found.squeezed[spaced.replace(" ", "")].add(key)
                if key in (Says.NO_ANSWER.value, Says.NOT_ASKED.value, *ATTRIBUTES):
                    found.languages[spaced].add(language)
    return found


@functools.cache
def tokens(text: str) -> tuple[str, ...]:
    """The words of a text, and the characters of scripts without spaces, as they are compared: no case, no accents.

    >>> tokens("Ne sait PAS/sans réponse")
    ('ne', 'sait', 'pas', 'sans', 'reponse')
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    plain = unicodedata.normalize("NFC", plain.translate(_SAME)).casefold()
    plain = "".join(c for c in plain if c not in "'’´`ʼ\u200c\u200d\u0640")
    kept = "".join(c if c.isalnum() or unicodedata.category(c).startswith("M") else " " for c in plain)
    return tuple(_UNSPACED.sub(r" \1 ", kept).split())


@functools.cache
def says(label: str) -> Says | None:
    """What a label says of its code; None where it says nothing known, as most answers do."""
    if len(label) > _LONGEST_LABEL:
        return None
    bare = _BRACKETS.sub(" ", label)
    for head in (label, bare, _EXPLAINED.split(bare.strip(), maxsplit=1)[0]):
        if found := _tiled(tokens(head)):
            return next(kind for kind in Says if kind.value in found)
    if any(_telling(part) for part in _parts(tokens(bare))):
        return Says.DOUBTFUL
    return Says.ANSWER if _begins_answer(tokens(bare)) else None


def without_brackets(text: str) -> str:
    """A label without what stands in brackets."""
    return _BRACKETS.sub(" ", text)


def is_yes_or_no(label: str) -> bool:
    """Whether a whole label is "yes" or "no"."""
    return "yes_no" in _words().keys(tokens(without_brackets(label)))


def has_phrase(text: str, phrases: Collection[tuple[str, ...]]) -> bool:
    """Whether one of the phrases, given as tokens, stands in a name or label."""
    return any(part in phrases for found in (tokens(text), _name_tokens(text)) for part in _parts(found))


def says_not_asked(label: str) -> bool:
    """Whether the label of a code that is known to be missing says that nobody asked: so too as a part of it."""
    if says(label) in (Says.NO_ANSWER, Says.NO_ANSWER_APART):
        return False
    return any(_words().keys(part) & _NOT_ASKED for part in _parts(tokens(label)))


def is_abbreviation(label: str) -> bool:
    """Whether a label is as short as "NC", which may be "no contesta" or North Carolina."""
    return label.isascii() and len("".join(tokens(label))) <= 3


@functools.cache
def about(name: str, label: str | None) -> tuple[frozenset[str], frozenset[str]]:
    """What a column is called, of "weight", DESIGN and ATTRIBUTES: by its whole name or label; by a part of either."""
    whole: set[str] = set()
    part: set[str] = set()
    for text, beside in ((_name_tokens(name), "in_names"), (tokens(label or ""), "in_labels")):
        for start, end in spans(len(text)):
            for what in _words().keys(text[start:end]) & {"weight", *DESIGN, *ATTRIBUTES}:
                if _idle(text[:start], beside) and _idle(text[end:], beside):
                    whole.add(what)
                elif len("".join(text[start:end])) > 1:
                    part.add(what)
    return frozenset(whole), frozenset(part - whole)


def language_votes(labels: Collection[str]) -> Counter[str]:
    """Language -> how many of these labels are among its words for no answer, not asked and attributes.

    A label that several languages have says nothing.
    """
    found = (_words().languages.get(" ".join(tokens(label)), set()) for label in labels)
    return Counter(language for languages in found if len(languages) == 1 for language in languages)


def share_known(texts: Collection[str]) -> float:
    """The share of the words of these texts, of two letters or more, that stand in the list or are part of a phrase."""
    found = [token for text in texts for token in tokens(text) if len(token) > 1]
    return sum(token in _single_words() for token in found) / max(len(found), 1)


@functools.cache
def _single_words() -> frozenset[str]:
    return frozenset(token for phrase in _words().spaced for token in phrase.split() if not token.isdecimal())


def _name_tokens(name: str) -> tuple[str, ...]:
    """The words of a variable's name: F_AGECAT, ageGroup, sexo2."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])", " ", name)
    return tokens(spaced.replace("_", " "))


def spans(length: int) -> Iterator[tuple[int, int]]:
    """Where phrases may lie in as many tokens: from, and to before."""
    for start in range(length):
        for end in range(start + 1, min(length, start + _LONGEST) + 1):
            yield start, end


def _parts(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return (words[start:end] for start, end in spans(len(words)))


def _telling(part: Sequence[str]) -> bool:
    """Whether a part of a label is a phrase that hardly stands in an answer: of several words, and not short."""
    long = len("".join(part)) >= (6 if "".join(part).isascii() else 4)
    return len(part) > 1 and long and bool(_words().keys(part) & {Says.NO_ANSWER.value, Says.NOT_ASKED.value})


def _begins_answer(label: Sequence[str]) -> bool:
    """Whether a label is "No" or begins as "Other ..." does: with a word that is no short one, such as "ni"."""
    begins = (label[:end] for end in range(1, min(len(label), _LONGEST) + 1))
    answers = [b for b in begins if Says.ANSWER.value in _words().keys(b)]
    long = any(b == label or len("".join(b)) > 3 or _UNSPACED.match(b[0]) for b in answers)
    return long or "yes_no" in _words().keys(label)


def _tiled(label: Sequence[str]) -> set[str]:
    """What the phrases say of which, with numbers and what may stand around, the whole label is made; else empty."""
    reached: list[set[str] | None] = [set(), *[None] * len(label)]  # what is said up to each word; None: cannot be
    for start, end in spans(len(label)):
        so_far, part = reached[start], label[start:end]
        if so_far is None:
            continue
        keys = _words().keys(part)
        said = keys & _SAYING
        if said or "around" in keys or (len(part) == 1 and part[0].isdecimal()):
            reached[end] = (reached[end] or set()) | so_far | said
    return reached[-1] or set()


def _idle(rest: Sequence[str], beside: str) -> bool:
    """Whether the rest of a name or label says nothing: numbers, single letters, and what may stand beside."""
    keys = _words().keys
    idle = all(beside in keys([w]) or w.isdecimal() or (len(w) == 1 and w.isascii()) for w in rest)
    return idle or beside in keys(rest)
