"""The benchmarks run on little data, and report what they measured."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import image_files
import tiny_run

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))

import data  # noqa: E402
import file_sections  # noqa: E402
import growth  # noqa: E402
import indexes  # noqa: E402
import indexing  # noqa: E402
import measuring  # noqa: E402
import pairs  # noqa: E402
import peers  # noqa: E402
import run  # noqa: E402
import scans  # noqa: E402
import showing  # noqa: E402
import sketches  # noqa: E402
from data import Source  # noqa: E402

from lookalike.learn import recipe as recipes  # noqa: E402
from lookalike.metric import Metric, pairwise  # noqa: E402
from lookalike.search import knn  # noqa: E402


@pytest.fixture(scope="module")
def source() -> Source:
    """Clusters of vectors in place of images."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, data.BASE))
    base = (centres[rng.integers(0, 40, 3_000)] + 0.3 * rng.standard_normal((3_000, data.BASE))).astype(np.float32)
    there = base[: -data.QUERIES]
    rows = knn(there, there, data.NEIGHBOURS + 1, Metric.EUCLIDEAN).rows.reshape(len(there), -1)[:, 1:]
    return Source("clusters", base, rows)


def test_a_small_gallery_is_the_first_of_a_large_one_and_both_are_of_length_one(source: Source) -> None:
    large = source.gallery(20_000, 16)
    assert (source.gallery(5_000, 16) == large[:5_000]).all()
    assert np.allclose(np.linalg.norm(large, axis=1), 1, atol=1e-5)
    assert len(np.unique(large, axis=0)) == len(large)


def test_repeated_vectors_lie_about_as_far_away_as_neighbours_do(source: Source) -> None:
    real = len(source.base) - data.QUERIES
    vectors = source.gallery(3 * real, 256)
    near = pairwise(vectors[:50], vectors[:real], Metric.EUCLIDEAN)
    near = np.sort(near, axis=1)[:, 1:9].mean(axis=1)
    moved = np.linalg.norm(vectors[real : real + 50] - vectors[:50], axis=1)
    assert 0.3 < np.median(moved / near) < 1.5


def test_in_more_dimensions_distances_stay_and_in_fewer_nearly(source: Source) -> None:
    base = source.base[:50] / np.linalg.norm(source.base[:50], axis=1, keepdims=True)
    true = pairwise(base, base, Metric.EUCLIDEAN)
    assert np.allclose(pairwise(*2 * (source.gallery(50, 2_048),), Metric.EUCLIDEAN), true, atol=1e-3)
    fewer = pairwise(*2 * (source.gallery(50, 256),), Metric.EUCLIDEAN)
    assert np.abs(fewer - true).max() < 0.4


def test_cached_vectors_equal_new_ones(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "CACHE", tmp_path)
    kept = Source(source.name, source.base, source.neighbours, "key")
    for _ in range(2):
        assert (kept.gallery(2_500, 8) == source.gallery(2_500, 8)).all()
        assert (kept.codes(2_500, 64) == source.codes(2_500, 64)).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key-2500x64bits.npy", "key-2500x8.npy"]


def test_codes_of_near_vectors_differ_in_few_bits(source: Source) -> None:
    codes, vectors = source.codes(500, 512), source.gallery(500, data.CODED)
    bits = pairwise(codes[:50], codes, Metric.HAMMING)
    angles = np.arccos(np.clip(1 - pairwise(vectors[:50], vectors, Metric.EUCLIDEAN) ** 2 / 2, -1, 1))
    assert np.corrcoef(bits.ravel(), angles.ravel())[0, 1] > 0.9
    assert source.query_codes(3, 512).shape == (3, 64)


def test_the_number_of_queries_is_limited(source: Source) -> None:
    with pytest.raises(ValueError, match="1000 queries"):
        source.queries(1_001, 8)


def test_contenders_take_turns_and_a_share_is_scaled_up() -> None:
    order: list[str] = []
    contenders = [
        measuring.Contender("one", lambda _: order.append("one")),
        measuring.Contender("other", lambda _: order.append("other"), share=0.5),
    ]
    figures = measuring.interleaved(contenders, rounds=2)
    changes = [a for a, b in zip(order, [*order[1:], ""], strict=True) if a != b]
    assert changes == ["one", "other", "one"]  # the second round begins with the other
    assert [figure["name"] for figure in figures] == ["one", "other"]
    assert all(0 < figure["low_ms"] <= figure["ms"] <= figure["high_ms"] for figure in figures)


