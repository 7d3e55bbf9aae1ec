"""Turns survey rows into prompts: templates, languages, chat formats, and the letter-token contract."""

import copy
import dataclasses
import functools
import hashlib
import re
import string
import zlib
from collections.abc import Callable, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from survey_jax.common.console import say
from survey_jax.common.errors import UserError
from survey_jax.config import DataConfig
from survey_jax.inputs import personas
from survey_jax.inputs.chat import Chat
from survey_jax.inputs.token_cache import LazyTokenizer, TokenCache, Tokens
from survey_jax.survey.table import MAX_OPTIONS, Answer, Group

if TYPE_CHECKING:
    import transformers

LETTERS = string.ascii_uppercase
Prior = Callable[[Sequence[Answer]], Sequence[np.ndarray]]  # rows -> shares over the options of each
Told = Callable[[Answer], Sequence[Answer]]  # row -> other answers of its group to tell in its prompt
_CONTEXT = 48  # characters before a letter that may affect how it is tokenised
# A made-up question with all letters, in scripts that tokenizers split differently.
_EXAMPLE = Answer(
    survey="",
    question_id="",
    question="How much do you trust the 1,250 people of Größe, Москва, القاهرة, दिल्ली, 北京 and 서울?",
    options=tuple(f"Option {letter}" for letter in LETTERS),
    group=(("country", "Côte d'Ivoire"),),
    probs=(1 / len(LETTERS),) * len(LETTERS),
)


@dataclasses.dataclass(frozen=True)
class Template:
    """How a question becomes text.

    Attributes:
      body: the question, with {group}, {question}, {options} and {choices}; the user's turn in a chat.
      stem: the start of the answer, ending right before the letter (or before its `lead`); may hold {group}.
      option: one option, with {letter} and {text}.
      separator: between options.
      choice: one of {choices}, with {letter}; choices are joined by commas.
      lead: text between stem and letter, in one token with the letter.
      describe: puts the group into words; a function of `personas`.
      told: a line before what the group has answered to other questions, with {group}; "": there is no place for that.
    """

    body: str
    stem: str
    option: str = "({letter}) {text}"
    separator: str = "\n"
    choice: str = "{letter}."
    lead: str = ""
    describe: Callable[[Group], str] = personas.someone
    told: str = ""


def _read(language: str, words: dict[str, str]) -> Template:
    describe: Any = personas.someone
    if "describe" in words:
        describe = getattr(personas, words["describe"])
    elif language in personas.LANGUAGES:
        describe = functools.partial(personas.someone_in, language)
    return Template(**words | {"describe": describe})


_TABLE = yaml.safe_load((resources.files("survey_jax") / "data" / "templates.yaml").read_text(encoding="utf-8"))
# Template -> language of its own words -> text.
TEMPLATES: dict[str, dict[str, Template]] = {
    name: {language: _read(language, words) for language, words in languages.items()}
    for name, languages in _TABLE.items()
}


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A row, tokenised up to and including the last token before the letter.

    Attributes:
      tokens: int32 [t].
      order: the index of the row's option at each letter.
      prior: shares of the row's options that its prediction starts from; None: from nothing.
    """

    answer: Answer
    tokens: np.ndarray
    order: tuple[int, ...]
    prior: np.ndarray | None = None

    @property
    def target(self) -> list[float]:
        """The row's distribution, in the order of letters."""
        return [self.answer.probs[option] for option in self.order]


def _language(answer: Answer) -> str:
    return re.split("[-_]", answer.language or "en")[0].lower()


def who(answer: Answer) -> str:
    """What prompts of the default template call a row's group; in English where it does not have the row's language."""
    languages = TEMPLATES[DataConfig().template]
    return languages.get(_language(answer), languages["en"]).describe(answer.group)


def in_words(answer: Answer) -> str:
    """What people answered, as in "Do you smoke? Yes 21%, No 79%"; without options that nearly nobody chose."""
    shares = ((option, round(100 * share)) for option, share in zip(answer.options, answer.probs, strict=True))
    return f"{answer.question} " + ", ".join(f"{option} {percent}%" for option, percent in shares if percent)


def with_prior(prompts: Sequence[Prompt], prior: Prior | None) -> list[Prompt]:
    """The prompts, starting from what a prior says of their rows; as they are without one."""
    if prior is None or not prompts:
        return list(prompts)
    shares = prior([p.answer for p in prompts])
    return [dataclasses.replace(p, prior=own) for p, own in zip(prompts, shares, strict=True)]


