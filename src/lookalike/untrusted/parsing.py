"""JSON and YAML of strangers, read within limits of bytes, depth and length of numbers.

Each reader raises `ParseError`, and nothing else, for content that it refuses: the text of the error says what is wrong with the
content and fits after “FILE cannot be read: ”.
"""

import errno
import json
import math
import os
import re
import stat
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 1 << 24
"""The default limit of a JSON document, in bytes."""

MAX_YAML_BYTES = 1 << 18
"""The default limit of a YAML document, in bytes; PyYAML reads about 100 kB a second."""

MAX_DEPTH = 64
"""The limit of lists and mappings inside each other."""

MAX_DIGITS = 100
"""The limit of a number, in characters; every shorter whole number fits into a float."""

MAX_YAML_NODES = 100_000
"""The limit of values in a YAML document, with the values behind each alias counted again."""

# A string of JSON; one without an end reaches to the end of the text. The quantifiers are possessive: the time is linear.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)

_NO_BRACKETS = re.compile(r"[^][{}]++")

_MAX_QUOTE = 40


class ParseError(ValueError):
    """Content that is not JSON or YAML, or exceeds a limit."""


# ---- files


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a regular file; a pipe or a device is refused before it is opened.

    Raises:
        ParseError: it is not a regular file, or has more bytes.
        OSError: it does not exist, or cannot be read.
    """
    try:
        _check_regular(path.stat())
        # Without waiting for the writer of a pipe that takes the file's place now.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ParseError:
        raise
    except ValueError as e:  # a NUL in the path, or half a surrogate pair
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from e
    with os.fdopen(descriptor, "rb") as file:  # raises an OSError for a folder
        _check_regular(os.fstat(descriptor))
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ParseError(f"it has more than {max_bytes:,} bytes")
    return content


def _check_regular(status: os.stat_result) -> None:
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise ParseError("it is a pipe or a device, not a file")


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:  # noqa: ANN401 -- JSON has any shape
    """Read a JSON file, as `read_bytes` and `parse_json` do."""
    return parse_json(read_bytes(path, max_bytes), max_bytes)


def read_json_lines(path: Path, max_bytes: int = MAX_BYTES) -> list[Any]:
    """Read a file with a JSON document in each line, as `read_bytes` and `parse_json` do."""
    return [parse_json(line, max_bytes) for line in read_bytes(path, max_bytes).splitlines()]


def read_yaml(path: Path, max_bytes: int = MAX_YAML_BYTES) -> Any:  # noqa: ANN401 -- YAML has any shape
    """Read a YAML file, as `read_bytes` and `parse_yaml` do."""
    return parse_yaml(read_bytes(path, max_bytes), max_bytes)


# ---- JSON


def parse_json(content: str | bytes, max_bytes: int = MAX_BYTES) -> Any:  # noqa: ANN401 -- JSON has any shape
    """Parse one JSON document, in UTF-8.

    A key occurs once in an object, and a number is finite: ``NaN`` and ``Infinity`` are not JSON.

    Raises:
        ParseError: it is not JSON, or exceeds a limit.
    """
    text = _decode(content, max_bytes)
    if _is_deep(text):
        raise ParseError(_TOO_DEEP)
    try:
        return json.loads(
            text,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as e:
        raise ParseError(f"line {e.lineno}, column {e.colno}: {e.msg[:1].lower()}{e.msg[1:]}") from e


_TOO_DEEP = f"it has more than {MAX_DEPTH} lists or mappings inside each other"


def _decode(content: str | bytes, max_bytes: int) -> str:
    """Return the text without a byte order mark."""
    if len(content) > max_bytes:
        raise ParseError(f"it has more than {max_bytes:,} bytes")
    try:
        text = content if isinstance(content, str) else content.decode()
    except UnicodeDecodeError as e:
        raise ParseError(f"byte {e.start + 1} is not UTF-8") from e
    return text.removeprefix("\ufeff")


def _is_deep(text: str) -> bool:
    """Return whether brackets of JSON are nested deeper than the limit, before a parser recurses into them."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    brackets = _NO_BRACKETS.sub("", _STRING.sub("", text)).translate({ord("{"): "[", ord("}"): "]"})
    for _ in range(MAX_DEPTH):  # each turn removes the innermost level
        shorter = brackets.replace("[]", "")
        if shorter == brackets:
            break
        brackets = shorter
    return "[]" in brackets or brackets.count("[") > MAX_DEPTH


