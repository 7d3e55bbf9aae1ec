"""In which encoding a file's text is: said by its first bytes, shown by its being UTF-8, or guessed."""

import codecs
import itertools
import re
import unicodedata
from collections.abc import Iterable

import charset_normalizer

from survey_jax.sources.microdata.words import share_known

_BOMS = {  # the longer first: UTF-32's begins like UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# What spreadsheets and survey platforms write besides Unicode, by script; where a text fits several equally well, the
# first of them is taken.
_LATIN = ("cp1252", "cp1250", "cp1254", "cp1257", "cp1258")
_OTHERS = (
    *("gb18030", "cp932", "big5", "euc_jp", "euc_kr"),
    *("cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "cp874"),
)
_WIDER = {"euc_kr": "cp949"}  # what Windows writes: the same, and rare letters, by which it fits other texts too
_PIECE = re.compile(rb"[^\n\r\t;,]*[\x80-\xff][^\n\r\t;,]*")  # a cell or so; no letter has these bytes within it
_WORD = re.compile(rb"[A-Za-z\x80-\xff]*[\x80-\xff][A-Za-z\x80-\xff]*")
# Letters side by side; a Japanese one may have ASCII for its second byte.
_RUN = re.compile(rb"[\x80-\xff]{2,}|(?:[\x81-\x9f][\x40-\xfc]){2,}")
_SAMPLE = 1 << 15  # bytes: enough to tell, and quickly looked at


def declared(head: bytes) -> str | None:
    """The encoding that a file's first bytes declare (a byte order mark), if they do."""
    return next((name for mark, name in _BOMS.items() if head.startswith(mark)), None)


def utf16_without_a_mark(head: bytes) -> str | None:
    """UTF-16 of a file without a byte order mark: of two bytes, one is 0 in digits, delimiters and Western letters."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if max(even, odd) * 8 < len(head) or not head:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def is_known(encoding: str) -> bool:
    """Whether Python has a text encoding of this name."""
    try:
        "a".encode(encoding)
    except (LookupError, ValueError):  # no such name, none of texts (hex), or one that no name can be
        return False
    return True


def fits(encoding: str, chunks: Iterable[bytes]) -> bool:
    """Whether these bytes, one after the other, are text in this encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for chunk in chunks:
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def sample(chunks: Iterable[bytes]) -> bytes:
    """The pieces of a text that are not ASCII, each once, until there are enough of them to guess by."""
    found: dict[bytes, None] = {}
    size, rest = 0, b""
    for chunk in chunks:
        lines = (rest + chunk).splitlines(keepends=True)
        rest = lines.pop() if lines and len(lines[-1]) < _SAMPLE else b""
        for piece in (p for line in lines for p in _PIECE.findall(line)):
            if piece not in found:
                found[piece] = None
                size += len(piece)
        if size > _SAMPLE:
            break
    found |= dict.fromkeys(_PIECE.findall(rest))
    return b"\n".join(found)[: 2 * _SAMPLE]


def guesses(pieces: bytes) -> list[str]:
    """The encodings that a text may be in, the likeliest first; it is neither ASCII nor UTF-8.

    Args:
      pieces: of the text, on lines of their own, as `sample` gives them.
    """
    candidates = _OTHERS if _is_not_latin(pieces) else _LATIN
    found = charset_normalizer.from_bytes(pieces, steps=8, chunk_size=2048, cp_isolation=list(candidates))
    ranked = sorted(
        (*_oddness(pieces, name), round(match.chaos, 2), -round(5 * match.coherence), candidates.index(name), name)
        for match in found
        for name in match.could_be_from_charset
        if name in candidates
    )
    names = [_WIDER.get(name, name) for *_, name in ranked]
    others = (*candidates, *_LATIN, *_OTHERS, *_WIDER.values())
    return names + [name for name in others if name not in names and fits(name, [pieces])]


def _oddness(text: bytes, encoding: str) -> tuple[float, float]:
    """How odd a text's words are in an encoding: the share that no survey has, and that nobody spells so."""
    decoded = [word.decode(encoding, "replace") for word in _WORD.findall(text)]
    return -round(share_known(decoded), 1), round(sum(map(_is_odd, decoded)) / max(len(decoded), 1), 1)


def _is_odd(word: str) -> bool:
    """Whether a word has a capital within, as Greek that is read as Cyrillic, begins with a mark that belongs to the
    letter before, or has Japanese letters of half their width, as Chinese that is read as Japanese."""
    turns = any(a.islower() and b.isupper() for a, b in itertools.pairwise(word))
    return turns or bool(unicodedata.combining(word[0])) or any("\uff61" <= c <= "\uff9f" for c in word)


def _is_not_latin(text: bytes) -> bool:
    """Whether letters that are not ASCII stand mostly side by side, as in Greek or Chinese, and not among ASCII."""
    words = _WORD.findall(text)
    high = sum(byte > 127 for word in words for byte in word)
    side_by_side = sum(len(run) for word in words for run in _RUN.findall(word))
    return 2 * side_by_side > high and 2 * high >= sum(map(len, words))
