"""The command export: convert trained weights to an encoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lookalike.cli import output
from lookalike.cli.options import Json, options
from lookalike.errors import MissingExtraError

if TYPE_CHECKING:
    from lookalike.learn.convert import Conversion, Measured

commands = typer.Typer()


@dataclass(frozen=True)
class Options:
    """Options of export."""

    weights: Annotated[
        str,
        typer.Argument(
            metavar="WEIGHTS|RUN",
            help="A .safetensors file, hf://org/repo/file, a training run, or a checkpoint in it.",
        ),
    ]
    to: Annotated[Path, typer.Option(metavar="DIR", help="New folder of the encoder; its name is the encoder's.")]
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Network of the weights: resnet18, convnext_tiny, …", show_default="the one that fits"
        ),
    ] = None
    override: Annotated[
        list[str] | None,
        typer.Option(
            "-o",
            metavar="KEY=VALUE",
            help="A setting of the network, as in a recipe (network.dimension=128), or of its input, as in encoder.json"
            " (input.size=160).",
        ),
    ] = None
    int8: Annotated[
        Literal["dynamic", "static"] | None,
        typer.Option(
            help="Store weights as int8, a quarter of float32: static is faster, and calibrates with --images."
        ),
    ] = None
    images: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Images to check on, and to calibrate with.", show_default="drawn images"),
    ] = None
    labels: Annotated[
        bool,
        typer.Option("--labels", help="The images have labels (class folders, .csv or .npz): measure retrieval, too."),
    ] = False
    json: Json = False


@commands.command()
@options(Options)
def export(given: Options) -> None:
    """Convert trained weights (a state dict) to an encoder.

    The weights have the names of torchvision, timm or lookalike. The embeddings of the encoder are checked against those
    of torch. --int8 says what it changes: size, time, cosine and, with --labels, top-1 and mAP.

    Example: lookalike export resnet18.safetensors --to mine --int8 static --images photos
    """
    try:
        # Importing torch takes a second, and other commands do not need it.
        from lookalike.learn import convert  # noqa: PLC0415
    except ImportError as e:
        raise MissingExtraError("learn", f"Conversion of weights ({e})") from e
    network, spec = convert.parse_overrides(given.override or [])
    if given.network:
        network["backbone"] = given.network
    output.check_folder(given.to)
    with output.progress_bar() as progress:
        chosen = convert.ConvertOptions(network, spec, given.int8, given.images, given.labels)
        result = convert.convert(given.weights, given.to, chosen, progress)
    if given.json:
        output.write_json(result.to_dict())
        return
    _print(result)


def _print(result: "Conversion") -> None:
    rows = [("", "size", "ms an image", "top-1", "mAP"), ("float", *_cells(result.in_float))]
    if result.in_int8:
        rows.append(("int8", *_cells(result.in_int8)))
    width = 3 if result.in_float.top_1 is None else 5
    output.print_table([row[:width] for row in rows[1:]], rows[0][:width])
    output.stdout.print()
    where = f"of {result.images:,} images"
    output.stdout.print(f"ONNX Runtime and torch differ by at most {result.difference:.4f} of an embedding's length.")
    if result.cosine is not None:
        output.stdout.print(
            f"int8 and float embeddings {where} have a mean cosine of {result.cosine:.4f}, at least {result.min_cosine:.4f}."
        )
    output.stdout.print(
        f"The encoder is in {result.folder}, {result.dimension} numbers an image. Use it: lookalike index IMAGES --to NAME --encoder"
        f" {result.folder}"
    )


def _cells(measured: "Measured") -> tuple[str, ...]:
    scores = (f"{score:.2%}" for score in (measured.top_1, measured.map) if score is not None)
    return (f"{measured.bytes / 1e6:.1f} MB", f"{measured.ms:.1f}", *scores)
