"""Writes any text into YAML so that it stays on its line and is read back exactly, by every reader of YAML."""

import json
import re

import yaml

_WORD = re.compile(r"[A-Za-z_][\w.+-]*", re.ASCII)
_NUMBER = re.compile(r"0|-?[1-9]\d{0,17}|-?(0|[1-9]\d{0,17})\.\d{0,17}[1-9]")
_YES_OR_NO = ("y", "Y", "n", "N")  # to some readers
_LONGEST_KEY = 1000  # characters; YAML takes a longer one only after a question mark
_resolver = yaml.SafeLoader("")


def quoted(text: str) -> str:
    """A text as YAML; in quotes unless it is a word that is nothing else in YAML, as `no` and `null` are."""
    plain = _WORD.fullmatch(text) and text not in _YES_OR_NO
    if plain and _resolver.resolve(yaml.ScalarNode, text, (True, False)) == "tag:yaml.org,2002:str":
        return text
    return in_quotes(text)


def in_quotes(text: str) -> str:
    """A text as YAML, in double quotes."""
    return _visible(json.dumps(text, ensure_ascii=False))


def code(text: str) -> str:
    """An answer code as YAML: a number stands without quotes."""
    return text if _NUMBER.fullmatch(text) else quoted(text)


def entry(indent: str, key: str, value: str = "") -> str:
    """The line of a key, which is YAML already, and of its value, if that is not on the lines below."""
    if len(key) > _LONGEST_KEY:
        return f"{indent}? {key}\n{indent}: {value}".rstrip()
    return f"{indent}{key}: {value}".rstrip()


def comment(text: str) -> str:
    """A remark behind two spaces and a #, on one line."""
    return f"  # {_visible(' '.join(text.split()))}"


def _visible(text: str) -> str:
    """The text with escapes for what ends a line, is not seen or turns the direction of writing."""

    def escape(found: re.Match[str]) -> str:
        character = found[0]
        if character.isprintable() or character in "\u200c\u200d":  # the joiners belong to the spelling
            return character
        return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"

    return re.sub(r"[^ -~]", escape, text)
