"""Errors as RFC 9457 problem details, without paths or other internals of the server.

The library's messages are written for the owner of the machine: they may name files, commands and settings. A client gets a
message without the owner's hint. If the rest names a file, a command or a setting, it gets a generic one, and the log has the
original.
"""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, TypeAdapter
from starlette.exceptions import HTTPException

from lookalike.collection import Collection
from lookalike.errors import (
    BusyError,
    EncoderError,
    ImageError,
    LookalikeError,
    MismatchError,
    MissingExtraError,
    NotFoundError,
    StorageError,
    UsageError,
    plain_reason,
)
from lookalike.tables import printable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

BODY_ERRORS = (400, 408, 413)
"""Errors of every route with a body: it is malformed, too slow or too large."""

_ASK = "Ask the server's owner; the server's log says why."

# Replacements for messages with internals or with advice for the owner, and for all messages about failures of the server.
_GENERIC: dict[type[LookalikeError], str] = {
    BusyError: "Another process is writing to the collection. Try again in a moment.",
    StorageError: f"The collection's disk cannot be used. {_ASK}",
    EncoderError: f"The encoder failed. {_ASK}",
    MissingExtraError: "This server lacks a part that the request needs. Ask the server's owner; the server's log says which.",
    NotFoundError: "This does not exist; it may have been removed. Choose another item or collection.",
    MismatchError: f"The collection does not fit its encoder, or another collection. {_ASK}",
    ImageError: "The image cannot be used. Send a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file that opens elsewhere.",
    UsageError: "This collection does not support that query. GET /api/collections describes the collections.",
    LookalikeError: f"The request failed. {_ASK}",
}

# Commands, options and settings, which only the owner can use.
_FOR_OWNER = re.compile(r"\bLOOKALIKE_[A-Z]|(?<![\w-])--[a-z]|\blookalike [a-z]|\bpip install\b")

# A list may have thousands of invalid values; an answer names the first ones.
_MAX_ERRORS = 20

# Absolute paths, paths on a drive, on a network or in a home folder, files of lookalike, addresses in memory.
_INTERNAL = re.compile(r"(?<![\w:/])[/~][\w.]|\b[A-Za-z]:\\|\\\\|\.lookalike\b|\.onnx\b|\.sqlite\b|\.json\b|\bat 0x")


class FieldError(BaseModel):
    """A field of a request that is invalid."""

    field: str
    message: str


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = Field(description="The kind of problem: about:blank, or urn:lookalike:… for an error of lookalike.")
    title: str
    status: int
    detail: str = Field(description="The error, and what to do.")
    errors: list[FieldError] | None = Field(None, description="The invalid fields, if the request is invalid.")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the error responses of a route for OpenAPI."""
    content = {MEDIA_TYPE: {"schema": schema(Problem)}}
    return {s: {"description": HTTPStatus(s).phrase, "content": content} for s in sorted(statuses)}


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a model with inlined definitions, since OpenAPI keeps definitions elsewhere."""
    root = TypeAdapter(model).json_schema()
    definitions = root.pop("$defs", {})

    def inline(part: Any) -> Any:  # noqa: ANN401 -- any piece of JSON
        if isinstance(part, dict):
            if "$ref" in part:
                return inline(definitions[part["$ref"].rpartition("/")[2]])
            return {k: inline(v) for k, v in part.items()}
        return [inline(v) for v in part] if isinstance(part, list) else part

    inlined: dict[str, Any] = inline(root)
    return inlined


def install(app: FastAPI) -> None:
    """Answer the errors of an application as problem details; `middleware.Headers` answers unexpected ones."""

    def handle_lookalike_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, LookalikeError)  # noqa: S101 -- for the type checker
        return _from_lookalike_error(request, error)

    def handle_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 -- as above
        detail = str(error.detail)
        if detail == HTTPStatus(error.status_code).phrase:  # Starlette's default, which repeats the title
            detail = f"This address does not answer {request.method}. /docs lists the addresses."
        return problem(error.status_code, detail, headers=error.headers)

    def handle_validation_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 -- as above
        return _from_validation_errors(error.errors())

    app.add_exception_handler(LookalikeError, handle_lookalike_error)
    app.add_exception_handler(HTTPException, handle_http_exception)
    app.add_exception_handler(RequestValidationError, handle_validation_error)


def problem(
    status: int,
    detail: str,
    *,
    kind: str = "about:blank",
    title: str = "",
    errors: Sequence[FieldError] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Make a response that describes a problem."""
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


def busy(detail: str, seconds: float) -> HTTPException:
    """Make the error of a request that can be sent again after some seconds: 503 with Retry-After."""
    return HTTPException(503, detail, {"Retry-After": str(math.ceil(seconds))})


def unexpected() -> Response:
    """Make the response to an unexpected error, which the log describes."""
    return problem(500, _GENERIC[LookalikeError])


def _from_lookalike_error(request: Request, error: LookalikeError) -> Response:
    status = error.http_status
    detail = public_message(error, request.app.state.served.collections)
    if detail is None:
        detail = next(text for kind, text in _GENERIC.items() if isinstance(error, kind))
        line = printable(f"{request.method} {request.scope['path']}: {error}")
        log.warning("%s", line, exc_info=error if status == HTTPStatus.INTERNAL_SERVER_ERROR else None)
    words = re.findall("[A-Z][a-z]+", type(error).__name__.removesuffix("Error")) or ["Problem"]
    return problem(
        status,
        detail,
        kind="urn:lookalike:" + "-".join(words).lower(),
        title=" ".join(words).capitalize(),
        headers={"Retry-After": "5"} if isinstance(error, BusyError) else None,
    )


def public_message(error: LookalikeError, collections: Mapping[str, Collection]) -> str | None:
    """Return the message of an error for a client, with names of collections instead of paths; None if it has internals."""
    message = error.message
    for name, collection in collections.items():
        for path in (collection.path.resolve(), collection.path.absolute(), collection.path):
            if path != Path(path.name):  # a bare name may also be a word of the message
                message = message.replace(str(path), f"“{name}”")
    is_failure = error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return None if is_failure or _INTERNAL.search(message) or _FOR_OWNER.search(message) else message


def _from_validation_errors(errors: Sequence[Any]) -> Response:
    fields = []
    for error in errors[:_MAX_ERRORS]:
        # Clients know the field by its name, without body, query or path. A part with a space is the tag of a union.
        parts = [str(p) for p in error["loc"] if p not in {"body", "query", "path"} and " " not in str(p)]
        fields.append(FieldError(field=".".join(parts) or "body", message=plain_reason(error["msg"])))
    first = fields[0]
    return problem(422, f"{first.field}: {first.message.removesuffix('.')}.", errors=fields)
