"""Tokenizers out of GGUF files, against transformers, and against hand-made vocabularies."""

import random
import unicodedata

import pytest
import transformers
from transformers.convert_slow_tokenizer import bytes_to_unicode

from gguf_files import write_gguf
from survey_jax.common.errors import UserError
from survey_jax.pretrained.gguf_files import GGUF
from survey_jax.pretrained.gguf_tokenizer import gguf_tokenizer


def tokenizer_of(path, model, tokens, types=None, **fields):
    named = {f"tokenizer__ggml__{key}": value for key, value in fields.items()}
    types = types or [1] * len(tokens)
    return gguf_tokenizer(
        GGUF(write_gguf(path, **named, tokenizer__ggml__model=model, tokenizer__ggml__tokens=tokens,
                        tokenizer__ggml__token_type=types))
    )  # fmt: skip


def test_sentencepiece_follows_scores(tmp_path):
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "a", "b", "c", "ab", "bc", "▁a"]
    types = [2, 3, 3, *[6] * 256, *[1] * 7]
    scores = [0.0] * 259 + [-9.0] * 4 + [-2.0, -1.0, -3.0]
    special = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    tokenizer = tokenizer_of(tmp_path / "m.gguf", "llama", pieces, types, scores=scores, **special)

    def split(text):
        return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])

    # by default: a BOS, a space in front, "bc" before "ab" by score, bytes for what is not in the vocabulary
    assert split("abc ab") == ["<s>", "▁a", "bc", "▁", "ab"]
    assert split("é</s>b") == ["<s>", "▁", "<0xC3>", "<0xA9>", "</s>", "▁", "b"]
    assert tokenizer.decode(tokenizer("abc é ab")["input_ids"], skip_special_tokens=True) == "abc é ab"
    off = {"add_bos_token": False, "add_eos_token": True, "add_space_prefix": False}
    tokenizer = tokenizer_of(tmp_path / "m.gguf", "llama", pieces, types, scores=scores, **special, **off)
    assert split("abc ab") == ["a", "bc", "▁", "ab", "</s>"]


def test_byte_level_word_splits(tmp_path):
    letters = sorted(bytes_to_unicode().values())
    merges = ["1 2", "12 3", "Ġ a", "a b", "b c"]
    tokens = ["<s>", *letters, "12", "123", "Ġa", "ab", "bc", "abc"]

    def split(pre, text):
        types = [3] + [1] * (len(tokens) - 1)
        tokenizer = tokenizer_of(tmp_path / "m.gguf", "gpt2", tokens, types, merges=merges, pre=pre, bos_token_id=0)
        return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])

    assert split("smollm", "ab 1234") == ["ab", "Ġ", "1", "2", "3", "4"]
    assert split("gpt-2", "ab1234") == ["ab", "123", "4"]
    assert split("qwen2", "ab1234") == ["ab", "1", "2", "3", "4"]
    # Llama 3: three digits a word, a BOS, and a word that is in the vocabulary is never split ("abc")
    assert split("llama-bpe", "abc1231\n") == ["<s>", "abc", "123", "1", "Ċ"]
    for pre in ("default", "falcon"):
        with pytest.raises(UserError, match=f"pre-tokenizer '{pre}' is not supported; supported: smollm, gpt-2"):
            split(pre, "ab")


def test_refused_tokenizers(tmp_path):
    path = tmp_path / "m.gguf"
    with pytest.raises(UserError, match=r"tokenizer 't5' is not supported"):
        tokenizer_of(path, "t5", ["a"])
    with pytest.raises(UserError, match="duplicate"):
        tokenizer_of(path, "llama", ["a", "a"])
    with pytest.raises(UserError, match=r"tokenizer\.ggml\.scores is missing"):
        tokenizer_of(path, "llama", ["a"])
    with pytest.raises(UserError, match=r"tokenizer\.ggml\.scores has 2 values for 1 tokens"):
        tokenizer_of(path, "llama", ["a"], scores=[0.0, 1.0])
    with pytest.raises(UserError, match=r"tokenizer\.ggml\.merges is broken \(.*`x` out of vocabulary\)"):
        tokenizer_of(path, "gpt2", ["a"], merges=["x a"], pre="gpt-2")
    with pytest.raises(UserError, match=r"tokenizer\.ggml\.bos_token_id = 9 is outside the vocabulary of 1"):
        tokenizer_of(path, "llama", ["a"], scores=[0.0], bos_token_id=9)
    with pytest.raises(UserError, match=r"tokenizer\.ggml\.tokens is missing"):
        gguf_tokenizer(GGUF(write_gguf(path)))


