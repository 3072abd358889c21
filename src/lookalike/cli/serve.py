"""The command serve: serve collections over HTTP."""

import errno
import logging
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli import output
from lookalike.cli.options import options
from lookalike.collection import Collection
from lookalike.errors import UsageError, reason_of
from lookalike.tables import printable

commands = typer.Typer()

# Connections that wait until the server accepts them.
_BACKLOG = 2048


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a server, which are also the options of the command."""

    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in, without a login and read-only.")
    ] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000
    writable: Annotated[
        bool | None,
        typer.Option(
            "--writable/--read-only",
            help="Let everyone who reaches the server add and remove items, or nobody. By default it is writable if only"
            " this machine reaches it.",
        ),
    ] = None
    max_hits: Annotated[int, typer.Option(min=1, help="Maximum number of hits of a range search.")] = 1000
    origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Accept requests from web pages of this origin, such as https://shop.example; may be repeated."
        ),
    ] = None
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Answer to this host name, such as shop.example, besides localhost and the address; may be repeated.",
        ),
    ] = None
    root: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Show images in this folder, besides those in folders that you indexed on this machine; may be repeated.",
        ),
    ] = None
    show_paths: Annotated[
        bool, typer.Option("--show-paths", help="Show the paths of files; refused if other machines reach the server.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class Options(Settings):
    """The options of the command."""

    names: Annotated[list[Path], typer.Argument(metavar="NAME…", help="Collections; the first is the default.")]


@commands.command()
@options(Options)
def serve(given: Options) -> None:
    """Serve collections over HTTP, with a web page.

    Example: lookalike serve shop
    """
    run([Collection.open(name) for name in given.names], given)


def run(collections: list[Collection], settings: Settings) -> None:
    """Print the address, and serve until Ctrl-C.

    Raises:
        UsageError: two collections have the same name, the port is in use, the host is not an address of this machine, or a setting has a wrong value.
    """
    import uvicorn  # noqa: PLC0415 -- only this command needs it

    from lookalike.server import create_app  # noqa: PLC0415 -- as uvicorn
    from lookalike.server.protocol import LimitedProtocol  # noqa: PLC0415 -- as uvicorn
    from lookalike.server.served import check_names  # noqa: PLC0415 -- as uvicorn

    check_names(collections)  # before the socket, whose port may be in use
    with listen(settings.host, settings.port) as listener:
        address, port, *_ = listener.getsockname()
        is_private = ip_address(address).is_loopback
        writable = is_private if settings.writable is None else settings.writable
        if settings.show_paths and not is_private:
            raise UsageError(
                f"--show-paths would show the paths of this machine to all who reach {settings.host}. Leave one of them out."
            )
        app = create_app(
            collections,
            read_only=not writable,
            origins=settings.origin or (),
            allowed_hosts=[settings.host.partition("%")[0], *(settings.allowed_host or ())],
            max_hits=settings.max_hits,
            roots=settings.root or (),
            show_paths=settings.show_paths,
        )
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        output.stdout.print(f"Serving {', '.join(c.name for c in collections)} at http://{host}:{port}/")
        if not is_private:
            output.stdout.print(_describe_access(writable=writable, is_default=settings.writable is None))
        for files in app.state.served.files.values():
            if outside := files.describe_outside():
                output.stdout.print(outside)
        output.stdout.print("Ctrl-C stops it.")
        _log_to_terminal()
        config = uvicorn.Config(app, http=LimitedProtocol, ws="none", log_config=None, access_log=False)
        uvicorn.Server(config).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """Make the socket of a server.

    Raises:
        UsageError: the port is in use, or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's algorithm, which delays each answer by 40 ms, only for sockets that name their protocol.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)  # so that the printed address answers at once
    except (OSError, TypeError, ValueError) as e:  # the last two: a name that no host can have
        listener.close()
        is_taken = isinstance(e, OSError) and e.errno in (errno.EADDRINUSE, errno.EACCES)
        advice = "Try --port 0." if is_taken else "Give --host an address of this machine, such as 127.0.0.1."
        raise UsageError(f"Cannot listen on port {port} of {host}: {reason_of(e)}. {advice}") from e
    return listener


class PrintableFormatter(logging.Formatter):
    """Formats a record, which may quote a request, without characters that control a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, and escape each of its lines."""
        return "\n".join(map(printable, super().format(record).split("\n")))


def _log_to_terminal() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # It logs a warning for each form that it refuses, so clients could fill the log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


def _describe_access(*, writable: bool, is_default: bool) -> str:
    if writable:
        return "Other machines can reach it. There is no login: everyone there can add and remove items."
    if is_default:
        return "Other machines can reach it, so it is read-only. --writable lets everyone there add and remove items."
    return "Other machines can reach it. It is read-only."
