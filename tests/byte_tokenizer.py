"""A tokenizer of bytes, and a row to ask about."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from survey_jax.survey.table import Answer

KENYA = (("country", "Kenya"),)


def answer(
    options=("Yes", "No"), group=KENYA, question="Is tea good?", question_id="q", probs=(), language=None
) -> Answer:
    probs = tuple(probs) or (1 / len(options),) * len(options)
    return Answer("S", question_id, question, tuple(options), tuple(group), probs, language=language)


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
