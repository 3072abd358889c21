"""Request bodies that are either JSON or a form with files.

The event loop receives a body. Then the request waits for a slot to compute, and a thread reads the body.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Depends, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from lookalike import images
from lookalike.server.forms import Form, parse_form
from lookalike.server.json_limits import check_json, check_texts
from lookalike.server.problems import schema
from lookalike.server.schemas import MAX_EXAMPLES
from lookalike.server.served import ComputeSlot

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Body:
    """The body of a request.

    Attributes:
        json: the JSON text; None for a form.
        form: the form; empty for JSON.
    """

    json: bytes | None = None
    form: Form = field(default_factory=Form)


async def _receive(request: Request) -> bytes:
    body = bytearray()  # Starlette's list of parts takes forty times the memory if they are of one byte
    async for part in request.stream():
        body += part
    return bytes(body)


RawBody = Annotated[bytes, Depends(_receive)]
"""The bytes of a body."""


def _reader(max_files: int) -> Callable[[Request, bytes, None], Body]:
    def read(request: Request, body: RawBody, _: ComputeSlot) -> Body:
        content_type = request.headers.get("content-type", "")
        match content_type.partition(";")[0].strip().lower():
            case "application/json":
                return Body(json=body)
            case "multipart/form-data":
                return Body(form=parse_form(content_type, body, max_files))
            case _:
                raise HTTPException(415, "Send application/json, or multipart/form-data with a file.")

    return read


OneImage = Annotated[Body, Depends(_reader(1))]
"""A body with at most one file."""

TwoImages = Annotated[Body, Depends(_reader(2))]
"""A body with at most two files."""

ImageAndExamples = Annotated[Body, Depends(_reader(1 + MAX_EXAMPLES))]
"""A body with at most one file, and one for each example."""


def form_images(body: Body, *names: str) -> dict[str, bytes]:
    """Return the images of a form by name, from files and from fields in Base64.

    Raises:
        ImageError: a field is not Base64.
    """
    files, fields = body.form.files, body.form.fields
    from_files = {name: files[name].content for name in names if name in files}
    return from_files | {name: images.from_base64(fields[name]) for name in names if name in fields}


def form_fields(body: Body, model: type[M], *image_names: str) -> M:
    """Validate the fields of a form, without those that hold images.

    Raises:
        HTTPException: 413: the fields are too long.
        RequestValidationError: the fields do not fit the model.
    """
    fields = {name: text for name, text in body.form.fields.items() if name not in image_names}
    check_texts(fields)
    return _validate(model.model_validate, fields)


def validate_json(model: type[M], data: bytes, max_images: int = 2) -> M:
    """Validate JSON against a model.

    Args:
        model: the model.
        data: the JSON.
        max_images: maximum number of images in Base64.

    Raises:
        HTTPException: 413: there is too much JSON beside the images.
        RequestValidationError: it is not JSON, or does not fit the model.
    """
    check_json(data, max_images)
    return _validate(model.model_validate_json, data)


D = TypeVar("D", bytes, dict[str, str])


def _validate(validate: Callable[[D], M], data: D) -> M:
    try:
        return validate(data)
    except ValidationError as e:
        raise RequestValidationError(e.errors(include_url=False, include_context=False, include_input=False)) from e


def invalid_field(name: str, message: str) -> RequestValidationError:
    """Make the error for a field whose value suits its type but not the collection."""
    return RequestValidationError([{"type": "value_error", "loc": ("body", name), "msg": message.rstrip(".")}])


def documented(json: type[BaseModel], form: type[BaseModel], *files: str) -> dict[str, Any]:
    """Describe a body for OpenAPI, since FastAPI cannot read it from the signature of the route."""
    form_schema = schema(form)
    form_schema["properties"] = {
        **{name: {"type": "string", "format": "binary"} for name in files},
        **{k: v for k, v in form_schema["properties"].items() if k not in files},
    }
    content = {"application/json": {"schema": schema(json)}, "multipart/form-data": {"schema": form_schema}}
    return {"requestBody": {"required": True, "content": content}}
