"""Prompts: the text of the templates, chat formats, the letter-token contract, and over-long rows."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from survey_jax.errors import UserError
from survey_jax.model.gguf import GGUF
from survey_jax.model.gguf_tokenizer import gguf_tokenizer
from survey_jax.prompts import LETTERS, TEMPLATES, Prompter, describe_group
from survey_jax.survey.table import Answer

KENYA = (("country", "Kenya"),)
CHAT = "{{ '<s>' }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{{ '[assistant]\\n' }}"


def answer(options=("Yes", "No"), group=KENYA, question="Is tea good?", question_id="q") -> Answer:
    return Answer("S", question_id, question, tuple(options), tuple(group), (1 / len(options),) * len(options))


def byte_tokenizer(merges=(), without="", chat=None, name="tiny-bytes") -> PreTrainedTokenizerFast:
    """A token per byte, plus `merges`; characters of `without` are unknown. Puts <s> before a text."""
    symbols = [s for s in sorted(pre_tokenizers.ByteLevel.alphabet()) if s not in without]
    vocab = {s: i for i, s in enumerate(["<s>", "<unk>", *symbols, *("".join(m) for m in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=list(merges), unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocab["<s>"])])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>", chat_template=chat)
    fast.name_or_path = name
    return fast


# --- text


def test_paper_template_is_the_published_text():
    text = Prompter(byte_tokenizer(), "paper").text(answer(question="{Q}"))
    assert text == (
        "How would someone from Kenya answer the following question:\n\n{Q} \nHere are the options: \n(A)Yes, (B)No "
        "If had to select one of the options, my answer would be ("
    )


def test_question_first_asks_for_the_group_last():
    prompter = Prompter(byte_tokenizer(), "question_first")
    common = "Is tea good?\n(A) Yes\n(B) No\nIf someone "
    end = " had to select one of the options, their answer would be ("
    assert prompter.text(answer()) == f"{common}from Kenya{end}"
    assert prompter.text(answer(), group=(("country", "Peru"),)) == f"{common}from Peru{end}"


def test_groups_in_words():
    # Known attributes in the order of speech, whatever their order in the file; others as they are called.
    assert describe_group((("year", "2014"), ("age", "18-29"), ("country", "Kenya"))) == (
        "someone from Kenya, aged 18-29, asked in 2014"
    )
    assert describe_group((("home_language", "Twi"), ("sex", "female"))) == (
        "someone who is female, whose home language is Twi"
    )


@pytest.mark.parametrize("template", TEMPLATES)
def test_braces_in_the_data_are_only_text(template):
    row = answer(("{letter}", "{0}"), (("country", "{question}"), ("b{}", "{")), "{group} {} }{ {options!r}")
    text = Prompter(byte_tokenizer(), template).text(row)
    for part in [*row.options, row.question, "from {question}", "whose b{} is {"]:
        assert part in text


# --- chat


def test_chat_is_the_tokenizers_own_format_with_the_stem_begun():
    tokenizer = byte_tokenizer(chat=CHAT)
    prompter = Prompter(tokenizer, "question_first", chat=True)
    text = prompter.text(answer())
    assert text == (
        "<s>[user]Is tea good?\n(A) Yes\n(B) No[assistant]\n"
        "If someone from Kenya had to select one of the options, their answer would be ("
    )
    [prompt] = prompter.encode([answer()], max_tokens=1000)
    assert prompt.tokens.tolist().count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(prompt.tokens) == text


def test_without_chat_the_tokenizer_adds_its_own_beginning():
    tokenizer = byte_tokenizer()
    [prompt] = (prompter := Prompter(tokenizer, "paper")).encode([answer()], max_tokens=1000)
    assert tokenizer.decode(prompt.tokens) == "<s>" + prompter.text(answer())


def test_chat_and_template_that_do_not_exist():
    with pytest.raises(UserError, match=r"data\.chat: this tokenizer has no chat template"):
        Prompter(byte_tokenizer(), "paper", chat=True)
    with pytest.raises(UserError, match=r"data\.template: 'papers' is unknown; choose from paper, question_first"):
        Prompter(byte_tokenizer(), "papers")


# --- the letter-token contract


def check_contract(tokenizer, template, chat=False):
    """All 26 letters, one text and one letter at a time."""
    prompter = Prompter(tokenizer, template, chat)
    rows = [answer(question_id=str(i), group=(("country", c),)) for i, c in enumerate(["Kenya", "New Zealand", "日本"])]
    found = prompter.letters([prompter.text(row) for row in rows], 26)
    for row in rows:
        [prompt] = prompter.encode([row], max_tokens=1000)
        for letter, token in zip(LETTERS, found, strict=True):
            extended = tokenizer(prompter.text(row) + letter, add_special_tokens=not chat)["input_ids"]
            assert extended == [*prompt.tokens, token]
    assert len(set(found.tolist())) == 26


@pytest.mark.parametrize("template", TEMPLATES)
def test_contract_holds_for_bytes(template):
    check_contract(byte_tokenizer(), template)
    check_contract(byte_tokenizer(chat=CHAT), template, chat=True)


@pytest.mark.real_weights
@pytest.mark.parametrize("template", TEMPLATES)
def test_contract_holds_for_smollm2(smollm2_gguf, template):
    tokenizer = gguf_tokenizer(GGUF(smollm2_gguf))
    check_contract(tokenizer, template)
    check_contract(tokenizer, template, chat=True)


@pytest.fixture(scope="module")
def gemma3_tokenizer(gemma3_gguf):
    return gguf_tokenizer(GGUF(gemma3_gguf))


@pytest.mark.real_weights
@pytest.mark.parametrize("template", TEMPLATES)
def test_contract_holds_for_gemma3(gemma3_tokenizer, template):
    check_contract(gemma3_tokenizer, template)


@pytest.mark.parametrize("template", TEMPLATES)
def test_letter_that_merges_with_the_stem_is_refused(template):
    prompter = Prompter(byte_tokenizer(merges=[("(", "B")]), template)
    with pytest.raises(UserError) as error:
        prompter.encode([answer()], max_tokens=1000)
    message = str(error.value)
    assert f"tokenizer tiny-bytes, template '{template}': letter B is not one token of its own" in message
    assert "(B" in message
    assert "\n" not in message


def test_letter_that_recuts_the_prompt_is_refused():
    # " (" is a token until an A takes the bracket: one token more, but the prompt's own last token has changed.
    tokenizer = byte_tokenizer(merges=[("(", "A"), ("Ġ", "(")])
    with pytest.raises(UserError, match="letter A is not one token of its own"):
        Prompter(tokenizer, "paper").encode([answer()], max_tokens=1000)


def test_letter_of_two_tokens_is_refused_where_it_is_used():
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("C", "cc")
    prompter = Prompter(tokenizer, "paper")
    assert len(prompter.encode([answer("xy")], max_tokens=1000)) == 1
    with pytest.raises(UserError, match="letter C is not one token of its own"):
        prompter.encode([answer("xyz")], max_tokens=1000)


def test_letters_with_one_token_between_them_are_refused():
    prompter = Prompter(byte_tokenizer(without="BD"), "question_first")
    assert len(prompter.encode([answer("xyz")], max_tokens=1000)) == 1  # A, B, C: one unknown letter is told apart
    with pytest.raises(UserError, match=r"tokenizer tiny-bytes, .*: letter D shares its token with B"):
        prompter.encode([answer("vwxyz")], max_tokens=1000)


def test_more_options_than_letters_are_refused():
    prompter = Prompter(byte_tokenizer(), "paper")
    with pytest.raises(UserError, match="27 options: at most 26"):
        prompter.letters([prompter.text(answer())], 27)
    with pytest.raises(UserError, match="27 options: at most 26"):
        prompter.encode([answer([str(i) for i in range(27)])], max_tokens=1000)


# --- long prompts


def test_long_prompts_stop_or_are_counted(capsys):
    rows = [answer(question_id=f"q{n}", question="x" * n) for n in (1, 50, 2, 60)]
    prompter = Prompter(byte_tokenizer(), "question_first")
    lengths = [1 + len(prompter.text(row)) for row in rows]  # a byte a token, and <s>
    assert [len(p.tokens) for p in prompter.encode(rows, max(lengths))] == lengths
    with pytest.raises(UserError) as error:
        prompter.encode(rows, max_tokens=lengths[2])
    assert f"S / q50 / country=Kenya: the prompt has {lengths[1]} tokens, over the {lengths[2]}" in str(error.value)
    assert "2 such rows" in str(error.value)
    capsys.readouterr()
    kept = prompter.encode(rows, max_tokens=lengths[2], drop_long=True)
    assert [p.answer.question_id for p in kept] == ["q1", "q2"]
    assert "left out 2 of 4 rows" in capsys.readouterr().out
    assert all(p.tokens.dtype == np.int32 for p in kept)