def test_recall_counts_ties_and_not_missing_rows() -> None:
    gallery = np.array([[0.0], [1.0], [-1.0], [3.0]], np.float32)
    query, farthest = np.zeros((1, 1), np.float32), np.ones(1, np.float32)
    for found, expected in (([0, 1], 1.0), ([0, 2], 1.0), ([0, 3], 0.5), ([0, -1], 0.5)):
        assert measuring.recall(np.array([found]), query, gallery, farthest, Metric.EUCLIDEAN) == expected


def test_queries_a_second_at_a_recall_lie_between_the_settings_around_it() -> None:
    points = [{"setting": s, "recall": r, "rate": q} for s, r, q in ((1, 0.9, 100.0), (2, 1.0, 1.0))]
    assert indexes.at(points, "rate", 0.95) == pytest.approx(10)
    assert indexes.at(points, "rate", 1.0) == pytest.approx(1)
    assert indexes.at(points[:1], "rate", 0.95) is None


def test_exponents_are_those_of_a_power() -> None:
    points = [{"name": "it", "rows": n, "ms": 2e-6 * n**1.5} for n in (10_000, 100_000, 1_000_000)]
    assert growth.exponent(points, "it") == pytest.approx(1.5)
    assert growth.exponent(points[:1], "it") is None


def test_a_radius_gives_about_the_requested_number_of_pairs(source: Source) -> None:
    vectors = source.gallery(2_000, 32)
    found = pairs.lookalike(vectors, pairs.radius_of(vectors, 3_000), 1)
    assert 2_400 < found < 3_600
    assert pairs.plain(vectors, pairs.radius_of(vectors, 3_000), 1) == found


@pytest.mark.slow
def test_missing_packages_are_skipped(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> peers.Search:
        raise ModuleNotFoundError("No module named 'hnswlib'")

    monkeypatch.setattr(peers, "hnswlib_brute", missing)
    monkeypatch.setattr(peers, "usearch_exact", missing)
    monkeypatch.setattr(peers, "lancedb_table", missing)
    monkeypatch.setattr(measuring, "TURN", 0.0)
    monkeypatch.setattr(scans, "QUERIES", 16)
    one, many = scans.single(source, [(300, 16)]), scans.batch(source, [(300, 16)])
    for case in (*one, *many):
        names = [it["name"] for it in case["contenders"]]
        assert names == ["floor", "lookalike", "lookalike, condensed", "FAISS", "scikit-learn", "NumPy"]
        assert all(it["recall"] in (None, 1.0) for it in case["contenders"])
    codes = scans.bits(source, [(300, 128)])
    assert [case["queries"] for case in codes] == [1, 16]
    text = showing.page(
        {"single": _saved("single", one), "batch": _saved("batch", many), "bits": _saved("bits", codes)}
    )
    assert "| 300 × 16 |" in text
    assert "16 asked" in text


@pytest.mark.slow
def test_every_section_has_a_table_and_a_plot(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "TURN", 0.0)
    for module in (indexes, growth, pairs):
        monkeypatch.setattr(module, "ROUNDS", 1)
    monkeypatch.setattr(indexes, "QUERIES", 50)
    monkeypatch.setattr(growth, "QUERIES", 50)
    monkeypatch.setattr(growth, "JOINED", 1_500)
    monkeypatch.setattr(pairs, "CONTENDERS", {name: pairs.CONTENDERS[name] for name in ("lookalike", "FAISS")})
    graphs = indexes.hnsw(source, [(1_500, 16)])
    built = indexing.Figure("32 px", "toyshop", 10, 1.0, 300.0, 200.0, 110.0, 200.0, 120.0, 0.55, 0.917, 0.6, 0.9)
    command = {"index_s": 1.0, "images": 10, "index_per_second": 10.0, "search_s": 0.5}
    finder = {"name": "fastdup", "images": 10, "seconds": 2.0, "judged": 3, "found": {"50": 1, "100": 2, "1000": 3}}
    monkeypatch.setattr(indexing, "measure", lambda *_: {"figures": [asdict(built)], "command": command})
    cases: dict[str, Any] = {
        "selfjoin": pairs.compare(source, 1_000, 16, 500),
        "hnsw": graphs,
        "growth": growth.measure(source, (1_000, 1_500), known=graphs),
        "index": file_sections.index(file_sections.ImageFiles()),
        "duplicates": {"finders": [finder]},
    }
    for name, of in cases.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(_saved(name, of)), encoding="utf-8")
    docs = tmp_path / "performance.md"
    gone = "<!-- single -->\nold\n<!-- /single -->\n"
    docs.write_text(f"{gone}Said.\n<!-- growth -->\nold\n<!-- /growth -->\nBehind.\n", encoding="utf-8")
    showing.write(tmp_path, docs)
    assert {path.stem for path in tmp_path.glob("*.png")} == {"selfjoin", "hnsw", "growth"}
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    for cell in (
        "| 1,500 × 16 | lookalike |",
        "| 1,000 × 16 | FAISS |",
        "| 10 of 32 px (drawn) |",
        "| 2 of 3 |",
        "| exponent |",
        "Recall, self-join, approximate: 1.0000 of 1,500.",
    ):
        assert cell in text
    marked = docs.read_text(encoding="utf-8")
    assert marked.startswith("<!-- single -->\n<!-- /single -->\nSaid.\n<!-- growth -->\n| vectors |")
    assert marked.endswith("<!-- /growth -->\nBehind.\n")
    one, other = cases["selfjoin"][0]["contenders"]
    assert one["pairs"] == other["pairs"] > 0
    curve = graphs[0]["curves"][0]
    assert curve["name"] == "lookalike"
    assert max(point["recall"] for point in curve["points"]) > 0.98


