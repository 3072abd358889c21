"""The command datasets."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lookalike import datasets as data
from lookalike.cli import output
from lookalike.cli.collections import Json
from lookalike.errors import LookalikeError

commands = typer.Typer()


@commands.command()
def datasets(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH…", help="Folders, .csv and .npz files.")] = None,
    split: Annotated[str | None, typer.Option(help="Look at train, validation or test alone.")] = None,
    json: Json = False,
) -> None:
    """Check labelled pictures before training on them or measuring with them.

    Every picture is decoded. What would be refused, or would make figures wrong, is told, and the exit code is then 1:
    broken pictures, one class, one picture of a class, splits with different classes or with pictures in common.
    Without a path, the layouts that can be read are listed.

    Example: lookalike datasets photos
    """
    if not paths:
        _print_layouts(json)
        return
    wrong, told = False, []
    for path in paths:
        try:
            with output.progress(f"decoding {path.name}") as tell:
                source = data.guess(path, split=split)
                findings = data.check(source, tell)
        except LookalikeError as e:
            if len(paths) == 1 and not json:
                raise
            wrong = True
            told.append({"path": str(path), "problems": [str(e)]})
            if not json:
                output.stdout.print(f"{path}\n  wrong: {e}")
            continue
        wrong = wrong or bool(findings.problems)
        told.append(_tree(path, source.kind, findings))
        if not json:
            _print(path, source.kind, findings)
    if json:
        output.write_json(told)
    if wrong:
        raise typer.Exit(1)


def _print_layouts(json: bool) -> None:
    if json:
        output.write_json([{"kind": k, "what": w, "examples": e.split("\n")} for k, (w, e) in data.LAYOUTS.items()])
        return
    for kind, (what, examples) in data.LAYOUTS.items():
        output.stdout.print(f"{kind}: {what}")
        for line in examples.split("\n"):
            output.stdout.print(f"    {line}", style="dim")


def _print(path: Path, kind: str, found: data.Findings) -> None:
    output.stdout.print(f"{path} ({kind})")
    header = ("split", "photos", "sketches", "classes", "fewest", "median", "most")
    rows = [
        (
            part.split or "all",
            f"{part.photos:,}",
            f"{part.sketches:,}",
            f"{part.classes:,}",
            f"{part.smallest[1]:,} ({part.smallest[0]})",
            f"{part.median:,g}",
            f"{part.largest[1]:,} ({part.largest[0]})",
        )
        for part in found.parts
    ]
    if rows:
        output.stdout.print(output.columns(rows, header))
    if found.sizes:
        (width, height), count = next(iter(found.sizes.items()))
        others = f", and {len(found.sizes) - 1:,} other sizes" if len(found.sizes) > 1 else ""
        output.stdout.print(f"{width} × {height} pixels: {count:,}{others}")
    output.print_failures([(path, reason) for reason in found.broken])
    for one, other in found.leaks[:10]:
        output.stdout.print(f"the same: {one}  {other}")
    if len(found.leaks) > 10:  # noqa: PLR2004 -- as many as fit
        output.stdout.print(f"the same: and {len(found.leaks) - 10:,} more")
    for problem in found.problems:
        output.stdout.print(f"wrong: {problem}", style="red")
    for note in found.notes:
        output.stdout.print(f"note: {note}")
    if not found.problems:
        output.stdout.print("Nothing is wrong.")


def _tree(path: Path, kind: str, found: data.Findings) -> dict[str, Any]:
    return {
        "path": str(path),
        "kind": kind,
        "splits": [
            {
                "split": part.split,
                "photos": part.photos,
                "sketches": part.sketches,
                "classes": part.classes,
                "fewest": {"class": part.smallest[0], "photos": part.smallest[1]},
                "median": part.median,
                "most": {"class": part.largest[0], "photos": part.largest[1]},
            }
            for part in found.parts
        ],
        "sizes": [{"width": w, "height": h, "pictures": n} for (w, h), n in found.sizes.items()],
        "broken": list(found.broken),
        "leaks": [list(pair) for pair in found.leaks],
        "problems": list(found.problems),
        "notes": list(found.notes),
    }
