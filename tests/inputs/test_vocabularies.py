"""Tokenizers of whole families: the same tokens as the original's, and the letter-token contract in every template."""

import functools
from unittest import mock

import pytest
import transformers

import vocabularies
from survey_jax.inputs.prompts import LETTERS, TEMPLATES, Prompter
from survey_jax.pretrained.gguf_files import GGUF
from survey_jax.pretrained.gguf_header import Header, map_file
from survey_jax.pretrained.gguf_tokenizer import gguf_tokenizer
from survey_jax.survey.table import Answer

pytestmark = pytest.mark.real_weights

WORDINGS = [(template, language) for template in TEMPLATES for language in TEMPLATES[template]]


@functools.cache
def vocabulary(name: str) -> tuple[list[str], transformers.PreTrainedTokenizerBase]:
    """The pieces by token id, and the tokenizer that we build of them."""
    path = vocabularies.FOLDER / f"ggml-vocab-{name}.gguf"
    if not path.is_file():
        pytest.skip(f"{path} is absent: python tests/vocabularies.py")
    metadata, _ = Header(path, map_file(path)).parse()
    file = mock.create_autospec(GGUF, instance=True, path=path, metadata=metadata)  # it has no tensors, hence no model
    file.config.return_value = {"max_position_embeddings": 4096}
    return metadata["tokenizer.ggml.tokens"], gguf_tokenizer(file)


@pytest.mark.parametrize("name", vocabularies.FAMILIES)
def test_tokens_are_those_of_the_original(name: str) -> None:
    _, tokenizer = vocabulary(name)
    file = vocabularies.FOLDER / f"ggml-vocab-{name}.gguf"
    texts = file.with_suffix(".gguf.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")[:-1]
    lines = file.with_suffix(".gguf.out").read_text(encoding="utf-8").splitlines()
    expected = [[int(token) for token in line.split()] for line in lines]
    assert len(texts) == len(expected) > 40
    for text, tokens in zip(texts, expected, strict=True):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == tokens, text


@pytest.mark.parametrize(("template", "language"), WORDINGS)
@pytest.mark.parametrize("name", vocabularies.FAMILIES)
def test_every_letter_is_the_vocabularys_own_token(name: str, template: str, language: str) -> None:
    """After a bracket the plain letter; after "Answer:" the letter with its space."""
    pieces, tokenizer = vocabulary(name)
    space = "▁" if name in ("llama-spm", "phi-3") else "Ġ"
    lead = {"": "", " ": space}[TEMPLATES[template][language].lead]
    prompter = Prompter(tokenizer, template, language=language)
    groups = ["Kenya", "New Zealand", "日本"]
    rows = [Answer("S", "q", "Is tea good?", ("Yes", "No"), (("country", g),), (0.5, 0.5)) for g in groups]
    letters = prompter.letters([prompter.text(row) for row in rows], 26)
    assert letters.tolist() == [pieces.index(lead + letter) for letter in LETTERS]
