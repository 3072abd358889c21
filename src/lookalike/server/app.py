"""The ASGI application that serves collections.

::

    app = create_app([Collection.open("shop.lookalike")])
    uvicorn.run(app)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from lookalike.collection import Collection
from lookalike.errors import UsageError
from lookalike.server import classify, collections, docs, images, indexing, items, problems, search, verify
from lookalike.server.body_limit import BodyLimit
from lookalike.server.files import FileAccess
from lookalike.server.hosts import AllowedHosts, check_hosts
from lookalike.server.middleware import Headers, SameSite
from lookalike.server.schemas import MAX_COUNT
from lookalike.server.served import ServedCollections, check_names
from lookalike.version import __version__

MAX_BODY = 32 * 2**20
"""Maximum size of a request's body, in bytes."""

_STATIC = Path(__file__).with_name("static")


class ServerOptions(TypedDict, total=False):
    """Options of `create_app`.

    Attributes:
        read_only: refuse to add and remove items.
        origins: origins of pages on other hosts that may use this server, such as ``https://shop.example``; ``*`` allows
            all.
        allowed_hosts: names and addresses in the Host header that this server answers for, besides loopback names and the
            address that a request came to; ``*`` allows all.
        max_body: maximum size of a request's body, in bytes; 32 MiB by default.
        max_hits: maximum number of hits of a range search; an answer that leaves hits out is not complete.
        roots: folders of images that this server may show, besides those that its user indexed into the collections on this
            machine. It shows no other file that a catalogue names.
        show_paths: items have the path of their file. Only for servers that nobody else reaches.
    """

    read_only: bool
    origins: Sequence[str]
    allowed_hosts: Sequence[str]
    max_body: int
    max_hits: int
    roots: Sequence[Path]
    show_paths: bool


def create_app(served: Sequence[Collection], **options: Unpack[ServerOptions]) -> FastAPI:
    """Make an application that serves collections.

    Args:
        served: the collections; the first one answers the simple contract. The caller closes them after serving.
        options: see `ServerOptions`.

    Raises:
        UsageError: there is no collection, two have the same name, or an option is unknown or has a wrong value.
    """
    if unknown := sorted(options.keys() - ServerOptions.__annotations__.keys()):
        known = ", ".join(ServerOptions.__annotations__)
        raise UsageError(f"A server has no option “{unknown[0]}”; it has {known}.")
    origins, max_hits = options.get("origins", ()), options.get("max_hits", MAX_COUNT)
    names = [collection.name for collection in served]
    if not names:
        raise UsageError("A server needs at least one collection.")
    check_names(served)
    if max_hits < 1:
        raise UsageError(f"The limit of hits must be at least 1, not {max_hits}.")
    hosts = check_hosts(options.get("allowed_hosts", ()))
    files = {collection.name: FileAccess(collection, options.get("roots", ())) for collection in served}
    app = FastAPI(
        title="lookalike",
        version=__version__,
        description="Finds images that look alike. Errors are RFC 9457 problem details.",
        docs_url=None,  # FastAPI's page loads scripts from another host; `docs` replaces it
        redoc_url=None,
        redirect_slashes=False,
        lifespan=indexing.build_indexes(served),
    )
    app.state.served = ServedCollections(
        dict(zip(names, served, strict=True)),
        files,
        read_only=options.get("read_only", False),
        max_hits=max_hits,
        show_paths=options.get("show_paths", False),
    )
    for module in (collections, items, images, search, verify, classify):
        app.include_router(module.router)

    @app.get("/docs", include_in_schema=False)
    def get_docs() -> HTMLResponse:
        return HTMLResponse(docs.render(app.openapi()))

    app.mount("/", StaticFiles(directory=_STATIC, html=True), name="page")
    problems.install(app)
    # A request passes through the middleware that is added last first.
    app.add_middleware(SameSite, origins=origins)
    app.add_middleware(AllowedHosts, hosts=hosts)
    app.add_middleware(BodyLimit, max_body=options.get("max_body", MAX_BODY))
    app.add_middleware(Headers)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "HEAD", "POST", "DELETE"],
        allow_headers=["Content-Type"],
        expose_headers=["ETag", "Location", "Retry-After"],
        max_age=3600,
    )
    return app
