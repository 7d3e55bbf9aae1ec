"""Prompts: the text of the templates, chat formats, the letter-token contract, and over-long rows."""

import numpy as np
import pytest
from tokenizers import normalizers

from byte_tokenizer import answer, byte_tokenizer
from made_prompts import encode
from survey_jax.common.errors import UserError
from survey_jax.inputs.chat import Chat
from survey_jax.inputs.personas import someone, subpop_attributes
from survey_jax.inputs.prompts import LETTERS, TEMPLATES, Prompter
from survey_jax.inputs.token_cache import LazyTokenizer
from survey_jax.pretrained.gguf_files import GGUF
from survey_jax.pretrained.gguf_tokenizer import gguf_tokenizer

CHAT = "{{ '<s>' }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{{ '[assistant]\\n' }}"


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
    assert prompter.text(answer(group=(("country", "Peru"),))) == f"{common}from Peru{end}"


def test_group_last_ends_with_the_group():
    text = Prompter(byte_tokenizer(), "group_last").text(answer())
    assert text == "Is tea good?\n(A) Yes\n(B) No\nAnswer given by someone from Kenya: ("
    chinese = Prompter(byte_tokenizer(), "group_last", language="zh").text(answer())
    assert chinese.endswith("\n回答者：来自Kenya的人，答案： (")


def test_groups_in_words():
    # Known attributes in the order of speech, whatever their order in the file; others as they are called.
    assert someone((("year", "2014"), ("age", "18-29"), ("country", "Kenya"))) == (
        "someone from Kenya, aged 18-29, asked in 2014"
    )
    assert someone((("home_language", "Twi"), ("sex", "female"))) == (
        "someone who is female, whose home language is Twi"
    )


@pytest.mark.parametrize("template", TEMPLATES)
def test_braces_in_the_data_are_only_text(template):
    row = answer(("{letter}", "{0}"), (("country", "{question}"), ("b{}", "{")), "{group} {} }{ {options!r}")
    text = Prompter(byte_tokenizer(), template).text(row)
    for part in [*row.options, row.question, "{question}", "b{}", "{"]:
        assert part in text


def test_subpop_qa_is_the_published_text():
    # The layout of the published prompts: an answered question about the group, then the question.
    group = (("country", "United States"), ("ideology", "Liberal"))
    row = answer(("Major reason", "Not a reason", "Refused"), group, "Is it a reason?")
    assert Prompter(byte_tokenizer(), "subpop_qa").text(row) == (
        "Question: In general, would you describe your political views as\n"
        "A. Very conservative\nB. Conservative\nC. Moderate\nD. Liberal\nE. Very liberal\n\nAnswer: D. Liberal\n\n"
        "Answer the following question keeping in mind your previous answers.\n"
        "Question: Is it a reason?\nA. Major reason\nB. Not a reason\nC. Refused\n"
        "Answer as a choice between A.,B.,C.\n\nAnswer:"
    )


def test_subpop_bio_and_portray():
    row = answer(group=(("age", "18-29"), ("country", "United States")))
    question = "Question: Is tea good?\nA. Yes\nB. No\nAnswer as a choice between A.,B.\n\nAnswer:"
    assert Prompter(byte_tokenizer(), "subpop_bio").text(row) == (
        "Below you will be asked to provide a short description of your age group and then answer some questions.\n"
        f"Description: I am in the age group 18-29.\n\n{question}"
    )
    assert Prompter(byte_tokenizer(), "subpop_portray").text(row) == (
        f"Answer the following question as if you were in the age group of 18-29.\n\n{question}"
    )
    row = answer(group=(("ideology", "Liberal"), ("country", "United States")))
    assert "your political ideology and then" in Prompter(byte_tokenizer(), "subpop_bio").text(row)
    assert "\nDescription: I would describe my" in Prompter(byte_tokenizer(), "subpop_bio").text(row)
    assert "as if your political views were Liberal." in Prompter(byte_tokenizer(), "subpop_portray").text(row)