# --- real weights

# fmt: off
PIECES = [
    "How much trust do you have in the police?", "(A) A great deal\n(B) Not at all\n", "Kenya", " someone",
    "don't", "WE'LL", "naïve", "Größe", "São Paulo", "Türkiye", "Москва", "Ελλάδα", "ไทย", "한국어", "日本語",
    "中文字符", "हिन्दी", "العربية", "עברית",
    "\U0001f469\u200d\U0001f467", "🦄", "e\u0301", "\u200b", "\xa0", "—", "…", "“quoted”", "€", "\ufb01", "\u212a",
    "18-29", "2021", "3.14", "1,000,000", "10 %", "½", "²", "٣", "Ⅷ",
    "\n", "\n\n", "\n\n\n\n", "\r\n", "\t", "\t\t", " ", "  ", "   ", "       ", "\\n",
    "(", ")", "(A)", "(B", "A", " A", "B.", "Z:", "x", "...", "!!!", "--", "a_b", "foo()", "{}",
    "<b>", "</td>", "<|im_end|>", "<eos>", "<start_of_turn>",
]
# fmt: on


def texts(count=200):
    """Texts as survey prompts have them, and as they should not."""
    draw = random.Random(0)
    mixed = ["".join(draw.choices(PIECES, k=draw.randint(2, 14))) for _ in range(count - len(PIECES))]
    return [*PIECES, *mixed, "a" * 300, "ab " * 200, ""]


@pytest.mark.real_weights
def test_smollm2_tokenizer(smollm2_gguf, tmp_path):
    pytest.importorskip("torch", reason="transformers reads GGUF files with torch")
    ours = gguf_tokenizer(GGUF(smollm2_gguf))
    theirs = transformers.AutoTokenizer.from_pretrained(smollm2_gguf.parent, gguf_file=smollm2_gguf.name)

    def expected(text):
        """transformers forgets that SmolLM2 takes each digit alone, so it is given them alone."""
        parts, start = [], 0
        for i, character in enumerate(text):
            if unicodedata.category(character)[0] == "N":
                parts += [text[start:i], character]
                start = i + 1
        return [i for part in [*parts, text[start:]] for i in theirs(part)["input_ids"]]

    for text in texts():
        assert ours(text)["input_ids"] == expected(text), repr(text)
        assert ours.decode(ours(text)["input_ids"]) == text
    assert [ours.encode(letter) for letter in "AY"] == [[49], [73]]
    assert len(ours) == ours.vocab_size == 49152
    assert (ours.bos_token, ours.eos_token, ours.pad_token) == ("<|im_start|>", "<|im_end|>", "<|im_end|>")
    chat = ours.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    survives_saving(ours, tmp_path)


@pytest.mark.real_weights
def test_gemma3_tokenizer(gemma3_gguf, tmp_path):
    pytest.importorskip("torch", reason="transformers reads GGUF files with torch")
    ours = gguf_tokenizer(GGUF(gemma3_gguf))
    theirs = transformers.AutoTokenizer.from_pretrained(gemma3_gguf.parent, gguf_file=gemma3_gguf.name)
    for text in texts():
        ids = ours(text)["input_ids"]
        assert ids == theirs(text)["input_ids"], repr(text)
        assert ids[0] == ours.bos_token_id
        assert ours.decode(ids[1:]) == text
    spaces = ours.convert_ids_to_tokens(ours("a" + " " * 40 + "b", add_special_tokens=False)["input_ids"])
    assert spaces == ["a", "▁" * 31, "▁" * 9, "b"]  # SentencePiece: the longest run first
    assert len(ours) == ours.vocab_size == 262144
    assert (ours.bos_token, ours.eos_token, ours.pad_token, ours.unk_token) == ("<bos>", "<eos>", "<pad>", "<unk>")
    survives_saving(ours, tmp_path)


def survives_saving(tokenizer, directory):
    tokenizer.save_pretrained(directory)
    again = transformers.AutoTokenizer.from_pretrained(directory)
    for text in texts(100):
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
