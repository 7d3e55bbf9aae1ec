"""Reads a YAML file in which every mistake can be told with its line: the codebook's lower half."""

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from survey_jax.common.errors import UserError
from survey_jax.common.yaml_texts import QUOTE, TextLoader, parse_yaml, to_be_written
from survey_jax.sources.microdata.codes import Codes, canonical, parse_codes


class _Mapping(dict[str, Any]):
    """A mapping of a YAML file that knows on which line each of its keys stands."""

    lines: dict[str, int]


class _Loader(TextLoader):
    """Keeps the lines of keys."""

    def mapping(self, node: yaml.MappingNode) -> _Mapping:
        result = _Mapping(super().mapping(node))
        lines = [key_node.start_mark.line + 1 for key_node, _ in node.value]
        result.lines = dict(zip(result, lines, strict=True))
        return result


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.mapping)


def read_yaml(path: Path) -> _Mapping:
    """Raises UserError, with the line, for what is no YAML or no mapping."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    value = parse_yaml(path, text, _Loader)
    if not isinstance(value, _Mapping):
        raise UserError(f"{path}: not a codebook; expected keys such as survey, attributes and questions")
    return value


def unwritten(path: Path, top: _Mapping) -> list[str]:
    """A message for each text that a draft has left to the user, wherever it stands; each once, if aliases share it."""
    messages: list[str] = []
    seen: set[int] = set()

    def visit(value: Any, line: int, names: tuple[str, ...]) -> None:
        if isinstance(value, str):
            if to_be_written(value):
                messages.append(f"{path} line {line}: {': '.join(names)} is still to be written: {value!r}")
        elif id(value) not in seen:
            seen.add(id(value))
            inner = value.items() if isinstance(value, _Mapping) else (("", item) for item in value)
            for key, item in inner:
                at = value.lines[key] if isinstance(value, _Mapping) else line
                visit(item, at, (*names, key) if key else names)

    visit(top, 1, ())
    return messages


@dataclasses.dataclass(frozen=True)
class Section:
    """A mapping of the codebook, with its place: what reads from it raises UserError with file, line and entry."""

    path: Path
    name: str
    values: _Mapping
    line: int = 1

    def where(self, key: str | None = None) -> str:
        line = self.values.lines.get(key, self.line) if key else self.line
        return f"{self.path} line {line}" + (f": {self.name}" if self.name else "")

    def error(self, message: str, key: str | None = None) -> UserError:
        return UserError(f"{self.where(key)}: {message}")

    def check_keys(self, known: Sequence[str]) -> None:
        for key in self.values:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(known)}"
                if self.values[key] == "":  # {text: Do you agree, or not} has a key "or not"
                    hint = QUOTE
                raise self.error(f"unknown key {key!r}; {hint}", key)

    def text(self, key: str, required: bool = False) -> str | None:
        """Raises UserError for a list or a mapping, and for an empty text."""
        value = self.values.get(key)
        if value is None and not required:
            return None
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"{key} is missing" if value is None else f"{key} must be a text that is not empty", key)
        return value.strip()

    def column(self, key: str = "column") -> str | None:
        """The name of a column, with any spaces around it. Raises UserError as `text` does."""
        return self.values[key] if self.text(key) else None

    def items(self, key: str) -> list[Any]:
        """A list; a single text is a list of one."""
        value = self.values.get(key, [])
        if not isinstance(value, str | list):
            raise self.error(f"{key} must be a list", key)
        return [value] if isinstance(value, str) else value

    def texts(self, key: str) -> list[str]:
        items = self.items(key)
        if not all(isinstance(item, str) and item.strip() for item in items):
            raise self.error(f"{key} must be a list of texts, none of them empty", key)
        return items

    def codes(self, key: str, default: Codes) -> Codes:
        """A list of codes and bands."""
        if key not in self.values:
            return default
        try:
            return parse_codes(self.texts(key))
        except ValueError as error:
            raise self.error(f"{key}: {error}", key) from error

    def labels(self, key: str) -> dict[str, str]:
        """code -> label, in order; the items of a list are their own labels."""
        value = self.values.get(key)
        if isinstance(value, list):
            value = _Mapping({text: text for text in self.texts(key)})
            value.lines = {}
        if not isinstance(value, _Mapping) or not value:
            raise self.error(f"{key} must map codes to texts, such as {{1: Agree, 2: Disagree}}", key)
        section = Section(self.path, f"{self.name}: {key}", value, self.values.lines[key])
        result: dict[str, str] = {}
        for code in value:
            if not canonical(code) or canonical(code) in result:
                raise section.error(f"the code {code!r} is empty, or there twice", code)
            result[canonical(code)] = section.text(code, required=True) or ""
        return result

    def section(self, key: str, known: Sequence[str]) -> "Section":
        section = Section(self.path, key, self.values[key], self.values.lines[key])
        section.check_keys(known)
        return section

    def sections(self, key: str, shorthand: str) -> list[tuple[str, "Section"]]:
        """The named entries under a key; an entry that is a text is its `shorthand` key alone."""
        entries = self.values.get(key, {})
        if not isinstance(entries, _Mapping):
            raise self.error(f"{key} must map names to entries", key)
        result = []
        for name, entry in entries.items():
            line = entries.lines[name]
            if isinstance(entry, str):
                entry = _Mapping({shorthand: entry})
                entry.lines = {shorthand: line}
            if not isinstance(entry, _Mapping) or not name.strip():
                raise UserError(f"{self.path} line {line}: {key}: {name}: must be a mapping")
            result.append((name, Section(self.path, f"{key}: {name}", entry, line)))
        return result
