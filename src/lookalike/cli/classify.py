"""The command classify: classify images from a few labelled examples per class."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lookalike import compare, encoders
from lookalike.cli import output
from lookalike.cli.options import Encoder, Json, MetricOfEncoder, Sketch, check_local, options
from lookalike.collection import Collection
from lookalike.compare import Ranking
from lookalike.embedding import Embedder
from lookalike.errors import UsageError
from lookalike.evaluation.fewshot import ClassifyBy
from lookalike.folder import is_collection, load_encoder
from lookalike.query import Query, to_branch

commands = typer.Typer()


@dataclass(frozen=True)
class Options:
    """Options of classify."""

    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Images to classify.")]
    support: Annotated[
        Path,
        typer.Option(metavar="DIR|NAME", help="A folder with a folder of examples per class, or a collection."),
    ]
    encoder: Encoder = None
    by: Annotated[
        ClassifyBy, typer.Option(help="Compare with the nearest example of a class, or with the mean of its examples.")
    ] = "example"
    k: Annotated[int, typer.Option("-k", min=1, help="Number of classes to show.")] = 5
    metric: MetricOfEncoder = None
    sketch: Sketch = False
    sketched_support: Annotated[
        bool, typer.Option("--sketched-support", help="The examples are sketches: a folder of images or of drawings.")
    ] = False
    json: Json = False


@commands.command()
@options(Options)
def classify(given: Options) -> None:
    """Classify images from a few labelled examples per class.

    This is k-way n-shot classification: the encoder needs no training on these classes.

    Example: lookalike classify new.jpg --support examples
    """
    for image in given.images:
        check_local(str(image))
    rankings = _by_collection(given) if is_collection(given.support) else _by_folder(given)
    if given.json:
        dicts = [
            {"classes": [one.to_dict() for one in ranking], "metric": ranking.metric, "by": given.by}
            for ranking in rankings
        ]
        output.write_json(dicts[0] if len(dicts) == 1 else dicts)
        return
    for image, ranking in zip(given.images, rankings, strict=True):
        if len(given.images) > 1:
            output.stdout.print()
            output.stdout.print(str(image), style="bold")
        _print_ranking(ranking)


def _by_collection(given: Options) -> list[Ranking]:
    if given.encoder is not None:
        raise UsageError("A collection has an encoder of its own; leave --encoder out.")
    if given.sketched_support:
        raise UsageError(
            "The items of a collection are photos; leave --sketched-support out, or give a folder of sketches."
        )
    with Collection.open(given.support) as collection:
        query = Query(images=given.images, k=given.k, metric=given.metric, branch=to_branch(given.sketch))
        return collection.rank_labels(query, given.by)


def _by_folder(given: Options) -> list[Ranking]:
    embedder = Embedder.of(load_encoder(given.encoder or encoders.DEFAULT), given.metric)
    with output.progress_bar() as progress:
        classified = compare.classify(
            embedder,
            given.images,
            compare.find_examples(given.support, drawings=given.sketched_support),
            by=given.by,
            branches=(to_branch(given.sketch), to_branch(given.sketched_support)),
            progress=progress,
        )
    output.print_skipped([reason for _, reason in classified.failures])
    return [ranking[: given.k] for ranking in classified.answers]


def _print_ranking(ranking: Ranking) -> None:
    header, rows = ranking.table()
    output.print_table(rows, header)
