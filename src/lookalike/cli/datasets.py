"""The command datasets: check labelled images."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lookalike import datasets as library
from lookalike.cli import output
from lookalike.cli.options import Json
from lookalike.errors import LookalikeError

commands = typer.Typer()

# Maximum number of leaks that are printed one by one.
_LISTED_LEAKS = 10


@commands.command()
def datasets(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH…", help="Folders, .csv and .npz files.")] = None,
    split: Annotated[str | None, typer.Option(help="Check only this split: train, validation or test.")] = None,
    json: Json = False,
) -> None:
    """Check labelled images before training or evaluation.

    The command decodes every image and lists problems: broken images, a single class, classes with one image, splits with
    different classes, images in two splits. If there is a problem, the exit code is 1. Without a path, the command lists
    the layouts that it can read.

    Example: lookalike datasets photos
    """
    if not paths:
        _print_layouts(json)
        return
    has_problems = False
    trees: list[dict[str, Any]] = []
    for path in paths:
        try:
            with output.progress_bar() as progress:
                result = library.check(library.infer_source(path, split=split), progress)
        except LookalikeError as e:
            if len(paths) == 1 and not json:
                raise
            has_problems = True
            trees.append({"path": str(path), "problems": [str(e)]})
            if not json:
                output.stdout.print(str(path))
                output.stdout.print(f"  problem: {e}")
            continue
        has_problems = has_problems or bool(result.problems)
        trees.append({"path": str(path), **result.to_dict()})
        if not json:
            _print(path, result)
    if json:
        output.write_json(trees)
    if has_problems:
        raise typer.Exit(1)


def _print_layouts(json: bool) -> None:
    if json:
        layouts = library.LAYOUTS.items()
        output.write_json([{"kind": k, "what": w, "examples": e.split("\n")} for k, (w, e) in layouts])
        return
    for kind, (description, examples) in library.LAYOUTS.items():
        output.stdout.print(f"{kind}: {description}")
        for line in examples.split("\n"):
            output.stdout.print(f"    {line}", style="dim")


def _print(path: Path, result: library.DatasetCheck) -> None:
    output.stdout.print(f"{path} ({result.kind})")
    header = ("split", "photos", "sketches", "classes", "fewest", "median", "most")
    rows = [
        (
            split.split or "all",
            f"{split.photos:,}",
            f"{split.sketches:,}",
            f"{split.classes:,}",
            f"{split.smallest[1]:,} ({split.smallest[0]})",
            f"{split.median:,g}",
            f"{split.largest[1]:,} ({split.largest[0]})",
        )
        for split in result.splits
    ]
    if rows:
        output.print_table(rows, header)
    if result.sizes:
        (width, height), count = next(iter(result.sizes.items()))
        others = f", and {len(result.sizes) - 1:,} other sizes" if len(result.sizes) > 1 else ""
        output.stdout.print(f"{width} × {height} pixels: {count:,}{others}")
    output.print_skipped(result.broken)
    for left, right in result.leaks[:_LISTED_LEAKS]:
        output.stdout.print(f"identical: {left}  {right}")
    if len(result.leaks) > _LISTED_LEAKS:
        output.stdout.print(f"identical: and {len(result.leaks) - _LISTED_LEAKS:,} more")
    for problem in result.problems:
        output.stdout.print(f"problem: {problem}", style="red")
    for note in result.notes:
        output.stdout.print(f"note: {note}")
    if not result.problems:
        output.stdout.print("No problems found.")
