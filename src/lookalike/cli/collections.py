"""Commands about collections: index, search, remove, info."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from lookalike import encoders, images
from lookalike.cli import output
from lookalike.collection import SUFFIX, Added, Collection, entries
from lookalike.errors import MismatchError, NotFoundError, UsageError
from lookalike.ingest import identify
from lookalike.metric import Metric, distance_at
from lookalike.query import Branch, Filter
from lookalike.stores.tuning import Status

commands = typer.Typer()

Name = Annotated[Path, typer.Argument(metavar="NAME", help="A collection: shop.lookalike, or shop for short.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="Only items of this label; may be repeated.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="KEY=VALUE", help="Only items with this attribute; may be repeated: all of them."),
]
Ids = Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="Only this item; may be repeated.")]
Nearest = Annotated[int | None, typer.Option("-k", help="How many of the nearest.", show_default="10")]
Within = Annotated[
    str | None,
    typer.Option(
        metavar="R|LO..HI",
        help="All within this distance, as 0.35, or between two; or at least this similar, as 80%.",
    ),
]

Far = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="RATE",
        help="All within the distance of this false accept rate, as 0.01; the encoder must be calibrated.",
    ),
]


def find(name: Path) -> Path:
    """The folder of a collection: the name itself, or with its ending."""
    longer = name.with_name(name.name + SUFFIX) if name.name not in ("", "..") else name
    return longer if not (name / "manifest.json").exists() and name.suffix != SUFFIX else name


@commands.command()
def index(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Pictures, in any folders below it.")],
    *,
    to: Annotated[Path, typer.Option(metavar="NAME", help="The collection; made if it is not there.")],
    encoder: Annotated[
        str | None, typer.Option(help="For a new collection: a bundled name, a folder, or hf://org/repo.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="folder|CSV", help="Label by first folder, or by a CSV: path,label[,attribute…]."),
    ] = None,
    metric: Annotated[Metric | None, typer.Option(help="For a new collection; the encoder's own if not given.")] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Remove items whose files under DIR are gone.")] = False,
    json: Json = False,
) -> None:
    """Put a folder of pictures into a collection.

    Run it again after the folder has changed: only what is new or changed is embedded. Stop it at any time: what is
    done stays, and the next run goes on.

    Example: lookalike index photos --to shop.lookalike --labels folder
    """
    unlisted: list[OSError] = []
    found = entries(folder, _labels(labels), unlisted.append)
    if not found:
        raise NotFoundError(f"There are no pictures under {folder} ({', '.join(sorted(images.SUFFIXES))}).")
    with _open_or_create(find(to), encoder, metric) as collection:
        kept = "What is in the collection stays; the same command goes on from there."
        with output.stoppable(kept), output.progress("indexing") as tell:
            added = collection.add(found, output.adding(tell))
        gone = collection.gone(folder)
        if prune:
            collection.remove([item.id for item in gone])
        _report_index(collection, added, len(gone), unlisted, prune=prune, json=json)
    if added.progress.failed == added.progress.total:
        sys.exit(1)


def _labels(given: str | None) -> Literal["folder"] | Path | None:
    return Path(given) if given and given != "folder" else "folder" if given else None


def _open_or_create(path: Path, encoder: str | None, metric: Metric | None) -> Collection:
    if not path.exists():
        return Collection.create(path, encoders.load(encoder or encoders.DEFAULT), metric)
    collection = Collection.open(path)
    if encoder and encoders.load(encoder).fingerprint != collection.encoder.fingerprint:
        raise MismatchError(
            f"{path} was made with the encoder “{collection.encoder.card.name}”, not with “{encoder}”."
            " Leave --encoder out, or index into another collection."
        )
    if metric and metric != collection.store.metric:
        raise MismatchError(f"{path} compares by {collection.store.metric}; leave --metric out.")
    return collection


def _report_index(
    collection: Collection, added: Added, gone: int, unlisted: list[OSError], *, prune: bool, json: bool
) -> None:
    state = added.progress
    for error in unlisted:
        output.stderr.print(Text(f"not looked into: {error}", style="yellow"))
    output.print_failures(added.failures)
    if json:
        report = {
            "collection": str(collection.path),
            "items": collection.store.count(),
            "embedded": state.embedded,
            "reused": state.reused,
            "unchanged": state.unchanged,
            "failed": [{"path": str(path), "reason": reason} for path, reason in added.failures],
            "gone": gone,
            "removed": gone if prune else 0,
        }
        output.write_json(report)
        return
    parts = [f"{state.embedded:,} embedded"]
    parts += [
        f"{n:,} {what}" for n, what in ((state.reused, "copies of known ones"), (state.unchanged, "unchanged")) if n
    ]
    parts += [f"{state.failed:,} left out"] if state.failed else []
    if gone:
        parts.append(f"{gone:,} gone" + (" and removed" if prune else " (--prune removes them)"))
    output.stdout.print(f"{', '.join(parts)}. {collection.path} has {collection.store.count():,} items.")


@commands.command()
def search(
    name: Name,
    pictures: Annotated[list[str], typer.Argument(metavar="IMAGE…", help="Picture files, or - for standard input.")],
    *,
    k: Nearest = None,
    within: Within = None,
    far: Far = None,
    metric: Annotated[Metric | None, typer.Option(help="The collection's own if not given.")] = None,
    sketch: Annotated[bool, typer.Option("--sketch", help="The pictures are sketches.")] = False,
    label: Labels = None,
    where: Where = None,
    ids: Ids = None,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--approximate",
            help="The very nearest however long it takes, or by the index. By the collection's budget if not given.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Find the pictures of a collection that look like this one.

    Example: lookalike search shop mug.jpg -k 5
    """
    sources = [sys.stdin.buffer.read() if p == "-" else Path(p) for p in pictures]
    among = narrowed(label, where, ids)
    with Collection.open(find(name)) as collection:
        way = branch(sketch)
        queries = collection.embed(sources, way)
        if within is None and far is None:
            answers = collection.knn(queries, 10 if k is None else k, among, metric=metric, branch=way, exact=exact)
        else:
            if [k, within, far].count(None) < 2:  # noqa: PLR2004 -- all but one
                raise UsageError("Give -k, --within or --far, one of them.")
            least, farthest = reach(collection, within, far, metric or collection.store.metric, way)
            if len(sources) == 1 and exactly(collection, exact):
                suggest_index(collection, name, exact)
                parts = collection.stream(queries, farthest, among, least=least, metric=metric, branch=way)
                if json:
                    output.stream_json(parts, metric or collection.store.metric)
                else:
                    output.print_stream(parts, collection, sources[0] if isinstance(sources[0], Path) else None)
                return
            answers = collection.within(queries, farthest, among, least=least, metric=metric, branch=way, exact=exact)
        if all(answer.exact for answer in answers):
            suggest_index(collection, name, exact)
        if json:
            shapes = [answer.to_dict() for answer in answers]
            output.write_json(shapes[0] if len(shapes) == 1 else shapes)
            return
        for source, answer in zip(sources, answers, strict=True):
            if len(sources) > 1:
                output.stdout.print(Text(f"\n{source if isinstance(source, Path) else 'standard input'}", style="bold"))
            output.print_answer(answer, collection, source if isinstance(source, Path) else None)


