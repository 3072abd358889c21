"""A study: one recipe trained in many variants, each a cell, and one table of what came of them.

```yaml
name: r1-grid
recipe: r1.yaml                                   # beside this file
set: {train.epochs: 5}                            # in all cells
grid:                                             # every combination is a cell
  network.backbone: [resnet18, resnet34]
  losses.0.margin: [0.1, 0.3, 0.5]
variants:                                         # crossed with the grid
  sgd: {optimiser: {kind: sgd, learning_rate: 0.1}}
  adam: {optimiser: {kind: adam, learning_rate: 0.001}}
measure:                                          # each cell's encoder, on pictures that it was not trained on
  test: {source: {path: data/cifar10/test}, figures: [top-1]}
```

The study's folder gets a run's folder for each cell, ``results.json`` and ``table.md``, both written anew after every cell.
A study that was stopped goes on where it was; a cell that is done is not trained again, and one that failed is tried again.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, JsonValue, ValidationError
from rich.console import Console

from lookalike import datasets
from lookalike.datasets import Dataset, Source
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.errors import LookalikeError, MismatchError, NotFoundError, RecipeError, StorageError
from lookalike.evaluation.evaluate import EvaluationData, evaluate
from lookalike.evaluation.protocols import EvaluationOptions, Task
from lookalike.learn import recipe as recipes
from lookalike.learn import train
from lookalike.learn.recipe.part import Count, Part
from lookalike.learn.recipe.whole import override

RESULTS = "results.json"
TABLE = "table.md"


class Measure(Part):
    """Pictures that every cell's encoder is measured on."""

    source: Source
    figures: tuple[str, ...] = Field(("top-1",), min_length=1, description="columns of the table, named as in a report")
    tasks: tuple[Task, ...] = Field(("retrieval", "verification"), description="what is measured")
    pairs: Count = Field(8000, description="that verification is judged on")
    seed: int = Field(0, ge=0, description="of all that is drawn")


class Study(Part):
    """A study written down."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="the folder's, under studies/")
    description: str = ""
    recipe: Path = Field(description="beside the study's file")
    set: dict[str, JsonValue] = Field(default_factory=dict, description="a recipe's keys and values, for all cells")
    grid: dict[str, tuple[JsonValue, ...]] = Field(
        default_factory=dict, description="a recipe's keys, each with the values it takes"
    )
    variants: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict, description="names, each with the recipe's keys and values that make it"
    )
    measure: dict[str, Measure] = Field(min_length=1, description="by name, what is measured on what")


@dataclass(frozen=True)
class Cell:
    """One variant of the recipe, and where it stands: its value on each axis."""

    place: Mapping[str, str]
    recipe: recipes.Recipe

    @property
    def folder(self) -> str:
        """The name of its run's folder."""
        return re.sub(r"[^\w.=-]+", "-", "_".join(f"{axis}={value}" for axis, value in self.place.items())) or "only"


@dataclass
class Result:
    """What came of a cell.

    Attributes:
        place: its value on each axis.
        recipe: what was trained.
        minutes: that it took.
        epochs: the lines of its metrics.jsonl.
        figures: {measure: {figure: value}}.
        error: why there are none.
    """

    place: Mapping[str, str]
    recipe: dict[str, Any]
    minutes: float = 0.0
    epochs: list[dict[str, float]] = field(default_factory=list)
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    error: str | None = None


def read(path: Path, overrides: Sequence[str] = ()) -> tuple[Study, list[Cell]]:
    """Read a study.

    Args:
        path: a YAML file.
        overrides: as those of a recipe, for every cell; those that begin with ``measure.`` are for the study itself.

    Raises:
        NotFoundError: there is no such file, or no such recipe.
        RecipeError: it does not hold together, or one of its cells does not.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise NotFoundError(f"The study {path} cannot be read: {e.strerror}.") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise RecipeError(f"{path} is no YAML: {e}") from e
    if not isinstance(tree, dict):
        raise RecipeError(f"{path} should hold a mapping with the keys {', '.join(Study.model_fields)}.")
    own = [o for o in overrides if o.startswith("measure.")]
    for one in own:
        override(tree, one)
    try:
        study = Study.model_validate(tree)
    except ValidationError as e:
        lines = (f"  {'.'.join(map(str, err['loc'])) or 'study'}: {err['msg']}" for err in e.errors())
        raise RecipeError(f"{path} does not hold together:\n" + "\n".join(lines)) from e
    first = [f"{key}={json.dumps(value)}" for key, value in study.set.items()]
    last = [o for o in overrides if o not in own]
    cells = [
        Cell(place, recipes.read(path.parent / study.recipe, [*first, *changes, *last]))
        for place, changes in _cells(study)
    ]
    folders = [cell.folder for cell in cells]
    if twice := [cell for cell in cells if folders.count(cell.folder) > 1]:
        raise RecipeError(f"{path} has the cell {_words(twice[0].place)} twice, or another that is written like it.")
    return study, cells


def _cells(study: Study) -> list[tuple[dict[str, str], list[str]]]:
    """(place, overrides) of every cell, the last axis fastest."""
    axes: list[tuple[str, list[tuple[str, dict[str, JsonValue]]]]] = []
    if study.variants:
        axes.append(("variant", list(study.variants.items())))
    for key, values in study.grid.items():
        axes.append((key, [(v if isinstance(v, str) else json.dumps(v), {key: v}) for v in values]))
    found = []
    for steps in itertools.product(*(values for _, values in axes)):
        place = {axis: name for (axis, _), (name, _) in zip(axes, steps, strict=True)}
        # JSON is YAML.
        found.append((place, [f"{key}={json.dumps(v)}" for _, changes in steps for key, v in changes.items()]))
    return found


def run(study: Study, cells: Sequence[Cell], folder: Path, console: Console) -> list[Result]:
    """Train and measure every cell that is not done yet.

    Args:
        study: what is measured.
        cells: what is trained.
        folder: gets a folder for each cell, ``results.json`` and ``table.md``.
        console: what is said on the way.

    Returns:
        What came of each cell.

    Raises:
        DataError: the pictures to measure on cannot be used.
        MismatchError: the folder has results of other recipes.
        StorageError: the folder cannot be written.
    """
    results = _begun(folder, cells)
    measured = {
        name: datasets.open_dataset(m.source) for name, m in study.measure.items()
    }  # missing pictures are found first
    for number, cell in enumerate(cells, start=1):
        done = results.get(cell.folder)
        if done and done.error is None and done.figures.keys() == study.measure.keys():
            continue
        console.rule(f"cell {number} of {len(cells)}: {_words(cell.place)}")
        results[cell.folder] = _result(cell, study, folder / "cells" / cell.folder, measured, console)
        _write(study, [results[c.folder] for c in cells if c.folder in results], folder)
    return [results[cell.folder] for cell in cells]


def table(study: Study, results: Sequence[Result]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: a cell's value on each axis, the figures that the study asks for, the last loss, and minutes."""
    columns = [(name, figure) for name, measure in study.measure.items() for figure in measure.figures]
    header = (
        *(results[0].place if results else ()),
        *(f"{name} {figure}" if len(study.measure) > 1 else figure for name, figure in columns),
        "last loss",
        "minutes",
    )
    rows = []
    for result in results:
        values = (_number(result.figures.get(name, {}).get(figure)) for name, figure in columns)
        last = result.epochs[-1]["loss"] if result.epochs else None
        rows.append((*result.place.values(), *values, _number(last), f"{result.minutes:.1f}"))
    return header, rows


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _words(place: Mapping[str, str]) -> str:
    return ", ".join(f"{axis} {value}" for axis, value in place.items()) or "the recipe itself"