def test_subpop_says_its_own_words_for_values_and_every_attribute_of_a_group():
    prompter = Prompter(byte_tokenizer(), "subpop_bio")
    party = (("country", "United States"), ("party", "Other"))
    assert "I consider myself a Something else." in prompter.text(answer(group=party))
    crossed = (("citizen", "No"), ("country", "Kenya"), ("home_language", "Twi"))
    text = prompter.text(answer(group=crossed))
    topics = "your current US citizenship status and the country you live in and your home language"
    assert f"description of {topics} and" in text
    assert "Description: I am a Non-US Citizen. I live in Kenya. My home language is Twi.\n" in text
    qa = Prompter(byte_tokenizer(), "subpop_qa").text(answer(group=crossed))
    assert qa.count("Answer: ") == 3
    assert "Question: What is your home language?\n\nAnswer: Twi\n" in qa


def test_subpop_names_the_home_country_where_it_is_all_there_is():
    text = Prompter(byte_tokenizer(), "subpop_portray").text(answer(group=(("country", "United States"),)))
    assert "as if you lived in United States." in text


def test_subpop_letters_stand_under_the_questions_own_options():
    for attribute in subpop_attributes().values():
        assert set(attribute.values.values()) <= set(attribute.options)


# --- languages and orders


def test_paper_template_in_chinese_is_the_published_text():
    row = answer(("是", "否"), (("country", "Andorra"),), "{问题}", language="zh")
    assert Prompter(byte_tokenizer(), "paper").text(row) == (
        "来自Andorra的人会如何回答以下问题：\n\n{问题} \n以下是选项：\n(A)是, (B)否"
        " If had to select one of the options, my answer would be ("
    )


def test_a_row_picks_the_templates_language_and_the_setting_overrides_it():
    row = answer(group=(("country", "Kenya"), ("home_language", "Twi")), language="zh-CN")
    assert "来自Kenya、home language为Twi的人" in Prompter(byte_tokenizer(), "question_first").text(row)
    assert "If someone from Kenya" in Prompter(byte_tokenizer(), "question_first", language="en").text(row)
    assert "If someone from Kenya" in Prompter(byte_tokenizer(), "question_first").text(answer(language="en_GB"))


def test_a_language_that_the_template_does_not_have_is_refused():
    with pytest.raises(UserError, match=r"S / q / country=Kenya: language 'sw', but the template 'paper' has only en"):
        Prompter(byte_tokenizer(), "paper").text(answer(language="sw"))
    with pytest.raises(UserError, match=r"data\.language: 'subpop_qa' has no 'zh', only en"):
        Prompter(byte_tokenizer(), "subpop_qa", language="zh")


def test_options_in_other_orders_keep_their_shares():
    row = answer(("a", "b", "c"), probs=(0.7, 0.2, 0.1))
    [listed] = encode(Prompter(byte_tokenizer(), "paper"), [row], 1000)
    [reverse] = encode(Prompter(byte_tokenizer(), "paper", order="reversed"), [row], 1000)
    assert (listed.order, listed.target) == ((0, 1, 2), [0.7, 0.2, 0.1])
    assert (reverse.order, reverse.target) == ((2, 1, 0), [0.1, 0.2, 0.7])
    assert "(A)c, (B)b, (C)a" in Prompter(byte_tokenizer(), "paper", order="reversed").text(row)


def test_shuffled_options_are_the_same_for_all_groups_and_differ_between_questions_and_seeds():
    options = "abcdefgh"
    prompter = Prompter(byte_tokenizer(), "paper", order="shuffled", seed=1)
    rows = [answer(options, group=(("country", c),), question_id=q) for q in ("q1", "q2") for c in ("Kenya", "Peru")]
    kenya, peru, other, _ = [p.order for p in encode(prompter, rows, 1000)]
    assert kenya == peru != other
    assert sorted(kenya) == list(range(8))
    [reseeded] = encode(Prompter(byte_tokenizer(), "paper", order="shuffled", seed=2), rows[:1], 1000)
    assert reseeded.order != kenya


