"""The command serve."""

import socket
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli import output
from lookalike.cli.collections import find
from lookalike.collection import Collection
from lookalike.errors import UsageError

commands = typer.Typer()


@commands.command()
def serve(
    names: Annotated[list[Path], typer.Argument(metavar="NAME…", help="Collections; the first is the default.")],
    *,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in; there is no login.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8000,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse to add and remove items.")] = False,
    max_hits: Annotated[int, typer.Option(min=1, help="Hits of a search within a distance, at most.")] = 1000,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="A web page elsewhere that may ask, as https://shop.example; may be repeated."),
    ] = None,
) -> None:
    """Serve collections over HTTP, with a web page.

    Example: lookalike serve shop
    """
    paths = [find(name) for name in names]
    if len({path.resolve().name for path in paths}) < len(paths):
        raise UsageError("Two of these collections have the same name.")
    opened = [Collection.open(path) for path in paths]
    run(opened, host, port, read_only=read_only, origins=origin or [], max_hits=max_hits)


def run(
    collections: list[Collection],
    host: str,
    port: int,
    *,
    read_only: bool,
    origins: list[str],
    max_hits: int = 1000,
) -> None:
    """Serve until stopped; says where.

    Raises:
        UsageError: the address is taken, or is none of this machine.
    """
    # Here, since only this command needs them, and the others start faster without.
    import uvicorn  # noqa: PLC0415

    from lookalike.server import create_app  # noqa: PLC0415

    app = create_app(collections, read_only=read_only, origins=origins, max_hits=max_hits)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as e:
            raise UsageError(f"Port {port} of {host} cannot be served on: {e.strerror}. Try --port 0.") from e
        shown = f"[{host}]" if ":" in host else host
        output.stdout.print(
            f"Serving {', '.join(c.name for c in collections)} at http://{shown}:{listening.getsockname()[1]}/"
        )
        output.stdout.print("Ctrl-C stops it.")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        server.run(sockets=[listening])
