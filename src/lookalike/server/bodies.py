"""Request bodies that are either JSON or a form with files.

The event loop receives a body. The route decodes and checks it in a thread.
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

_MAX_FIELDS = 20

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Body:
    """The body of a request.

    Attributes:
        json: the JSON text; None for a form.
        fields: the text fields of a form, by name.
        files: the files of a form, by name.
    """

    json: bytes | None = None
    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, UploadFile] = field(default_factory=dict)


def _receiver(max_files: int) -> Callable[[Request], AsyncIterator[Body]]:
    async def receive(request: Request) -> AsyncIterator[Body]:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type == "application/json":
            yield Body(json=await request.body())
        elif media_type == "multipart/form-data":
            async with request.form(max_files=max_files, max_fields=_MAX_FIELDS) as form:
                yield Body(
                    fields={k: v for k, v in form.items() if isinstance(v, str)},
                    files={k: v for k, v in form.items() if isinstance(v, UploadFile)},
                )
        else:
            raise HTTPException(415, "Send application/json, or multipart/form-data with a file.")

    return receive


OneImage = Annotated[Body, Depends(_receiver(1))]
"""A body with at most one file."""

TwoImages = Annotated[Body, Depends(_receiver(2))]
"""A body with at most two files."""


def form_images(body: Body, *names: str) -> dict[str, bytes]:
    """Return the images of a form by name, from files and from fields in Base64.

    Raises:
        ImageError: a field is not Base64.
    """
    from_files = {name: body.files[name].file.read() for name in names if name in body.files}
    return from_files | {name: images.from_base64(body.fields[name]) for name in names if name in body.fields}


def form_fields(body: Body, model: type[M], *image_names: str) -> M:
    """Validate the fields of a form, without those that hold images.

    Raises:
        RequestValidationError: the fields do not fit the model.
    """
    return validate(model, {name: text for name, text in body.fields.items() if name not in image_names})


def validate(model: type[M], data: bytes | Mapping[str, str]) -> M:
    """Validate JSON, or the fields of a form, against a model.

    Raises:
        RequestValidationError: the data does not fit the model.
    """
    try:
        return model.model_validate_json(data) if isinstance(data, bytes) else model.model_validate(data)
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
