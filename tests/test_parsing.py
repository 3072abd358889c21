"""JSON and YAML of strangers: limits, and one error class."""

import json
import os
from pathlib import Path

import pytest

from lookalike.untrusted import parsing
from lookalike.untrusted.parsing import MAX_DEPTH, ParseError, parse_json, parse_yaml, read_bytes, read_json, read_yaml

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

REFUSED_BY_BOTH = [
    ("9" * 6_000, "number 9999999999… has 6,000 characters"),
    ("[" * 100_000, "more than 64"),
    ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "more than 64"),
    ('{"a": ' * 70 + "1" + "}" * 70, "more than 64"),
    ('{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' occurs twice"),
    (b'"\xff"', "byte 2 is not UTF-8"),
    ("[1, 2", "line 1"),
    (" " * (parsing.MAX_BYTES + 1), "bytes"),
]


@pytest.mark.parametrize(("content", "message"), REFUSED_BY_BOTH)
@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
def test_json_and_yaml_beyond_a_limit_are_refused_in_one_line(parse: object, content: str, message: str) -> None:
    assert callable(parse)
    with pytest.raises(ParseError, match=message) as error:
        parse(content)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("NaN", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("1e999", "1e999 is too large"),
        ("1." + "0" * 200, "characters"),
        ("", "line 1, column 1"),
        ('{"a": 1}\n{"a": 1}', "line 2, column 1: extra data"),
        ('"' + '\\"[' * 1_000_000, "unterminated string"),
        ("[" * 65 + '"' + "]" * 65, "more than 64"),
        ('["]]]]",' * 65 + "1", "more than 64"),
        ("]" * 100 + "[" * 100, "more than 64"),
    ],
)
def test_other_json_is_refused_in_one_line(content: str, message: str) -> None:
    with pytest.raises(ParseError, match=message) as error:
        parse_json(content)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LAUGHS, "more than 100,000 values"),
        ("&a [*a]", r"alias \*a is inside its own anchor"),
        ("a: &a {b: *a}", "inside its own anchor"),
        ("*a", "undefined alias"),
        ("- " * 100 + "a", "more than 64"),
        ("!!python/object/apply:os.system [ls]", "tag tag:yaml.org,2002:python/object"),
        ("!!timestamp x", "tag"),
        ("!!bool x", "tag"),
        (".nan", "not finite"),
        (".inf", "not finite"),
        ("1" + ":30" * 50_000, "characters"),
        ("0x_", "invalid literal"),
        ("2020-13-99", "month must be in"),
        ("a\0b", "special characters are not allowed"),
        ("a: 1\na: 2", "key 'a' occurs twice"),
        ("{[1]: 2}", "unhashable key"),
        ("a: b: c", "line 1, column 5"),
        ("a\n---\nb", "line 2"),
        ("=", "line 1"),
    ],
)
def test_other_yaml_is_refused_in_one_line(content: str, message: str) -> None:
    with pytest.raises(ParseError, match=message) as error:
        parse_yaml(content)
    assert "\n" not in str(error.value)


def test_json_within_the_limits_is_parsed() -> None:
    tree = {"a": [1, -2.5, None, True], "[[{": '\\"[' * 1000, "\ud800": "line\nbreak"}
    assert parse_json(json.dumps(tree)) == tree
    assert parse_json(b"\xef\xbb\xbf" + json.dumps(tree).encode()) == tree
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_json(deepest) == json.loads(deepest)
    assert parse_json(f'[{"[]," * 1000}"{"[" * 1000}"]')[-1] == "[" * 1000


def test_yaml_within_the_limits_is_parsed() -> None:
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_yaml(deepest) == json.loads(deepest)
    assert parse_yaml("a: &x {b: 1}\nc: {<<: *x, b: 2}\nd: *x") == {"a": {"b": 1}, "c": {"b": 2}, "d": {"b": 1}}
    assert parse_yaml("") is None


def test_a_file_is_read_within_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "tree.json"
    path.write_text('{"a": 1}')
    assert read_json(path, 8) == read_yaml(path) == {"a": 1}
    with pytest.raises(ParseError, match="more than 7 bytes"):
        read_json(path, 7)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_or_a_device_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ParseError, match="pipe or a device"):
            read_json(path)


def test_a_pipe_that_takes_the_place_of_a_file_is_refused_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    regular = Path(__file__).stat()
    monkeypatch.setattr(Path, "stat", lambda _: regular)
    with pytest.raises(ParseError, match="pipe or a device"):
        read_bytes(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["missing", "nul\0", "half\ud800", "x" * 5000])
def test_a_file_that_does_not_exist_raises_an_error_of_the_system(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011 -- the class says it
        parsing.read_json(tmp_path / name)


def test_a_folder_raises_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        read_json(tmp_path)
