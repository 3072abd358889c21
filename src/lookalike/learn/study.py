"""Studies: a recipe trained in many variants, the cells, and a table of their figures.

```yaml
name: r1-grid
recipe: r1.yaml                                   # relative to this file
set: {train.epochs: 5}                            # in all cells
grid:                                             # every combination is a cell
  network.backbone: [resnet18, resnet34]
  losses.0.margin: [0.1, 0.3, 0.5]
variants:                                         # crossed with the grid
  sgd: {optimiser: {kind: sgd, learning_rate: 0.1}}
  adam: {optimiser: {kind: adam, learning_rate: 0.001}}
measure:                                          # images that evaluate each cell's encoder; it must not train on them
  test: {source: {path: data/cifar10/test}, figures: [top-1]}
```

The study's folder gets a run's folder for each cell, ``results.json`` and ``table.md``; both are rewritten after every cell.
A study that was stopped resumes: it skips finished cells and tries failed cells again.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from lookalike import atomic, datasets
from lookalike.datasets import Dataset, Source
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.errors import LookalikeError, MismatchError, RecipeError, StorageError
from lookalike.evaluation.evaluate import EvaluationData, evaluate
from lookalike.evaluation.protocols import EvaluationOptions, Task
from lookalike.learn import recipe as recipes
from lookalike.learn import train
from lookalike.learn.part import Count, Part
from lookalike.learn.recipe.reading import describe_errors, read_mapping
from lookalike.learn.run_folder import RunFolder, read_log
from lookalike.progress import SILENT, Progress
from lookalike.untrusted import parsing

RESULTS = "results.json"
TABLE = "table.md"


class Measure(Part):
    """Images that every cell's encoder is evaluated on."""

    source: Source
    figures: tuple[str, ...] = Field(("top-1",), min_length=1, description="columns of the table, named as in a report")
    tasks: tuple[Task, ...] = Field(("retrieval", "verification"), description="what is evaluated")
    pairs: Count = Field(8000, description="of verification")
    seed: int = Field(0, ge=0, description="of all random choices")


class Study(Part):
    """A study: a recipe, its variants, and the images that evaluate them."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="the folder's name under studies/")
    description: str = ""
    recipe: Path = Field(description="a file, relative to the study's file")
    set: dict[str, JsonValue] = Field(default_factory=dict, description="keys of the recipe and values, for all cells")
    grid: dict[str, tuple[JsonValue, ...]] = Field(
        default_factory=dict, description="keys of the recipe, each with its values"
    )
    variants: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict, description="names, each with keys of the recipe and values"
    )
    measure: dict[str, Measure] = Field(min_length=1, description="names, each with what to evaluate on")


@dataclass(frozen=True)
class Cell:
    """One variant of the recipe, and its value on each axis."""

    place: Mapping[str, str]
    recipe: recipes.Recipe

    @property
    def folder(self) -> str:
        """The name of its run's folder."""
        return _folder(self.place)


@dataclass
class Result:
    """The result of a cell.

    Attributes:
        place: its value on each axis.
        recipe: what was trained, as plain values.
        minutes: of training.
        epochs: the lines of its metrics.jsonl.
        figures: {measure: {figure: value}}.
        error: why there are no figures.
    """

    place: Mapping[str, str]
    recipe: dict[str, Any]
    minutes: float = 0.0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    error: str | None = None


def read(path: Path, overrides: Sequence[str] = ()) -> tuple[Study, list[Cell]]:
    """Read a study from a YAML file, with overrides of single values.

    Args:
        path: the file.
        overrides: of every cell's recipe; those that begin with ``measure.`` are for the study itself.

    Raises:
        NotFoundError: the study or its recipe does not exist.
        RecipeError: the study or the recipe of a cell is invalid.
    """
    own = [o for o in overrides if o.startswith("measure.")]
    study = _read_study(path, own)
    first = [f"{key}={json.dumps(value)}" for key, value in study.set.items()]
    last = [o for o in overrides if o not in own]
    cells = [
        Cell(place, recipes.read(path.parent / study.recipe, [*first, *changes, *last]))
        for place, changes in _cells(study)
    ]
    folders = [cell.folder for cell in cells]
    if repeated := [cell for cell in cells if folders.count(cell.folder) > 1]:
        raise RecipeError(
            f"{path} has the cell {_describe(repeated[0].place)} twice, or two cells with equal folder names. Remove one."
        )
    return study, cells


def _read_study(path: Path, overrides: Sequence[str]) -> Study:
    tree = read_mapping(path, "study", ("name", "recipe", "measure"))
    for change in overrides:
        recipes.override(tree, change)
    try:
        return Study.model_validate(tree)
    except ValidationError as e:
        raise RecipeError(f"{path} is invalid:\n{describe_errors(e, 'study')}") from e


def _cells(study: Study) -> list[tuple[dict[str, str], list[str]]]:
    """List the (place, overrides) of every cell, the last axis fastest."""
    axes: list[tuple[str, list[tuple[str, dict[str, JsonValue]]]]] = []
    if study.variants:
        axes.append(("variant", list(study.variants.items())))
    for key, values in study.grid.items():
        axes.append((key, [(v if isinstance(v, str) else json.dumps(v), {key: v}) for v in values]))
    cells = []
    for steps in itertools.product(*(values for _, values in axes)):
        place = {axis: name for (axis, _), (name, _) in zip(axes, steps, strict=True)}
        # JSON is YAML.
        cells.append((place, [f"{key}={json.dumps(v)}" for _, changes in steps for key, v in changes.items()]))
    return cells


