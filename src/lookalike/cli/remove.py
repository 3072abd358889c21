"""The command remove: remove items from a collection."""

from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli import output
from lookalike.cli.options import Json, Name
from lookalike.collection import Collection
from lookalike.errors import NotFoundError
from lookalike.ingest import file_id
from lookalike.tables import plural

commands = typer.Typer()


@commands.command()
def remove(
    name: Name,
    items: Annotated[list[str], typer.Argument(metavar="ID…", help="Ids, or the paths of indexed files.")],
    json: Json = False,
) -> None:
    """Remove items from a collection; their image files stay.

    Example: lookalike remove shop photos/mug/mug-0004.jpg
    """
    with Collection.open(name) as collection:
        known = collection.store.get(items)
        ids = [item if item in known else file_id(Path(item).absolute()) for item in items]
        existing = collection.store.get(ids)
        missing = [item for item, ident in zip(items, ids, strict=True) if ident not in existing]
        removed = collection.remove(ids)
        if json:
            output.write_json({"removed": removed, "missing": missing, "items": collection.store.count()})
        else:
            output.stdout.print(
                f"{removed:,} removed. {collection.path} has {plural(collection.store.count(), 'item')}."
            )
    if missing:
        others = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
        raise NotFoundError(f"{collection.path} has no item “{missing[0]}”{others}.")
