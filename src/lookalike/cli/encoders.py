"""The command encoders: list the bundled encoders."""

import typer

from lookalike import encoders as registry
from lookalike.cli import output
from lookalike.cli.options import Json
from lookalike.embedding import Embedder

commands = typer.Typer()

_FIELDS = {"name", "description", "licence", "dimension", "output", "metric", "branches", "input"}


@commands.command()
def encoders(json: Json = False) -> None:
    """List the encoders that ship with lookalike."""
    embedders = [(Embedder.of(registry.load(name)), folder) for name, folder in registry.bundled().items()]
    listed = [
        (embedder.encoder.card, embedder.scope, sum(file.stat().st_size for file in folder.iterdir()))
        for embedder, folder in embedders
    ]
    if json:
        output.write_json(
            [
                card.model_dump(mode="json", include=_FIELDS)
                | {"scope": scope, "bytes": size, "figures": card.provenance.figures if card.provenance else {}}
                for card, scope, size in listed
            ]
        )
        return
    header = ("name", "dimension", "input", "branches", "MB", "scope")
    rows = [
        (c.name, str(c.dimension), f"{c.input.size} px", ", ".join(c.branches), f"{size / 1e6:.1f}", scope)
        for c, scope, size in listed
    ]
    output.print_table(rows, header)