def limited(prompts: Sequence[Prompt], max_tokens: int, drop_long: bool) -> list[Prompt]:
    """The prompts of at most `max_tokens` tokens.

    Args:
      drop_long: leave out longer prompts and print how many, instead of raising an error.

    Raises:
      UserError: a prompt is too long; names the row.
    """
    long = [p for p in prompts if len(p.tokens) > max_tokens]
    if long and not drop_long:
        raise UserError(
            f"{long[0].answer.describe()}: the prompt has {len(long[0].tokens)} tokens, over the {max_tokens} of "
            f"batch.seq_len ({len(long)} such rows); raise it (eval: --seq_len), or set data.drop_long "
            "(eval: --drop_long) to leave them out"
        )
    if long:
        say(f"left out {len(long)} of {len(prompts)} rows: prompts over {max_tokens} tokens")
    return [p for p in prompts if len(p.tokens) <= max_tokens]


class Prompter:
    """Makes prompts with a tokenizer and a template, and checks the letter-token contract.

    Args:
      template: a key of TEMPLATES.
      chat: make the body a user's turn by the tokenizer's chat template, and start the reply with the stem.
      language: of the template's own words ("zh"); "": that of each row, English if it has none.
      order: of the options: "listed", "reversed" or "shuffled", which draws one for each question from the seed.
      cache: of prompts' tokens; the tokenizer is not used for prompts that are in it.

    Raises:
      UserError: unknown template; a language that the template does not have; chat without a usable chat template.
    """

    def __init__(
        self,
        tokenizer: "transformers.PreTrainedTokenizerBase | LazyTokenizer",
        template: str,
        chat: Chat | None = None,
        *,
        language: str = "",
        order: str = "listed",
        seed: int = 0,
        cache: TokenCache | None = None,
    ):
        if template not in TEMPLATES:
            raise UserError(f"data.template: {template!r} is unknown; choose from {', '.join(TEMPLATES)}")
        if language and language not in TEMPLATES[template]:
            raise UserError(f"data.language: {template!r} has no {language!r}, only {', '.join(TEMPLATES[template])}")
        if chat is not None:
            chat.check(tokenizer)
        self.tokenizer, self.name, self.chat, self._cache = tokenizer, template, chat, cache
        self.language, self.order, self.seed = language, order, seed
        self._told: Told | None = None
        self.lead = next(iter(TEMPLATES[template].values())).lead

    def telling(self, told: Told | None) -> "Prompter":
        """The same prompter, which tells in each prompt what the row's group has answered to other questions.

        Raises UserError for a template that has no place for that.
        """
        if told and not all(t.told for t in TEMPLATES[self.name].values()):
            able = ", ".join(name for name, words in TEMPLATES.items() if all(t.told for t in words.values()))
            raise UserError(f"data.known_answers: {self.name!r} has no place for a group's answers; choose from {able}")
        new = copy.copy(self)
        new._told = told
        return new

    def text(self, answer: Answer) -> str:
        """The prompt as text."""
        t = self._template(answer)
        shown = [(x, answer.options[i]) for x, i in zip(LETTERS, self.option_order(answer), strict=False)]
        parts = {
            "group": t.describe(answer.group),
            "question": answer.question,
            "options": t.separator.join(t.option.format(letter=letter, text=text) for letter, text in shown),
            "choices": ",".join(t.choice.format(letter=letter) for letter, _ in shown),
        }
        body, stem = t.body.format(**parts), t.stem.format(**parts)
        if told := self._told(answer) if self._told else ():
            body += "\n".join([t.told.format(**parts), *map(in_words, told)])
        if self.chat is None:
            return body + stem
        return self.chat.user_turn(self.tokenizer, body) + stem.lstrip()

    def option_order(self, answer: Answer) -> tuple[int, ...]:
        """The index of the row's option at each letter; the same for all groups of a question."""
        indices = range(len(answer.options))
        if self.order == "reversed":
            return tuple(reversed(indices))
        if self.order == "shuffled":
            key = zlib.crc32("\0".join([*answer.question_key, *answer.options]).encode())
            return tuple(np.random.default_rng([self.seed, key]).permutation(len(indices)).tolist())
        return tuple(indices)

    def words(self, answer: Answer) -> str:
        """The language of the template's own words for a row."""
        return self.language or _language(answer)

    def _template(self, answer: Answer) -> Template:
        languages, language = TEMPLATES[self.name], self.words(answer)
        if language not in languages:
            raise UserError(
                f"{answer.describe()}: language {answer.language!r}, but the template {self.name!r} has only "
                f"{', '.join(languages)}; set data.language to one of them"
            )
        return languages[language]

    def tokenise(self, answers: Sequence[Answer], options: int = 0) -> tuple[list[Prompt], np.ndarray]:
        """Prompts of any length, and the token id of each letter: int32 [K].

        Args:
          answers: at least one.
          options: K, the number of letters, unless a row has more options.

        Raises:
          UserError: a letter breaks the contract; a token is none of the model's.
        """
        texts = [self.text(a) for a in answers]
        count = max(options, *(len(a.options) for a in answers))

        def make() -> Tokens:
            letters = self.letters(texts, count)
            return Tokens([np.array(ids, np.int32) for ids in self._ids(texts)], letters)

        settings = [self.lead, f"chat {self.chat is not None}", f"{count} letters"]
        ids, letters = self._cache.get(settings, texts, make) if self._cache else make()
        self._check_known(np.concatenate([*ids, letters]))
        prompts = [Prompt(a, tokens, self.option_order(a)) for a, tokens in zip(answers, ids, strict=True)]
        return prompts, letters

    def fingerprint(self) -> str:
        """Hash of the tokens of a made-up prompt, with each letter behind it.

        Another one means that tokenizer or chat template have changed, and that the same rows become other prompts.
        """
        prompt = self.text(_EXAMPLE)
        texts = [prompt + self.lead + letter for letter in LETTERS]

        def make() -> Tokens:
            return Tokens([np.array(ids, np.int32) for ids in self._ids(texts)], np.zeros(0, np.int32))

        settings = ["fingerprint", f"chat {self.chat is not None}"]
        tokens = self._cache.get(settings, texts, make) if self._cache else make()
        return hashlib.sha256(repr([ids.tolist() for ids in tokens.ids]).encode()).hexdigest()[:16]

    def letters(self, texts: Sequence[str], count: int) -> np.ndarray:
        """Token id of each letter (with its lead) in its context, int32 [count].

        Checks the letter-token contract on every distinct ending of the texts: adding a letter adds exactly one token
        and does not change the prompt's own tokens; the tokens of letters differ, and are the same for all prompts.

        Raises:
          UserError: names tokenizer, template and letter.
        """
        if count > MAX_OPTIONS:
            raise UserError(f"{count} options: at most {MAX_OPTIONS} can have a letter")
        found: list[int] | None = None
        for text in {t[-_CONTEXT:]: t for t in texts}.values():
            plain, *extended = self._ids([text, *(text + self.lead + letter for letter in LETTERS[:count])])
            for letter, ids in zip(LETTERS, extended, strict=False):
                if ids[:-1] != plain:
                    shown = self.tokenizer.convert_ids_to_tokens(ids[len(plain) - 1 :])
                    self._breach(letter, f"is not one token of its own after the stem (tokens end {shown})")
            ids = [extended_ids[-1] for extended_ids in extended]
            if len(set(ids)) < len(ids):
                second = next(i for i, token in enumerate(ids) if token in ids[:i])
                self._breach(LETTERS[second], f"shares its token with {LETTERS[ids.index(ids[second])]}")
            if found is not None and ids != found:
                self._breach(
                    LETTERS[[a == b for a, b in zip(ids, found, strict=True)].index(False)], "varies by prompt"
                )
            found = ids
        return np.array(found, np.int32)

    def _check_known(self, ids: np.ndarray) -> None:
        """UserError for a token id beyond the model's embeddings, in place of which jax would look up another one's."""
        known = self.tokenizer.model_vocabulary if isinstance(self.tokenizer, LazyTokenizer) else None
        beyond = ids[ids >= known] if known is not None else ids[:0]
        if beyond.size:
            token = self.tokenizer.convert_ids_to_tokens([int(beyond[0])])[0]
            raise UserError(
                f"tokenizer {self.tokenizer.name_or_path}: token {token!r} has id {beyond[0]}, and the model has only "
                f"{known} embeddings ({len(np.unique(beyond))} such tokens in prompts); use the tokenizer of this model"
            )

    def _breach(self, letter: str, what: str) -> None:
        name = self.tokenizer.name_or_path or type(self.tokenizer).__name__
        raise UserError(
            f"letter-token contract: tokenizer {name}, template {self.name!r}: letter {letter} {what}; "
            "use another template"
        )

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        # A chat template adds special tokens itself, including beginning-of-sequence.
        return self.tokenizer(list(texts), add_special_tokens=self.chat is None)["input_ids"]
