"""The command calibrate: calibrate an encoder on held-out images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lookalike import encoders
from lookalike.cli import output
from lookalike.cli.options import Json, options
from lookalike.collection import Collection
from lookalike.embedding import Embedder
from lookalike.errors import UsageError
from lookalike.evaluation import calibration
from lookalike.evaluation.calibration import PAIRS, CalibrationData
from lookalike.folder import is_collection, load_encoder
from lookalike.metric import Metric
from lookalike.unicode_forms import to_path

commands = typer.Typer()


@dataclass(frozen=True)
class Options:
    """Options of calibrate."""

    encoder: Annotated[
        str,
        typer.Argument(
            metavar="ENCODER|NAME", help="An encoder, or a collection, whose copy of its encoder is calibrated."
        ),
    ]
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Labelled images (a folder of class folders, .csv or .npz); with --copies any folder of images. Default for a"
            " collection: its own items.",
        ),
    ] = None
    split: Annotated[
        str | None, typer.Option(metavar="train|validation|test", help="The split of the data to use.")
    ] = None
    copies: Annotated[
        bool,
        typer.Option(
            "--copies",
            help="Calibrate on the images of the folder and changed copies of each, to find duplicates; without labels.",
        ),
    ] = False
    pairs: Annotated[
        int,
        typer.Option(
            min=1, help="Pairs of the same class to draw, at most. Of different classes, all are used, up to a million."
        ),
    ] = PAIRS
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the pairs and copies: the same images and seed give the same ones.")
    ] = 0
    metric: Annotated[
        Metric | None, typer.Option(help="Metric of the distances. Default: the encoder's or the collection's own.")
    ] = None
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Calibrate a copy of the encoder in this new folder.")
    ] = None
    json: Json = False


@commands.command()
@options(Options)
def calibrate(given: Options) -> None:
    """Calibrate an encoder on held-out images, and write the calibration into its card.

    Afterwards verify shows a probability and has a threshold, and --far works. With --copies,
    duplicates knows how near copies are. A card has one calibration of each kind. Use images like those that the encoder
    will see, but not images that it was trained on.

    Example: lookalike calibrate runs/mine/encoder --data held-out
    """
    if given.copies and given.split is not None:
        raise UsageError("--copies takes all images of the folder; leave out --split.")
    by_collection = given.encoder not in encoders.bundled() and is_collection(to_path(given.encoder))
    embedder, data = _from_collection(given) if by_collection else _from_encoder(given)
    output.print_skipped(data.failures)
    result = calibration.calibrate(embedder, data, given.pairs, given.seed)
    folder = calibration.save(embedder.encoder, result.calibration, given.to)
    if given.json:
        output.write_json({"encoder": str(folder), **result.to_dict()})
        return
    if result.warning:
        output.stderr.print(result.warning, style="yellow")
    output.stdout.print_lines(str(result))
    output.stdout.print()
    output.stdout.print(f"Fitted on {result.pairs}, from {data.description}; written into {folder}.")
    if by_collection and given.to is None:
        output.stdout.print("Programs that have opened the collection must open it again to use the calibration.")


def _from_collection(given: Options) -> tuple[Embedder, CalibrationData]:
    with Collection.open(given.encoder) as collection:
        embedder = collection.embedder.with_metric(given.metric)
        _check_destination(embedder, given.to)
        if given.data is not None:
            return embedder, _open_data(embedder, given.data, given)
        if given.copies:
            raise UsageError("To calibrate on copies, give a folder of different images with --data DIR.")
        labelled = collection.labelled()
        return embedder, CalibrationData(labelled, f"{len(labelled):,} labelled items of “{collection.name}”")


def _from_encoder(given: Options) -> tuple[Embedder, CalibrationData]:
    embedder = Embedder.of(load_encoder(given.encoder), given.metric)
    if given.data is None:
        raise UsageError("To calibrate an encoder, give images with --data PATH.")
    _check_destination(embedder, given.to)
    return embedder, _open_data(embedder, given.data, given)


def _check_destination(embedder: Embedder, to: Path | None) -> None:
    calibration.check_destination(embedder.encoder, to)
    if to is not None:
        output.check_folder(to)


def _open_data(embedder: Embedder, data: Path, given: Options) -> CalibrationData:
    with output.progress_bar() as progress:
        if given.copies:
            return CalibrationData.of_copies(embedder, data, given.seed, progress)
        return CalibrationData.open(embedder, data, given.split, progress)
