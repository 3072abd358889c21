"""The benchmark of codecs, on a few embeddings."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))  # after the tests, whose modules share a name

import compact_codes

from lookalike.metric import Metric


def test_the_benchmark_measures_each_codec_beside_faiss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((300, 32)).astype(np.float32)
    paths = np.array([f"{number % 5}/{number}.png" for number in range(300)])
    np.savez(tmp_path / "rows.npz", embeddings=rows, paths=paths)
    compact_codes.main([str(tmp_path / "rows.npz"), "--budgets", "16", "--limit", "280"])
    printed = capsys.readouterr().out
    assert "280 items of 32 numbers" in printed
    assert "pca to 4 |" in printed
    assert "product of 16 parts" in printed
    assert "FAISS OPQ" in printed
    assert "FAISS RaBitQ" in printed


def test_other_images_of_the_same_classes_are_the_queries(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    items = np.array([f"{number % 4}/{number}.png" for number in range(40)])
    np.savez(tmp_path / "rows.npz", embeddings=rows, paths=items)
    asked = np.array(["2/a.png", "7/b.png", "1/c.png"])  # nothing has the class 7
    np.savez(tmp_path / "queries.npz", embeddings=2 * rows[[2, 3, 5]], paths=asked)
    chosen = compact_codes.parse([str(tmp_path / "rows.npz"), "--queries", str(tmp_path / "queries.npz"), "--unit"])
    loaded = compact_codes.load(chosen)
    assert loaded.query_labels is not None
    matrix = compact_codes.distances(loaded.asked, loaded.embeddings, Metric.EUCLIDEAN)
    assert loaded.query_labels.tolist() == [2, 1]
    assert matrix.argmin(axis=1).tolist() == [2, 5]  # an item that has the query's vector counts
    assert compact_codes.rank(matrix, loaded, compact_codes.nearest_of(matrix, loaded))[1] == 1


def test_ties_share_ranks_and_are_one_threshold() -> None:
    # Items 1, 2 and 3 are at distance 1 of item 0; two of the three have its label.
    rows = np.zeros((12, 1), np.float32)
    rows[1:4], rows[4:, 0] = 1, np.arange(10, 18)
    labels = np.array([0, 0, 0, 1, *[2] * 8])
    matrix, items = compact_codes.distances(rows, rows, Metric.EUCLIDEAN), compact_codes.Items(rows, labels)
    assert compact_codes.rank(matrix, items, compact_codes.nearest_of(matrix, items))[1] == 1
    assert compact_codes.average_precision(matrix[0, 1:], labels[1:] == 0) == pytest.approx(2 / 3)
    assert compact_codes.recall(np.zeros(11), np.arange(10)) == pytest.approx(10 / 11)
