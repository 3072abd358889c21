"""The commands `lookalike duplicates find|apply|undo|decide|leaks`."""

import shlex
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lookalike import atomic, duplicates, ingest
from lookalike.cli import output
from lookalike.cli.options import Json, Name, note_distance, options
from lookalike.collection import Collection
from lookalike.duplicates import (
    Applied,
    Confirm,
    DuplicateGroups,
    DuplicatePair,
    FindOptions,
    KeepRule,
    Leaks,
    Member,
    Moved,
    SearchRadius,
    decisions,
    describe_outside,
    page,
    result,
)
from lookalike.duplicates.keep import MISSING
from lookalike.errors import NotFoundError, StorageError, UsageError
from lookalike.folder import find_folder, is_collection
from lookalike.metric import format_distance
from lookalike.stores import Item
from lookalike.tables import plural, to_csv, to_json_lines
from lookalike.unicode_forms import to_path

# Maximum number of groups or pairs that are printed; files and JSON have all of them.
_MAX_PRINTED = 50

# Maximum number of files that a line names.
_MAX_NAMES = 5

_DEFAULT_COMMAND = "find"

_NOT_MOVED = "No file was moved. The same command begins again."

Yes = Annotated[
    bool, typer.Option("--yes", help="Move files also from or to folders that were not indexed on this machine.")
]


class DefaultToFind(TyperGroup):
    """A group of commands in which ``duplicates NAME`` means ``duplicates find NAME``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 -- Typer does not export click's types
        """Insert the default command unless the first argument is a command or asks for help."""
        if not args and not ctx.resilient_parsing:
            raise UsageError("Name a collection, such as: lookalike duplicates photos.")
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            if name := next((name for name in self.commands if f"--{name}" in args), None):
                rest = shlex.join(arg for arg in args if arg != f"--{name}")
                raise UsageError(f"--{name} is a command, not an option. Use: lookalike duplicates {name} {rest}")
            close = get_close_matches(args[0], self.commands, 1)
            if close and not is_collection(to_path(args[0])):
                raise UsageError(
                    f"“{args[0]}” is neither a command nor a collection. Did you mean: lookalike duplicates {close[0]}?"
                )
            args = [_DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


commands = typer.Typer(cls=DefaultToFind, context_settings={"help_option_names": ["-h", "--help"]})


@commands.callback()
def explain() -> None:
    """Find duplicates in a collection, and move them away.

    `lookalike duplicates NAME` is short for `lookalike duplicates find NAME`.
    """


@dataclass(frozen=True, kw_only=True)
class _SearchOptions:
    """The options that find, apply and leaks share."""

    name: Name
    within: Annotated[
        str | None,
        typer.Option(
            metavar="R", help="Compare images within this distance, as 0.1; or at least this similar, as 95%."
        ),
    ] = None
    far: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="RATE",
            help="Compare images within the distance of this false accept rate, such as 0.01; needs a calibrated encoder.",
        ),
    ] = None
    turned: Annotated[
        bool, typer.Option("--turned", help="Also find images that are mirrored or rotated by right angles.")
    ] = False
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page with the images (.html), or the pairs (.csv, .jsonl)."),
    ] = None
    json: Json = False

    def __post_init__(self) -> None:
        """Refuse contradictory options, and an output that cannot be written, before long work."""
        if self.within is not None and self.far is not None:
            raise UsageError("--within and --far both set the distance; give one of them.")
        if self.out is not None:
            if self.out.suffix not in (".html", ".csv", ".jsonl"):
                raise UsageError(f"{self.out} should end in .html, .csv or .jsonl.")
            output.check_folder(self.out.parent)

    def radius(self, collection: Collection) -> SearchRadius | None:
        """Return the radius of --within or --far; None to use the encoder's calibration."""
        note_distance(self.within, collection.embedder.space)
        return SearchRadius.parse(collection.embedder, self.within, self.far)


@dataclass(frozen=True, kw_only=True)
class _KeepOptions(_SearchOptions):
    """The options that find and apply share."""

    keep: Annotated[
        str,
        typer.Option(
            metavar="RULE,…",
            help="Rules that choose the image to keep: resolution, size, oldest, newest, path:GLOB.",
        ),
    ] = "resolution,size,oldest"
    reference: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Keep all images under this folder; may be repeated.")
    ] = None


# ---- find and apply


@dataclass(frozen=True, kw_only=True)
class _FindOptions(_KeepOptions):
    """The options of find."""

    chains: Annotated[
        bool,
        typer.Option(
            "--chains", help="Group images that are connected through others; for looking at, not for moving."
        ),
    ] = False


