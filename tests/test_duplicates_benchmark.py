"""The benchmarks of duplicates and of copies, on a handful of images."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from lookalike import sample
from lookalike.errors import NotFoundError
from lookalike.evaluation import copies

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return loaded("duplicates")


def loaded(name: str) -> ModuleType:
    # By its path, since other modules are called `duplicates` too.
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", ROOT / "benchmarks" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    sample.write(folder, 6, 0)
    (folder / "photos").rename(folder / "test")
    paths = sorted((folder / "test").rglob("*.jpg"))
    rows = ["image,duplicate,judgment"]
    for path in paths[:2]:
        copy = path.with_name(f"copy-{path.name}")
        with Image.open(path) as image:
            image.save(copy, quality=50)
        rows.append(f"{path.relative_to(folder)},{copy.relative_to(folder)},1")
    rows.append(f"{paths[2].relative_to(folder)},{paths[3].relative_to(folder)},2")
    (folder / "judged.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def test_the_judged_pairs_are_counted_at_each_cut(
    data: Path, pocket: Path, benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "CUTS", (1, 2, 4))
    result = benchmark.measure(data, data / "judged.csv", str(pocket))
    assert (result["name"], result["images"], result["judged"]) == ("lookalike, pocket", 8, 2)
    assert result["found"] == {"1": 1, "2": 2, "4": 2}
    assert result["seconds"] == pytest.approx(result["index_seconds"] + result["search_seconds"])
    assert len(benchmark.table([result]).columns) == 6


def test_missing_data_is_an_error_with_advice(data: Path, benchmark: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="give the folder that CIFAR-10"):
        benchmark.measure(tmp_path, data / "judged.csv")
    with pytest.raises(NotFoundError, match="cannot be read"):
        benchmark.measure(data, tmp_path / "none.csv")
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(NotFoundError, match="no column 'judgment'"):
        benchmark.measure(data, wrong)
    wrong.write_text("image,duplicate,judgment\ntest/x.jpg,test/y.jpg,1\n", encoding="utf-8")
    with pytest.raises(NotFoundError, match=r"names test/x\.jpg, which is not in"):
        benchmark.measure(data, wrong)


def test_a_missing_peer_is_an_error(data: Path, benchmark: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="cannot be run"):
        benchmark.measure_fastdup(data, data / "judged.csv", tmp_path / "python")
    with pytest.raises(NotFoundError, match="No module named 'fastdup'"):
        benchmark.measure_fastdup(data, data / "judged.csv", Path(sys.executable))
    with pytest.raises(NotFoundError, match="No module named 'imagededup'"):
        benchmark.measure_imagededup(data, data / "judged.csv", Path(sys.executable))


def test_copies_are_counted_by_kind(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = loaded("copies")
    kinds = {kind: copies.CHANGES[kind] for kind in ("half the size", "with a logo", "grey")}
    monkeypatch.setattr(copies, "CHANGES", kinds)
    result = benchmark.measure(data / "test", 3)
    assert (result["name"], result["images"]) == ("copies", 8)
    assert {kind: shares["agree"] for kind, shares in result["kinds"].items()} == dict.fromkeys(kinds, 1)
    assert all(shares["duplicates"] <= shares["near"] for shares in result["kinds"].values())
    assert result["duplicates"] == 2  # the copies in the folder itself
    assert len(benchmark.table(result).rows) == 4
    (data / "empty").mkdir()
    with pytest.raises(NotFoundError, match="no image in"):
        benchmark.measure(data / "empty", 3)