def _integer(digits: str) -> int:
    _check_number(digits)
    return int(digits)


def _float(digits: str) -> float:
    _check_number(digits)
    value = float(digits)
    if not math.isfinite(value):
        raise ParseError(f"the number {digits} is too large")
    return value


def _check_number(digits: str) -> None:
    if len(digits) > MAX_DIGITS:
        raise ParseError(f"the number {digits[:10]}… has {len(digits):,} characters, more than {MAX_DIGITS}")


def _refuse_constant(name: str) -> Never:
    raise ParseError(f"{name} is not a number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise _given_twice(key for key, _ in pairs)
    return result


def _given_twice(keys: Iterable[str]) -> ParseError:
    seen: set[str] = set()
    key = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # `add` returns None
    return ParseError(f"the key {key[:_MAX_QUOTE]!r} occurs twice")


# ---- YAML


def parse_yaml(content: str | bytes, max_bytes: int = MAX_YAML_BYTES) -> Any:  # noqa: ANN401 -- YAML has any shape
    """Parse one YAML document, in UTF-8: mappings, lists and plain values.

    Anchors, aliases and merges are allowed within a limit. A key occurs once in a mapping, a number is finite, and no value has
    an explicit tag.

    Raises:
        ParseError: it is not YAML, or exceeds a limit.
    """
    import yaml  # noqa: PLC0415 -- most commands read no YAML

    text = _decode(content, max_bytes)
    try:
        return yaml.load(text, Loader=_yaml_loader())  # noqa: S506 -- a SafeLoader
    except ParseError:
        raise
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ParseError(f"{where}{e.problem or e.context}") from e
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as e:
        raise ParseError(str(e).partition("\n")[0]) from e


@cache
def _yaml_loader() -> "type[yaml.SafeLoader]":  # noqa: C901 -- a class and two functions
    """Make the loader class: a SafeLoader that keeps to the limits."""
    import yaml  # noqa: PLC0415 -- as in `parse_yaml`

    class Loader(yaml.SafeLoader):
        def __init__(self, stream: str) -> None:
            super().__init__(stream)
            self._depth = self._count = 0
            self._counts: dict[int, int] = {}  # the values in each complete node, by its identity

        def compose_node(self, parent: "yaml.Node | None", index: int) -> "yaml.Node | None":
            event = self.peek_event()  # type: ignore[no-untyped-call]
            is_alias = isinstance(event, yaml.AliasEvent)
            if not is_alias and event.tag not in (None, "!"):
                raise ParseError(f"the tag {event.tag[:_MAX_QUOTE]} is not supported")
            level = int(isinstance(event, yaml.CollectionStartEvent))
            self._depth += level
            if self._depth > MAX_DEPTH:
                raise ParseError(_TOO_DEEP)
            before = self._count
            node = super().compose_node(parent, index)
            self._depth -= level
            if is_alias and id(node) not in self._counts:
                raise ParseError(f"the alias *{event.anchor[:_MAX_QUOTE]} is inside its own anchor")
            self._count += self._counts[id(node)] if is_alias else 1
            if self._count > MAX_YAML_NODES:
                raise ParseError(f"it has more than {MAX_YAML_NODES:,} values")
            if not is_alias:
                self._counts[id(node)] = self._count - before
                self._check_keys(node)
            return node

        def _check_keys(self, node: "yaml.Node | None") -> None:
            if isinstance(node, yaml.MappingNode):
                keys = [f"{key.value}" for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
                if len(set(keys)) < len(keys):
                    raise _given_twice(keys)

    def integer(loader: "yaml.SafeLoader", node: "yaml.ScalarNode") -> int:
        _check_number(node.value)
        return loader.construct_yaml_int(node)

    def floating(loader: "yaml.SafeLoader", node: "yaml.ScalarNode") -> float:
        _check_number(node.value)
        value = loader.construct_yaml_float(node)
        if not math.isfinite(value):
            raise ParseError(f"the number {node.value} is not finite")
        return value

    Loader.add_constructor("tag:yaml.org,2002:int", integer)
    Loader.add_constructor("tag:yaml.org,2002:float", floating)
    return Loader
