"""The command encoders: list the bundled encoders."""

import typer

from lookalike import encoders as registry
from lookalike.cli import output
from lookalike.cli.options import Json

commands = typer.Typer()

_FIELDS = {"name", "description", "licence", "dimension", "output", "metric", "branches", "input"}


@commands.command()
def encoders(json: Json = False) -> None:
    """List the encoders that ship with lookalike."""
    listed = [
        (registry.load(name).card, sum(file.stat().st_size for file in folder.iterdir()))
        for name, folder in registry.bundled().items()
    ]
    if json:
        output.write_json(
            [
                card.model_dump(mode="json", include=_FIELDS)
                | {"bytes": size, "figures": card.provenance.figures if card.provenance else {}}
                for card, size in listed
            ]
        )
        return
    header = ("name", "dimension", "input", "branches", "MB", "description")
    rows = [
        (c.name, str(c.dimension), f"{c.input.size} px", ", ".join(c.branches), f"{size / 1e6:.1f}", c.description)
        for c, size in listed
    ]
    output.print_table(rows, header)