def reach(
    collection: Collection, within: str | None, far: float | None, metric: Metric, way: Branch
) -> tuple[float, float]:
    """(the least distance, the radius)."""
    if far is not None:
        return 0, collection.embedder.compared_by(metric).distance_at(far, way)
    return ring(within or "", metric, collection.store.dimension)


def ring(given: str, metric: Metric, dimension: int) -> tuple[float, float]:
    """(the least distance, the radius) of one distance, or of two as 0.1..0.3; similarities in per cent likewise."""
    ends = [radius(end, metric, dimension) for end in given.split("..")]
    if len(ends) > 2:  # noqa: PLR2004 -- two ends
        raise UsageError(f"--within takes one distance, or two as 0.1..0.3, not “{given}”.")
    if "%" in given:  # the more similar, the nearer
        ends.sort()
    return (0 if len(ends) == 1 else ends[0]), ends[-1]


def narrowed(labels: list[str] | None, where: list[str] | None, ids: list[str] | None) -> Filter:
    """What --label, --where and --id leave."""
    attributes: dict[str, str] = {}
    for given in where or []:
        key, equals, value = given.partition("=")
        if not equals:
            raise UsageError(f"--where takes an attribute and its value, as colour=red, not “{given}”.")
        if attributes.setdefault(key, value) != value:
            raise UsageError(f"No item has two values of “{key}”: give --where {key}=… once.")
    return Filter(frozenset(labels) if labels else None, attributes, frozenset(ids) if ids else None)