def _result(cell: Cell, study: Study, folder: Path, measured: Mapping[str, Dataset], console: Console) -> Result:
    result = Result(cell.place, cell.recipe.model_dump(mode="json"))
    try:
        if (folder / train.RECIPE).is_file():
            _check_same(folder, cell)
            artefact = train.resume(folder, console)
        else:
            artefact = train.start(cell.recipe, folder, console)
        encoder = Encoder.open(artefact)
        for name, measure in study.measure.items():
            result.figures[name] = _measure(encoder, measured[name], measure, console)
            console.print(f"{name}: {'  '.join(f'{k} {v:.4f}' for k, v in result.figures[name].items())}")
    except (MismatchError, StorageError):
        raise
    except LookalikeError as e:
        # A variant that diverges is a finding; it does not keep the others from being tried.
        console.print(f"this cell failed: {e}", style="yellow")
        result.error = str(e)
    result.epochs = train.read_log(folder)
    result.minutes = result.epochs[-1]["minutes"] if result.epochs else 0.0
    return result


def _check_same(folder: Path, cell: Cell) -> None:
    """A cell that was begun is not continued by another recipe."""
    wanted = cell.recipe.model_copy(update={"data": cell.recipe.data.absolute()})
    if recipes.read(folder / train.RECIPE) != wanted:
        raise MismatchError(
            f"{folder} was begun by another recipe of {_words(cell.place)}. Name another folder with --to, or delete it."
        )


def _measure(encoder: Encoder, dataset: Dataset, measure: Measure, console: Console) -> dict[str, float]:
    options = EvaluationOptions(measure.tasks, pairs=measure.pairs, seed=measure.seed)
    evaluation = evaluate(Embedder.of(encoder), EvaluationData(dataset.name, dataset), options)
    for failure in evaluation.failures:
        console.print(f"left out: {failure}")
    found = {score.name: score.value for score in evaluation.scores}
    if missing := [name for name in measure.figures if name not in found]:
        raise RecipeError(f"There is no figure “{missing[0]}” of {dataset.name}; there are {', '.join(found)}.")
    return found


def _begun(folder: Path, cells: Sequence[Cell]) -> dict[str, Result]:
    """Results that are there already, by the names of their cells' folders."""
    try:
        stored = [Result(**tree) for tree in json.loads((folder / RESULTS).read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as e:
        raise MismatchError(f"{folder / RESULTS} holds no results of a study: {e}.") from e
    wanted = {cell.folder: cell.recipe.model_dump(mode="json") for cell in cells}
    found = {}
    for result in stored:
        name = Cell(result.place, cells[0].recipe).folder
        if name in wanted and result.recipe != wanted[name]:
            raise MismatchError(
                f"{folder} has a result of {_words(result.place)} by another recipe. Name another folder with --to."
            )
        found[name] = result
    return found


def _write(study: Study, results: Sequence[Result], folder: Path) -> None:
    header, rows = table(study, results)
    lines = [f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows)]
    failed = [f"- {_words(r.place)}: {r.error}" for r in results if r.error]
    text = "\n".join([f"# {study.name}", "", study.description.strip(), "", *lines, "", *failed]).rstrip() + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)  # a cell that fails at once leaves nothing behind
        for name, content in ((RESULTS, json.dumps([asdict(r) for r in results], indent=1)), (TABLE, text)):
            new = folder / f"{name}.new"
            new.write_text(content, encoding="utf-8")
            new.replace(folder / name)
    except OSError as e:
        raise StorageError(f"The study in {folder} cannot be written: {e.strerror}.") from e
