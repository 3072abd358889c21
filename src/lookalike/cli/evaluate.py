"""The command evaluate."""

import json as formats
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from lookalike import encoders
from lookalike.cli import output
from lookalike.cli.options import Json
from lookalike.datasets import Dataset
from lookalike.encoders import Encoder
from lookalike.errors import DataError, UsageError
from lookalike.evaluation import fewshot, protocol, report
from lookalike.evaluation.protocol import Figures, Plan
from lookalike.evaluation.report import About, Report
from lookalike.evaluation.subject import Subject, choose, embed, embed_files, shown

commands = typer.Typer()

_PLAN = Plan()


@commands.command()
def evaluate(
    encoder: Annotated[
        str, typer.Argument(metavar="ENCODER|RUN", help="A bundled name, a folder, hf://org/repo, or a training run.")
    ],
    *,
    data: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Labelled pictures: a folder, .csv or .npz; see datasets.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Measure train, validation or test.", show_default="test, where there are splits")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="NAME,…", help="Measure these classes alone.", show_default="all")
    ] = None,
    sketches: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Sketches of the pictures, which then ask for these.")
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="TASK,…", help="retrieval, verification, few-shot.", show_default="all that the data allows"
        ),
    ] = None,
    pairs: Annotated[int, typer.Option(min=2, help="Pairs that verification is judged on.")] = _PLAN.pairs,
    threshold_from: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Labelled pictures that its threshold is chosen on.",
            show_default="the validation split, else half of the data",
        ),
    ] = None,
    ways: Annotated[
        str, typer.Option(metavar="N,…", help="Classes in an episode of few-shot classification.")
    ] = "5,20",
    shots: Annotated[str, typer.Option(metavar="N,…", help="Examples of each class.")] = "1,5",
    episodes: Annotated[int, typer.Option(min=2, help="Episodes of each kind.")] = _PLAN.episodes,
    runs: Annotated[Path | None, typer.Option(metavar="ZIP|DIR", help="Omniglot's official one-shot runs.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Gets report.html and report.json.", show_default="under reports/"),
    ] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write none.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = _PLAN.seed,
    json: Json = False,
) -> None:
    """Measure an encoder on labelled pictures, and write a report.

    Retrieval: each picture against all others; sketches, where there are some, against photos; or what the columns
    is_query and is_gallery of a CSV say. Verification: drawn pairs, by a threshold that was chosen on other pictures.
    Few-shot classification, where there are classes enough. A training run's curves join the report.

    Example: lookalike evaluate cifar10-triplet --data cifar10/test
    """
    if data is None and runs is None:
        raise UsageError("There is nothing to measure on; give labelled pictures by --data, or Omniglot's by --runs.")
    tasks = protocol.parse_tasks([name.strip() for name in on.split(",")]) if on else protocol.TASKS
    plan = Plan(tasks, pairs, _whole("--ways", ways, 2), _whole("--shots", shots, 1), episodes, seed)
    given, history = _open(encoder)
    name = _name_of(data, split) if data else "Omniglot's one-shot runs"
    folder = out or Path("reports") / _plain(f"{given.card.name}-{name}")
    if not no_report:
        report.require()
        output.check_folder(folder)
    about = About(given.card.name, name, given.card.metric, seed, _facts(given))
    made = Report(about, Figures(), history=tuple(history))
    if data is not None:
        settings = {"sketches": sketches, "classes": classes and tuple(c.strip() for c in classes.split(","))}
        asked = {name: value for name, value in settings.items() if value is not None}
        subject, dataset, validation = _embedded(given, choose(data, split, **asked), threshold_from)
        figures = _measured(subject, plan, validation, insist=on is not None)
        made = replace(made, figures=figures, labels=subject.labels, classes=dataset.classes)
    if runs is not None:
        made = replace(made, figures=replace(made.figures, one_shot_runs=_one_shot(given, runs)))
    page = None
    if not no_report:
        with output.progress_bar() as progress:
            progress.advance("writing the report", 0, 0)
            if data is not None:
                made = report.illustrate(made, subject, shown(dataset))
            page = report.write(made, folder)
    _print(made, page, json=json)


