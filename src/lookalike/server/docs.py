"""The page at ``/docs``: the OpenAPI description as HTML, without scripts and without requests to other hosts."""

from collections.abc import Iterator
from html import escape
from typing import Any

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} API</title>
<link rel="icon" href="icon.svg">
<link rel="stylesheet" href="docs.css">
<main>
<h1>{title} <small>API {version}</small></h1>
<p>{description} For programs: <a href="openapi.json">openapi.json</a>.</p>
{operations}
</main>
</html>
"""


def render(schema: dict[str, Any]) -> str:
    """Render an OpenAPI description as HTML."""
    operations = [
        "\n".join(_operation(method, path, operation))
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    info = schema["info"]
    return _PAGE.format(
        title=escape(info["title"]),
        version=escape(info["version"]),
        description=escape(info["description"]),
        operations="\n".join(operations),
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f'<section><h2><b class="{method}">{method.upper()}</b> <code>{escape(path)}</code></h2>'
    yield f"<p>{escape(operation.get('description', operation['summary']))}</p>"
    if parameters := operation.get("parameters"):
        yield "<table><caption>Parameters</caption>"
        for p in parameters:
            yield _row(f"{p['name']} <i>{p['in']}</i>", p.get("description", ""), escaped=True)
        yield "</table>"
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<table><caption>Body, {escape(kind)}</caption>"
        for name, field in body["schema"].get("properties", {}).items():
            yield _row(name, field.get("description") or field.get("format") or field.get("type", ""))
        yield "</table>"
    yield "<table><caption>Answers</caption>"
    for status, response in operation["responses"].items():
        yield _row(status, response["description"])
    yield "</table></section>"


def _row(name: str, text: str, *, escaped: bool = False) -> str:
    return f"<tr><th>{name if escaped else escape(name)}</th><td>{escape(text)}</td></tr>"
