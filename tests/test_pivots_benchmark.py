"""The benchmark of pivots, on little data."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import data
import measuring
import pivots


def test_it_reports_shares_times_and_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pivots, "CUBES", [2])
    monkeypatch.setattr(pivots, "DIMENSIONS", [32])
    monkeypatch.setattr(pivots, "PIVOTS", [4, 16])
    monkeypatch.setattr(pivots, "TIMED", [4, 16])
    monkeypatch.setattr(measuring, "TURN", 0)
    monkeypatch.setattr(pivots, "interleaved", partial(measuring.interleaved, rounds=1))
    base = np.random.default_rng(0).standard_normal((2_500, data.BASE)).astype(np.float32)
    neighbours = np.tile(np.arange(data.NEIGHBOURS), (len(base) - data.QUERIES, 1))
    result = pivots.measure(data.Source("noise", base, neighbours), rows=1_500)
    flat, noise = result["figures"]
    assert flat["intrinsic_dimension"] < 3 < 10 < noise["intrinsic_dimension"]  # noqa: PLR0133 -- far apart
    assert flat["share"]["16"] < 0.1
    assert noise["share"]["16"] > 0.8
    assert set(flat["selection"]) == {"incremental", "separation", "random"}
    assert set(flat["ms"]) == {"floor", "scan", "4", "16"}
    assert min(result["costs"].values()) > 0
    console = Console(record=True, width=200)
    pivots.show(result, console)
    assert "cube of 2" in console.export_text()
