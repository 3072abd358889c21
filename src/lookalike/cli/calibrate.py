"""The command calibrate."""

import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from lookalike import compare, datasets
from lookalike import encoders as shelf
from lookalike.cli import output
from lookalike.cli.options import Json, collection_path
from lookalike.collection import Collection
from lookalike.compare import Calibrated
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder, card
from lookalike.errors import AlreadyExistsError, StorageError, UsageError
from lookalike.evaluation.embedded import embed_dataset
from lookalike.evaluation.labels import LabelledVectors
from lookalike.metric import Metric, format_distance, format_probability
from lookalike.query import Vectors

commands = typer.Typer()

# Of the curve in the terminal: distances it has a line for, and characters of a certain pair.
_LINES = 12
_WIDTH = 40


@commands.command()
def calibrate(
    encoder: Annotated[
        str, typer.Argument(metavar="ENCODER|NAME", help="An encoder, or a collection for its own copy.")
    ],
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Labelled pictures: a folder for each class, a CSV, an npz. A collection has its own."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="train|validation|test", help="Which pictures of the data.")
    ] = None,
    pairs: Annotated[int, typer.Option(min=2, help="Pairs to draw, half of them of the same class.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="The same pictures and seed give the same pairs.")] = 0,
    metric: Annotated[
        Metric | None, typer.Option(help="To calibrate for; the encoder's or the collection's own if not given.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A copy of the encoder to be calibrated in place of it.")
    ] = None,
    json: Json = False,
) -> None:
    """Learn from labelled pictures what an encoder's distances mean, and write it into its card.

    Then search, verify and classify tell probabilities, verify has a threshold, and --far works. Take pictures like
    those that it will see, and none that it was trained on.

    Example: lookalike calibrate runs/mine/encoder --data held-out
    """
    if to is not None and to.exists():
        raise AlreadyExistsError(f"{to} is there already; give --to a folder that is not.")
    if to is not None:
        output.check_folder(to)
    given = _of_collection(collection_path(Path(encoder)), data, split, metric) if _is_collection(encoder) else None
    chosen, metric, vectors, labels, what = given or _of_encoder(encoder, data, split, metric, to)
    found = compare.calibrate(
        Embedder.of(chosen, metric), LabelledVectors(vectors, labels.tolist()), data=what, pairs=pairs, seed=seed
    )
    folder = chosen.folder if to is None else _copy(chosen, to)
    card.write_calibration(folder, found.calibration)
    if json:
        output.write_json(_as_json(found, folder))
        return
    _print(found, metric)
    output.stdout.print(f"\nFitted on {what}; written into {folder}.")
    if given and to is None:
        output.stdout.print("Programs that have the collection open see it when they open it again.")


Labelled = tuple[Encoder, Metric, Vectors, np.ndarray, str]
"""An encoder, the metric to calibrate for, vectors, their labels, and what they are of in words."""


def _is_collection(name: str) -> bool:
    return name not in shelf.bundled() and (collection_path(Path(name)) / "manifest.json").exists()


def _of_collection(path: Path, data: Path | None, split: str | None, metric: Metric | None) -> Labelled:
    with Collection.open(path) as collection:
        encoder, by = collection.encoder, metric or collection.store.space.metric
        if data is not None:
            return encoder, by, *_embedded(encoder, data, split)
        labelled = collection.labelled()
        return (
            encoder,
            by,
            labelled.vectors,
            np.asarray(labelled.labels, dtype=str),
            f"{len(labelled.labels):,} labelled items of “{collection.name}”",
        )


def _of_encoder(name: str, data: Path | None, split: str | None, metric: Metric | None, to: Path | None) -> Labelled:
    encoder = shelf.load(name)
    if data is None:
        raise UsageError("An encoder is calibrated on labelled pictures; say where they are, with --data PATH.")
    shared = name.startswith("hf://") or encoder.folder.resolve() in {f.resolve() for f in shelf.bundled().values()}
    if to is None and shared:
        raise UsageError(f"“{name}” is shared and stays as it is; say where a calibrated copy goes, with --to DIR.")
    return encoder, metric or encoder.card.metric, *_embedded(encoder, data, split)


def _embedded(encoder: Encoder, data: Path, split: str | None) -> tuple[Vectors, np.ndarray, str]:
    """The photos of a data set: their vectors, their labels, and what they are in words."""
    found = datasets.open_dataset(datasets.infer_source(data, split=split))
    if split is None and found.splits is not None:
        raise UsageError(
            f"{data} has the splits {', '.join(map(str, found.split_names))}; say which with --split: one that neither the encoder"
            " was trained on nor figures will be reported of."
        )
    photos = found.take(~found.sketch)
    with output.progress_bar() as progress:
        embedded = embed_dataset(Embedder.of(encoder), photos, progress)
    output.print_skipped(embedded.failures)
    what = f"{len(embedded):,} images of {len(found.classes):,} classes, {data.name}" + (
        f", split {split}" if split else ""
    )
    return embedded.embeddings, embedded.labels, what


def _copy(encoder: Encoder, to: Path) -> Path:
    try:
        to.mkdir(parents=True)
        for name in (*encoder.files, "README.md"):
            if (encoder.folder / name).exists():
                shutil.copyfile(encoder.folder / name, to / name)
    except FileExistsError as e:
        raise AlreadyExistsError(f"{to} is there already; give --to a folder that is not.") from e
    except OSError as e:
        raise StorageError(f"{to} cannot be written: {e.strerror}.") from e
    return to


def _as_json(found: Calibrated, folder: Path) -> dict[str, Any]:
    confusion = found.confusion
    figures = {
        "accuracy": confusion.accuracy,
        "false_accept_rate": confusion.false_accept_rate,
        "false_reject_rate": confusion.false_reject_rate,
        "auc": found.auc,
    }
    return {"encoder": str(folder), "calibration": found.calibration.model_dump(mode="json"), **figures}


def _print(found: Calibrated, metric: Metric) -> None:
    fitted, confusion = found.calibration, found.confusion
    if fitted.genuine + fitted.impostors < found.requested:
        output.stderr.print(
            f"{found.requested:,} pairs, half of them of the same class, cannot be drawn here: these are"
            f" {fitted.genuine:,} of the same and {fitted.impostors:,} of different classes.",
            style="yellow",
        )
    rows = [
        (f"{float(rate):.1%}", format_distance(d, metric)) for rate, d in fitted.distance_at_false_accept_rate.items()
    ]
    if rows:
        output.print_table(rows, ("false accept rate", "distance"))
    threshold = format_distance(confusion.threshold, metric)
    output.stdout.print(
        f"\nBest threshold {threshold}: accuracy {confusion.accuracy:.1%}, FAR {confusion.false_accept_rate:.1%}, FRR {confusion.false_reject_rate:.1%};"
        f" AUC {found.auc:.4f}\n"
    )
    at = np.linspace(0, fitted.knots[-1][0], _LINES)
    lines = [
        (format_distance(d, metric), format_probability(p), "█" * round(p * _WIDTH))
        for d, p in zip(at.tolist(), fitted.probability(at).tolist(), strict=True)
    ]
    output.print_table(lines, ("distance", "same", ""))
