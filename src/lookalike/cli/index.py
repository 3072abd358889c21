"""The command index: add a folder of images to a collection."""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from lookalike import encoders, images
from lookalike.cli import output
from lookalike.cli.options import Crops, Json, check_local, options
from lookalike.collection import Added, Collection, open_collection
from lookalike.errors import MismatchError, NotFoundError, StorageError, UsageError
from lookalike.folder import find_folder, is_collection, load_encoder
from lookalike.ingest import GoneFolder, Plan, plan
from lookalike.metric import Metric
from lookalike.tables import plural

commands = typer.Typer()

_USUAL = ".jpg, .png, .webp, .gif, .tif, .heic and others"


@dataclass(frozen=True)
class Options:
    """Options of index."""

    to: Annotated[Path, typer.Option(metavar="NAME", help="The collection; created if it does not exist.")]
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR", help="A folder of images; its subfolders are searched too. Only --prune works without it."
        ),
    ] = None
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
    crops: Crops = None
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Remove items whose files no longer exist: those under DIR, which may itself be gone; without DIR those of"
            " all folders that still exist.",
        ),
    ] = False
    relative: Annotated[
        bool,
        typer.Option(
            "--relative",
            help="Keep the paths of the files in DIR relative to the collection, so that both can be moved together.",
        ),
    ] = False
    json: Json = False


@commands.command()
@options(Options)
def index(given: Options) -> None:
    """Add a folder of images to a collection.

    Run it again after the folder has changed: it embeds only new and changed images. Files that were moved or renamed keep
    their items. You can stop it at any time; the next run continues.

    Example: lookalike index photos --to shop.lookalike --labels folder
    """
    if given.folder is None:
        _prune_all(given)
        return
    check_local(str(given.folder))
    unreadable: list[OSError] = []
    found = _plan(given, given.folder, unreadable.append)
    with _open(given) as collection:
        if given.relative:
            collection.make_relative(given.folder)
        added = _add(given.folder, collection, found)
        missing = len(collection.missing(given.folder))
        removed = collection.prune(given.folder)[0] if given.prune else 0
        if not found and not removed:
            raise NotFoundError(
                f"There are no images under {given.folder}, and {collection.path} has no items of missing files there."
            )
        for error in unreadable:
            output.stderr.print(f"skipped: {error}", style="yellow")
        output.print_skipped([reason for _, reason in added.failures])
        for note in added.notes:
            output.stderr.print(note)
        output.print_device(collection.embedder.encoder.device())
        if added.not_taken:
            output.stderr.print(images.describe_not_taken(added.not_taken), style="yellow")
        if given.json:
            output.write_json(_to_dict(collection, added, missing, removed))
        else:
            output.stdout.print(_summary(collection, added, missing, removed))
            output.print_scope(collection.embedder)
    if found and added.failed == added.total:
        sys.exit(1)


def _plan(given: Options, folder: Path, on_error: Callable[[OSError], None]) -> Plan:
    """List the images of the folder; none if the folder is gone or empty and `--prune` is given."""
    prunes = given.prune and is_collection(given.to)
    gone = not os.path.lexists(folder)
    if gone and not prunes and is_collection(given.to):
        _refuse_gone(given, folder)
    found = Plan() if gone and prunes else plan(folder, _parse_labels(given.labels), on_error)
    if not found and not prunes:
        not_taken = images.describe_not_taken(found.not_taken) or _USUAL
        raise NotFoundError(f"There are no images under {folder} ({not_taken.removesuffix('.')}).")
    return found


def _refuse_gone(given: Options, folder: Path) -> None:
    """Raise an error that names `relocate` if the collection has items of a folder that does not exist.

    Raises:
        NotFoundError: the collection has items of the folder.
    """
    with Collection.open(given.to) as collection:
        missing = len(collection.missing(folder))
    if missing:
        name, old = shlex.quote(str(given.to)), shlex.quote(str(folder))
        raise NotFoundError(
            f"There is no folder {folder}, but {collection.path} has {plural(missing, 'item')} of it. If it was renamed: lookalike relocate"
            f" {name} {old} NEW. If its disk is not connected, connect it. To remove its items: lookalike index {old} --to"
            f" {name} --prune"
        )


