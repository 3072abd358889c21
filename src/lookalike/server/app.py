"""The application: collections in, an ASGI application out.

app = create_app([Collection.open("shop.lookalike")])
uvicorn.run(app)
"""

from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from lookalike import __version__
from lookalike.collection import Collection
from lookalike.errors import UsageError
from lookalike.server import catalog, indexing, items, judging, manual, pictures, problems, searching
from lookalike.server.guards import BodyLimit, Headers, SameSite
from lookalike.server.shapes import MOST
from lookalike.server.shelf import Shelf

MAX_BODY = 32 * 2**20

_PAGE = Path(__file__).with_name("static")


def create_app(
    collections: Sequence[Collection],
    *,
    read_only: bool = False,
    origins: Sequence[str] = (),
    max_body: int = MAX_BODY,
    max_hits: int = MOST,
) -> FastAPI:
    """Serve collections.

    Args:
        collections: the first one answers the simple contract. They stay the caller's, to be closed after serving.
        read_only: refuse to add and remove items.
        origins: of pages on other hosts that may use this server, such as ``https://shop.example``; ``*`` for any.
        max_body: bytes of a request's body, at most.
        max_hits: of a search within a distance; beyond, its answer is not complete.

    Raises:
        UsageError: no collection, or two of the same name.
    """
    names = [c.name for c in collections]
    if not names or len(set(names)) < len(names):
        raise UsageError("A server needs at least one collection, and each needs a name of its own.")
    if max_hits < 1:
        raise UsageError(f"A search within a distance gives at least one hit, not {max_hits}.")
    app = FastAPI(
        title="lookalike",
        version=__version__,
        description="Finds images that look alike. Errors are RFC 9457 problem details.",
        docs_url=None,  # its page loads scripts from elsewhere; ours is below
        redoc_url=None,
        redirect_slashes=False,
        lifespan=indexing.building(collections),
    )
    app.state.shelf = Shelf(dict(zip(names, collections, strict=True)), read_only, max_hits)
    for part in (catalog, items, pictures, searching, judging):
        app.include_router(part.router)

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(manual.page(app.openapi()))

    app.mount("/", StaticFiles(directory=_PAGE, html=True), name="page")
    problems.install(app)
    # The last one added is the first to see a request.
    app.add_middleware(BodyLimit, most=max_body)
    app.add_middleware(SameSite, origins=origins)
    app.add_middleware(Headers)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "HEAD", "POST", "DELETE"],
        allow_headers=["Content-Type"],
        expose_headers=["ETag", "Location"],
        max_age=3600,
    )
    return app