@pytest.mark.parametrize("order", ["listed", "reversed", "shuffled"])
def test_twenty_six_options(order):
    row = answer([f"number {i}" for i in range(26)])
    [prompt] = encode(Prompter(byte_tokenizer(), "question_first", order=order), [row], 1000)
    text = Prompter(byte_tokenizer(), "question_first", order=order).text(row)
    for letter, option in zip(LETTERS, prompt.order, strict=True):
        assert f"({letter}) number {option}\n" in text


# --- chat


def test_chat_is_the_tokenizers_own_format_with_the_stem_begun():
    tokenizer = byte_tokenizer(chat=CHAT)
    prompter = Prompter(tokenizer, "question_first", Chat())
    text = prompter.text(answer())
    assert text == (
        "<s>[user]Is tea good?\n(A) Yes\n(B) No[assistant]\n"
        "If someone from Kenya had to select one of the options, their answer would be ("
    )
    [prompt] = encode(prompter, [answer()])
    assert prompt.tokens.tolist().count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(prompt.tokens) == text


def test_without_chat_the_tokenizer_adds_its_own_beginning():
    tokenizer = byte_tokenizer()
    [prompt] = encode(prompter := Prompter(tokenizer, "paper"), [answer()])
    assert tokenizer.decode(prompt.tokens) == "<s>" + prompter.text(answer())


def test_chat_and_template_that_do_not_exist():
    with pytest.raises(UserError, match=r"data\.chat: this tokenizer has no chat template"):
        Prompter(byte_tokenizer(), "paper", Chat())
    with pytest.raises(UserError, match=r"data\.template: 'papers' is unknown; choose from paper, question_first"):
        Prompter(byte_tokenizer(), "papers")


# --- the letter-token contract


def check_contract(tokenizer, template, chat=None):
    """All 26 letters, one text and one letter at a time, in each of the template's languages."""
    for language in TEMPLATES[template]:
        check_letters(tokenizer, Prompter(tokenizer, template, chat, language=language))


def check_letters(tokenizer, prompter):
    rows = [answer(question_id=str(i), group=(("country", c),)) for i, c in enumerate(["Kenya", "New Zealand", "日本"])]
    found = prompter.letters([prompter.text(row) for row in rows], 26)
    for row in rows:
        [prompt] = encode(prompter, [row])
        for letter, token in zip(LETTERS, found, strict=True):
            extended = tokenizer(prompter.text(row) + prompter.lead + letter, add_special_tokens=prompter.chat is None)[
                "input_ids"
            ]
            assert extended == [*prompt.tokens, token]
    assert len(set(found.tolist())) == 26


@pytest.mark.parametrize("template", TEMPLATES)
def test_contract_holds_for_bytes(template):
    merges = [("Ġ", letter) for letter in LETTERS]  # " A" is one token, as every real vocabulary has it
    check_contract(byte_tokenizer(merges), template)
    check_contract(byte_tokenizer(merges, chat=CHAT), template, Chat())


def test_a_letter_apart_from_its_space_is_refused():
    with pytest.raises(UserError, match="template 'subpop_qa': letter A is not one token of its own"):
        encode(Prompter(byte_tokenizer(), "subpop_qa"), [answer()])


@pytest.mark.real_weights
@pytest.mark.parametrize("template", TEMPLATES)
def test_contract_holds_for_smollm2(smollm2_gguf, template):
    tokenizer = gguf_tokenizer(GGUF(smollm2_gguf))
    check_contract(tokenizer, template)
    check_contract(tokenizer, template, Chat())


@pytest.fixture(scope="module")
def gemma3_tokenizer(gemma3_gguf):
    return gguf_tokenizer(GGUF(gemma3_gguf))


@pytest.mark.real_weights
@pytest.mark.parametrize("template", TEMPLATES)
def test_contract_holds_for_gemma3(gemma3_tokenizer, template):
    check_contract(gemma3_tokenizer, template)


@pytest.mark.parametrize("template", ["paper", "question_first"])
def test_letter_that_merges_with_the_stem_is_refused(template):
    prompter = Prompter(byte_tokenizer(merges=[("(", "B")]), template)
    with pytest.raises(UserError) as error:
        encode(prompter, [answer()])
    message = str(error.value)
    assert f"tokenizer tiny-bytes, template '{template}': letter B is not one token of its own" in message
    assert "(B" in message
    assert "\n" not in message


