"""The benchmark of indexing runs on a few images, and its shares follow from its measurements."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))  # after the tests, whose modules share a name

import indexing


@pytest.mark.slow
def test_indexing_is_compared_with_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TINY": 240, "MIDDLE": 160, "LARGE": 1, "BATCHES": (4,)}.items():
        monkeypatch.setattr(indexing, name, value)
    found = indexing.measure(rounds=1)
    assert [it["images"] for it in found["figures"]] == [24, 16, 1]
    for it in found["figures"]:
        assert it["lower"] == min(it["decoding"], it["inference"])
        assert it["bound"] < it["lower"]
        assert it["of_bound"] * it["bound"] == pytest.approx(it["indexing"])
        assert it["work"] > 0
    assert set(found["batches"]["toyshop"]) == {4}
    assert found["command"]["images"] == 24
    assert found["command"]["search_s"] > 0
