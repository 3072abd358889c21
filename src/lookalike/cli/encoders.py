"""The command encoders: list the bundled and the known public encoders, and fetch one."""

import sys
from typing import Annotated, Any

import typer

from lookalike import api
from lookalike import encoders as registry
from lookalike.cli import output
from lookalike.cli.options import Json
from lookalike.embedding import Embedder
from lookalike.encoders import public
from lookalike.errors import UsageError

commands = typer.Typer()

_FIELDS = {"name", "description", "licence", "dimension", "output", "metric", "branches", "input"}

_HEADER = ("name", "dimension", "input", "MB", "licence", "finds", "state")


@commands.command()
def encoders(
    fetch: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Fetch a known encoder, or one at hf://org/repo, and prepare it for use."),
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the licence of the encoder that is fetched.")
    ] = False,
    json: Json = False,
) -> None:
    """List the encoders that ship with lookalike, and public ones that it knows by name."""
    if accept_licence and fetch is None:
        raise UsageError("--accept-licence needs --fetch NAME, the encoder whose licence you accept.")
    if fetch is not None:
        _fetch(fetch, accept_licence, json)
        return
    listed = [*map(_describe_bundled, registry.bundled()), *map(_describe_known, registry.KNOWN.values())]
    if json:
        output.write_json(listed)
        return
    rows = [
        (
            each["name"],
            str(each["dimension"]),
            f"{each['input']['size']} px",
            f"{each['bytes'] / 1e6:.1f}",
            each["licence"],
            each["finds"],
            each["state"],
        )
        for each in listed
    ]
    output.print_table(rows, _HEADER)


def _describe_bundled(name: str) -> dict[str, Any]:
    embedder = Embedder.of(registry.load(name))
    card, folder = embedder.encoder.card, embedder.encoder.folder
    return card.model_dump(mode="json", include=_FIELDS) | {
        "scope": embedder.scope,
        "finds": "copies" if [known.kind for known in card.calibrations] == ["copies"] else "what looks alike",
        "bytes": sum(file.stat().st_size for file in folder.iterdir()),
        "figures": card.provenance.figures if card.provenance else {},
        "state": "bundled",
    }


def _describe_known(known: registry.Known) -> dict[str, Any]:
    state = "fetched" if public.cached(known.name) else "to fetch" if known.network else "to export"
    return {
        "name": known.name,
        "description": known.title,
        "licence": known.licence,
        "terms": known.terms,
        "dimension": known.dimension,
        "output": "float",
        "metric": "cosine",
        "branches": ["photo", "text"] if "texts" in known.purpose else ["photo"],
        "input": {"size": known.size},
        "scope": f"Trained on {known.data}.",
        "finds": known.purpose,
        "bytes": round(known.megabytes * 1e6),
        "pooling": known.pooling,
        "source": known.address,
        "layout": known.layout,
        "state": state,
    }


def _fetch(name: str, accepted: bool, json: bool) -> None:
    card = api.fetch_encoder(name, accept_licence=accepted or _ask).card
    if json:
        output.write_json(card.model_dump(mode="json", exclude={"calibrations", "provenance"}))
        return
    output.stdout.print(
        f"“{card.name}” is ready: {card.dimension} numbers of an image of {card.input.size} px; licence {card.licence}."
    )


def _ask(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    output.stderr.print(question)
    return typer.confirm("Do you accept it?", err=True)
