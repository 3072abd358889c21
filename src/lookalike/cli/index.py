"""The command index: add a folder of images to a collection."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from lookalike import encoders, images
from lookalike.cli import output
from lookalike.cli.options import Json, options
from lookalike.collection import Added, Collection, open_collection
from lookalike.errors import NotFoundError
from lookalike.folder import find_folder
from lookalike.ingest import plan
from lookalike.metric import Metric
from lookalike.tables import plural

commands = typer.Typer()


@dataclass(frozen=True)
class Options:
    """Options of index."""

    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images; its subfolders are searched too.")]
    to: Annotated[Path, typer.Option(metavar="NAME", help="The collection; created if it does not exist.")]
    encoder: Annotated[
        str | None, typer.Option(help="For a new collection: a bundled name, a folder, or hf://org/repo.")
    ] = None
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="folder|CSV", help="Label images by their first folder, or by a CSV: path,label[,attribute…]."
        ),
    ] = None
    metric: Annotated[Metric | None, typer.Option(help="For a new collection; default: the encoder's own.")] = None
    prune: Annotated[bool, typer.Option("--prune", help="Remove items whose files under DIR no longer exist.")] = False
    json: Json = False


@commands.command()
@options(Options)
def index(given: Options) -> None:
    """Add a folder of images to a collection.

    Run it again after the folder has changed: it embeds only new and changed images. You can stop it at any time; the
    next run continues.

    Example: lookalike index photos --to shop.lookalike --labels folder
    """
    unreadable: list[OSError] = []
    found = plan(given.folder, _parse_labels(given.labels), unreadable.append)
    if not found:
        raise NotFoundError(f"There are no images under {given.folder} ({', '.join(sorted(images.SUFFIXES))}).")
    with _open(given) as collection:
        collection.remember_root(given.folder)
        advice = "The collection keeps what was added; run the same command to continue."
        with output.stoppable(advice), output.progress_bar() as progress:
            added = collection.add(found, progress)
        missing = [item.id for item in collection.missing(given.folder)]
        if given.prune:
            collection.remove(missing)
        for error in unreadable:
            output.stderr.print(f"skipped: {error}", style="yellow")
        output.print_skipped([reason for _, reason in added.failures])
        if given.json:
            output.write_json(_to_dict(collection, added, len(missing), pruned=given.prune))
        else:
            output.stdout.print(_summary(collection, added, len(missing), pruned=given.prune))
    if added.failed == added.total:
        sys.exit(1)


def _parse_labels(text: str | None) -> Literal["folder"] | Path | None:
    match text:
        case None | "":
            return None
        case "folder":
            return "folder"
        case path:
            return Path(path)


def _open(given: Options) -> Collection:
    encoder = given.encoder or (None if find_folder(given.to).exists() else encoders.DEFAULT)
    return open_collection(given.to, encoder, given.metric)


def _to_dict(collection: Collection, added: Added, missing: int, *, pruned: bool) -> dict[str, object]:
    return {
        "collection": str(collection.path),
        "items": len(collection),
        "embedded": added.embedded,
        "moved": added.moved,
        "reused": added.reused,
        "unchanged": added.unchanged,
        "failed": [{"path": str(path), "reason": reason} for path, reason in added.failures],
        "gone": missing,
        "removed": missing if pruned else 0,
    }


def _summary(collection: Collection, added: Added, missing: int, *, pruned: bool) -> str:
    counts = (
        (added.moved, "moved"),
        (added.reused, "copy of a known image" if added.reused == 1 else "copies of known images"),
        (added.unchanged, "unchanged"),
        (added.failed, "skipped"),
        (missing, "removed" if pruned else "missing (--prune removes them)"),
    )
    parts = [f"{added.embedded:,} embedded", *(f"{count:,} {what}" for count, what in counts if count)]
    return f"{', '.join(parts)}. {collection.path} has {plural(len(collection), 'item')}."
