"""The study of compact codes: cells, protocol, resuming, files and refusals."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lookalike as la
from image_files import png
from lookalike import compression_study as study
from lookalike.cli import main
from lookalike.codecs import Codec
from lookalike.compression_study import Cell, StudyData, measuring, tables
from lookalike.compression_study.data import FOLDS
from lookalike.compression_study.measuring import Result, measure, memory, neighbour_recall
from lookalike.compression_study.study import CELLS, STUDY, plan
from lookalike.errors import DataError, MismatchError, NotFoundError, StorageError, UsageError
from lookalike.evaluation import retrieval
from lookalike.evaluation.labels import LabelledVectors
from lookalike.metric import Metric, VectorSpace
from pocket_encoder import make

SPACE = VectorSpace(Metric.EUCLIDEAN, 16)


def vectors(seed: int, count: int = 60) -> LabelledVectors:
    """Draw vectors of 4 classes, around a centre each."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((4, 16))
    classes = np.arange(count) % 4
    rows = centres[classes] + 0.8 * random.standard_normal((count, 16))
    return LabelledVectors(rows.astype(np.float32), np.array([f"class {number}" for number in classes]))


DATA = StudyData("toys", SPACE, vectors(0))


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return [measure(DATA, cell) for cell in plan(DATA, ["base", "pca", "sign"])]


def save_image(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(number))
    return path


def save(path: Path, data: LabelledVectors) -> Path:
    np.savez(path, embeddings=data.vectors, labels=np.asarray(data.labels))
    return path


def test_a_plan_has_each_method_at_the_sizes_of_the_dimension() -> None:
    cells = plan(DATA, ["base", "pca", "pca-int8", "pca-4bit", "rabitq", "opq", "itq", "sign"])
    by_method = {c.method: [d.size for d in cells if d.method == c.method] for c in cells}
    assert by_method == {
        "base": [64],
        "pca": [64, 32, 16],
        "pca-int8": [16],
        "sign": [256, 128, 64, 32, 16],
    }
    wide = plan(
        replace(DATA, space=VectorSpace(Metric.EUCLIDEAN, 256), items=vectors_of(256)), ["rabitq", "opq", "itq"]
    )
    assert [(c.method, c.size) for c in wide if c.method != "opq"] == [
        *(("rabitq", size) for size in (128, 64, 32, 16)),
        *(("itq", size) for size in (32, 16)),
    ]


def vectors_of(dimension: int) -> LabelledVectors:
    return LabelledVectors(np.zeros((12, dimension), np.float32), np.array(["a", "b"] * 6))


def test_more_measurements_of_umap_share_the_cell_of_the_default_settings() -> None:
    cells = plan(DATA, ["umap", "umap-settings", "umap-parts"])
    assert len(cells) == len(set(cells)) == 3 + 19 + 9
    assert sum(cell == Cell("umap", 64) for cell in cells) == 1
    assert len({cell.name for cell in cells}) == len(cells)


def test_folds_have_the_same_share_of_each_class() -> None:
    folds, labels = DATA.folds(), np.asarray(DATA.items.labels)
    assert {
        (fold, label): int(((folds == fold) & (labels == label)).sum()) for fold in range(3) for label in labels
    } == {(fold, label): 5 for fold in range(3) for label in labels}


@pytest.mark.parametrize("queries", [None, vectors(1, 20)])
def test_scores_are_means_over_the_folds(queries: LabelledVectors | None) -> None:
    """The base against a plain definition: each fold is a gallery."""
    data = replace(DATA, queries=queries)
    expected = []
    for fold in range(FOLDS):
        gallery = data.take(np.flatnonzero(data.folds() == fold))
        alone = retrieval.leave_one_out(gallery, SPACE.metric)
        expected.append(alone if queries is None else retrieval.evaluate(queries, gallery, SPACE.metric))
    result = measure(data, Cell("base", 64))
    assert result.map == pytest.approx(np.mean([one.map for one in expected]))
    assert result.mrr == pytest.approx(np.mean([one.mrr for one in expected]))
    assert result.top_1 == pytest.approx(np.mean([one.top_1 for one in expected]))
    assert result.curve == pytest.approx(np.mean([one.eleven_points for one in expected], axis=0))
    assert result.recall == 1
    assert (result.code_bytes, result.codec_bytes, result.bytes_per_item) == (64, 0, 64)


