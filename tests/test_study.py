"""Studies: their cells and order, resuming, failed cells, and tables."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import tiny_run
from lookalike.cli.app import app
from lookalike.errors import MismatchError, NotFoundError, RecipeError
from lookalike.learn import recipe, study, train
from lookalike.learn.run_folder import RECIPE
from lookalike.progress import Progress

pytestmark = [pytest.mark.filterwarnings("default")]

RECIPES = Path(__file__).parent.parent / "recipes"

Writer = Callable[..., Path]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """Write a study of the tiny recipe; its parts can be replaced."""
    folder = tmp_path_factory.mktemp("study")
    tiny_run.write(folder)

    def writer(**parts: object) -> Path:
        tree = {
            "name": "tiny-study",
            "description": "Rates.",
            "recipe": "tiny.yaml",
            "measure": {"test": {"source": {"kind": "npz", "path": str(folder / "images.npz")}, "pairs": 20}},
        }
        path = folder / "study.yaml"
        path.write_text(yaml.safe_dump(tree | parts, sort_keys=False), encoding="utf-8")
        return path

    return writer


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, pocket: Path) -> list[tuple[str, str]]:
    """Replace training; lists (train or resume, the run's folder)."""
    made: list[tuple[str, str]] = []

    def pretend(folder: Path, verb: str) -> Path:
        made.append((verb, folder.name))
        (folder / "metrics.jsonl").write_text('{"epoch": 1.0, "minutes": 0.5, "loss": 2.0}\n', encoding="utf-8")
        shutil.copytree(pocket, folder / "encoder", dirs_exist_ok=True)
        return folder / "encoder"

    def start(read: recipe.Recipe, folder: Path, _progress: Progress) -> Path:
        if read.stages[0].optimiser.learning_rate > 1e20:
            raise RecipeError("Too fast.")
        folder.mkdir(parents=True)
        (folder / RECIPE).write_text(read.absolute().to_yaml(), encoding="utf-8")
        return pretend(folder, "train")

    monkeypatch.setattr(train, "train", start)
    monkeypatch.setattr(train, "resume", lambda folder, _progress: pretend(folder, "resume"))
    return made


def run(path: Path, folder: Path, *overrides: str) -> list[study.Result]:
    read, cells = study.read(path, overrides)
    return study.run(read, cells, folder)


# ---- cells


def test_variants_are_crossed_with_the_grid_and_the_last_axis_goes_fastest(write: Writer) -> None:
    read, cells = study.read(
        write(
            variants={
                "sgd": {"optimiser": {"kind": "sgd", "learning_rate": 0.1}},
                "adam": {"optimiser": {"kind": "adam", "learning_rate": 1e-5}, "train.average": 0.5},
            },
            grid={"network.dimension": [4, 8], "losses.0.miner": ["all", "hard"]},
        ),
        ["train.epochs=7"],
    )
    assert read.name == "tiny-study"
    assert [cell.folder for cell in cells] == [
        f"variant={variant}_network.dimension={dimension}_losses.0.miner={miner}"
        for variant in ("sgd", "adam")
        for dimension in (4, 8)
        for miner in ("all", "hard")
    ]
    last = cells[-1].recipe.stages[0]
    assert isinstance(last.optimiser, recipe.Adam)
    assert last.optimiser.learning_rate == 1e-5
    assert (last.train.average, cells[-1].recipe.network.dimension, last.train.epochs) == (0.5, 8, 7)
    assert isinstance(last.losses[0], recipe.TripletTerm)
    assert last.losses[0].miner == "hard"
    assert isinstance(cells[0].recipe.stages[0].optimiser, recipe.SGD)


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(RECIPES.glob("*.yaml")) if "\nrecipe:" in p.read_text(encoding="utf-8")],
    ids=lambda p: p.stem,
)
def test_every_study_in_recipes_is_valid(path: Path) -> None:
    read, cells = study.read(path)
    assert read.name == path.stem
    assert len(cells) > 1


def test_without_axes_the_recipe_itself_is_the_cell(write: Writer) -> None:
    _, cells = study.read(write())
    assert [cell.folder for cell in cells] == ["only"]


def test_set_holds_for_all_cells_unless_a_cell_or_an_override_changes_it(write: Writer) -> None:
    path = write(set={"train.epochs": 3, "network.dimension": 5}, grid={"network.dimension": [4, 6]})
    assert [(c.recipe.stages[0].train.epochs, c.recipe.network.dimension) for c in study.read(path)[1]] == [
        (3, 4),
        (3, 6),
    ]
    assert [c.recipe.stages[0].train.epochs for c in study.read(path, ["train.epochs=7"])[1]] == [7, 7]


def test_overrides_of_measure_change_the_study(write: Writer) -> None:
    read, _ = study.read(write(), ["measure.test.pairs=8"])
    assert read.measure["test"].pairs == 8


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ({"measure": {}}, "measure"),
        ({"grids": {}}, "grids"),
        ({"name": "Tiny Study"}, "name"),
        ({"grid": {"network.dimensions": [4]}}, "dimensions"),
        ({"grid": {"network.dimension": [4, 4]}}, "network.dimension 4 twice"),
        ({"grid": {"seed": ["1", 1]}}, "seed 1 twice"),
        ({"recipe": "none.yaml"}, "none.yaml"),
    ],
)
def test_an_invalid_study_is_refused(write: Writer, parts: dict[str, Any], word: str) -> None:
    with pytest.raises((RecipeError, NotFoundError), match=word):
        study.read(write(**parts))


