"""Forms with files: ``multipart/form-data`` (RFC 7578), read by python-multipart from a body that has arrived.

Reading happens in a thread. Starlette's reader would do so on the event loop, while the bytes arrive.
"""

from dataclasses import dataclass, field

from fastapi import HTTPException
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from lookalike.tables import plural

MAX_FIELDS = 20
"""Maximum number of text fields of a form."""

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
    form, parts = Form(), {Field: 0, File: 0}
    limits = {Field: (MAX_FIELDS, "field"), File: (max_files, "file")}

    def name(part: Field | File) -> str:
        parts[type(part)] += 1
        limit, kind = limits[type(part)]
        if parts[type(part)] > limit:
            raise HTTPException(400, f"The form has more than {plural(limit, kind)}. Leave the others out.")
        if not part.field_name:
            raise _malformed("A part has no name")
        return _decode(part.field_name)

    def add_field(part: Field) -> None:
        form.fields[name(part)] = _decode(part.value or b"")

    def add_file(part: File) -> None:
        part.file_object.seek(0)
        form.files[name(part)] = FormFile(_unescape(_decode(part.file_name or b"")), part.file_object.read())

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise _malformed("Its Content-Type states no boundary")
    complete: list[bool] = []
    try:
        parser = FormParser(
            "multipart/form-data",
            add_field,
            add_file,
            on_end=lambda: complete.append(True),
            boundary=boundary,
            config={"MAX_MEMORY_FILE_SIZE": len(body) + 1},  # the body is in memory already
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as e:
        raise _malformed("A part of it cannot be read") from e
    if not complete:
        raise _malformed("It is cut off, or has no part")
    return form


def _unescape(text: str) -> str:
    for escape, character in _ESCAPES:
        text = text.replace(escape, character)
    return text


def _decode(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as e:
        raise _malformed("A text in it is not UTF-8") from e


def _malformed(reason: str) -> HTTPException:
    return HTTPException(400, f"The form is malformed. {reason}. Send multipart/form-data, as curl -F does.")
