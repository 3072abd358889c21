"""The command evaluate: measure an encoder on labelled images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli import output
from lookalike.cli.options import Json, options
from lookalike.embedding import Embedder
from lookalike.errors import UsageError
from lookalike.evaluation import evaluate as evaluation
from lookalike.evaluation import report
from lookalike.evaluation.protocols import TASKS, EvaluationOptions, parse_tasks
from lookalike.evaluation.results import Evaluation
from lookalike.folder import load_encoder

commands = typer.Typer()

_DEFAULTS = EvaluationOptions()


@dataclass(frozen=True)
class Options:
    """Options of evaluate."""

    encoder: Annotated[
        str, typer.Argument(metavar="ENCODER|RUN", help="A bundled name, a folder, hf://org/repo, or a training run.")
    ]
    data: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Labelled images: a folder of class folders, .csv or .npz.")
    ] = None
    split: Annotated[
        str | None, typer.Option(help="Measure train, validation or test.", show_default="test, if there are splits")
    ] = None
    classes: Annotated[
        str | None, typer.Option(metavar="NAME,…", help="Measure only these classes.", show_default="all")
    ] = None
    sketches: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Sketches of the images; they become the queries.")
    ] = None
    on: Annotated[
        str | None,
        typer.Option(
            metavar="TASK,…", help="Tasks: retrieval, verification, few-shot.", show_default="all that the data allows"
        ),
    ] = None
    pairs: Annotated[int, typer.Option(min=2, help="Pairs to judge in verification.")] = _DEFAULTS.pairs
    threshold_from: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Labelled images to choose the verification threshold on.",
            show_default="the validation split, else half of the data",
        ),
    ] = None
    ways: Annotated[str, typer.Option(metavar="N,…", help="Classes in an episode of few-shot classification.")] = "5,20"
    shots: Annotated[str, typer.Option(metavar="N,…", help="Examples of each class.")] = "1,5"
    episodes: Annotated[int, typer.Option(min=2, help="Episodes for each number of ways and shots.")] = (
        _DEFAULTS.episodes
    )
    runs: Annotated[Path | None, typer.Option(metavar="ZIP|DIR", help="Omniglot's official one-shot runs.")] = None
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for report.html and report.json.", show_default="a new one in reports/"
        ),
    ] = None
    no_report: Annotated[bool, typer.Option("--no-report", help="Do not write a report.")] = False
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random choices.")] = _DEFAULTS.seed
    json: Json = False


@commands.command()
@options(Options)
def evaluate(given: Options) -> None:
    """Measure an encoder on labelled images, and write a report.

    Retrieval ranks all other images for each image. If there are sketches, each sketch ranks the photos. The columns
    is_query and is_gallery of a CSV choose other queries and another gallery. Verification judges random pairs by a
    threshold that was chosen on other images. Few-shot classification needs enough classes. The report of a training run
    includes its curves.

    Example: lookalike evaluate cifar10-triplet --data cifar10/test
    """
    measures = EvaluationOptions(
        tasks=parse_tasks([name.strip() for name in given.on.split(",")]) if given.on else TASKS,
        required=given.on is not None,
        pairs=given.pairs,
        ways=_parse_numbers("--ways", given.ways),
        shots=_parse_numbers("--shots", given.shots),
        episodes=given.episodes,
        seed=given.seed,
    )
    embedder = Embedder.of(load_encoder(given.encoder))
    folder = None
    if not given.no_report:
        folder = given.out or report.default_folder(embedder.name, evaluation.describe_path(given.data, given.split))
        report.require()
        output.check_folder(folder)
    data = evaluation.EvaluationData.open(
        given.data,
        split=given.split,
        classes=tuple(name.strip() for name in given.classes.split(",")) if given.classes else None,
        sketches=given.sketches,
        threshold_from=given.threshold_from,
        one_shot_runs=given.runs,
    )
    page = None
    with output.progress_bar() as progress:
        result = evaluation.evaluate(embedder, data, measures, progress)
        if folder:
            progress.advance("writing the report", 0, 0)
            page = report.write(result, folder)
    output.print_skipped(result.failures)
    _print(result, page, json=given.json)


def _parse_numbers(option: str, text: str) -> tuple[int, ...]:
    """Parse whole numbers that are separated by commas."""
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise UsageError(f"{option} {text}: give whole numbers, as {option} 5,20.") from None


def _print(result: Evaluation, page: Path | None, *, json: bool) -> None:
    if json:
        output.write_json(result.to_dict() | {"report": page and str(page)})
        return
    if table := result.table():
        output.stdout.print_lines(table)
    for line in result.protocols:
        output.stdout.print(line)
    for reason in result.not_measured:
        output.stderr.print(f"Not measured: {reason}", style="yellow")
    if page:
        output.stdout.print(f"The report is in {page}.")
