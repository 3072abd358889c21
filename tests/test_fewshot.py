"""Few-shot classification against plain loops, and the official runs of Omniglot."""

import contextlib
import math
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lookalike.errors import DataError, NotFoundError, UsageError
from lookalike.evaluation.fewshot import ClassifyBy, Episodes, FewShotScores, classify, classify_episodes
from lookalike.evaluation.labels import LabelledVectors
from lookalike.evaluation.omniglot import OneShotRun, classify_runs, read_runs
from lookalike.metric import Metric, pairwise

DATA = Path(os.environ.get("LOOKALIKE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def items(rng: np.random.Generator, n: int, metric: Metric) -> np.ndarray:
    if metric is Metric.HAMMING:
        return rng.integers(0, 256, (n, 2)).astype(np.uint8)
    return rng.integers(-1, 2, (n, 3)).astype(np.float32)


# ---- classify


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("seed", range(8))
def test_a_query_gets_the_class_of_its_nearest_example(metric: Metric, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, support = items(rng, 20, metric), items(rng, 12, metric)
    labels = np.array(["owl", "hat", "mug"])[rng.integers(0, 3, 12)]
    found = classify(queries, LabelledVectors(support, labels), metric)
    for query, row in enumerate(pairwise(queries, support, metric).astype(np.float32)):
        nearest = {name: min(row[labels == name]) for name in sorted(set(labels.tolist()))}
        assert dict(zip(found.classes.tolist(), found.distances[query], strict=True)) == nearest
        assert found.labels[query] == min(nearest, key=lambda name: nearest[name])  # in a tie, the first
        assert found.nearest[query] == min(row)


def prototype(examples: np.ndarray, metric: Metric) -> np.ndarray:
    if metric is Metric.HAMMING:
        bits = np.unpackbits(examples, axis=1)
        return np.packbits(np.array([sum(column) * 2 >= len(column) for column in bits.T.tolist()]))
    if metric is Metric.COSINE:
        examples = np.array([v / np.linalg.norm(v) if np.any(v) else v for v in examples])
    return np.asarray(examples.mean(axis=0, dtype=np.float64).astype(np.float32))


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("seed", range(8))
def test_a_prototype_is_the_mean_of_a_class(metric: Metric, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, support, labels = items(rng, 20, metric), items(rng, 12, metric), rng.integers(0, 3, 12)
    found = classify(queries, LabelledVectors(support, labels), metric, "prototype")
    middles = np.stack([prototype(support[labels == name], metric) for name in found.classes])
    assert found.distances == pytest.approx(pairwise(queries, middles, metric), abs=1e-6)


def test_a_tie_of_classes_goes_to_the_first_in_sorted_order() -> None:
    same = np.zeros((4, 2), np.float32)
    assert classify(same[:1], LabelledVectors(same, np.array([3, 1, 2, 1])), Metric.EUCLIDEAN).labels.tolist() == [1]


def test_no_queries_give_no_labels_and_an_empty_support_set_is_refused() -> None:
    vectors = np.zeros((2, 3), np.float32)
    assert classify(vectors[:0], LabelledVectors(vectors, np.arange(2)), Metric.COSINE).labels.tolist() == []
    with pytest.raises(UsageError, match="support set is empty"):
        classify(vectors, LabelledVectors(vectors[:0], np.arange(0)), Metric.COSINE)
    with pytest.raises(UsageError, match="NaN"):
        classify(vectors * np.nan, LabelledVectors(vectors, np.arange(2)), Metric.COSINE)


# ---- episodes


def run_episodes(
    embeddings: np.ndarray, labels: np.ndarray, by: ClassifyBy = "example", **changes: int
) -> FewShotScores:
    episodes = Episodes(**{"ways": 5, "shots": 2, "queries": 3, "count": 200, "seed": 0} | changes)
    return classify_episodes(LabelledVectors(embeddings, labels), episodes, Metric.EUCLIDEAN, by)


@pytest.mark.parametrize("by", ["example", "prototype"])
def test_a_perfect_encoder_scores_1_and_a_collapsed_one_scores_chance(by: ClassifyBy) -> None:
    labels = np.repeat(np.arange(8), 5)
    perfect = run_episodes(np.eye(8, dtype=np.float32)[labels], labels, by)
    assert (perfect.accuracy, perfect.interval, perfect.episodes) == (1, 0, 200)
    collapsed = run_episodes(np.ones((40, 3), np.float32), labels, by)
    assert (collapsed.accuracy, collapsed.interval) == pytest.approx((0.2, 0))


def test_noise_scores_chance_within_the_interval_and_depends_on_the_seed() -> None:
    rng = np.random.default_rng(0)
    noise, labels = rng.standard_normal((400, 4)).astype(np.float32), np.repeat(np.arange(20), 20)
    found = run_episodes(noise, labels, count=400)
    assert abs(found.accuracy - 0.2) < 3 * found.interval
    assert found.interval == pytest.approx(1.96 * np.std(found.accuracies, ddof=1) / 20)
    assert np.array_equal(found.accuracies, run_episodes(noise, labels, count=400).accuracies)
    assert not np.array_equal(found.accuracies, run_episodes(noise, labels, count=400, seed=1).accuracies)
    assert math.isnan(run_episodes(noise, labels, count=1).interval)


def test_no_item_is_both_example_and_query() -> None:
    # All items are equally far apart, so only an item that is its own example would get the right class for sure.
    labels = np.repeat(np.arange(5), 2)
    apart = np.eye(10, dtype=np.float32)
    found = run_episodes(apart, labels, shots=1, queries=1, count=50)
    assert found.accuracy == pytest.approx(0.2)


@pytest.mark.parametrize("changes", [{"ways": 1}, {"shots": 0}, {"queries": 0}, {"count": 0}])
def test_episodes_with_too_small_numbers_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(changes))):
        run_episodes(np.zeros((40, 2), np.float32), np.repeat(np.arange(8), 5), "example", **changes)


def test_too_few_classes_with_enough_items_are_refused() -> None:
    with pytest.raises(UsageError, match="only 4"):
        run_episodes(np.zeros((24, 2), np.float32), np.repeat(np.arange(6), [5, 5, 5, 5, 3, 1]))


# ---- the official runs


def write_runs(folder: Path) -> Path:
    """Write two runs of three characters; a file's first byte is its character."""
    for run, order in (("run01", [2, 0, 1]), ("run02", [0, 1, 2])):
        for kind in ("training", "test"):
            (folder / run / kind).mkdir(parents=True)
        lines = []
        for number, character in enumerate(order):
            (folder / run / "training" / f"class{number}.png").write_bytes(bytes([number, 1]))
            (folder / run / "test" / f"item{number}.png").write_bytes(bytes([character, 2]))
            lines.append(f"{run}/test/item{number}.png {run}/training/class{character}.png\n")
        (folder / run / "class_labels.txt").write_text("".join(lines))
    return folder


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder))


