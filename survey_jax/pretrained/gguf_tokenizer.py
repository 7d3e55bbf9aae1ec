"""Builds the tokenizer that a GGUF file describes, with the tokenizers package (transformers would need torch)."""

from collections.abc import Sequence

import numpy as np
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from survey_jax.common.errors import UserError
from survey_jax.pretrained.gguf_files import GGUF

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4  # token types
_SPACE = "\u2581"
_SPECIAL = {"bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id", "pad": "padding_token_id"}
_LLAMA3 = ("llama-bpe", "llama3", "llama-v3")  # names of the same pre-tokenizer

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def gguf_tokenizer(file: GGUF) -> transformers.PreTrainedTokenizerFast:
    """Builds the tokenizer; `tokenizer(text)` adds the beginning-of-text token if the file says so.

    Raises:
      UserError: the file has no vocabulary, one with duplicates, or a kind of tokenizer that is not supported; or a
        field of it is of a wrong kind.
    """
    try:
        return _tokenizer(file)
    except UserError:
        raise
    except Exception as error:  # a field of another kind ends in any
        reason = " ".join(f"{error}".split()) or type(error).__name__
        raise UserError(f"{file.path}: its tokenizer is broken ({reason[:200]}); fetch the file again") from error


def _tokenizer(file: GGUF) -> transformers.PreTrainedTokenizerFast:
    tokens = _field(file, "tokens")
    if len(set(tokens)) != len(tokens):
        raise UserError(f"{file.path}: the vocabulary has duplicate tokens; use another conversion of this model")
    kind = _field(file, "model")
    if kind not in ("gpt2", "llama"):
        raise UserError(f"{file.path}: tokenizer {kind!r} is not supported; supported: gpt2, llama (SentencePiece BPE)")
    tokenizer = _byte_level(file, tokens) if kind == "gpt2" else _sentencepiece(file, tokens)
    special = {f"{name}_token": _special(file, tokens, key) for name, key in _SPECIAL.items()}
    _add_tokens(file, tokens, tokenizer, {token for token in special.values() if token})
    tokenizer.post_processor = _post_processor(file, tokenizer, special)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=file.metadata.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        model_max_length=file.config()["max_position_embeddings"],
        **{name: token for name, token in special.items() if token},
    )


def _byte_level(file: GGUF, tokens: list[str]) -> Tokenizer:
    """Byte-level BPE with the file's merges; `tokenizer.ggml.pre` names how text is first divided into words."""
    pre = file.metadata.get("tokenizer.ggml.pre", "default")
    whole_words = pre in _LLAMA3
    by_regex = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    words: pre_tokenizers.PreTokenizer
    if pre == "smollm":
        words = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), by_regex])
    elif pre == "gpt-2":
        words = by_regex
    elif pre == "qwen2" or whole_words:
        digits = "{1,3}" if whole_words else ""
        words = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_SPLIT.replace("DIGITS", digits)), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    else:
        raise UserError(
            f"{file.path}: pre-tokenizer {pre!r} is not supported; supported: smollm, gpt-2, llama-bpe, qwen2"
        )
    merges = [tuple(merge.split(" ")) for merge in _field(file, "merges")]
    try:
        ids = {token: i for i, token in enumerate(tokens)}
        tokenizer = Tokenizer(models.BPE(ids, merges, ignore_merges=whole_words))
    except Exception as error:  # tokenizers raises nothing more specific
        raise UserError(f"{file.path}: tokenizer.ggml.merges is broken ({error}); fetch the file again") from error
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(file: GGUF, tokens: list[str]) -> Tokenizer:
    """SentencePiece BPE: spaces become U+2581, unknown characters become bytes, merges follow from scores."""
    types = _types(file, tokens)
    pieces = [t if types[i] != _USER_DEFINED else t.replace(" ", _SPACE) for i, t in enumerate(tokens)]
    merges = merges_from_scores(pieces, _per_token(file, tokens, "scores", _field(file, "scores")), types)
    unknown = _special(file, tokens, "unknown_token_id")
    ids = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", _SPACE)
    decode = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if file.metadata.get("tokenizer.ggml.add_space_prefix", True):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), replace])
        tokenizer.decoder = decoders.Sequence([*decode, decoders.Strip(" ", 1, 0)])
    else:
        tokenizer.normalizer = replace
        tokenizer.decoder = decoders.Sequence(decode)
    return tokenizer


