"""The command embed: embed images into a NumPy file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from lookalike import atomic, encoders
from lookalike.cli import output, queries
from lookalike.cli.options import Crops, Json, Sketch, check_local, options
from lookalike.embedding import Embedder
from lookalike.errors import NotFoundError, StorageError, UsageError
from lookalike.folder import load_encoder
from lookalike.metric import Metric
from lookalike.progress import Progress
from lookalike.query import Branch, to_branch
from lookalike.tables import plural

commands = typer.Typer()

# Images whose dense embeddings are in memory at once, for sparse ones.
_ROWS = 1024


@dataclass(frozen=True)
class Options:
    """Options of embed."""

    sources: Annotated[list[Path], typer.Argument(metavar="DIR|IMAGE…", help="Image files, and folders of them.")]
    out: Annotated[Path, typer.Option(metavar="X.npz", help="File for the arrays `paths` and `embeddings`.")]
    encoder: Annotated[str, typer.Option(help="A bundled name, a folder, or hf://org/repo.")] = encoders.DEFAULT
    sketch: Sketch = False
    crops: Crops = None
    sparse: Annotated[
        bool,
        typer.Option(
            "--sparse",
            help="Write only the numbers that are not zero, as a CSR matrix for scipy.sparse.load_npz, in place of `embeddings`.",
        ),
    ] = False
    json: Json = False


@commands.command()
@options(Options)
def embed(given: Options) -> None:
    """Embed images into a NumPy file, to measure an encoder with your own tools.

    Example: lookalike embed photos --encoder general --out photos.npz
    """
    paths: list[Path] = []
    notes: list[str] = []
    for source in given.sources:
        check_local(str(source))
        if not source.is_dir():
            paths.append(source)
            continue
        found, note = queries.list_images(source, several=len(given.sources) > 1)
        paths += found
        notes += [note] if note else []
    if not paths:
        raise NotFoundError(" ".join([f"There are no images under {', '.join(map(str, given.sources))}.", *notes]))
    if given.out.suffix not in ("", ".npz"):
        raise UsageError(f"{given.out} should end in .npz.")
    if given.out.name in ("", ".."):
        raise UsageError("--out names no file. Give it a name that ends in .npz.")
    out = given.out.with_suffix(".npz")
    _check_place(out)
    loaded = load_encoder(given.encoder)
    embedder = Embedder.of(loaded if given.crops is None else loaded.with_crops(given.crops))
    if given.sparse and embedder.metric is Metric.HAMMING:
        raise UsageError(f"“{embedder.name}” makes bits, which are not sparse. Leave out --sparse.")
    for note in notes:
        output.stderr.print(note, style="yellow")
    with output.progress_bar() as progress:
        embedded = (_embed_sparse if given.sparse else _embed_dense)(embedder, paths, to_branch(given.sketch), progress)
    output.print_skipped([reason for _, reason in embedded.failures])
    device = embedder.encoder.device(to_branch(given.sketch))
    output.print_device(device)
    if not embedded.paths:
        raise NotFoundError(f"None of the {len(paths):,} images could be used.")
    _save(embedded, out)
    count, dimension = len(embedded.paths), embedder.space.dimension
    if given.json:
        failed = [{"path": str(path), "reason": reason} for path, reason in embedded.failures]
        output.write_json(
            {"out": str(out), "embedded": count, "dimension": dimension, "failed": failed, "device": device.name}
        )
    else:
        output.stdout.print(f"Wrote {plural(count, 'embedding')} of dimension {dimension} to {out}.")


@dataclass(frozen=True)
class _Embedded:
    """The arrays of a file, and what goes into it.

    Attributes:
        paths: the embedded files.
        failures: path and reason of each unusable file.
        arrays: by their names in the file.
    """

    paths: Sequence[Path]
    failures: Sequence[tuple[Path, str]]
    arrays: Mapping[str, Any]


def _embed_dense(embedder: Embedder, paths: Sequence[Path], branch: Branch, progress: Progress) -> _Embedded:
    embedded = embedder.embed_files(paths, branch, progress)
    return _Embedded(embedded.paths, embedded.failures, {"embeddings": embedded.vectors})


def _embed_sparse(embedder: Embedder, paths: Sequence[Path], branch: Branch, progress: Progress) -> _Embedded:
    """Embed images, and keep the numbers that are not zero, under the names of ``scipy.sparse.save_npz``."""
    used: list[Path] = []
    failures: list[tuple[Path, str]] = []
    data, indices, counts = [np.empty(0, np.float32)], [np.empty(0, np.int32)], [np.zeros(1, np.int64)]
    for start in range(0, len(paths), _ROWS):
        embedded = embedder.embed_files(paths[start : start + _ROWS], branch)
        rows, columns = np.nonzero(embedded.vectors)
        data.append(embedded.vectors[rows, columns])
        indices.append(columns.astype(np.int32))
        counts.append(np.bincount(rows, minlength=len(embedded.paths)))
        used += embedded.paths
        failures += embedded.failures
        progress.advance("embedding", len(used) + len(failures), len(paths))
    arrays = {
        "data": np.concatenate(data),
        "indices": np.concatenate(indices),
        "indptr": np.cumsum(np.concatenate(counts)),
        "shape": np.array([len(used), embedder.space.dimension]),
        "format": np.array(b"csr"),
    }
    return _Embedded(used, failures, arrays)


def _check_place(out: Path) -> None:
    """Check, before long work, that its result can be written.

    Raises:
        StorageError, UsageError: it cannot.
    """
    if out.is_dir():
        raise UsageError(f"{out} is a folder. Give --out the name of a file.")
    if not out.absolute().parent.is_dir():
        raise StorageError(f"The folder {out.absolute().parent} does not exist. Make it, or give another path.")
    output.check_folder(out.absolute().parent)


def _save(embedded: _Embedded, out: Path) -> None:
    try:
        with atomic.atomic_write(out) as part, part.open("wb") as file:
            np.savez(file, paths=np.asarray([str(path) for path in embedded.paths]), **embedded.arrays)
    except OSError as e:
        raise StorageError(f"{out} cannot be written: {e.strerror}. Choose another place with --out.") from e
