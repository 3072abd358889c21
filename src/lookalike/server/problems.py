"""Errors as RFC 9457 problem details, without the server's own affairs in them.

The library's messages are written for the person at the machine, and name files. A stranger gets them only where they
name none; what was left out is in the log.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, TypeAdapter
from starlette.exceptions import HTTPException

from lookalike.errors import (
    BusyError,
    EncoderError,
    ImageError,
    LookalikeError,
    MissingExtraError,
    NotFoundError,
    StorageError,
    UsageError,
)
from lookalike.server.shelf import Shelf

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

# Said in place of a message that names a file, and of every message about the server's own trouble.
_GENERIC: dict[type[LookalikeError], str] = {
    BusyError: "Another process is writing to the collection. Try again in a moment.",
    StorageError: "The collection's disk cannot be used. The server's log says why.",
    EncoderError: "The encoder failed. The server's log says why.",
    NotFoundError: "It is not here, or not any more.",
    ImageError: "The image cannot be used. Send a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file that opens elsewhere.",
    UsageError: "The collection cannot answer such a question. /api/collections says what it holds.",
    LookalikeError: "This did not work. The server's log says why.",
}

# A path from the root, of a drive, of a network or from home, one of lookalike's own files, an address in memory.
_INSIDE = re.compile(r"(?<![\w:/])[/~][\w.]|\b[A-Za-z]:\\|\\\\|\.lookalike\b|\.onnx\b|\.sqlite\b|\.json\b|\bat 0x")


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    field: str
    message: str


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = Field(description="What kind of problem it is: about:blank, or urn:lookalike:… for lookalike's own.")
    title: str
    status: int
    detail: str = Field(description="What was wrong with this very request, and what to do.")
    errors: list[Fault] | None = Field(None, description="Field by field, where the request does not hold together.")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Of a route, for its documentation."""
    content = {MEDIA_TYPE: {"schema": schema(Problem)}}
    return {s: {"description": HTTPStatus(s).phrase, "content": content} for s in sorted(statuses)}


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """JSON schema, with its definitions in place: OpenAPI keeps them elsewhere."""
    whole = TypeAdapter(model).json_schema()
    definitions = whole.pop("$defs", {})

    def inline(part: Any) -> Any:  # noqa: ANN401 -- any piece of JSON
        if isinstance(part, dict):
            if "$ref" in part:
                return inline(definitions[part["$ref"].rpartition("/")[2]])
            return {k: inline(v) for k, v in part.items()}
        return [inline(v) for v in part] if isinstance(part, list) else part

    out: dict[str, Any] = inline(whole)
    return out


def install(app: FastAPI) -> None:
    """Answer all errors of an application, but for those that nobody thought of: `guards.Headers` does."""

    def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, LookalikeError)  # noqa: S101 -- for the type checker
        return _of_lookalike(request, error)

    def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 -- as above
        detail = str(error.detail)
        if detail == HTTPStatus(error.status_code).phrase:  # the framework's own words, which repeat the title
            detail = f"{request.method} is not answered at this address. The manual at /docs lists what is."
        return problem(error.status_code, detail, headers=error.headers)

    def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 -- as above
        return _invalid(error.errors())

    app.add_exception_handler(LookalikeError, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)


def problem(
    status: int,
    detail: str,
    *,
    kind: str = "about:blank",
    title: str = "",
    errors: Sequence[Fault] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A response that says what went wrong."""
    body = Problem(
        type=kind,
        title=title or HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        errors=list(errors) if errors is not None else None,
    )
    return Response(
        body.model_dump_json(exclude_none=True), status, {**(headers or {}), "Cache-Control": "no-store"}, MEDIA_TYPE
    )


def unexpected() -> Response:
    """A response for an error that nobody thought of, and that is in the log."""
    return problem(500, _GENERIC[LookalikeError])


def _of_lookalike(request: Request, error: LookalikeError) -> Response:
    status = error.http_status
    detail = public(error, request.app.state.shelf)
    if detail != str(error):
        log.warning("%s %s: %s", request.method, request.url.path, error, exc_info=error if status == 500 else None)  # noqa: PLR2004 -- HTTP
    words = re.findall("[A-Z][a-z]+", type(error).__name__.removesuffix("Error")) or ["Problem"]
    return problem(
        status,
        detail,
        kind="urn:lookalike:" + "-".join(words).lower(),
        title=" ".join(words).capitalize(),
        headers={"Retry-After": "5"} if isinstance(error, BusyError) else None,
    )


def public(error: LookalikeError, shelf: Shelf) -> str:
    """What a stranger may read of an error."""
    message = str(error)
    for name, collection in shelf.collections.items():
        for path in (collection.path.resolve(), collection.path.absolute(), collection.path):
            if path != Path(path.name):  # a bare name may be a word of the message
                message = message.replace(str(path), f"“{name}”")
    own = isinstance(error, MissingExtraError)
    if (error.http_status < HTTPStatus.INTERNAL_SERVER_ERROR and not _INSIDE.search(message)) or own:
        return message
    return next(text for kind, text in _GENERIC.items() if isinstance(error, kind))


def _invalid(found: Sequence[Any]) -> Response:
    faults = []
    for one in found:
        # The first part says where the field was (query, body), which its name tells as well; a part that is no name
        # says which of several forms was taken for the one that was meant.
        parts = [str(p) for p in one["loc"] if p not in {"body", "query", "path"} and " " not in str(p)]
        faults.append(Fault(field=".".join(parts) or "body", message=one["msg"].removeprefix("Value error, ")))
    first = faults[0]
    return problem(422, f"{first.field}: {first.message}.".replace("..", "."), errors=faults)