def first_bytes(files: list[bytes]) -> np.ndarray:
    return np.array([[file[0]] for file in files], np.float32)


@pytest.mark.parametrize("form", [lambda folder: folder, zipped])
def test_runs_are_read_with_their_truth(tmp_path: Path, form: Callable[[Path], Path]) -> None:
    first, second = read_runs(form(write_runs(tmp_path / "runs")))
    assert (first.name, second.name) == ("run01", "run02")
    assert first.training == (b"\0\1", b"\1\1", b"\2\1")
    assert first.test == (b"\2\2", b"\0\2", b"\1\2")
    assert first.truth.tolist() == [2, 0, 1]
    found = classify_runs((first, second), first_bytes, Metric.EUCLIDEAN)
    assert (found.accuracy, found.episodes, found.ways, found.shots) == (1, 2, 3, 1)


def test_one_shot_accuracy_counts_correct_answers() -> None:
    run = OneShotRun("run01", (b"\0", b"\1"), (b"\0", b"\0"), np.array([0, 1]))
    assert classify_runs([run], first_bytes, Metric.EUCLIDEAN).accuracy == 0.5
    with pytest.raises(UsageError, match="no one-shot runs"):
        classify_runs([], first_bytes, Metric.EUCLIDEAN)


def rewritten(line: str) -> Callable[[Path], object]:
    return lambda run: (run / "class_labels.txt").write_text(line)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "training" / "class1.png").unlink(), r"training/class1\.png is missing"),
        (lambda run: (run / "test" / "item1.png").unlink(), r"test/item1\.png is missing"),
        (lambda run: (run / "test" / "item1.png").write_bytes(bytes(2**20 + 1)), "more than 1,048,576 bytes"),
        (lambda run: (run / "class_labels.txt").write_bytes(b"\xff\xfe"), "not text"),
        (rewritten(""), "0 test files"),
        (rewritten("run01/test/item1.png"), "line 1"),
        (rewritten("run02/test/item1.png run02/training/class1.png"), "line 1"),
        (rewritten("run01/test/../../secret run01/training/class1.png"), "line 1"),
        (rewritten("run01/test/item1.png /etc/passwd"), "line 1"),
        (rewritten("run01/test/item1.png run01/training/.."), "line 1"),
        (rewritten("run01/test/item1.png run01/training/class1.png\n" * 1001), "1001 test files"),
    ],
)
@pytest.mark.parametrize("form", [lambda folder: folder, zipped])
def test_damaged_or_hostile_runs_are_refused(
    tmp_path: Path, form: Callable[[Path], Path], damage: Callable[[Path], object], message: str
) -> None:
    folder = write_runs(tmp_path / "runs")
    damage(folder / "run01")
    with pytest.raises(DataError, match=message):
        read_runs(form(folder))


