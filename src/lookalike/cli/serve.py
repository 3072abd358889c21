"""The command serve: serve collections over HTTP."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli import output
from lookalike.collection import Collection
from lookalike.errors import UsageError
from lookalike.folder import find_folder

commands = typer.Typer()


@dataclass(frozen=True)
class Settings:
    """The settings of a server.

    Attributes:
        host: the address to listen on.
        port: the port; 0 takes a free one.
        read_only: refuse to add and remove items.
        max_hits: maximum number of hits of a range search.
        origins: origins of web pages on other hosts that may send requests.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    read_only: bool = False
    max_hits: int = 1000
    origins: Sequence[str] = ()


@commands.command()
def serve(
    names: Annotated[list[Path], typer.Argument(metavar="NAME…", help="Collections; the first is the default.")],
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in, without a login.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse to add and remove items.")] = False,
    max_hits: Annotated[int, typer.Option(min=1, help="Maximum number of hits of a range search.")] = 1000,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Accept requests from web pages of this origin, such as https://shop.example; may be repeated."
        ),
    ] = None,
) -> None:
    """Serve collections over HTTP, with a web page.

    Example: lookalike serve shop
    """
    paths = [find_folder(name) for name in names]
    if len({path.resolve().name for path in paths}) < len(paths):
        raise UsageError("Two of these collections have the same name. Serve them one by one, or rename one.")
    run([Collection.open(path) for path in paths], Settings(host, port, read_only, max_hits, origin or ()))


def run(collections: list[Collection], settings: Settings) -> None:
    """Print the address, and serve until Ctrl-C.

    Raises:
        UsageError: the port is in use, or the host is not an address of this machine.
    """
    import uvicorn  # noqa: PLC0415 -- only this command needs it

    from lookalike.server import create_app  # noqa: PLC0415 -- as uvicorn

    app = create_app(
        collections, read_only=settings.read_only, origins=list(settings.origins), max_hits=settings.max_hits
    )
    host = settings.host
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, settings.port))
        except OSError as e:
            raise UsageError(f"Cannot listen on port {settings.port} of {host}: {e.strerror}. Try --port 0.") from e
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/"
        output.stdout.print(f"Serving {', '.join(c.name for c in collections)} at {address}")
        output.stdout.print("Ctrl-C stops it.")
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
