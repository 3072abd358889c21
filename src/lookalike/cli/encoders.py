"""Commands about encoders: encoders, embed."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from lookalike import atomic, images
from lookalike import encoders as shelf
from lookalike.cli import output
from lookalike.cli.options import Json
from lookalike.embedding import Embedder
from lookalike.errors import NotFoundError, StorageError

commands = typer.Typer()


@commands.command()
def encoders(json: Json = False) -> None:
    """List the encoders that ship with lookalike."""
    found = [
        (shelf.load(name).card, sum(file.stat().st_size for file in folder.iterdir()))
        for name, folder in shelf.bundled().items()
    ]
    if json:
        wanted = {"name", "description", "licence", "dimension", "output", "metric", "branches", "input"}
        figures = [card.provenance.figures if card.provenance else {} for card, _ in found]
        output.write_json(
            [
                card.model_dump(mode="json", include=wanted) | {"bytes": size, "figures": f}
                for (card, size), f in zip(found, figures, strict=True)
            ]
        )
        return
    header = ("name", "dimension", "input", "branches", "MB", "what for")
    lines = [
        (c.name, str(c.dimension), f"{c.input.size} px", ", ".join(c.branches), f"{size / 1e6:.1f}", c.description)
        for c, size in found
    ]
    output.print_table(lines, header)


@commands.command()
def embed(
    pictures: Annotated[list[Path], typer.Argument(metavar="DIR|IMAGE…", help="Picture files, and folders of them.")],
    out: Annotated[Path, typer.Option(metavar="X.npz", help="Gets the arrays `paths` and `embeddings`.")],
    encoder: Annotated[str, typer.Option(help="A bundled name, a folder, or hf://org/repo.")] = shelf.DEFAULT,
    sketch: Annotated[bool, typer.Option("--sketch", help="The pictures are sketches.")] = False,
    json: Json = False,
) -> None:
    """Embed pictures into a NumPy file, to measure an encoder with your own tools.

    Example: lookalike embed photos --encoder toyshop --out photos.npz
    """
    paths = [p for given in pictures for p in (images.find(given) if given.is_dir() else [given])]
    if not paths:
        raise NotFoundError(f"There are no pictures under {', '.join(map(str, pictures))}.")
    if out.suffix != ".npz":
        out = out.with_name(out.name + ".npz")
    with output.progress_bar() as progress:
        embedder = Embedder.of(shelf.load(encoder))
        embedded = embedder.embed_files(paths, "sketch" if sketch else "photo", progress)
    done, vectors, failures = embedded.paths, embedded.vectors, embedded.failures
    output.print_skipped([reason for _, reason in failures])
    if not done:
        raise NotFoundError(f"None of the {len(paths):,} pictures could be used.")
    try:
        with atomic.atomic_write(out) as part, part.open("wb") as file:
            np.savez(file, paths=np.asarray([str(p) for p in done]), embeddings=vectors)
    except OSError as e:
        raise StorageError(f"{out} cannot be written: {e.strerror}.") from e
    if json:
        failed = [{"path": str(path), "reason": reason} for path, reason in failures]
        output.write_json({"out": str(out), "embedded": len(done), "dimension": vectors.shape[1], "failed": failed})
    else:
        output.stdout.print(f"{len(done):,} embeddings of {vectors.shape[1]} numbers in {out}.")