def _add(folder: Path, collection: Collection, found: Plan) -> Added:
    if not found:
        return Added(not_taken=found.not_taken)
    collection.remember_root(folder)
    advice = "The collection keeps what was added; run the same command to continue."
    with output.stoppable(advice), output.progress_bar() as progress:
        return collection.add(found, progress)


def _prune_all(given: Options) -> None:
    """Remove the items whose files are missing from all folders that still exist."""
    if not given.prune:
        raise UsageError("Give a folder of images: lookalike index DIR --to NAME. Only --prune works without it.")
    with Collection.open(given.to) as collection:
        missing = len(collection.missing())
        removed, gone = collection.prune()
        if given.json:
            output.write_json(_to_dict(collection, Added(), missing, removed) | {"kept": _kept(gone)})
        else:
            output.stdout.print(
                f"{removed:,} removed. {collection.path} has {plural(len(collection), 'item')}.",
            )
    if gone:
        name, folder = shlex.quote(str(given.to)), shlex.quote(str(gone[0].path))
        others = f" (and {plural(len(gone) - 1, 'more folder')})" if len(gone) > 1 else ""
        raise StorageError(
            f"{gone[0].path} is gone or empty{others}; {plural(sum(g.items for g in gone), 'item')} of it stayed. If it is on a"
            f" disk, connect the disk. If it was renamed: lookalike relocate {name} {folder} NEW. To remove its items:"
            f" lookalike index {folder} --to {name} --prune"
        )


def _kept(gone: Sequence[GoneFolder]) -> list[dict[str, object]]:
    return [{"folder": str(folder.path), "items": folder.items} for folder in gone]


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
    if given.crops is None:
        return open_collection(given.to, encoder, given.metric)
    if encoder is not None:
        return open_collection(given.to, load_encoder(encoder).with_crops(given.crops), given.metric)
    collection = open_collection(given.to, metric=given.metric)
    if (own := collection.embedder.encoder.card.input.crops) != given.crops:
        collection.close()
        raise MismatchError(
            f"{collection.path} was made with --crops {own}, not {given.crops}. Leave --crops out, or embed its images again:"
            f" lookalike reindex {shlex.quote(str(given.to))} --encoder E --crops {given.crops}"
        )
    return collection


def _to_dict(collection: Collection, added: Added, missing: int, removed: int) -> dict[str, object]:
    return {
        "collection": str(collection.path),
        "items": len(collection),
        "embedded": added.embedded,
        "moved": added.moved,
        "reused": added.reused,
        "unchanged": added.unchanged,
        "failed": [{"path": str(path), "reason": reason} for path, reason in added.failures],
        "relabelled": added.relabelled,
        "missing": missing,
        "removed": removed,
        "not_taken": {each.kind: each.count for each in added.not_taken},
        "notes": list(added.notes),
        "scope": collection.embedder.scope,
        "device": collection.embedder.encoder.device().name,
    }


def _summary(collection: Collection, added: Added, missing: int, removed: int) -> str:
    counts = (
        (added.moved, "moved"),
        (added.reused, "copy of a known image" if added.reused == 1 else "copies of known images"),
        (added.unchanged, "unchanged"),
        (added.relabelled, "with another label"),
        (added.failed, "skipped"),
        (removed, "removed"),
        (missing - removed, "missing (--prune removes them)"),
    )
    parts = [f"{added.embedded:,} embedded", *(f"{count:,} {what}" for count, what in counts if count)]
    return f"{', '.join(parts)}. {collection.path} has {plural(len(collection), 'item')}."
