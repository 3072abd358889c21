"""The command list: list the collections in a folder."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli import output
from lookalike.cli.options import Json
from lookalike.duplicates.result import format_size
from lookalike.errors import LookalikeError, MismatchError, NotFoundError, StorageError
from lookalike.folder import MANIFEST, SUFFIX, Folder, find_folder, is_collection

commands = typer.Typer()


@dataclass(frozen=True)
class Listed:
    """A collection in a folder; a value that cannot be read is None, and the state says why."""

    name: str
    path: str
    items: int | None = None
    encoder: str | None = None
    metric: str | None = None
    bytes: int | None = None
    state: str = "ok"


@commands.command(name="list")
def list_collections(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder; its subfolders are not searched.")] = Path(),
    json: Json = False,
) -> None:
    """List the collections in a folder: their items, encoder, metric and size.

    Example: lookalike list
    """
    listed = [_describe(path) for path in _find(folder)]
    if json:
        output.write_json([asdict(one) for one in listed])
        return
    if not listed:
        output.stdout.print(f"There are no collections in {folder.absolute()}.")
        return
    rows = [
        (
            one.name,
            "" if one.items is None else f"{one.items:,}",
            one.encoder or "",
            one.metric or "",
            "" if one.bytes is None else format_size(one.bytes),
            one.state,
        )
        for one in listed
    ]
    output.print_table(rows, ("name", "items", "encoder", "metric", "size", "state"))


def _find(folder: Path) -> list[Path]:
    if is_collection(folder):
        return [find_folder(folder)]
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_dir())
    except (FileNotFoundError, NotADirectoryError) as e:
        raise NotFoundError(f"There is no folder {folder}. Check the path.") from e
    except OSError as e:
        raise StorageError(f"The folder {folder} cannot be listed: {e.strerror}.") from e
    return [
        path
        for path in paths
        if not path.name.startswith(".") and (path.suffix == SUFFIX or os.path.exists(path / MANIFEST))  # noqa: PTH110 -- false for a folder that cannot be searched, too
    ]


def _describe(path: Path) -> Listed:
    known: dict[str, str | int] = {"name": path.resolve().name.removesuffix(SUFFIX), "path": str(path)}
    try:
        folder = Folder.open(path)
        manifest = folder.manifest
        known |= {"encoder": manifest.encoder.name, "metric": str(manifest.metric)}
        folder.load_embedder()
        store = folder.open_store()
        try:
            known |= {"items": store.count(), "bytes": store.size()}
        finally:
            store.close()
    except NotFoundError:
        return Listed(**known, state="damaged: manifest.json is missing")  # type: ignore[arg-type]
    except MismatchError as e:
        return Listed(**known, state=f"of another version: {e}")  # type: ignore[arg-type]
    except LookalikeError as e:
        return Listed(**known, state=f"damaged: {e}")  # type: ignore[arg-type]
    return Listed(**known)  # type: ignore[arg-type]