def test_no_codec_is_fitted_to_its_gallery_or_to_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    data = replace(DATA, queries=vectors(1, 20))
    fitted: list[np.ndarray] = []
    real = measuring._fit

    def fit(data: StudyData, cell: Cell, rows: np.ndarray) -> Codec:
        fitted.append(rows)
        return real(data, cell, rows)

    monkeypatch.setattr(measuring, "_fit", fit)
    measure(data, Cell("pca", 32))
    folds = data.folds()
    assert [rows.tolist() for rows in fitted] == [
        *(np.flatnonzero(folds != fold).tolist() for fold in range(FOLDS)),
        list(range(60)),
    ]


def test_recall_of_neighbours_counts_ties_by_their_share() -> None:
    exact = np.arange(20, dtype=np.float32)[None]
    assert neighbour_recall(exact, exact) == 1
    assert neighbour_recall(exact, exact[:, ::-1]) == 0
    assert neighbour_recall(exact, np.zeros((1, 20), np.float32)) == pytest.approx(0.5)


def test_bytes_include_the_codec(results: list[Result]) -> None:
    by_cell = {(r.cell.method, r.cell.size): r for r in results}
    half = by_cell["pca", 32]
    codec = study.METHODS["pca"].codec(SPACE, 32).fit(DATA.items.vectors)
    assert half.codec_bytes == codec.size
    assert half.bytes_per_item == pytest.approx(32 + codec.size / 60)
    assert half.memory_bytes >= memory(codec) > 16 * 8 * 2
    assert half.disk_mb == pytest.approx((60 * 32 + codec.size) / 1e6)
    assert by_cell["sign", 16].bits
    assert (half.dimension, half.bits) == (8, False)


def test_tables_put_equal_bytes_beside_each_other(results: list[Result]) -> None:
    table = next(table for table in tables.tables(results) if table.name == "map")
    assert table.header == ("bytes", "= floats", "= bits", "base", "pca", "sign")
    rows = {row[0]: row for row in table.rows}
    assert list(rows) == ["256", "128", "64", "32", "16"]
    assert rows["64"][1:3] == ("16", "512")
    assert rows["256"][3:5] == ("", "")
    assert all(rows["64"][3:])
    by_class = next(table for table in tables.tables(results) if table.name == "classes")
    assert len(by_class.rows) == 4


def test_a_study_writes_its_files_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder = save(tmp_path / "toys.npz", DATA.items), tmp_path / "study"
    command = ["lookalike", "study", "compression", str(source), "--to", str(folder), "--methods", "pca,sign", "--json"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit, match="0"):
        main()
    first: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["cells"]
    assert [(cell["cell"]["method"], cell["code_bytes"]) for cell in first[:3]] == [
        ("base", 64),
        ("pca", 64),
        ("pca", 32),
    ]
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "report.html",
        "cells.csv",
        "map.csv",
        "mrr.csv",
        "time.csv",
        "memory.csv",
        "map.png",
        "classes.csv",
    }
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<figure") == 6
    assert "class 3" in page

    # A study that was killed: one result is missing, another is damaged, the others must not be measured again.
    kept = sorted((folder / CELLS).iterdir())
    kept[0].unlink()
    kept[1].write_text("{", encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in kept[2:]}
    second = study.run(study.read(source), study.parse_methods(["pca", "sign"]), folder)
    assert [result.map for result in second] == [cell["map"] for cell in first]
    assert {path: path.stat().st_mtime_ns for path in kept[2:]} == before
    assert len(list((folder / CELLS).iterdir())) == len(first)


