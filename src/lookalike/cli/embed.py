"""The command embed: embed images into a NumPy file."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from lookalike import atomic, encoders
from lookalike.cli import output, queries
from lookalike.cli.options import Crops, Json, Sketch, check_local
from lookalike.embedding import Embedded, Embedder
from lookalike.errors import NotFoundError, StorageError, UsageError
from lookalike.query import to_branch
from lookalike.tables import plural

commands = typer.Typer()


@commands.command()
def embed(
    sources: Annotated[list[Path], typer.Argument(metavar="DIR|IMAGE…", help="Image files, and folders of them.")],
    out: Annotated[Path, typer.Option(metavar="X.npz", help="File for the arrays `paths` and `embeddings`.")],
    encoder: Annotated[str, typer.Option(help="A bundled name, a folder, or hf://org/repo.")] = encoders.DEFAULT,
    sketch: Sketch = False,
    crops: Crops = None,
    json: Json = False,
) -> None:
    """Embed images into a NumPy file, to measure an encoder with your own tools.

    Example: lookalike embed photos --encoder toyshop --out photos.npz
    """
    paths: list[Path] = []
    notes: list[str] = []
    for source in sources:
        check_local(str(source))
        if not source.is_dir():
            paths.append(source)
            continue
        found, note = queries.list_images(source, several=len(sources) > 1)
        paths += found
        notes += [note] if note else []
    if not paths:
        raise NotFoundError(" ".join([f"There are no images under {', '.join(map(str, sources))}.", *notes]))
    if out.suffix not in ("", ".npz"):
        raise UsageError(f"{out} should end in .npz.")
    out = out.with_suffix(".npz")
    loaded = encoders.load(encoder)
    embedder = Embedder.of(loaded if crops is None else loaded.with_crops(crops))
    for note in notes:
        output.stderr.print(note, style="yellow")
    with output.progress_bar() as progress:
        embedded = embedder.embed_files(paths, to_branch(sketch), progress)
    output.print_skipped([reason for _, reason in embedded.failures])
    device = embedder.encoder.device(to_branch(sketch))
    output.print_device(device)
    if not embedded.paths:
        raise NotFoundError(f"None of the {len(paths):,} images could be used.")
    _save(embedded, out)
    count, dimension = len(embedded.paths), embedded.vectors.shape[1]
    if json:
        failed = [{"path": str(path), "reason": reason} for path, reason in embedded.failures]
        output.write_json(
            {"out": str(out), "embedded": count, "dimension": dimension, "failed": failed, "device": device.name}
        )
    else:
        output.stdout.print(f"Wrote {plural(count, 'embedding')} of dimension {dimension} to {out}.")


def _save(embedded: Embedded, out: Path) -> None:
    try:
        with atomic.atomic_write(out) as part, part.open("wb") as file:
            np.savez(file, paths=np.asarray([str(path) for path in embedded.paths]), embeddings=embedded.vectors)
    except OSError as e:
        raise StorageError(f"{out} cannot be written: {e.strerror}. Choose another place with --out.") from e
