"""Survey rows to prompts: templates, group descriptions, chat formats, and the letter-token contract."""

import dataclasses
import string
from collections.abc import Sequence

import numpy as np
import transformers

from survey_jax.errors import UserError
from survey_jax.survey.table import MAX_OPTIONS, Answer, Group

LETTERS = string.ascii_uppercase
_CONTEXT = 48  # characters before the letter that can matter to how a tokenizer splits it off


@dataclasses.dataclass(frozen=True)
class Template:
    """How a question becomes text.

    Attributes:
      body: the question, with {group}, {question} and {options}; the user's turn in a chat.
      stem: the start of the answer, ending right before the letter; may hold {group}.
      option: one option, with {letter} and {text}.
      separator: between options.
    """

    body: str
    stem: str
    option: str = "({letter}) {text}"
    separator: str = "\n"


TEMPLATES = {
    # Cao et al. 2025, section 3.1, as their published code writes it: the group first, so prompts share little.
    "paper": Template(
        body="How would {group} answer the following question:\n\n{question} \nHere are the options: \n{options}",
        stem=" If had to select one of the options, my answer would be (",
        option="({letter}){text}",
        separator=", ",
    ),
    # The group last: all groups of a question share everything up to the stem.
    "question_first": Template(
        body="{question}\n{options}",
        stem="\nIf {group} had to select one of the options, their answer would be (",
    ),
}

# Attribute -> how it continues "someone ...". Others read "whose ATTRIBUTE is VALUE".
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


def describe_group(group: Group) -> str:
    """A group in words, e.g. "someone from Kenya, aged 18-29, asked in 2014"."""
    values = dict(group)
    known = [_PHRASES[a].format(values.pop(a)) for a in _PHRASES if a in values]
    return "someone " + ", ".join(known + [f"whose {a.replace('_', ' ')} is {v}" for a, v in values.items()])


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A row, tokenised up to and including the last token before the letter. tokens: int32 [t]."""

    answer: Answer
    tokens: np.ndarray


class Prompter:
    """A tokenizer and a template that keep the letter-token contract.

    Args:
      tokenizer: any Hugging Face tokenizer.
      template: a key of TEMPLATES.
      chat: wrap the body as a user's turn by the tokenizer's own chat template, and start the reply with the stem.

    Raises:
      UserError: unknown template; chat without a chat template.
    """

    def __init__(self, tokenizer: transformers.PreTrainedTokenizerBase, template: str, chat: bool = False):
        if template not in TEMPLATES:
            raise UserError(f"data.template: {template!r} is unknown; choose from {', '.join(TEMPLATES)}")
        if chat and not tokenizer.chat_template:
            raise UserError("data.chat: this tokenizer has no chat template; set it to False or use an instruct model")
        self.tokenizer, self.name, self.template, self.chat = tokenizer, template, TEMPLATES[template], chat

    def text(self, answer: Answer, group: Group | None = None) -> str:
        """The prompt as text; `group` asks another group the same question."""
        t = self.template
        options = t.separator.join(
            t.option.format(letter=letter, text=text) for letter, text in zip(LETTERS, answer.options, strict=False)
        )
        who = describe_group(group or answer.group)
        body = t.body.format(group=who, question=answer.question, options=options)
        stem = t.stem.format(group=who)
        if not self.chat:
            return body + stem
        turn = [{"role": "user", "content": body}]
        start = self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        return str(start) + stem.lstrip()

    def encode(self, answers: Sequence[Answer], max_tokens: int, drop_long: bool = False) -> list[Prompt]:
        """Tokenises rows.

        Args:
          max_tokens: the longest prompt allowed.
          drop_long: leave longer ones out, and say how many, instead of stopping.

        Raises:
          UserError: a prompt is too long (names the row), or a letter breaks the contract.
        """
        if not answers:
            return []
        texts = [self.text(a) for a in answers]
        self.letters(texts, max(len(a.options) for a in answers))
        prompts = [
            Prompt(answer, np.array(ids, np.int32)) for answer, ids in zip(answers, self._ids(texts), strict=True)
        ]
        long = [p for p in prompts if len(p.tokens) > max_tokens]
        if long and not drop_long:
            raise UserError(
                f"{long[0].answer.describe()}: the prompt has {len(long[0].tokens)} tokens, over the {max_tokens} of "
                f"batch.row_tokens ({len(long)} such rows); raise it, or set data.drop_long to leave them out"
            )
        if long:
            print(f"left out {len(long)} of {len(prompts)} rows: prompts over {max_tokens} tokens", flush=True)
        return [p for p in prompts if len(p.tokens) <= max_tokens]

    def letters(self, texts: Sequence[str], count: int) -> np.ndarray:
        """Token id of each letter in its context, int32 [count].

        Checks the letter-token contract on every distinct ending of the texts: adding the letter adds exactly one token
        and leaves the prompt's own tokens alone, and letters' tokens differ, everywhere the same.

        Raises:
          UserError: naming tokenizer, template and letter.
        """
        if count > MAX_OPTIONS:
            raise UserError(f"{count} options: at most {MAX_OPTIONS} can have a letter")
        found: list[int] | None = None
        for text in {t[-_CONTEXT:]: t for t in texts}.values():
            plain, *extended = self._ids([text, *(text + letter for letter in LETTERS[:count])])
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

    def _breach(self, letter: str, what: str) -> None:
        name = self.tokenizer.name_or_path or type(self.tokenizer).__name__
        raise UserError(
            f"letter-token contract: tokenizer {name}, template {self.name!r}: letter {letter} {what}; "
            "use another template"
        )

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        # A chat template writes its own special tokens, beginning-of-sequence included.
        return self.tokenizer(list(texts), add_special_tokens=not self.chat)["input_ids"]