def test_a_folder_of_another_study_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    monthly = StudyData("other toys", SPACE, vectors(2))
    study.run(DATA, [], folder)
    assert (folder / STUDY).exists()
    with pytest.raises(MismatchError, match="other embeddings or labels"):
        study.run(monthly, [], folder)
    (folder / STUDY).write_text("[]", encoding="utf-8")
    with pytest.raises(MismatchError, match="does not describe a study"):
        study.run(DATA, [], folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").touch()
    with pytest.raises(MismatchError, match="other files"):
        study.run(DATA, [], tmp_path / "full")
    with pytest.raises(StorageError, match="cannot be written"):
        study.run(DATA, [], tmp_path / "full" / "photo.jpg" / "study")


def test_data_that_cannot_be_studied_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="bits"):
        StudyData("bits", VectorSpace(Metric.HAMMING, 128), vectors(0))
    with pytest.raises(UsageError, match="two classes"):
        StudyData("few", SPACE, vectors(0, 8))
    with pytest.raises(UsageError, match="one encoder"):
        StudyData("both", SPACE, vectors(0), vectors_of(8))
    with pytest.raises(NotFoundError, match="no file"):
        study.read(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(DataError, match="not an"):
        study.read(tmp_path / "text.npz")
    np.savez(tmp_path / "unlabelled.npz", embeddings=DATA.items.vectors)
    with pytest.raises(DataError, match="lacks"):
        study.read(tmp_path / "unlabelled.npz")
    np.savez(tmp_path / "short.npz", embeddings=DATA.items.vectors, labels=np.arange(3))
    with pytest.raises(DataError, match="n labels"):
        study.read(tmp_path / "short.npz")
    others = LabelledVectors(DATA.items.vectors, np.array(["unknown"] * 60))
    with pytest.raises(UsageError, match="No query"):
        study.read(save(tmp_path / "a.npz", DATA.items), save(tmp_path / "b.npz", others))
    with pytest.raises(UsageError, match="Did you mean rabitq"):
        study.parse_methods(["rabitQ"])


def test_a_codec_that_needs_more_items_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.compression_study.study.plan", lambda *_: [Cell("umap", 64, neighbours=50)])
    notes: list[str] = []

    class Notes:
        def advance(self, stage: str, done: int, total: int, detail: str = "") -> None: ...

        def note(self, message: str) -> None:
            notes.append(message)

    assert study.run(DATA, [], tmp_path / "study", progress=Notes()) == []
    assert notes[0].startswith("left out: umap of 64 bytes: ")
    assert list((tmp_path / "study" / CELLS).iterdir()) == []


def test_a_collection_is_read_with_its_labels_and_other_queries(tmp_path: Path, pocket: Path) -> None:
    for number in range(18):
        for folder in ("photos", "asked"):
            save_image(tmp_path / folder / "ab"[number % 2] / f"{number}.png", number)
    save_image(tmp_path / "asked" / "c" / "1.png", 50)
    with la.open(tmp_path / "shop", encoder=pocket) as shop:
        with pytest.raises(UsageError, match="Index with --labels"):
            study.read(shop.path)
        shop.add(tmp_path / "photos", labels="folder")
        data = study.read(shop.path, tmp_path / "asked")
        assert data.queries is not None
        # The class c is not in the collection.
        assert sorted(data.queries.labels) == sorted(data.items.labels) == ["a"] * 9 + ["b"] * 9
        assert sorted(data.items.vectors.tolist()) == sorted(data.queries.vectors.tolist())
        shop.compress("pca:4")
        assert study.read(shop.path).fingerprint == replace(data, queries=None).fingerprint
        same = study.read(shop.path, shop.path).queries
        assert same is not None
        assert same.vectors.tolist() == data.items.vectors.tolist()
    la.open(tmp_path / "toys", encoder=make(tmp_path / "other", size=8)).close()
    with pytest.raises(MismatchError, match="different encoders"):
        study.read(tmp_path / "shop", tmp_path / "toys")
    with pytest.raises(UsageError, match="No image"):
        study.read(tmp_path / "shop", save_image(tmp_path / "more" / "z" / "1.png", 3).parent.parent)
