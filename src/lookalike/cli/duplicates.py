"""The command duplicates: find, look at, decide, move away, put back."""

import csv
import json as jsonlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lookalike import atomic, duplicates
from lookalike.cli import output
from lookalike.cli.options import Far, Json, collection_path
from lookalike.collection import SUFFIX, Collection
from lookalike.duplicates import Duplicates, Leaks, Moved, PairFound, Reach, Tier, Turn, decisions, page
from lookalike.errors import NotFoundError, StorageError, UsageError
from lookalike.ingest import identify
from lookalike.metric import format_distance
from lookalike.query import DistanceRange
from lookalike.stores import Item

commands = typer.Typer()

# Groups, or pairs, that are printed; files and JSON have all.
_MOST = 50


@dataclass(frozen=True)
class _Asked:
    """The options of a search."""

    within: str | None
    far: float | None
    turned: bool
    chains: bool
    rules: str
    references: list[Path]
    apply: bool
    trash: Path | None
    out: Path | None
    json: bool


@commands.command(name="duplicates")
def find_duplicates(
    name: Annotated[
        Path | None, typer.Argument(metavar="[NAME]", help="A collection: shop.lookalike, or shop for short.")
    ] = None,
    items: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID…]", help="With --distinct or --forget: ids, or paths as they were indexed."),
    ] = None,
    *,
    within: Annotated[
        str | None,
        typer.Option(
            metavar="R", help="Look at pictures within this distance, as 0.1; or at least this similar, as 95%."
        ),
    ] = None,
    far: Far = None,
    chains: Annotated[
        bool, typer.Option("--chains", help="Group what hangs together, though not every two be alike.")
    ] = False,
    keep: Annotated[
        str,
        typer.Option(
            metavar="RULE,…", help="Which one to keep: resolution, size, oldest, newest, path:GLOB, in order."
        ),
    ] = "resolution,size,oldest",
    reference: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="All pictures under this folder are kept; may be repeated."),
    ] = None,
    turned: Annotated[
        bool, typer.Option("--turned", help="Also find pictures that are mirrored or turned by a right angle.")
    ] = False,
    against: Annotated[
        Path | None, typer.Option(metavar="NAME", help="Find the pictures of this collection that are in the first.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Gets a page with the pictures (.html), or the pairs (.csv, .jsonl)."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Move what is not kept into the trash folder.")] = False,
    trash: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The trash folder.", show_default="beside the collection")
    ] = None,
    undo: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Put back everything that is in this trash folder.")
    ] = None,
    distinct: Annotated[
        bool, typer.Option("--distinct", help="Remember that no two of the pictures ID… are duplicates.")
    ] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget what was decided between the pictures ID…, or of one of them.")
    ] = False,
    decided: Annotated[bool, typer.Option("--decisions", help="List what was decided.")] = False,
    json: Json = False,
) -> None:
    """Find duplicates in a collection, and move them away.

    Groups of pictures of the same bytes, of near-duplicates, and of similar ones; each says which one to keep and why.
    Nothing is moved without --apply, nothing is ever deleted, and --undo puts everything back.

    Example: lookalike duplicates photos --out duplicates.html
    """
    asked = _Asked(within, far, turned, chains, keep, reference or [], apply, trash, out, json)
    _check(asked, name, items, against=against, undo=undo, jobs=[distinct, forget, decided, undo is not None])
    if undo is not None:
        _undo(undo, json=json)
        return
    if name is None:
        raise UsageError("Name a collection, such as: lookalike duplicates photos.")
    with Collection.open(collection_path(name)) as collection:
        if distinct or forget or decided:
            _decide(collection, items or [], "distinct" if distinct else "forget" if forget else "list", json=json)
        elif against is not None:
            with Collection.open(collection_path(against)) as other:
                _leaks(collection, other, asked)
        else:
            _find(collection, asked)