@commands.command(name="find")
@options(_FindOptions)
def find(given: _FindOptions) -> None:
    """Find duplicates in a collection, and choose the images to keep. No file is moved.

    The command prints groups of identical files, of near-duplicates and of similar images.

    Example: lookalike duplicates find photos --out duplicates.html
    """
    with output.stoppable(_NOT_MOVED), Collection.open(given.name) as collection:
        found = _find(collection, given, chains=given.chains)
        _write_groups(found, given.out, collection)
        if given.out is not None:
            output.stderr.print(f"Wrote {given.out}.")
        if given.json:
            output.write_json({"name": collection.name, "codec": collection.embedder.codec_in_words, **found.to_dict()})
            return
        _print_groups(found)
        if found:
            note = f"{_explain(found.radius)} No file was moved; “lookalike duplicates apply” moves them."
            output.stderr.print(note, style="dim")


@dataclass(frozen=True, kw_only=True)
class _ApplyOptions(_KeepOptions):
    """The options of apply."""

    trash: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The trash folder.", show_default="beside the collection")
    ] = None
    yes: Yes = False


@commands.command()
@options(_ApplyOptions)
def apply(given: _ApplyOptions) -> None:
    """Find duplicates as “find” does, and move the images that are not kept into a trash folder.

    No file is deleted. “lookalike duplicates undo” moves the images back.

    Example: lookalike duplicates apply photos --within 0.1
    """
    with Collection.open(given.name) as collection:
        with output.stoppable(_NOT_MOVED):
            found = _find(collection, given)
            images = _draw(found, given.out, collection)
            # Before a file moves, it is certain that --out can be written.
            _write_groups(found, given.out, collection, images=images)
        outcomes: dict[str, str | None] = {}
        applied = Applied(given.trash or _default_trash(collection), outcomes)
        try:
            _move(collection, found, applied.trash, outcomes, yes=given.yes)
        except BaseException:
            if outcomes:
                _report(collection, found, applied, given, images)
            raise
        _report(collection, found, applied, given, images)
    if any(outcomes.values()):
        sys.exit(1)


def _find(collection: Collection, given: _KeepOptions, *, chains: bool = False) -> DuplicateGroups:
    rules = KeepRule.parse(given.keep)
    search = FindOptions(given.turned, chains, rules, tuple(given.reference or ()))
    with output.progress_bar() as progress:
        found = duplicates.find_duplicates(collection, given.radius(collection), search, progress)
    _print_skipped(found.skipped)
    if any(reason == MISSING for _, reason in found.skipped):
        _print_missing(collection)
    return found


def _move(
    collection: Collection, found: DuplicateGroups, trash: Path, outcomes: dict[str, str | None], *, yes: bool
) -> None:
    """Move the surplus, and record for each file the reason if it stays."""

    def record(member: Member, reason: str | None) -> None:
        outcomes[member.item.id] = reason

    confirm = _confirm("would move from places", "Move them?", yes=yes)
    with output.stoppable(f"To move the files back: {_undo(trash)}"), output.progress_bar() as progress:
        duplicates.move_to_trash(collection, found, trash, progress, confirm, record)


def _report(
    collection: Collection, found: DuplicateGroups, applied: Applied, given: _ApplyOptions, images: page.Images | None
) -> None:
    """Print and write what has happened to each file; the way back comes first."""
    surplus = found.surplus
    moved = [member for member in surplus if applied.has_moved(member)]
    failures = [(m.path, reason) for m in surplus if (reason := applied.outcomes.get(m.item.id))]
    result_of_move = Moved(tuple(m.path for m in moved), sum(m.facts.size for m in moved), tuple(failures))
    if moved:
        count = f"{plural(len(moved), 'image')}, {result.format_size(result_of_move.size)}"
        output.stderr.print(f"Moved {count}, into {applied.trash}. To move them back: {_undo(applied.trash)}")
    _print_skipped(failures)
    _print_companions(result_of_move.files)
    try:
        _write_groups(found, given.out, collection, applied, images)
        if given.out is not None:
            output.stderr.print(f"Wrote {given.out}.")
    finally:
        if given.json:
            output.write_json(
                {
                    "name": collection.name,
                    "codec": collection.embedder.codec_in_words,
                    **found.to_dict(),
                    "moved": result_of_move.to_dict(),
                }
            )
        else:
            _print_groups(found, applied)


def _confirm(verb: str, question: str, *, yes: bool) -> Confirm:
    """Return a function that asks whether files outside of the indexed folders may move."""

    def confirm(outside: Sequence[Path]) -> bool:
        if yes:
            return True
        text = describe_outside(outside, verb)
        if sys.stdin is None or not sys.stdin.isatty() or not output.stderr.is_terminal:
            command = shlex.join(["lookalike", *sys.argv[1:], "--yes"])
            raise UsageError(f"{text} No file was moved. To move them anyway: {command}")
        for path in outside[:_MAX_PRINTED]:
            output.stderr.print(str(path))
        if len(outside) > _MAX_PRINTED:
            output.stderr.print(f"and {len(outside) - _MAX_PRINTED:,} more files")
        output.stderr.print(f"{text} {question} [y/N]", style="yellow")
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    return confirm


