"""Commands that judge: verify, classify."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from lookalike import compare, encoders, ingest
from lookalike.cli import output
from lookalike.cli.collections import Json, branch, find
from lookalike.collection import Collection
from lookalike.compare import RankedClass, Verdict
from lookalike.embedding import Embedder
from lookalike.errors import NotFoundError, UsageError
from lookalike.evaluation.fewshot import By
from lookalike.metric import Metric, format_distance, format_probability

commands = typer.Typer()

EncoderName = Annotated[
    str | None, typer.Option(help="A bundled name, a folder, or hf://org/repo.", show_default=encoders.DEFAULT)
]
MetricName = Annotated[Metric | None, typer.Option(help="The encoder's own if not given.")]


@commands.command()
def verify(
    left: Annotated[Path, typer.Argument(metavar="A", help="A picture.")],
    right: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    *,
    encoder: EncoderName = None,
    within: Annotated[
        str | None,
        typer.Option(metavar="R", help="The same is what is this close, as 0.35; or at least this similar, as 80%."),
    ] = None,
    far: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="RATE",
            help="The threshold of this false accept rate, as 0.01; the encoder must be calibrated.",
        ),
    ] = None,
    metric: MetricName = None,
    sketch: Annotated[bool, typer.Option("--sketch", help="A is a sketch.")] = False,
    json: Json = False,
) -> None:
    """Say whether two pictures show the same.

    By a threshold: the one given, or the best one of an encoder that was calibrated. The exit code is 0 either way.

    Example: lookalike verify one.jpg other.jpg --far 0.01
    """
    judge = Embedder.of(encoders.load(encoder or encoders.DEFAULT), metric)
    threshold = compare.find_threshold(judge, within, far, branch(sketch))
    verdict = compare.verify(judge, left, right, threshold, branch(sketch))
    if json:
        output.write_json(verdict.to_dict())
        return
    _print_verdict(verdict, judge.name)


def _print_verdict(verdict: Verdict, encoder: str) -> None:
    rows = [
        ("distance", f"{format_distance(verdict.distance, verdict.metric)} ({verdict.metric})"),
        ("similarity", f"{verdict.similarity:.1%}"),
    ]
    if verdict.probability is not None:
        rows.append(("same", f"{format_probability(verdict.probability)}, if same and different were equally frequent"))
    if verdict.threshold is not None:
        answer = "the same" if verdict.same else "different"
        threshold = format_distance(verdict.threshold, verdict.metric)
        rows.append(("verdict", f"{answer}, by the threshold {threshold}"))
    for key, value in rows:
        output.stdout.print(Text.assemble((f"{key:<12}", "bold"), value))
    if verdict.threshold is None:
        output.stderr.print(
            f"No verdict: “{encoder}” is not calibrated for this. Give --within, or see lookalike calibrate --help."
        )


@commands.command()
def classify(
    pictures: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Pictures whose class is asked for.")],
    support: Annotated[
        Path,
        typer.Option(metavar="DIR|NAME", help="A folder with a folder of examples for each class; or a collection."),
    ],
    *,
    encoder: EncoderName = None,
    by: Annotated[
        By, typer.Option(help="A class is as near as its nearest example, or as the mean of its examples.")
    ] = "example",
    k: Annotated[int, typer.Option("-k", min=1, help="How many classes to show.")] = 5,
    metric: MetricName = None,
    sketch: Annotated[bool, typer.Option("--sketch", help="The pictures are sketches.")] = False,
    json: Json = False,
) -> None:
    """Say of which class pictures are, from one example of each or more: k-way n-shot.

    Example: lookalike classify new.jpg --support examples
    """
    way = branch(sketch)
    failures: tuple[tuple[Path, str], ...] = ()
    if (find(support) / "manifest.json").exists():
        if encoder is not None:
            raise UsageError("A collection has an encoder of its own; leave --encoder out.")
        with Collection.open(find(support)) as collection:
            metric = metric or collection.store.metric
            queries = collection.embed(pictures, way)
            answers = collection.classify(queries, k, by=by, metric=metric, branch=way)
    else:
        judge = Embedder.of(encoders.load(encoder or encoders.DEFAULT), metric)
        metric = judge.metric
        with output.progress("embedding") as tell:
            found = compare.classify(
                judge, pictures, _classes(support), by=by, branch=way, progress=output.Telling(tell)
            )
        answers, failures = [ranked[:k] for ranked in found.answers], found.failures
    output.print_failures(failures)
    if json:
        shapes = [_classes_json(ranked, metric, by) for ranked in answers]
        output.write_json(shapes[0] if len(shapes) == 1 else shapes)
        return
    for picture, ranked in zip(pictures, answers, strict=True):
        if len(pictures) > 1:
            output.stdout.print(Text(f"\n{picture}", style="bold"))
        _print_classes(ranked, metric)


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Class → pictures, of a folder with a folder for each class."""
    found = ingest.entries(folder, "folder")
    classes: dict[str, list[Path]] = {
        inner.name: [] for inner in sorted(folder.iterdir()) if inner.is_dir() and not inner.name.startswith(".")
    }
    for entry in found:
        if entry.label is not None:
            classes.setdefault(entry.label, []).append(entry.path)
    if not classes:
        raise NotFoundError(f"{folder} has no folders of examples, one for each class, as {folder}/cat/1.jpg.")
    return classes


def _classes_json(ranked: tuple[RankedClass, ...], metric: Metric, by: By) -> dict[str, Any]:
    return {"classes": [vars(one) for one in ranked], "metric": metric, "by": by}


def _print_classes(ranked: tuple[RankedClass, ...], metric: Metric) -> None:
    known = ranked[0].probability is not None
    rows = [
        (
            format_distance(one.distance, metric),
            f"{one.similarity:.1%}",
            *((format_probability(one.probability),) if known else ()),
            one.label,
        )
        for one in ranked
    ]
    output.stdout.print(output.columns(rows, ("distance", "similarity", *(("same",) if known else ()), "class")))
