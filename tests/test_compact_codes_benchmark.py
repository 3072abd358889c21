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


def test_ties_share_ranks_and_are_one_threshold() -> None:
    # Items 1, 2 and 3 are at distance 1 of item 0; two of the three have its label.
    rows = np.zeros((12, 1), np.float32)
    rows[1:4], rows[4:, 0] = 1, np.arange(10, 18)
    labels = np.array([0, 0, 0, 1, *[2] * 8])
    matrix = compact_codes.distances(rows, rows, Metric.EUCLIDEAN)
    assert compact_codes.rank(matrix, labels, compact_codes.nearest_of(matrix))[1] == 1
    assert compact_codes.average_precision(matrix[0, 1:], labels[1:] == 0) == pytest.approx(2 / 3)
    assert compact_codes.recall(np.zeros(11), np.arange(10)) == pytest.approx(10 / 11)