class Run:
    """Runs of three sections that only count, into a folder of their own."""

    def __init__(self, folder: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
        self.measured: list[str] = []
        self.stop_at = self.fail_at = ""
        self.source = source
        names = ("single", "batch", "bits")
        monkeypatch.setattr(run, "RESULTS", folder / "results")
        monkeypatch.setattr(run, "SECTIONS", {name: run.Section(self._measure(name), "So.") for name in names})
        monkeypatch.setattr(data, "source", lambda _: self.source)
        monkeypatch.setattr(peers, "limit_threads", lambda _: None)

    def _measure(self, name: str) -> Callable[[Source, file_sections.ImageFiles], list[object]]:
        def measure(_source: Source, _given: file_sections.ImageFiles) -> list[object]:
            if name == self.stop_at:
                raise KeyboardInterrupt
            if name == self.fail_at:
                raise RuntimeError("no more memory")
            self.measured.append(name)
            return []

        return measure

    def __call__(self, *, again: bool = False) -> list[str]:
        self.measured.clear()
        run.measure(list(run.SECTIONS), file_sections.ImageFiles(), 2, again=again)
        return list(self.measured)


@pytest.fixture
def three(tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tmp_path, source, monkeypatch)


def test_a_stopped_run_resumes_and_a_finished_one_measures_nothing(three: Run, tmp_path: Path) -> None:
    three.stop_at = "batch"
    with pytest.raises(KeyboardInterrupt):
        three()
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["single.json"]
    three.stop_at = ""
    assert three() == ["batch", "bits"]
    assert three() == []
    assert three(again=True) == ["single", "batch", "bits"]


def test_a_failed_section_does_not_affect_the_others(three: Run, capsys: pytest.CaptureFixture[str]) -> None:
    three.fail_at = "batch"
    assert three() == ["single", "bits"]
    assert "no more memory" in capsys.readouterr().err
    three.fail_at = ""
    assert three() == ["batch"]


def test_other_data_is_measured_again(three: Run) -> None:
    three()
    three.source = Source("other clusters", three.source.base, three.source.neighbours)
    assert three() == ["single", "batch", "bits"]


def test_a_truncated_result_is_measured_again(three: Run, tmp_path: Path) -> None:
    three()
    path = tmp_path / "results" / "batch.json"
    path.write_text(path.read_text(encoding="utf-8")[:50], encoding="utf-8")
    assert three() == ["batch"]


def test_images_are_found_in_their_usual_places(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    (tmp_path / file_sections.JUDGED).touch()
    found = file_sections.ImageFiles.of(tmp_path / "cifar10", None, None, None)
    assert (found.judged, found.photos) == (tmp_path / file_sections.JUDGED, None)
    assert file_sections.near_duplicates(file_sections.ImageFiles())["finders"] == []
    saved = _saved("duplicates", file_sections.near_duplicates(file_sections.ImageFiles()))
    assert "needs CIFAR-10" in showing.table(saved)


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no images"):
        data.source(tmp_path)
    (tmp_path / "one.jpg").touch()
    with pytest.raises(SystemExit, match="holds 1 images; the benchmarks need 2,000 or more"):
        data.source(tmp_path)


def _saved(name: str, cases: object) -> dict[str, Any]:
    place = measuring.environment(2, "clusters")
    return {"section": name, "key": "", "seconds": 1, "protocol": "So.", "environment": place, "cases": cases}


RESULTS = ROOT / "benchmarks" / "results"


def test_the_tables_show_the_saved_results() -> None:
    saved = showing.read(RESULTS)
    assert (RESULTS / "results.md").read_text(encoding="utf-8") == showing.page(saved)
    text = showing.DOCS.read_text(encoding="utf-8")
    assert text == showing.marked(text, saved)
    for name in showing.ORDER:
        assert f"<!-- {name} -->" in text


def test_results_are_plain_json_of_known_sections() -> None:
    for path in RESULTS.glob("*.json"):
        saved = json.loads(path.read_text(encoding="utf-8"))
        assert saved["section"] == path.stem
        assert saved["environment"]["versions"]["numpy"]
        assert path.stem in showing.ORDER


# ---- sketches


def test_sketches_are_measured_by_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketches, "RESULTS", tmp_path / "results" / "sketches.json")
    sketchy = tmp_path / "sketchy-128"
    for label in ("bat", "cow", "dog", "cat"):  # two unseen classes, and two others
        names = {f"{label}-photo{i}": 10 * len(label) + i for i in range(6)}
        image_files.write(sketchy / "photo" / label, {f"{name}.png": number for name, number in names.items()})
        image_files.write(sketchy / "sketch" / label, {f"{name}-1.png": number for name, number in names.items()})
    whole = sketches.open_sketchy(tmp_path)
    sizes = {}
    for of in sketches.SETS:
        chosen = sketches.choose(whole, of)
        sizes[of] = (int(chosen.sketch.sum()), int((~chosen.sketch).sum()))
    assert sizes == {"unseen": (12, 12), "among-all": (12, 24), "seen": (4, 4)}
    pair = sketches.pairs(tmp_path)["edges + HOG"]("edges + HOG")
    record = sketches.measure(pair, sketches.choose(whole, "unseen"))
    assert (record["queries"], record["gallery"], set(record["classes"])) == (12, 12, {"bat", "cow"})
    assert len(record["eleven_points"]) == 11
    assert 0 <= record["centred"]["mAP"] <= 1
    for of in ("unseen", "seen"):
        sketches.store("edges + HOG", of, record)
    assert set(json.loads(sketches.RESULTS.read_text(encoding="utf-8"))["edges + HOG"]) == {"unseen", "seen"}


@pytest.mark.parametrize(("by", "counts"), [("class", [6, 6]), ("item", [3, 3, 3, 3])])
def test_sketches_that_a_recipe_holds_out_are_those_of_its_first_source(
    tmp_path: Path, by: str, counts: list[int]
) -> None:
    folder = tmp_path / "sketchy-128"
    for number, label in enumerate(("bat", "cow", "dog", "eel")):
        names = {f"{label}-photo{i}": 10 * number + i for i in range(6)}
        image_files.write(folder / "photo" / label, {f"{name}.png": number for name, number in names.items()})
        image_files.write(folder / "sketch" / label, {f"{name}-1.png": number for name, number in names.items()})
    first = {"path": str(folder / "photo"), "sketches": str(folder / "sketch")}
    split = {"sources": [first, first], "validation": 0.5, "validation_by": by, "size": 16}
    held_out = sketches.split_of(recipes.read(tiny_run.write(tmp_path, data=split)))
    assert np.unique(held_out.labels[held_out.sketch], return_counts=True)[1].tolist() == counts
    chance = sketches.pairs(tmp_path)["chance"]("chance")
    assert sketches.measure(chance, held_out)["queries"] == sum(counts)
