"""The command remove: remove items from a collection."""

from typing import Annotated

import typer

from lookalike.cli import output
from lookalike.cli.options import Json, Name
from lookalike.collection import Collection
from lookalike.errors import NotFoundError
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
        found = collection.find(items)
        missing = [item for item in items if item not in found]
        removed = collection.remove([item.id for item in found.values()])
        if json:
            output.write_json({"removed": removed, "missing": missing, "items": collection.store.count()})
        else:
            output.stdout.print(
                f"{removed:,} removed. {collection.path} has {plural(collection.store.count(), 'item')}."
            )
    if missing:
        others = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
        raise NotFoundError(f"{collection.path} has no item “{missing[0]}”{others}.")