def _check(
    asked: _Asked,
    name: Path | None,
    items: Sequence[str] | None,
    *,
    against: Path | None,
    undo: Path | None,
    jobs: Sequence[bool],
) -> None:
    """Refuse what does not go together, before any work."""
    if sum(jobs) + asked.apply + (against is not None) > 1:
        raise UsageError("Give one of --distinct, --forget, --decisions, --undo, --against and --apply.")
    if items and not any(jobs[:2]):
        raise UsageError(f"“{items[0]}” is one name too many; pictures are named with --distinct or --forget.")
    if undo is not None and name is not None:
        raise UsageError("The trash knows its collection; leave NAME out with --undo.")
    if asked.chains and asked.apply:
        raise UsageError(
            "The first and the last of a chain may have nothing in common, so chains are to be looked at; leave out --chains"
            " or --apply."
        )
    if asked.within is not None and asked.far is not None:
        raise UsageError("Give --within or --far, one of them.")
    if asked.out is not None:
        if asked.out.suffix not in (".html", ".csv", ".jsonl"):
            raise UsageError(f"{asked.out} should end in .html, .csv or .jsonl.")
        output.check_folder(asked.out.parent)
        if asked.out.suffix == ".html":
            page.require()


def _reach(collection: Collection, asked: _Asked, pictures: int) -> Reach:
    metric = collection.store.metric
    if asked.within is not None:
        return duplicates.given(DistanceRange.parse(asked.within, collection.embedder.space).max)
    if asked.far is not None:
        return duplicates.at_rate(collection.encoder, metric, asked.far)
    return duplicates.calibrated(collection.encoder, metric, pictures, turned=asked.turned)


def _find(collection: Collection, asked: _Asked) -> None:
    rules = duplicates.Rule.parse(asked.rules)
    with output.stoppable("Nothing was moved."), output.progress_bar() as progress:
        found = duplicates.find(
            collection,
            _reach(collection, asked, collection.store.count()),
            chains=asked.chains,
            rules=rules,
            references=asked.references,
            turned=asked.turned,
            tell=progress.advance,
        )
    _write(found, collection, None, asked)  # while the pictures are there
    moved = _apply(collection, found, asked.trash) if asked.apply else None
    _report(collection, found, moved, asked)
    if moved and moved.left:
        sys.exit(1)


# ---- moving


def _apply(collection: Collection, found: Duplicates, trash: Path | None) -> Moved:
    folder = trash or _beside(collection)
    back = f"What was moved is put back by: lookalike duplicates --undo {folder}"
    with output.stoppable(back), output.progress_bar() as progress:
        moved = duplicates.apply(
            collection, found.groups, folder, lambda done, total: progress.advance("moving", done, total)
        )
    output.print_skipped([f"{path}: {reason}" for path, reason in moved.left])
    if moved.files:
        output.stderr.print(
            f"{_count(len(moved.files), 'picture')}, {page.size(moved.size)}, moved into {folder}. To put them back: lookalike duplicates"
            f" --undo {folder}"
        )
    return moved


def _beside(collection: Collection) -> Path:
    """The trash folder of a collection, where no other is named."""
    return collection.path.with_name(f"{collection.path.resolve().name.removesuffix(SUFFIX)}-trash")


def _undo(trash: Path, *, json: bool) -> None:
    with output.stoppable("The same command goes on from there."), output.progress_bar() as progress:
        moved = duplicates.restore(trash, tell=lambda done, total: progress.advance("putting back", done, total))
    output.print_skipped([f"{path}: {reason}" for path, reason in moved.left])
    if json:
        output.write_json(_moved_json(moved))
    else:
        output.stdout.print(f"Back where they were: {_count(len(moved.files), 'picture')}.")
    if moved.left:
        sys.exit(1)


# ---- deciding


