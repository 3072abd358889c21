"""Requests that are either JSON or a form with a file, read without holding up the others.

The body is received on the event loop; what takes time (decoding, checking) is left to the route, in its thread.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Depends, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile

from lookalike import images
from lookalike.server.problems import schema

_MOST_FIELDS = 20

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Body:
    """What was received: JSON, or the fields and the files of a form."""

    json: bytes | None = None
    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, UploadFile] = field(default_factory=dict)

    def file(self, name: str) -> bytes | None:
        """The content of a file."""
        return self.files[name].file.read() if name in self.files else None


def _receiver(most_files: int) -> Callable[[Request], AsyncIterator[Body]]:
    async def received(request: Request) -> AsyncIterator[Body]:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            yield Body(json=await request.body())
        elif kind == "multipart/form-data":
            async with request.form(max_files=most_files, max_fields=_MOST_FIELDS) as form:
                yield Body(
                    fields={k: v for k, v in form.items() if isinstance(v, str)},
                    files={k: v for k, v in form.items() if isinstance(v, UploadFile)},
                )
        else:
            raise HTTPException(415, "Send application/json, or multipart/form-data with a file.")

    return received


Received = Annotated[Body, Depends(_receiver(1))]
"""With one picture."""

ReceivedPair = Annotated[Body, Depends(_receiver(2))]
"""With two."""


def pictures(body: Body, *names: str) -> dict[str, bytes]:
    """The pictures of a form by name, whether they came as files or as Base64 in a field.

    Raises:
        ImageError: a field is no Base64.
    """
    found = {name: data for name in names if (data := body.file(name)) is not None}
    return found | {name: images.from_base64(body.fields[name]) for name in names if name in body.fields}


def checked(model: type[M], given: bytes | Mapping[str, str]) -> M:
    """JSON, or the fields of a form, as a model.

    Raises:
        RequestValidationError: it does not fit.
    """
    try:
        return model.model_validate_json(given) if isinstance(given, bytes) else model.model_validate(given)
    except ValidationError as e:
        raise RequestValidationError(e.errors(include_url=False, include_context=False, include_input=False)) from e


def documented(json: type[BaseModel], form: type[BaseModel], *files: str) -> dict[str, Any]:
    """The request's body for OpenAPI, which cannot be seen in the signature of a route."""
    with_files = schema(form)
    with_files["properties"] = {
        **{name: {"type": "string", "format": "binary"} for name in files},
        **{k: v for k, v in with_files["properties"].items() if k not in files},
    }
    content = {"application/json": {"schema": schema(json)}, "multipart/form-data": {"schema": with_files}}
    return {"requestBody": {"required": True, "content": content}}
