"""Forms with files: ``multipart/form-data`` (RFC 7578), read from a body that has arrived.

Reading happens in a thread. A parser that reads while the bytes arrive would do so on the event loop.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from fastapi import HTTPException

MAX_FIELDS = 20
"""Maximum number of text fields of a form."""

_MAX_HEADERS = 8192
"""Maximum bytes of the headers of one part."""

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"\r\n]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_DISPOSITION = re.compile(r"content-disposition:[ \t]*form-data\b(.*)", re.IGNORECASE)
_PARAMETER = re.compile(r';\s*(name|filename\*?)\s*=\s*(?:"((?:[^"\\]|\\.)*+)"|([^\s;"]++))', re.IGNORECASE)
# Browsers write these three characters of a file name in this way.
_ESCAPES = (("%22", '"'), ("%0D", "\r"), ("%0A", "\n"))


@dataclass(frozen=True)
class FormFile:
    """A file of a form: its name, which may be empty, and its content."""

    filename: str
    content: bytes


@dataclass(frozen=True)
class Form:
    """The text fields and the files of a form, by the name of the field; the last one of a name counts."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, FormFile] = field(default_factory=dict)


def parse_form(content_type: str, body: bytes, max_files: int) -> Form:
    """Read a form.

    Args:
        content_type: the header of the request, which states the boundary of the parts.
        body: the body.
        max_files: maximum number of files; a form has at most `MAX_FIELDS` other fields.

    Raises:
        HTTPException: 400: the form is malformed or cut off, or has too many parts.
    """
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise _malformed("Its Content-Type states no boundary")
    form, files, fields = Form(), 0, 0
    for headers, content in _split(body, b"--" + (match[1] or match[2]).encode("latin-1", "replace")):
        name, filename = _read_disposition(headers)
        if filename is not None:
            files += 1
            form.files[name] = FormFile(filename, content)
        else:
            fields += 1
            form.fields[name] = _decode(content)
        if files > max_files or fields > MAX_FIELDS:
            raise _malformed(f"It has more than {max_files} files or {MAX_FIELDS} fields")
    return form


def _split(body: bytes, delimiter: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield headers and content of each part."""
    begin = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    if begin == 1:
        raise _malformed("It has no part")
    while True:
        begin += len(delimiter)
        if body.startswith(b"--", begin):
            return
        headers = body.find(b"\r\n", begin, begin + 100)  # white space may come before
        content = body.find(b"\r\n\r\n", begin, begin + _MAX_HEADERS)
        end = body.find(b"\r\n" + delimiter, content + 2)  # an empty part has only the line break of its headers
        if headers < 0 or content < 0 or end < 0:
            raise _malformed("It is cut off, or a part has no headers")
        yield _decode(body[headers + 2 : content]), body[content + 4 : end]
        begin = end + 2


def _read_disposition(headers: str) -> tuple[str, str | None]:
    """Return the name of the field, and of the file if the part is one."""
    for line in headers.split("\r\n"):
        if match := _DISPOSITION.match(line):
            found = {m[1].lower(): _unescape(m[2] or m[3] or "") for m in _PARAMETER.finditer(match[1])}
            if "name" in found:
                extended = found.get("filename*")  # RFC 5987: UTF-8''caf%C3%A9.jpg
                return found["name"], found.get("filename") if extended is None else unquote(
                    extended.rpartition("'")[2]
                )
    raise _malformed("A part has no name")


def _unescape(text: str) -> str:
    for escape, character in _ESCAPES:
        text = text.replace(escape, character)
    return re.sub(r'\\(["\\])', r"\1", text)


def _decode(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as e:
        raise _malformed("A text in it is not UTF-8") from e


def _malformed(reason: str) -> HTTPException:
    return HTTPException(400, f"The form is malformed. {reason}. Send multipart/form-data, as curl -F does.")
