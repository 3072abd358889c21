"""The command relocate: tell a collection that its image files have moved to another folder."""

from dataclasses import dataclass
from typing import Annotated

import typer

from lookalike.cli import output
from lookalike.cli.options import Json, Name, options
from lookalike.collection import Collection
from lookalike.tables import plural

commands = typer.Typer()


@dataclass(frozen=True)
class Options:
    """Options of relocate."""

    name: Name
    old: Annotated[str, typer.Argument(metavar="OLD", help="The folder where the files were, or one file.")]
    new: Annotated[str, typer.Argument(metavar="NEW", help="The folder where they are now, or the file.")]
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False
    force: Annotated[bool, typer.Option("--force", help="Relocate even if none of the files exists under NEW.")] = False
    json: Json = False


@commands.command()
@options(Options)
def relocate(given: Options) -> None:
    """Tell a collection that its image files have moved to another folder.

    Items keep their ids, labels and attributes; no file is read or moved. If the collection can see both folders, `lookalike
    index NEW` finds moved files by itself. To go back, relocate NEW to OLD.

    Example: lookalike relocate shop /media/disk/photos ~/photos
    """
    with Collection.open(given.name) as collection:
        done = collection.relocate(given.old, given.new, force=given.force, dry_run=given.dry_run)
        missing = done.relocated - done.existing
        if given.json:
            output.write_json(
                {
                    "relocated": done.relocated,
                    "existing": done.existing,
                    "missing": missing,
                    "merged": done.merged,
                    "conflicts": [item.uri for item in done.conflicts],
                    "dry_run": given.dry_run,
                    "items": len(collection),
                }
            )
            return
        what = "would be relocated" if given.dry_run else "relocated"
        parts = [f"{plural(done.relocated, 'item')} {what}"]
        if not done.relocated and not done.conflicts:
            parts.append(f"lookalike duplicates undo restores files into {given.new}")
        if missing:
            parts.append(f"{missing:,} of their files not there, such as {done.example}")
        if done.merged:
            parts.append(f"{done.merged:,} added twice before and now merged")
        output.stdout.print(f"{'; '.join(parts)}. {collection.path} has {plural(len(collection), 'item')}.")
        if done.conflicts:
            output.stderr.print(
                f"{plural(len(done.conflicts), 'item')} stayed, such as {done.conflicts[0].uri}: another image in the"
                f" collection has its new path. To remove them: lookalike remove {given.name} {done.conflicts[0].id} …",
                style="yellow",
            )