def _decide(
    collection: Collection, names: Sequence[str], what: Literal["distinct", "forget", "list"], *, json: bool
) -> None:
    if what == "list":
        if names:
            raise UsageError("--decisions lists all; leave the pictures out.")
        _list(collection, json=json)
        return
    if what == "distinct":
        count = decisions.separate(collection, [_item(collection, name) for name in names])
        text = f"{_count(count, 'pair')} more {'is' if count == 1 else 'are'} remembered as distinct."
    else:
        if not names:
            raise UsageError("Name the pictures of which to forget what was decided.")
        count = decisions.revoke(collection, [_content(collection, name) for name in names])
        text = f"{_count(count, 'decision')} forgotten."
    if json:
        output.write_json({"changed": count, "decisions": len(decisions.read(collection))})
    else:
        output.stdout.print(text)


def _item(collection: Collection, name: str) -> Item:
    for ident in (name, identify(Path(name))):
        if found := collection.store.get([ident]):
            return found[ident]
    raise NotFoundError(f"{collection.path} has no picture “{name}”. Give its id, or its path as it was indexed.")


def _content(collection: Collection, name: str) -> str:
    """A SHA-256: of a picture, or as it stands in the list of decisions."""
    if any(name in pair for pair in decisions.read(collection)):
        return name
    return _item(collection, name).sha256


def _list(collection: Collection, *, json: bool) -> None:
    known = sorted(decisions.read(collection))
    wanted = {digest for pair in known for digest in pair}
    paths: dict[str, str] = {}
    for item in collection.store.scan() if wanted else ():
        if item.sha256 in wanted:
            paths.setdefault(item.sha256, str(collection.file(item)))
    if json:
        output.write_json([{"distinct": list(pair), "paths": [paths.get(digest) for digest in pair]} for pair in known])
    elif not known:
        output.stdout.print("Nothing was decided yet.")
    else:
        rows = [(paths.get(a, a), paths.get(b, b)) for a, b in known]
        output.print_table(rows, ("picture", "is distinct from"))


# ---- telling


def _leaks(train: Collection, test: Collection, asked: _Asked) -> None:
    if train.path.samefile(test.path):
        raise UsageError("Give --against another collection; without it, a collection is searched by itself.")
    with output.stoppable("Nothing was written."), output.progress_bar() as progress:
        found = duplicates.leaks(
            train, test, _reach(train, asked, train.store.count()), turned=asked.turned, tell=progress.advance
        )
    output.print_skipped([f"{path}: {reason}" for path, reason in found.left_out])
    _write(found, train, test, asked)
    if asked.json:
        output.write_json(
            {
                **_about(found, train),
                "against": test.name,
                "of": found.right,
                "leaked": {str(tier): count for tier, count in found.leaked.items()},
                "pairs": [_pair_json(pair) for pair in found.pairs],
            }
        )
        return
    if found.pairs:
        rows = [
            (
                pair.tier,
                format_distance(pair.distance, found.metric),
                "" if pair.turn is Turn.NONE else pair.turn,
                str(pair.left),
                str(pair.right),
            )
            for pair in found.pairs[:_MOST]
        ]
        output.print_table(rows, ("tier", "distance", "turn", train.name, test.name))
        _print_more(len(found.pairs), "pairs")
    parts = [f"{count:,} {tier}" for tier, count in found.leaked.items() if count]
    told = f"{', '.join(parts)} of the {found.right:,} pictures" if parts else f"None of the {found.right:,} pictures"
    output.stdout.print(f"{told} of {test.name} in {train.name}, which has {found.left:,}.")


def _report(collection: Collection, found: Duplicates, moved: Moved | None, asked: _Asked) -> None:
    output.print_skipped([f"{path}: {reason}" for path, reason in found.left_out])
    if asked.json:
        told = {
            **_about(found, collection),
            "groups": [_group_json(group) for group in found.groups],
            "left_out": [{"path": str(path), "reason": reason} for path, reason in found.left_out],
            **({"moved": _moved_json(moved)} if moved else {}),
        }
        output.write_json(told)
        return
    if not found.groups:
        output.stdout.print(f"No duplicates among {_count(found.pictures, 'picture')}. {_how(found.reach)}")
        return
    _print_groups(found, "moved" if moved else "could go")
    surplus = [member for group in found.groups for member in group.surplus]
    certain = sum(group.tier is not Tier.SIMILAR for group in found.groups)
    similar = len(found.groups) - certain
    text = f"{_count(certain, 'group')} of duplicates" + (f" and {similar:,} of similar pictures" if similar else "")
    files, size = (moved.files, moved.size) if moved else (surplus, sum(m.facts.size for m in surplus))
    done = "moved" if moved else "could go"
    output.stdout.print(f"{text} among {_count(found.pictures, 'picture')}; {len(files):,} {done}, {page.size(size)}.")
    if moved is None:
        output.stderr.print(f"{_how(found.reach)} Nothing was moved; --apply does.", style="dim")