def run(study: Study, cells: Sequence[Cell], folder: Path, progress: Progress = SILENT) -> list[Result]:
    """Train and evaluate every cell that is not done yet.

    Args:
        study: how to evaluate.
        cells: what to train.
        folder: gets a folder for each cell, ``results.json`` and ``table.md``.
        progress: receives each cell, and its training.

    Returns:
        The result of each cell.

    Raises:
        DataError: the images to evaluate on cannot be used.
        MismatchError: the folder has results of other recipes.
        StorageError: the folder cannot be written.
    """
    results = _read_results(folder, cells)
    # Open the images before training, so that missing ones are reported first.
    evaluated = {name: datasets.open_dataset(m.source) for name, m in study.measure.items()}
    for number, cell in enumerate(cells, start=1):
        done = results.get(cell.folder)
        if done and done.error is None and done.figures.keys() == study.measure.keys():
            continue
        progress.note(f"cell {number} of {len(cells)}: {_describe(cell.place)}")
        results[cell.folder] = _run_cell(cell, study, folder, evaluated, progress)
        _write(study, [results[c.folder] for c in cells if c.folder in results], folder)
    return [results[cell.folder] for cell in cells]


def table(study: Study, results: Sequence[Result]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Make a table of results.

    Returns:
        The header, and a row per cell: its value on each axis, the figures that the study asks for, the last loss, and
        minutes.
    """
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


def _folder(place: Mapping[str, str]) -> str:
    return re.sub(r"[^\w.=-]+", "-", "_".join(f"{axis}={value}" for axis, value in place.items())) or "only"


def _describe(place: Mapping[str, str]) -> str:
    return ", ".join(f"{axis} {value}" for axis, value in place.items()) or "the recipe itself"


def _run_cell(cell: Cell, study: Study, folder: Path, evaluated: Mapping[str, Dataset], progress: Progress) -> Result:
    run_folder = folder / "cells" / cell.folder
    result = Result(cell.place, cell.recipe.to_tree())
    try:
        encoder = Encoder.open(_train(cell, run_folder, progress))
        for name, measure in study.measure.items():
            result.figures[name] = _evaluate(encoder, evaluated[name], measure, progress)
            progress.note(f"{name}: {'  '.join(f'{k} {v:.4f}' for k, v in result.figures[name].items())}")
    except (MismatchError, StorageError):
        raise
    except LookalikeError as e:
        # A diverging variant is a result too, and the study goes on.
        progress.note(f"this cell failed: {e}")
        result.error = str(e)
    result.epochs = read_log(run_folder)
    result.minutes = result.epochs[-1]["minutes"] if result.epochs else 0.0
    return result


def _train(cell: Cell, folder: Path, progress: Progress) -> Path:
    """Train a cell, or resume it if the same recipe began it."""
    files = RunFolder(folder)
    if not files.has_recipe():
        return train.train(cell.recipe, folder, progress)
    if files.read_recipe() != cell.recipe.absolute():
        raise MismatchError(
            f"{folder} has a run of another recipe of {_describe(cell.place)}. Choose another folder with --to, or delete it."
        )
    return train.resume(folder, progress)


def _evaluate(encoder: Encoder, dataset: Dataset, measure: Measure, progress: Progress) -> dict[str, float]:
    options = EvaluationOptions(measure.tasks, pairs=measure.pairs, seed=measure.seed)
    evaluation = evaluate(Embedder.of(encoder), EvaluationData(dataset.name, dataset), options, progress)
    for failure in evaluation.failures:
        progress.note(f"skipped: {failure}")
    values = {score.name: score.value for score in evaluation.scores}
    if missing := [name for name in measure.figures if name not in values]:
        raise RecipeError(f"There is no figure “{missing[0]}” of {dataset.name}; choose from {', '.join(values)}.")
    return values


def _read_results(folder: Path, cells: Sequence[Cell]) -> dict[str, Result]:
    """Read the results so far, by the names of their cells' folders."""
    try:
        stored = TypeAdapter(list[Result]).validate_python(parsing.read_json(folder / RESULTS))
        trained = [recipes.parse(result.recipe) for result in stored]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, RecipeError) as e:
        raise MismatchError(f"{folder / RESULTS} does not hold results of a study: {e}.") from e
    wanted = {cell.folder: cell.recipe for cell in cells}
    results = {}
    for result, recipe in zip(stored, trained, strict=True):
        name = _folder(result.place)
        if name in wanted and recipe != wanted[name]:
            raise MismatchError(
                f"{folder} has a result of another recipe for {_describe(result.place)}. Choose another folder with --to."
            )
        results[name] = result
    return results


def _write(study: Study, results: Sequence[Result], folder: Path) -> None:
    header, rows = table(study, results)
    lines = [f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows)]
    failed = [f"- {_describe(r.place)}: {r.error}" for r in results if r.error]
    text = "\n".join([f"# {study.name}", "", study.description.strip(), "", *lines, "", *failed]).rstrip() + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)  # it is missing if the first cell failed at once
        atomic.write_text(folder / RESULTS, json.dumps([asdict(r) for r in results], indent=1))
        atomic.write_text(folder / TABLE, text)
    except OSError as e:
        raise StorageError(f"The study in {folder} cannot be written: {e.strerror}.") from e