def _undo(trash: Path) -> str:
    return shlex.join(["lookalike", "duplicates", "undo", str(trash)])


def _default_trash(collection: Collection) -> Path:
    return collection.path.with_name(f"{collection.name}-trash")


def _print_companions(moved: Iterable[Path]) -> None:
    """Say that files that belong to moved images stay, such as photo.xmp or the film of a live photo."""
    if files := duplicates.find_companions(moved):
        names = ", ".join(path.name for path in files[:_MAX_NAMES]) + (", …" if len(files) > _MAX_NAMES else "")
        output.stderr.print(f"{plural(len(files), 'file')} named like moved images stay in place: {names}.")


# ---- undo


@commands.command()
def undo(
    trash: Annotated[Path, typer.Argument(metavar="TRASH", help="The trash folder, such as photos-trash.")],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Move all files of a trash folder back to their places, and add them to their collection again.

    Example: lookalike duplicates undo photos-trash
    """
    confirm = _confirm("would move to places", "Move them there?", yes=yes)
    with output.stoppable("The same command continues."), output.progress_bar() as progress:
        moved = duplicates.restore(trash, Collection.open, progress, confirm)
    _print_skipped(moved.failures)
    if json:
        output.write_json(moved.to_dict())
    else:
        output.stdout.print(f"Moved back: {plural(len(moved.files), 'image')}.")
        if moved.added:
            output.stdout.print(f"Added to the collection again: {plural(len(moved.added), 'image')}.")
        for path in [*dict.fromkeys(moved.added).keys() - dict.fromkeys(moved.files).keys()][:_MAX_PRINTED]:
            output.stdout.print(f"It was in its place already: {path}")
    if moved.failures:
        sys.exit(1)


# ---- decide


@commands.command()
def decide(
    name: Name,
    items: Annotated[
        list[str] | None, typer.Argument(metavar="ID…", help="Ids of images, or the paths of indexed files.")
    ] = None,
    *,
    distinct: Annotated[
        bool, typer.Option("--distinct", help="Remember that no two of the images are duplicates.")
    ] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget the decisions between the images, or about one of them.")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="List all decisions.")] = False,
    json: Json = False,
) -> None:
    """Mark images as distinct, so that they are never grouped as duplicates; list or forget such decisions.

    Example: lookalike duplicates decide photos --distinct photos/twin-1.jpg photos/twin-2.jpg
    """
    if distinct + forget + listed != 1:
        raise UsageError("Give one of --distinct, --forget and --list.")
    names = items or []
    if listed and names:
        raise UsageError("--list lists all decisions; leave the images out.")
    if forget and not names:
        raise UsageError("Name the images whose decisions to forget; --list lists them.")
    with Collection.open(name) as collection:
        if listed:
            _list_decisions(collection, json=json)
            return
        if distinct:
            count = decisions.mark_distinct(collection, [_item(collection, item) for item in names])
            text = f"{plural(count, 'new pair')} marked as distinct."
        else:
            count = decisions.forget(collection, [_digest(collection, item) for item in names])
            text = f"{plural(count, 'decision')} forgotten."
        if json:
            output.write_json({"changed": count, "decisions": len(decisions.read(collection))})
        else:
            output.stdout.print(text)


def _item(collection: Collection, name: str) -> Item:
    if found := collection.find([name]):
        return found[name]
    raise NotFoundError(f"{collection.path} has no image “{name}”. Give its id, or the path of the indexed file.")


def _digest(collection: Collection, name: str) -> str:
    """Return the SHA-256 of an image; a SHA-256 that occurs in a decision is returned unchanged."""
    if any(name in pair for pair in decisions.read(collection)):
        return name
    return _item(collection, name).sha256


def _list_decisions(collection: Collection, *, json: bool) -> None:
    known = sorted(decisions.read(collection))
    digests = {digest for pair in known for digest in pair}
    paths: dict[str, str] = {}
    for item in collection.store.scan() if digests else ():
        if item.sha256 in digests:
            with suppress(NotFoundError):  # its uri leads outside of the collection's folder
                paths.setdefault(item.sha256, str(collection.folder.file(item)))
    if json:
        output.write_json([{"distinct": list(pair), "paths": [paths.get(digest) for digest in pair]} for pair in known])
    elif not known:
        output.stdout.print("No decisions yet.")
    else:
        rows = [(paths.get(a, a), paths.get(b, b)) for a, b in known]
        output.print_table(rows, ("image", "is distinct from"))


# ---- leaks


@dataclass(frozen=True, kw_only=True)
class _LeaksOptions(_SearchOptions):
    """The options of leaks."""

    test: Annotated[Path, typer.Argument(metavar="TEST", help="A collection of test images.")]


@commands.command()
@options(_LeaksOptions)
def leaks(given: _LeaksOptions) -> None:
    """Find the images of a test collection that are in the training collection NAME, identical or nearly.

    Example: lookalike duplicates leaks train test --out leaks.html
    """
    paths = find_folder(given.name), find_folder(given.test)
    with Collection.open(paths[0]) as train, Collection.open(paths[1]) as test:
        if train.path.samefile(test.path):
            raise UsageError(
                "NAME and TEST are one collection. To search one collection: lookalike duplicates find NAME."
            )
        with output.stoppable("No file was written."), output.progress_bar() as progress:
            found = duplicates.find_leaks(
                train, test, given.radius(train), all_orientations=given.turned, progress=progress
            )
        _print_skipped(found.skipped)
        if given.out is not None:
            if given.out.suffix == ".html":
                page.write_leaks(found, given.out, train, test)
            else:
                _write_pairs(found.pairs, given.out)
            output.stderr.print(f"Wrote {given.out}.")
        if given.json:
            output.write_json({"name": train.name, "test": test.name, **found.to_dict()})
        else:
            _print_leaks(found, train.name, test.name)


# ---- text


def _print_skipped(skipped: Iterable[tuple[Path, str]]) -> None:
    output.print_skipped([f"{path}: {reason}" for path, reason in skipped])


def _print_missing(collection: Collection) -> None:
    """Print the commands that help with items whose files are missing."""
    name = shlex.quote(str(collection.path))
    present, gone = ingest.split_gone(collection.missing(), collection.known_roots())
    if present:
        text = f"{plural(len(present), 'file')} of the collection no longer exist. To remove their items:"
        output.stderr.print(f"{text} lookalike index --to {name} --prune")
    for folder in gone[:_MAX_NAMES]:
        old = shlex.quote(str(folder.path))
        output.stderr.print(
            f"{folder.path} is gone or empty. If it was renamed: lookalike relocate {name} {old} NEW. To remove its"
            f" {plural(folder.items, 'item')}: lookalike index {old} --to {name} --prune"
        )


def _print_groups(found: DuplicateGroups, applied: Applied | None = None) -> None:
    if not found:
        output.stdout.print(f"{found.summary} {_explain(found.radius)}")
        return
    output.print_table(result.group_rows(found.groups[:_MAX_PRINTED], found.metric, applied), result.GROUP_COLUMNS)
    _print_more(len(found), "groups")
    output.stdout.print(found.summarise(applied))


def _print_leaks(found: Leaks, train: str, test: str) -> None:
    if found.pairs:
        rows = [
            (
                str(pair.tier),
                format_distance(pair.distance, found.metric),
                result.describe(pair.orientation),
                str(pair.left),
                str(pair.right),
            )
            for pair in found.pairs[:_MAX_PRINTED]
        ]
        output.print_table(rows, ("tier", "distance", "orientation", train, test))
        _print_more(len(found.pairs), "pairs")
    output.stdout.print(found.summary)


def _explain(radius: SearchRadius) -> str:
    return f"The pixels of images within {radius.distance:.4g} were compared: {radius.explanation}."


def _print_more(count: int, noun: str) -> None:
    if count > _MAX_PRINTED:
        output.stdout.print(f"and {count - _MAX_PRINTED:,} more {noun}; --json and --out list all of them", style="dim")


# ---- files


def _draw(found: DuplicateGroups, out: Path | None, collection: Collection) -> page.Images | None:
    """Draw the images of the page, if --out is one."""
    return page.draw(found, collection) if out is not None and out.suffix == ".html" else None


def _write_groups(
    found: DuplicateGroups,
    out: Path | None,
    collection: Collection,
    applied: Applied | None = None,
    images: page.Images | None = None,
) -> None:
    if out is not None and out.suffix == ".html":
        page.write_page(found, out, collection, applied, images)
    elif out is not None:
        _write_pairs(found.pairs, out)


def _write_pairs(pairs: Sequence[DuplicatePair], path: Path) -> None:
    if path.suffix == ".jsonl":
        content = to_json_lines(pair.to_dict() for pair in pairs)
    else:
        content = to_csv([tuple(result.PAIR_COLUMNS), *(tuple(pair.to_dict().values()) for pair in pairs)])
    try:
        atomic.write_bytes(path, content)
    except OSError as e:
        raise StorageError(f"{path} cannot be written: {e.strerror}. Give another path.") from e