def _how(reach: Reach) -> str:
    return f"Pictures within {reach.radius:.4g} were looked at: {reach.how}."


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _print_groups(found: Duplicates, going: str) -> None:
    rows = []
    for number, group in enumerate(found.groups[:_MOST], 1):
        for i, member in enumerate(group.members):
            similar = group.tier is Tier.SIMILAR
            rows.append(
                (
                    str(number),
                    "" if similar else "keep" if member.kept else going,
                    "" if i == 0 else member.tier,
                    "" if i == 0 else format_distance(member.distance, found.metric),
                    f"{member.facts.width}×{member.facts.height}",
                    page.size(member.facts.size),
                    str(member.path),
                    member.why or ("" if member.turn is Turn.NONE else member.turn),
                )
            )
    header = ("group", "", "tier", "distance", "pixels", "size", "picture", "why")
    output.print_table(rows, header)
    _print_more(len(found.groups), "groups")


def _print_more(count: int, what: str) -> None:
    if count > _MOST:
        output.stdout.print(f"and {count - _MOST:,} more {what}; --json and --out have them all", style="dim")


def _write(found: Duplicates | Leaks, collection: Collection, other: Collection | None, asked: _Asked) -> None:
    if asked.out is None:
        return
    if asked.out.suffix == ".html":
        page.write(found, asked.out, collection, other)
    else:
        _write_pairs(found.pairs, asked.out)
    output.stderr.print(f"{asked.out} is written.")


def _write_pairs(pairs: Sequence[PairFound], path: Path) -> None:
    try:
        with atomic.atomic_write(path) as part, part.open("w", encoding="utf-8", newline="") as file:
            if path.suffix == ".jsonl":
                file.writelines(jsonlib.dumps(_pair_json(pair), ensure_ascii=False) + "\n" for pair in pairs)
            else:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(("left", "right", "distance", "tier", "turn"))
                writer.writerows(_pair_json(pair).values() for pair in pairs)
    except OSError as e:
        raise StorageError(f"{path} cannot be written: {e.strerror}. Give another place.") from e


def _about(found: Duplicates | Leaks, collection: Collection) -> dict[str, Any]:
    return {
        "name": collection.name,
        "pictures": found.pictures if isinstance(found, Duplicates) else found.left,
        "metric": found.metric,
        "within": found.reach.radius,
        "how": found.reach.how,
    }


def _pair_json(pair: PairFound) -> dict[str, Any]:
    return {
        "left": str(pair.left),
        "right": str(pair.right),
        "distance": pair.distance,
        "tier": pair.tier,
        "turn": pair.turn,
    }


def _group_json(group: duplicates.Group) -> dict[str, Any]:
    return {
        "tier": group.tier,
        "members": [
            {
                "id": member.item.id,
                "path": str(member.path),
                "label": member.item.label,
                "tier": member.tier,
                "distance": member.distance,
                "turn": member.turn,
                "kept": member.kept,
                "why": member.why,
                "width": member.facts.width,
                "height": member.facts.height,
                "bytes": member.facts.size,
                "modified": member.facts.modified / 1e9,
            }
            for member in group.members
        ],
    }


def _moved_json(moved: Moved) -> dict[str, Any]:
    return {
        "files": [str(path) for path in moved.files],
        "bytes": moved.size,
        "left": [{"path": str(path), "reason": reason} for path, reason in moved.left],
    }
