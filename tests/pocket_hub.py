"""A hub for tests: the part of the Hugging Face hub's protocol that its client needs to fetch a repository."""

import hashlib
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""The only commit of each repository."""

REVISIONS = {"main", "v1", COMMIT}


def hub_of(folder: Path) -> FastAPI:
    """Make a hub of the repositories in a folder, ``ORG/REPO/FILE``."""
    app = FastAPI()

    @app.get("/api/models/{org}/{repo}/{kind}/{revision}")
    def describe(org: str, repo: str, kind: str, revision: str) -> Response:
        home = folder / org / repo
        if not home.is_dir():
            return _error("RepoNotFound")
        if revision not in REVISIONS:
            return _error("RevisionNotFound")
        files = {str(path.relative_to(home)): path.stat().st_size for path in home.rglob("*") if path.is_file()}
        if kind == "tree":
            entries = [{"type": "file", "path": n, "size": size, "oid": COMMIT} for n, size in files.items()]
            return JSONResponse(entries)
        return JSONResponse({"id": f"{org}/{repo}", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]})

    @app.api_route("/{org}/{repo}/resolve/{revision}/{file:path}", methods=["GET", "HEAD"])
    def send(org: str, repo: str, revision: str, file: str) -> Response:
        path = folder / org / repo / file
        if revision not in REVISIONS or not path.is_file():
            return _error("EntryNotFound")
        content = path.read_bytes()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        return Response(content, media_type="application/octet-stream", headers=headers)

    return app


def _error(code: str) -> Response:
    return Response(status_code=404, headers={"X-Error-Code": code, "X-Error-Message": code})