@pytest.mark.parametrize("text", ["[1]", "a: [", ""])
def test_a_file_that_is_not_a_study_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(RecipeError):
        study.read(tmp_path / "study.yaml")
    with pytest.raises(NotFoundError):
        study.read(tmp_path / "none.yaml")


# ---- resuming


def test_a_finished_cell_is_skipped_and_a_failed_one_is_tried_again(
    write: Writer, tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    path = write(grid={"optimiser.learning_rate": [1e30, 0.1, 0.2]})
    first = run(path, tmp_path / "study")
    assert [result.error for result in first] == ["Too fast.", None, None]
    assert [verb for verb, _ in calls] == ["train", "train"]
    calls.clear()
    assert run(path, tmp_path / "study") == first
    assert calls == []
    failed = tmp_path / "study" / study.RESULTS
    tree = json.loads(failed.read_text())
    tree[2] |= {"error": "The disk was full.", "figures": {}}
    failed.write_text(json.dumps(tree))
    assert run(path, tmp_path / "study") == first
    assert calls == [("resume", "optimiser.learning_rate=0.2")]


def test_the_table_has_the_axes_the_figures_and_the_failures(
    write: Writer, tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    path = write(grid={"optimiser.learning_rate": [1e30, 0.1]})
    results = run(path, tmp_path / "study", "measure.test.figures=[top-1, AUC]")
    figures = results[1].figures["test"]
    table = (tmp_path / "study" / study.TABLE).read_text(encoding="utf-8").splitlines()
    assert table == [
        "# tiny-study",
        "",
        "Rates.",
        "",
        "| optimiser.learning_rate | top-1 | AUC | last loss | minutes |",
        "| --- | --- | --- | --- | --- |",
        "| 1e+30 | – | – | – | 0.0 |",
        f"| 0.1 | {figures['top-1']:.4f} | {figures['AUC']:.4f} | 2.0000 | 0.5 |",
        "",
        "- optimiser.learning_rate 1e+30: Too fast.",
    ]


def test_an_unknown_figure_lists_the_known_ones(write: Writer, tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    (result,) = run(write(), tmp_path / "study", "measure.test.figures=[top-2]")
    assert result.error is not None
    assert "no figure “top-2”" in result.error
    assert "top-1" in result.error
    (result,) = run(write(), tmp_path / "study")
    assert result.error is None


@pytest.mark.parametrize("results", [True, False], ids=["done", "begun"])
def test_results_of_another_recipe_are_refused(
    write: Writer, tmp_path: Path, calls: list[tuple[str, str]], results: bool
) -> None:
    run(write(), tmp_path / "study")
    if not results:  # stopped before the first cell was done
        (tmp_path / "study" / study.RESULTS).unlink()
    with pytest.raises(MismatchError, match="another recipe"):
        run(write(), tmp_path / "study", "train.epochs=9")


def test_a_damaged_file_of_results_is_refused(write: Writer, tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    (tmp_path / "study").mkdir()
    for text in ("{", "[{}]", "[1]"):
        (tmp_path / "study" / study.RESULTS).write_text(text)
        with pytest.raises(MismatchError, match="does not hold results"):
            run(write(), tmp_path / "study")


# ---- a real study


@pytest.mark.slow
@pytest.mark.no_cover  # it trains, which has its own tests
def test_a_study_killed_in_a_cell_resumes_with_the_same_result(write: Writer, tmp_path: Path) -> None:
    """One cell diverges, which does not affect the other."""
    path = write(grid={"optimiser.learning_rate": [1e30, 0.05]})
    overrides = ["train.epochs=15"]
    killed, cell = tmp_path / "killed", "optimiser.learning_rate=0.05"
    command = [sys.executable, "-m", "lookalike", "study", str(path), "--to", str(killed), "-o", *overrides]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (killed / "cells" / cell / "metrics.jsonl").exists():
        assert process.poll() is None, "the study ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "cells" / cell / "encoder").exists()
    assert len(json.loads((killed / study.RESULTS).read_text())) == 1

    again = CliRunner().invoke(app, [*command[3:], "--json"])
    assert again.exit_code == 0, again.output
    answer = json.loads(again.stdout)
    assert answer["folder"] == str(killed)
    failed, done = answer["cells"]
    assert "Lower optimiser.learning_rate" in failed["error"]
    assert failed["figures"] == {}

    whole = run(path, tmp_path / "whole", *overrides)[1]
    assert done["figures"] == whole.figures
    assert 0 <= whole.figures["test"]["top-1"] <= 1
    assert tiny_run.lines(killed / "cells" / cell) == tiny_run.lines(tmp_path / "whole" / "cells" / cell)
    assert np.isfinite([line["loss"] for line in done["epochs"]]).all()
