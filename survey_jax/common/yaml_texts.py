"""Reads YAML that people write by hand, in which everything is text; tells a mistake, its line and what mends it."""

import re
from pathlib import Path
from typing import Any

import yaml

from survey_jax.common.errors import UserError

TODO = "TODO"  # stands with a colon before what a draft leaves to the user
QUOTE = 'put a text that holds : ? # ! , [ ] { } or quotes into double quotes, such as "Do you agree: yes or no?"'

_TO_BE_WRITTEN = re.compile(rf"\s*{TODO}(:|\s*$)")  # "TODO EL TIEMPO" is an answer
_SHOWN = 60  # characters of a line in a message
_UNQUOTED = "a text without quotes holds "
_NO_REMARK = re.compile(r"[ \t]+#[^\s#]")
_LINE_END = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")  # as YAML counts lines


class TextLoader(yaml.BaseLoader):
    """Everything is text, so that `1: Yes`, `NO: Norway`, `01` and `18-29` are what they look like; no objects."""

    def mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        """Refuses a key that is there twice, of which YAML would keep the last, and one that is no text."""
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in result:
                problem = f"{key!r} is there twice" if isinstance(key, str) else "a key must be text or a number"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            result[key] = self.construct_object(value_node, deep=True)
        return result

    def text(self, node: yaml.ScalarNode) -> str:
        """Refuses `Which is #1?` without quotes, of which YAML would keep `Which is`; a remark is written `# so`."""
        mark = node.end_mark
        if node.style is None and mark.buffer is not None and _NO_REMARK.match(mark.buffer, mark.pointer):
            raise yaml.constructor.ConstructorError(None, None, f"{_UNQUOTED}#, which begins a remark", mark)
        return str(self.construct_scalar(node))

    def tagged(self, node: yaml.Node) -> Any:
        """Refuses `!important`, of which YAML would keep nothing."""
        raise yaml.constructor.ConstructorError(None, None, f"{_UNQUOTED}{node.tag}", node.start_mark)


TextLoader.add_constructor("tag:yaml.org,2002:map", TextLoader.mapping)
TextLoader.add_constructor("tag:yaml.org,2002:str", TextLoader.text)
TextLoader.add_constructor("tag:yaml.org,2002:seq", TextLoader.construct_sequence)
TextLoader.add_constructor(None, TextLoader.tagged)


def to_be_written(text: str) -> bool:
    """Whether a draft leaves this text to the user: TODO, or TODO with a colon and anything behind it."""
    return bool(_TO_BE_WRITTEN.match(text))


def parse_yaml(path: Path, text: str, loader: type[TextLoader] = TextLoader) -> Any:
    """The texts, lists and mappings that `text` holds, the content of `path`. Raises UserError with the line."""
    try:
        return yaml.load(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        raise _explained(path, text, error) from error
    except yaml.reader.ReaderError as error:
        line = len(_LINE_END.findall(text[: error.position])) + 1
        raise UserError(
            f"{path} line {line}: holds U+{error.character:04X}, which is no character of a text"
        ) from error
    except RecursionError as error:
        raise UserError(f"{path}: lists or mappings are nested too deeply") from error


def _explained(path: Path, text: str, error: yaml.MarkedYAMLError) -> UserError:
    """Where a mistake is and what mends it, which mostly is quotes around a text."""
    mark, begin = error.problem_mark, error.context_mark
    if mark is None or (begin is not None and error.context == "while scanning a quoted scalar"):
        mark = begin or mark  # a quote without an end: where it begins
    number = mark.line if mark else 0
    written = [*_LINE_END.split(text), ""][number].strip()
    since = f", in what begins on line {begin.line + 1}" if begin and begin.line < number else ""
    problem = f"{path} line {number + 1}: not YAML: {error.problem}"
    if isinstance(error, yaml.constructor.ConstructorError) and _UNQUOTED not in problem:
        return UserError(problem)
    shown = f" ({written[:_SHOWN]}{'...' * (len(written) > _SHOWN)})" if written else ""
    hint = "indent with spaces, not with tabs" if "\\t" in problem else QUOTE
    return UserError(f"{problem}{shown}{since}; {hint}")