def merges_from_scores(pieces: Sequence[str], scores: np.ndarray, types: np.ndarray) -> list[tuple[str, str]]:
    """All pairs of normal pieces that join into a third, ordered by the score of the third, best first.

    SentencePiece joins the neighbours that make the piece with the best score; a ranked list of merges does the same.
    Pairs that make the same piece are ordered by the length of their left part, longest first, as in Hugging Face's
    converter.
    """
    normal = [i for i in np.argsort(-scores, kind="stable") if types[i] == _NORMAL]
    known = {pieces[i] for i in normal}
    merges = []
    for i in normal:
        piece = pieces[i]
        for cut in range(len(piece) - 1, 0, -1):
            if (left := piece[:cut]) in known and (right := piece[cut:]) in known:
                merges.append((left, right))
    return merges


def _add_tokens(file: GGUF, tokens: list[str], tokenizer: Tokenizer, special: set[str]) -> None:
    """Adds control, unknown and user-defined tokens, which the tokenizer finds whole and never divides."""
    types = _types(file, tokens)
    sentencepiece = _field(file, "model") == "llama"
    added = []
    for i in np.flatnonzero(np.isin(types, (_UNKNOWN, _CONTROL, _USER_DEFINED))):
        if types[i] == _USER_DEFINED and tokens[i] not in special:
            # In Gemma, runs of spaces are such tokens: they must be searched for after spaces have become U+2581.
            runs = sentencepiece and " " in tokens[i]
            content = tokens[i].replace(" ", _SPACE) if runs else tokens[i]
            added.append(AddedToken(content, normalized=runs, special=False))
        else:
            added.append(AddedToken(tokens[i], normalized=False, special=True))
    tokenizer.add_tokens(added)
    if tokenizer.get_vocab_size() != len(tokens):
        raise UserError(f"{file.path}: special tokens are missing from the vocabulary; use another conversion")


def _post_processor(file: GGUF, tokenizer: Tokenizer, special: dict[str, str | None]) -> processors.PostProcessor:
    """Adds the beginning-of-text and end-of-text tokens that the file asks for."""
    by_default = _field(file, "model") == "llama" or file.metadata.get("tokenizer.ggml.pre") in _LLAMA3  # as llama.cpp
    parts = {"bos_token": by_default, "eos_token": False}
    wanted = {
        name: token
        for name, default in parts.items()
        if (token := special[name]) and file.metadata.get(f"tokenizer.ggml.add_{name}", default)
    }
    bos, eos = wanted.get("bos_token", ""), wanted.get("eos_token", "")
    single = f"{bos} $A {eos}".split()
    return processors.TemplateProcessing(
        single=single,
        pair=single + [f"{part}:1" for part in f"{bos} $B {eos}".split()],
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in set(wanted.values())],
    )


def _types(file: GGUF, tokens: list[str]) -> np.ndarray:
    types = file.metadata.get("tokenizer.ggml.token_type", [_NORMAL] * len(tokens))
    return _per_token(file, tokens, "token_type", types)


def _per_token(file: GGUF, tokens: list[str], key: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    if len(values) != len(tokens):
        raise UserError(f"{file.path}: tokenizer.ggml.{key} has {len(values)} values for {len(tokens)} tokens")
    return np.asarray(values)


def _special(file: GGUF, tokens: list[str], key: str) -> str | None:
    index = file.metadata.get(f"tokenizer.ggml.{key}")
    if index is None:
        return None
    if not 0 <= index < len(tokens):
        raise UserError(f"{file.path}: tokenizer.ggml.{key} = {index} is outside the vocabulary of {len(tokens)}")
    return tokens[index]


def _field(file: GGUF, key: str):
    if (value := file.metadata.get(f"tokenizer.ggml.{key}")) is None:
        raise UserError(f"{file.path}: metadata field tokenizer.ggml.{key} is missing")
    return value
