"""Limits of the JSON in a request: of its size beside the images, its depth and its shape.

A parser holds the interpreter's lock, so a request that is slow to parse would stop all others. An image in Base64 is parsed
quickly, so only the rest counts.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError

from lookalike.untrusted.parsing import ParseError, parse_json

MAX_JSON = 2**19
"""Maximum bytes of JSON beside the images of a request."""

MAX_VALUES = 10_000
"""Maximum number of values in a list."""

MAX_KEYS = 100
"""Maximum number of keys in an object."""

_LONG = 2**12  # bytes of a string that counts as an image


def check_json(data: bytes, max_images: int) -> None:
    """Check JSON that may contain a number of images.

    Raises:
        HTTPException: 413: there is too much beside the images.
        RequestValidationError: it is not JSON, or exceeds another limit.
    """
    _check("body", _without_images(data, max_images))


def check_texts(fields: Mapping[str, str]) -> None:
    """Check the text fields of a form, which may contain JSON; raises as `check_json`."""
    if sum(map(len, fields.values())) > MAX_JSON:
        raise _too_large()
    for name, text in fields.items():
        if text.lstrip()[:1] in {"{", "["}:
            _check(name, text)


def _check(name: str, text: str | bytes) -> None:
    try:
        tree = parse_json(text, MAX_JSON)
    except ParseError as e:
        raise _invalid(name, f"not valid JSON: {e}") from e
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if len(node) > MAX_KEYS:
                raise _invalid(name, f"an object has {len(node):,} keys, more than {MAX_KEYS:,}")
            nodes.extend(node.values())
        elif isinstance(node, list):
            if len(node) > MAX_VALUES:
                raise _invalid(name, f"a list has {len(node):,} values, more than {MAX_VALUES:,}")
            nodes.extend(node)


def _without_images(data: bytes, max_images: int) -> bytes:
    """Empty the first long strings of JSON, which are images, and stop where the rest exceeds its limit."""
    parts, size, images, begin = list[bytes](), 0, 0, 0
    while (quote := data.find(b'"', begin)) >= 0:
        end = _end_of_string(data, quote)
        is_image = end - quote > _LONG and images < max_images
        images += is_image
        parts.append(data[begin : quote + 1] + b'"' if is_image else data[begin : end + 1])
        size += len(parts[-1])
        if size > MAX_JSON:
            raise _too_large()
        begin = end + 1
    if size + len(data) - begin > MAX_JSON:
        raise _too_large()
    return b"".join([*parts, data[begin:]])


def _end_of_string(data: bytes, quote: int) -> int:
    """Return the place of the quote that ends a string, or the end of the data."""
    begin = quote + 1
    while (end := data.find(b'"', begin)) >= 0:
        part = data[begin:end]
        if (len(part) - len(part.rstrip(b"\\"))) % 2 == 0:
            return end
        begin = end + 1
        if begin - quote > MAX_JSON:  # no image has an escaped quote
            raise _too_large()
    return len(data)


def _too_large() -> HTTPException:
    return HTTPException(413, f"The request has more than {MAX_JSON:,} bytes beside its images. Send shorter lists.")


def _invalid(name: str, message: str) -> RequestValidationError:
    loc: tuple[Any, ...] = ("body",) if name == "body" else ("body", name)
    return RequestValidationError([{"type": "value_error", "loc": loc, "msg": message}])