def exactly(collection: Collection, exact: bool | None) -> bool:
    """Whether a query is answered exactly: because it is to be, fits the budget, or for want of an index."""
    if exact or (exact is None and not collection.over_budget()):
        return True
    status = collection.status()
    return status is None or status.index is None


def suggest_index(collection: Collection, name: Path, exact: bool | None) -> None:
    """On stderr, where queries are exact for want of an index: over budget, or asked to be approximate."""
    if exact or (exact is None and not collection.over_budget()):
        return
    status = collection.status()
    if status is None or status.index is not None:
        return
    if exact is False and collection.indexable:
        output.stderr.print(f"Searched exactly, as there is no index. Make one: lookalike tune {name}", style="yellow")
    elif exact is None and status.due:
        output.stderr.print(
            f"Searched exactly: about {status.estimate:,.0f} ms a query, over the budget of"
            f" {status.tuning.budget:g} ms. An index is faster: lookalike tune {name}",
            style="yellow",
        )


def branch(sketch: bool) -> Branch:
    """Which way pictures come in."""
    return "sketch" if sketch else "photo"


def radius(given: str, metric: Metric, dimension: int) -> float:
    """A distance, or the distance at a similarity given in per cent."""
    number, percent, rest = given.strip().partition("%")
    try:
        value = float(number)
    except ValueError:
        value, rest = 0.0, given
    if rest or not number:
        raise UsageError(f"--within takes a distance such as 0.35 or a similarity such as 80%, not “{given}”.")
    return distance_at(value / 100, metric, dimension) if percent else value


@commands.command()
def remove(
    name: Name,
    items: Annotated[list[str], typer.Argument(metavar="ID…", help="Ids, or paths as they were indexed.")],
    json: Json = False,
) -> None:
    """Take items out of a collection. The picture files stay where they are.

    Example: lookalike remove shop photos/mug/mug-0004.jpg
    """
    with Collection.open(find(name)) as collection:
        there = collection.store.get(items)
        ids = [item if item in there else identify(Path(item).absolute()) for item in items]
        missing = [item for item, i in zip(items, ids, strict=True) if not collection.store.get([i])]
        removed = collection.remove(ids)
        if json:
            output.write_json({"removed": removed, "missing": missing, "items": collection.store.count()})
        else:
            output.stdout.print(f"{removed:,} removed. {collection.path} has {collection.store.count():,} items.")
    if missing:
        raise NotFoundError(
            f"{collection.path} has no “{missing[0]}”" + (f" (and {len(missing) - 1} more)." if missing[1:] else ".")
        )


@commands.command()
def info(name: Name, json: Json = False) -> None:
    """Say what a collection holds."""
    with Collection.open(find(name)) as collection:
        store, card, status = collection.store, collection.encoder.card, collection.status()
        facts: dict[str, object] = {
            "name": collection.name,
            "items": store.count(),
            "dimension": store.dimension,
            "metric": store.metric,
            "codec": store.codec,
            "encoder": card.name,
            "bytes": store.size(),
            "labels": store.labels(),
        }
        if status is not None:
            facts |= {
                "scan": status.scan,
                "estimate": status.estimate,
                "budget": status.tuning.budget,
                "index": asdict(status.index) if status.index else None,
            }
    if json:
        output.write_json(facts)
        return
    labels = facts.pop("labels")
    if status is not None:
        facts |= {"estimate": f"{status.estimate:.1f} ms a query, exact", "budget": f"{status.tuning.budget:g} ms"}
        facts["index"] = describe(status)
    rows = [(key, f"{value:,}" if isinstance(value, int) else str(value)) for key, value in facts.items()]
    if isinstance(labels, dict) and labels:
        shown = ", ".join(f"{label} {n:,}" for label, n in list(labels.items())[:12])
        rows.append(("labels", f"{len(labels)}: {shown}{' …' if len(labels) > 12 else ''}"))  # noqa: PLR2004 -- a line or two
    for key, value in rows:
        output.stdout.print(Text.assemble((f"{key:<10}", "bold"), value))


def describe(status: Status) -> str:
    """The index in words."""
    index = status.index
    if index is None:
        return "none" + ("; lookalike tune makes one" if status.due else "")
    changed = f", {index.added:,} added since, {index.gone:,} gone" if index.added or index.gone else ""
    number = int(index.generation.partition("-")[0])
    return f"{index.kind}, recall {index.recall:.2f}, {index.bytes:,} bytes, of generation {number}{changed}"