def _whole(option: str, text: str, least: int) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text}: give whole numbers, as {option} 5,20.") from None
    if min(numbers) < least:
        raise UsageError(f"{option} {text}: each must be at least {least}.")
    return tuple(dict.fromkeys(numbers))


def _open(name: str) -> tuple[Encoder, list[Mapping[str, float]]]:
    """An encoder; and where it is a training run's, what was measured after each epoch."""
    log = Path(name).expanduser() / "metrics.jsonl"
    try:
        history = [formats.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        history = []
    except (OSError, ValueError) as e:
        raise DataError(f"{log} is no log of a training run: {e}.") from e
    return encoders.load(name), history


def _embedded(
    encoder: Encoder, chosen: tuple[Dataset, Dataset | None], threshold_from: Path | None
) -> tuple[Subject, Dataset, Subject | None]:
    """What to measure, its pictures, and what to choose a threshold on, where that is apart."""
    dataset, validation = chosen
    protocol.check(dataset.labels)
    if threshold_from is not None:
        validation = choose(threshold_from, None)[0]
    found = []
    for what in (dataset, validation):
        if what is not None:
            with output.progress_bar() as progress:
                subject, kept, failures = embed(encoder, what, progress)
            found.append((subject, kept))
            output.print_skipped(failures)
    return *found[0], found[1][0] if len(found) > 1 else None


def _measured(subject: Subject, plan: Plan, validation: Subject | None, *, insist: bool) -> Figures:
    with output.progress_bar() as progress:
        return protocol.measure(
            subject, plan, validation, insist=insist, tell=lambda task: progress.advance(f"measuring {task}", 0, 0)
        )


def _one_shot(encoder: Encoder, path: Path) -> fewshot.FewShot:
    runs = fewshot.read_runs(path)
    total, done = sum(len(run.training) + len(run.test) for run in runs), 0
    with output.progress_bar() as progress:

        def embedded(files: list[bytes]) -> np.ndarray:
            nonlocal done
            vectors = embed_files(encoder, files)
            done += len(files)
            progress.advance("one-shot runs", done, total)
            return vectors

        return fewshot.one_shot(runs, embedded, encoder.card.metric)


def _name_of(data: Path, split: str | None) -> str:
    """The last two names of a path: the last alone is often a mere “test”."""
    name = "/".join(data.absolute().parts[-2:]).lstrip("/")
    return f"{name} ({split})" if split else name


def _plain(name: str) -> str:
    """A name of a folder."""
    return re.sub(r"[^\w.]+", "-", name).strip("-.")


def _facts(encoder: Encoder) -> dict[str, str]:
    card = encoder.card
    facts = {
        "input": f"{card.input.size} px, {card.input.fit}",
        "embedding": f"{card.dimension} {card.output}s",
        "fingerprint": encoder.fingerprint[:16],
    }
    if card.provenance:
        facts["trained"] = f"{card.provenance.minutes:.0f} minutes on {card.provenance.images:,} pictures"
    return facts


def _print(made: Report, page: Path | None, *, json: bool) -> None:
    if json:
        output.write_json(made.to_json() | {"report": page and str(page)})
        return
    rows = [
        (
            figure.name,
            figure.write(figure.value),
            "–".join(figure.write(end) for end in figure.interval or ()),
            figure.meaning,
        )
        for figure in made.key_figures
    ]
    if rows:
        output.print_table(rows, ("figure", "value", "95% interval", "what it is"))
    for reason in made.figures.left_out:
        output.stderr.print(f"Not measured: {reason}", style="yellow")
    if page:
        output.stdout.print(f"The report is in {page}.")
