"""The command verify: decide whether two images show the same thing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lookalike import compare, encoders
from lookalike.cli import output
from lookalike.cli.options import Encoder, Json, MetricOfEncoder, check_local, note_distance, options
from lookalike.compare import Verdict
from lookalike.embedding import Embedder
from lookalike.folder import load_encoder
from lookalike.metric import format_distance, format_probability, same_or_copy
from lookalike.query import to_branch

commands = typer.Typer()


@dataclass(frozen=True)
class Options:
    """Options of verify."""

    left: Annotated[Path, typer.Argument(metavar="A", help="An image.")]
    right: Annotated[Path, typer.Argument(metavar="B", help="Another image.")]
    encoder: Encoder = None
    within: Annotated[
        str | None,
        typer.Option(metavar="R", help="The threshold: a distance (0.35) or a similarity (80%)."),
    ] = None
    far: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="RATE",
            help="Use the threshold of this false accept rate, such as 0.01; needs a calibrated encoder.",
        ),
    ] = None
    metric: MetricOfEncoder = None
    sketch: Annotated[bool, typer.Option("--sketch", help="A is a sketch.")] = False
    json: Json = False


@commands.command()
@options(Options)
def verify(given: Options) -> None:
    """Decide whether two images show the same thing.

    The threshold is --within or --far; by default it is the most accurate threshold of a calibrated encoder. The exit code
    is 0 for either answer.

    Example: lookalike verify one.jpg other.jpg --far 0.01
    """
    for image in (given.left, given.right):
        check_local(str(image))
    embedder = Embedder.of(load_encoder(given.encoder or encoders.DEFAULT), given.metric)
    branch = to_branch(given.sketch)
    note_distance(given.within, embedder.space)
    threshold = compare.find_threshold(embedder, given.within, given.far, branch)
    verdict = compare.verify(embedder, given.left, given.right, threshold, branch)
    if given.json:
        output.write_json(verdict.to_dict())
    else:
        _print_verdict(verdict, embedder.name)


def _print_verdict(verdict: Verdict, encoder: str) -> None:
    rows = [("distance", f"{format_distance(verdict.distance, verdict.metric)} ({verdict.metric})")]
    if verdict.probability is not None:
        probability = format_probability(verdict.probability)
        column = f"probably {same_or_copy(verdict.calibrated_on)}"
        rows.append((column, f"{probability}, if same and different were equally frequent"))
    if verdict.threshold is not None:
        threshold = format_distance(verdict.threshold, verdict.metric)
        rows.append(("verdict", f"{verdict.describe()}, by the threshold {threshold}"))
    output.print_facts(rows)
    if verdict.calibrated_on == "copies":
        output.stderr.print(
            f"“{encoder}” is calibrated on copies of images: it does not know whether two different images show the same thing."
        )
    if verdict.threshold is None:
        output.stderr.print(
            f"No verdict: “{encoder}” is not calibrated for this metric. Give --within, or see lookalike calibrate --help."
        )
