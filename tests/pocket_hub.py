"""A hub for tests: the part of the Hugging Face hub's protocol that its client needs to fetch a repository."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""The only commit of each repository."""

REVISIONS = {"main", "v1", COMMIT}

TOKEN = "hf_pocket"
"""The token that gives access to gated repositories, those of the organisation ``gated``."""


def hub_of(folder: Path, sent: list[str] | None = None, break_at: int | None = None) -> FastAPI:
    """Make a hub of the repositories in a folder, ``ORG/REPO/FILE``.

    Args:
        folder: the repositories.
        sent: receives ``FILE RANGE`` of each download.
        break_at: the first download of a larger file breaks off after so many bytes.
    """
    app = FastAPI()
    broken: set[str] = set()

    @app.get("/api/models/{org}/{repo}/{kind}/{revision}")
    def describe(org: str, repo: str, kind: str, revision: str, request: Request) -> Response:
        home = folder / org / repo
        if problem := _refuse(home, revision, request):
            return problem
        files = {str(path.relative_to(home)): path.stat().st_size for path in home.rglob("*") if path.is_file()}
        if kind == "tree":
            entries = [{"type": "file", "path": n, "size": size, "oid": COMMIT} for n, size in files.items()]
            return JSONResponse(entries)
        return JSONResponse({"id": f"{org}/{repo}", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]})

    @app.api_route("/{org}/{repo}/resolve/{revision}/{file:path}", methods=["GET", "HEAD"])
    def send(org: str, repo: str, revision: str, file: str, request: Request) -> Response:
        path = folder / org / repo / file
        if _is_closed(org, request):
            return _error("GatedRepo", 403)
        if revision not in REVISIONS or not path.is_file():
            return _error("EntryNotFound")
        content = path.read_bytes()
        headers = {
            "X-Repo-Commit": COMMIT,
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "Accept-Ranges": "bytes",
        }
        asked = request.headers.get("Range", "")
        if sent is not None and request.method == "GET":
            sent.append(f"{file} {asked}".strip())
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        breaks = (
            request.method == "GET" and break_at is not None and len(content) - start > break_at and file not in broken
        )
        if breaks:
            broken.add(file)
        return _content(content, start, headers, break_at if breaks else None)

    return app


def _refuse(home: Path, revision: str, request: Request) -> Response | None:
    if not home.is_dir():
        return _error("RepoNotFound")
    if _is_closed(home.parent.name, request):
        return _error("GatedRepo", 403)
    return None if revision in REVISIONS else _error("RevisionNotFound")


def _is_closed(org: str, request: Request) -> bool:
    return org == "gated" and request.headers.get("Authorization") != f"Bearer {TOKEN}"


def _content(content: bytes, start: int, headers: dict[str, str], break_at: int | None) -> Response:
    rest, status = content[start:], 206 if start else 200
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    if break_at is None:
        return Response(rest, status, headers=headers, media_type="application/octet-stream")
    headers["Content-Length"] = str(len(rest))
    return StreamingResponse(_broken(rest[:break_at]), status, headers=headers)


def _broken(content: bytes) -> Iterator[bytes]:
    yield content
    raise ConnectionResetError


def _error(code: str, status: int = 404) -> Response:
    return Response(status_code=status, headers={"X-Error-Code": code, "X-Error-Message": code})
