"""The command info: describe a collection."""

from dataclasses import asdict

import typer

from lookalike.cli import output
from lookalike.cli.options import Json, Name
from lookalike.collection import Collection
from lookalike.embedding import Embedder
from lookalike.stores.settings import Status
from lookalike.tables import plural

commands = typer.Typer()

_LABELS_SHOWN = 12


@commands.command()
def info(name: Name, json: Json = False) -> None:
    """Describe a collection: its items, encoder, metric, size, index and labels."""
    with Collection.open(name) as collection:
        store, status, missing = collection.store, collection.status(), len(collection.missing())
        facts: dict[str, object] = {
            "name": collection.name,
            "items": store.count(),
            "missing": missing,
            "dimension": store.space.dimension,
            "metric": store.space.metric,
            "codec": collection.embedder.codec.name,
            **_describe_codec(collection.embedder),
            "encoder": collection.embedder.name,
            "bytes": store.size(),
            "scope": collection.embedder.scope,
        }
        labels = store.labels()
    if json:
        output.write_json(facts | {"labels": labels} | (_status_to_dict(status) if status else {}))
        return
    if missing:
        facts["missing"] = f"{plural(missing, 'file')}; if a folder has moved: lookalike relocate {name} OLD NEW"
    else:
        del facts["missing"]
    names = {"bytes_per_item": "bytes of a code", "codec_bytes": "bytes of the codec"}
    if "originals" in facts:
        facts["originals"] = "kept" if facts["originals"] else "dropped"
    rows = [
        (names.get(key, key), f"{value:,}" if isinstance(value, int) else str(value)) for key, value in facts.items()
    ]
    if status:
        rows += [
            ("scan", status.precision),
            ("estimate", f"{status.estimate:.1f} ms a query, exact"),
            ("budget", f"{status.settings.budget:g} ms"),
            ("index", describe_index(status)),
        ]
    if labels:
        shown = ", ".join(f"{label} {count:,}" for label, count in list(labels.items())[:_LABELS_SHOWN])
        rows.append(("labels", f"{len(labels)}: {shown}{' …' if len(labels) > _LABELS_SHOWN else ''}"))
    output.print_facts(rows)


def _describe_codec(embedder: Embedder) -> dict[str, object]:
    """Return the facts of a compressed collection."""
    if not embedder.is_compressed:
        return {}
    codec = embedder.codec
    return {
        "code": str(codec),
        "bytes_per_item": codec.code_bytes,
        "codec_bytes": codec.size,
        "originals": embedder.originals,
    }


def _status_to_dict(status: Status) -> dict[str, object]:
    return {
        "scan": status.precision,
        "estimate": status.estimate,
        "budget": status.settings.budget,
        "index": asdict(status.index) if status.index else None,
    }


def describe_index(status: Status) -> str:
    """Describe the index of a collection in one line."""
    index = status.index
    if index is None:
        return "none" + ("; lookalike tune builds one" if status.due else "")
    changed = f", {index.added:,} added since, {index.gone:,} removed" if index.added or index.gone else ""
    generation = int(index.generation.partition("-")[0])
    return f"{index.kind}, recall {index.recall:.2f}, {index.bytes:,} bytes, generation {generation}{changed}"