@pytest.mark.parametrize("content", [b"", b"PK\3\4 nothing", b"garbage" * 100])
def test_a_file_that_is_not_a_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "runs.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"runs\.zip"):
        read_runs(tmp_path / "runs.zip")


def test_a_damaged_zip_raises_nothing_but_a_data_error(tmp_path: Path) -> None:
    whole = zipped(write_runs(tmp_path / "runs")).read_bytes()
    target = tmp_path / "damaged.zip"
    rng = np.random.default_rng(0)
    for _ in range(150):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(256)
        target.write_bytes(bytes(content[: rng.integers(1, len(content) + 1)] if rng.random() < 0.3 else content))
        with contextlib.suppress(DataError):  # any other error fails
            assert read_runs(target)


def test_a_zip_bomb_is_not_inflated(tmp_path: Path) -> None:
    folder = write_runs(tmp_path / "runs")
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.rglob("*"):
            if file.is_file() and file.name != "item1.png":
                archive.write(file, file.relative_to(folder))
        archive.writestr("run01/test/item1.png", bytes(50 * 2**20))
    with pytest.raises(DataError, match="more than"):
        read_runs(path)


def test_missing_runs_are_reported(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        read_runs(tmp_path / "nowhere.zip")
    with pytest.raises(DataError, match="no one-shot runs"):
        read_runs(tmp_path)


@pytest.mark.skipif(
    not (DATA / "omniglot_all_runs.zip").exists(),
    reason="omniglot_all_runs.zip is missing; set LOOKALIKE_DATA to its folder",
)
def test_the_official_runs_of_omniglot_are_read() -> None:
    runs = read_runs(DATA / "omniglot_all_runs.zip")
    assert len(runs) == 20
    for run in runs:
        assert len(run.test) == len(run.training) == 20
        assert sorted(run.truth.tolist()) == list(range(20))
        assert all(file.startswith(b"\x89PNG") for file in run.test + run.training)
    # class_labels.txt of run01 begins: item01 is class08.
    assert runs[0].truth[:3].tolist() == [7, 8, 1]