def test_letter_that_recuts_the_prompt_is_refused():
    # " (" is a token until an A takes the bracket: one token more, but the prompt's own last token has changed.
    tokenizer = byte_tokenizer(merges=[("(", "A"), ("Ġ", "(")])
    with pytest.raises(UserError, match="letter A is not one token of its own"):
        encode(Prompter(tokenizer, "paper"), [answer()])


def test_letter_of_two_tokens_is_refused_where_it_is_used():
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("C", "cc")
    prompter = Prompter(tokenizer, "paper")
    assert len(encode(prompter, [answer("xy")])) == 1
    with pytest.raises(UserError, match="letter C is not one token of its own"):
        encode(prompter, [answer("xyz")])


def test_letters_with_one_token_between_them_are_refused():
    prompter = Prompter(byte_tokenizer(without="BD"), "question_first")
    assert len(encode(prompter, [answer("xyz")])) == 1  # A, B, C: one unknown letter is told apart
    with pytest.raises(UserError, match=r"tokenizer tiny-bytes, .*: letter D shares its token with B"):
        encode(prompter, [answer("vwxyz")])


def test_more_options_than_letters_are_refused():
    prompter = Prompter(byte_tokenizer(), "paper")
    with pytest.raises(UserError, match="27 options: at most 26"):
        prompter.letters([prompter.text(answer())], 27)
    with pytest.raises(UserError, match="27 options: at most 26"):
        encode(prompter, [answer([str(i) for i in range(27)])])


# --- tokens that the model lacks


def test_a_token_without_an_embedding_is_refused_by_name():
    """jax looks up another token's embedding instead; which letter is meant is lost."""
    tokenizer = byte_tokenizer()
    [prompt] = encode(Prompter(LazyTokenizer(lambda: tokenizer, 258), "question_first"), [answer()])
    most = max(int(prompt.tokens.max()), *tokenizer.convert_tokens_to_ids(["A", "B"]))
    assert encode(Prompter(LazyTokenizer(lambda: tokenizer, most + 1), "question_first"), [answer()])
    with pytest.raises(UserError) as error:
        encode(Prompter(LazyTokenizer(lambda: tokenizer, most), "question_first"), [answer()])
    token = tokenizer.convert_ids_to_tokens(most)
    assert str(error.value).startswith(
        f"tokenizer tiny-bytes: token {token!r} has id {most}, and the model has only {most} embeddings (1 such token"
    )


def test_a_letter_without_an_embedding_is_refused_by_name():
    tokenizer = byte_tokenizer(merges=[("Ġ", letter) for letter in "AB"])  # after every other token
    with pytest.raises(UserError, match=r"token 'ĠB' has id 259, and the model has only 259 embeddings"):
        encode(Prompter(LazyTokenizer(lambda: tokenizer, 259), "subpop_qa"), [answer()])


# --- long prompts


def test_long_prompts_stop_or_are_counted(capsys):
    rows = [answer(question_id=f"q{n}", question="x" * n) for n in (1, 50, 2, 60)]
    prompter = Prompter(byte_tokenizer(), "question_first")
    lengths = [1 + len(prompter.text(row)) for row in rows]  # a byte a token, and <s>
    assert [len(p.tokens) for p in encode(prompter, rows, max(lengths))] == lengths
    with pytest.raises(UserError) as error:
        encode(prompter, rows, max_tokens=lengths[2])
    assert f"S / q50 / country=Kenya: the prompt has {lengths[1]} tokens, over the {lengths[2]}" in str(error.value)
    assert "2 such rows" in str(error.value)
    capsys.readouterr()
    kept = encode(prompter, rows, max_tokens=lengths[2], drop_long=True)
    assert [p.answer.question_id for p in kept] == ["q1", "q2"]
    assert "left out 2 of 4 rows" in capsys.readouterr().out
    assert all(p.tokens.dtype == np.int32 for p in kept)
