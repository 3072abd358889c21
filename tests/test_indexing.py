"""The index of the embedded store: budget, damage, processes. Its answers are tested in test_stores.py."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

import processes
from lookalike import search
from lookalike.errors import StorageError, UsageError
from lookalike.metric import Metric, VectorSpace
from lookalike.query import ALL, Filter
from lookalike.stores import Answer, Item, SQLiteStore
from lookalike.stores.sqlite import array_file
from lookalike.stores.sqlite.latency import LatencyModel
from recorder import Recorder
from searching import create_store, knn, range_query

Array = np.ndarray[Any, np.dtype[Any]]
SPACE = VectorSpace(Metric.EUCLIDEAN, 8)
COUNT = 1500


def vectors(count: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((40, 8))
    return (centres[rng.integers(0, 40, count)] + 0.4 * rng.standard_normal((count, 8))).astype(np.float32)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with an index, and a budget that every exact query exceeds."""
    folder = tmp_path_factory.mktemp("built") / "some.lookalike"
    with closing(create_store(folder, SPACE)) as store:
        labels = ["rare", *["even", "odd"] * COUNT]
        items = [Item(f"{i:05}", "", labels[0 if i < 5 else 1 + i % 2]) for i in range(COUNT)]
        store.upsert(items, vectors(COUNT))
        store.tune(lambda now: now.model_copy(update={"budget": 0}))
        assert store.build_index()
    return folder


@pytest.fixture
def path(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "some.lookalike"))


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore.open(path, SPACE)) as store:
        yield store


def index_file(path: Path) -> Path:
    (only,) = (file for file in (path / "cache").glob("index-*") if file.suffix != ".checked")
    return only


def ids(answer: Answer) -> list[str]:
    return [hit.item.id for hit in answer.hits]


def recall(store: SQLiteStore) -> float:
    """Measure the recall of the store's approximate answers against its exact ones."""
    queries = vectors(60, seed=3)
    found, exact = knn(store, queries, 10), knn(store, queries, 10, exact=True)
    assert not any(answer.exact for answer in found)
    assert all(answer.exact and answer.recall is None for answer in exact)
    good = [len({*ids(a)} & {*ids(b)}) / len(b.hits) for a, b in zip(found, exact, strict=True)]
    return float(np.mean(good))


def test_over_budget_answers_are_approximate_and_say_so(store: SQLiteStore) -> None:
    (answer,) = knn(store, vectors(1, 5), 10)
    assert (answer.exact, answer.complete) == (False, True)
    assert answer.recall is not None
    assert answer.recall >= 0.93
    assert recall(store) >= answer.recall - 0.05
    status = store.status()
    assert status.index is not None
    assert status.index.recall == answer.recall
    assert (status.index.added, status.index.gone, status.due) == (0, 0, False)


def test_a_query_far_from_all_items_is_searched_exactly(store: SQLiteStore) -> None:
    near, far = vectors(3, seed=5), np.full((2, 8), 30, np.float32)
    answers = knn(store, np.concatenate([near, far]), 10)
    exact = knn(store, np.concatenate([near, far]), 10, exact=True)
    assert [answer.exact for answer in answers] == [False] * 3 + [True] * 2
    assert [answer.recall is None for answer in answers] == [False] * 3 + [True] * 2
    assert [ids(answer) for answer in answers[3:]] == [ids(answer) for answer in exact[3:]]
    assert knn(store, far[:1], 10)[0].exact
    assert knn(store, far[:1], 10, where=Filter(labels=frozenset({"even"})))[0].exact
    assert knn(store, near[:1], 10, where=Filter(labels=frozenset({"even"})))[0].recall == answers[0].recall
    distance = exact[3].hits[0].distance
    (ranged,) = store.search(range_query(far[:1], distance * 1.01))
    assert ranged.exact
    assert ids(ranged)[0] == ids(exact[3])[0]


def test_an_approximate_answer_to_a_far_query_states_its_own_recall(store: SQLiteStore) -> None:
    far = np.full((1, 8), 30, np.float32)
    (near,) = knn(store, vectors(1, seed=5), 10, exact=False)
    (answer,) = knn(store, far, 10, exact=False)
    assert not answer.exact
    assert answer.recall is not None
    assert answer.recall >= 0.9
    assert answer.recall != near.recall
    assert len(set(ids(answer)) & set(ids(*knn(store, far, 10, exact=True)))) >= 8


def test_within_budget_answers_are_exact(store: SQLiteStore) -> None:
    store.tune(lambda now: now.model_copy(update={"budget": 1000}))
    assert knn(store, vectors(1), 10)[0].exact
    assert not knn(store, vectors(1), 10, exact=False)[0].exact
    assert store.search(range_query(vectors(1), 1))[0].exact
    assert not store.search(range_query(vectors(1), 1, exact=False))[0].exact


def test_another_metric_and_bits_are_answered_exactly(store: SQLiteStore) -> None:
    assert knn(store, vectors(1), 10, metric=Metric.COSINE, exact=False)[0].exact


def test_without_an_index_answers_are_exact_and_an_index_is_due(path: Path, store: SQLiteStore) -> None:
    shutil.rmtree(path / "cache")
    with closing(SQLiteStore.open(path, SPACE)) as other:
        assert knn(other, vectors(1), 10, exact=False)[0].exact
        assert other.status().index is None
        assert other.status().due
        assert other.build_index()
        assert not knn(other, vectors(1), 10)[0].exact


def test_items_added_and_deleted_since_building_are_counted(store: SQLiteStore) -> None:
    query = vectors(1, 5)
    first, second, *_ = ids(knn(store, query, 10)[0])
    store.delete([first])
    store.upsert([Item(second, "changed"), Item("new", "")], vectors(2, 6))
    status = store.status()
    assert status.index is not None
    assert (status.index.added, status.index.gone) == (2, 2)


def test_an_index_is_due_once_an_eighth_of_the_items_is_new(store: SQLiteStore) -> None:
    store.upsert([Item(f"a{i}", "") for i in range(COUNT // 8)], vectors(COUNT // 8, 1))
    assert not store.status().due
    store.upsert([Item("one more", "")], vectors(1, 2))
    assert store.status().due
    assert store.build_index()
    status = store.status()
    assert status.index is not None
    assert (status.index.added, status.due) == (0, False)


def test_a_filter_that_few_items_pass_is_answered_exactly(store: SQLiteStore) -> None:
    assert not knn(store, vectors(1, 3), 10, Filter(labels=frozenset({"even"})))[0].exact
    rare = knn(store, vectors(9, 3), 10, Filter(labels=frozenset({"rare"})))
    assert all(answer.exact and len(answer.hits) == 5 for answer in rare)
    assert knn(store, vectors(1), 10, Filter(labels=frozenset()))[0].hits == ()


def test_zero_queries_by_cosine_are_answered_exactly(tmp_path: Path) -> None:
    with closing(create_store(tmp_path / "c.lookalike", VectorSpace(Metric.COSINE, 8))) as store:
        store.upsert([Item(f"{i:05}", "") for i in range(1100)], vectors(1100))
        store.tune(lambda now: now.model_copy(update={"budget": 0}))
        assert store.build_index()
        (zero,) = knn(store, np.zeros((1, 8), np.float32), 3)
        assert zero.exact
        assert ids(zero) == ["00000", "00001", "00002"]
        assert not knn(store, vectors(1), 3)[0].exact


def test_a_range_with_too_many_items_is_answered_exactly(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.ann.index._MAX_PROPOSED", 64)
    (answer,) = store.search(range_query(vectors(1, 3), 50))
    assert (answer.exact, answer.complete, len(answer.hits)) == (True, True, COUNT)
    (answer,) = store.search(range_query(vectors(1, 3), 50, exact=False))
    assert (answer.exact, answer.complete) == (False, False)


# ---- damage, processes


def flip(content: bytes) -> bytes:
    middle = len(content) // 3
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [flip, lambda c: c[:-1], lambda c: c[: len(c) // 2], lambda c: c[:0], lambda c: c + b"x", lambda c: bytes(len(c))],
    ids=["one bit", "a byte short", "half", "empty", "longer", "zeros"],
)
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_a_damaged_index_is_ignored_and_built_again(
    path: Path, damage: Callable[[bytes], bytes], *, used: bool
) -> None:
    file = index_file(path)
    if used:
        with closing(SQLiteStore.open(path, SPACE)) as store:
            assert not knn(store, vectors(1), 10)[0].exact
    before = file.stat()
    file.write_bytes(damage(file.read_bytes()))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as if it had not been touched
    with closing(SQLiteStore.open(path, SPACE)) as store:
        assert knn(store, vectors(1), 10)[0].exact
        assert store.status().due
        assert store.build_index()
        assert not knn(store, vectors(1), 10)[0].exact


def test_a_query_too_long_for_float32_is_answered_exactly(store: SQLiteStore) -> None:
    far = vectors(1, 3) * np.float32(1e25)
    answers = [knn(store, far, 5), knn(store, far, 5, exact=False), knn(store, far, 5, exact=True)]
    assert all(answer.exact and answer.hits == answers[0][0].hits for (answer,) in answers)
    assert len(answers[0][0].hits) == 5


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Record for each file read from the cache whether all of its blocks are checked."""
    seen: list[bool] = []
    choose = array_file._choose_blocks

    def spy(count: int, *, check_all: bool) -> Iterator[int]:
        seen.append(check_all)
        return choose(count, check_all=check_all)

    monkeypatch.setattr(array_file, "_choose_blocks", spy)
    return seen


def checks_all(path: Path, checks: list[bool]) -> bool:
    """Whether the first query of another process checks all blocks of the index."""
    checks.clear()
    with closing(SQLiteStore.open(path, SPACE)) as store:
        assert not knn(store, vectors(1), 10)[0].exact
    return any(checks)


def test_all_blocks_of_an_index_are_checked_once(path: Path, tmp_path: Path, checks: list[bool]) -> None:
    assert [checks_all(path, checks) for _ in range(3)] == [True, False, False]
    copy = Path(shutil.copytree(path, tmp_path / "copy.lookalike"))
    assert [checks_all(copy, checks) for _ in range(2)] == [True, False]
    index_file(path).touch()
    assert [checks_all(path, checks) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("content", [b"", b"0 0 0 0", b"\xff" * 99], ids=["empty", "another file", "damaged"])
def test_a_note_about_another_file_is_ignored(path: Path, checks: list[bool], content: bytes) -> None:
    note = path / "cache" / f"{index_file(path).name}.checked"
    note.write_bytes(content)
    assert [checks_all(path, checks) for _ in range(2)] == [True, False]


def test_if_the_note_cannot_be_written_all_blocks_are_checked_each_time(path: Path, checks: list[bool]) -> None:
    (path / "cache" / f"{index_file(path).name}.checked").mkdir()
    assert [checks_all(path, checks) for _ in range(2)] == [True, True]


def test_notes_are_deleted_with_their_indexes(path: Path, store: SQLiteStore) -> None:
    assert not knn(store, vectors(1), 10)[0].exact
    store.upsert([Item("new", "")], vectors(1))
    assert store.build_index()
    assert [file.name for file in (path / "cache").glob("index-*")] == [index_file(path).name]
    assert not knn(store, vectors(1), 10)[0].exact
    store.tune(lambda now: now.model_copy(update={"index": "none"}))
    assert not list((path / "cache").glob("index-*"))


def test_an_index_of_another_collection_is_ignored(path: Path, tmp_path: Path) -> None:
    with closing(create_store(tmp_path / "other.lookalike", SPACE)) as other:
        other.upsert([Item(f"{i:05}", "") for i in range(COUNT)], vectors(COUNT, 77))
        assert other.build_index()
    shutil.copy(index_file(tmp_path / "other.lookalike"), index_file(path))
    with closing(SQLiteStore.open(path, SPACE)) as store:
        assert knn(store, vectors(1), 10)[0].exact


def test_an_index_built_after_a_backup_is_not_used_with_it(built: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(built, tmp_path / "some.lookalike"))
    with closing(SQLiteStore.open(path, SPACE)) as store:
        store.upsert([Item("later", "")], vectors(1))
        assert store.build_index()
        later = store.status().index
    shutil.copy(built / "catalog.sqlite", path)
    for name in ("catalog.sqlite-wal", "catalog.sqlite-shm"):
        (path / name).unlink(missing_ok=True)
    with closing(SQLiteStore.open(path, SPACE)) as store:
        store.upsert([Item("other", "")], vectors(1, 8))  # the generation counts up to the same number
        now = store.status().index
        assert later is not None
        assert now is None or now.generation != later.generation


def test_a_stopped_build_changes_nothing(path: Path, store: SQLiteStore) -> None:
    before = index_file(path).read_bytes()
    assert not store.build_index(stopped=lambda: True)
    assert index_file(path).read_bytes() == before
    assert [p.name for p in (path / "cache").iterdir() if p.name.startswith(".")] == []


def test_a_process_killed_during_a_build_does_no_harm(path: Path) -> None:
    shutil.rmtree(path / "cache")
    builder = processes.start(processes.build, path)
    assert builder.stdout is not None
    builder.stdout.readline()  # it has begun
    os.kill(builder.pid, signal.SIGKILL)
    builder.communicate()
    with closing(SQLiteStore.open(path, SPACE)) as store:
        assert knn(store, vectors(1), 10)[0].exact
        assert store.build_index()
        assert not knn(store, vectors(1), 10)[0].exact


def test_two_processes_build_at_once_and_a_third_uses_the_index(path: Path, store: SQLiteStore) -> None:
    shutil.rmtree(path / "cache")
    builders = [processes.start(processes.build, path) for _ in range(2)]
    for builder in builders:
        processes.finish(builder)
    assert not knn(store, vectors(1), 10)[0].exact
    assert recall(store) >= 0.9


def test_others_search_and_write_during_a_build(store: SQLiteStore) -> None:
    thread = Thread(target=store.build_index)
    thread.start()
    seen = 0
    while thread.is_alive() or not seen:
        store.upsert([Item(f"n{seen}", "")], vectors(1, seen))
        assert ids(knn(store, vectors(1, seen), 1)[0])
        seen += 1
    thread.join()
    status = store.status()
    assert status.index is not None
    assert status.index.added <= seen


def test_an_index_that_cannot_be_written_is_reported(path: Path) -> None:
    shutil.rmtree(path / "cache")
    (path / "cache").write_text("in the way", encoding="utf-8")
    with closing(SQLiteStore.open(path, SPACE)) as store:
        begun = Recorder()
        with pytest.raises(StorageError, match="exact"):
            store.build_index(begun)
        assert not begun.reports  # it fails before the work
        assert knn(store, vectors(1), 10)[0].exact


def test_few_items_and_bits_have_no_index(tmp_path: Path) -> None:
    with closing(create_store(tmp_path / "few.lookalike", SPACE)) as store:
        store.tune(lambda now: now.model_copy(update={"budget": 0}))
        for count in (0, 1):
            store.upsert([Item(str(i), "") for i in range(count)], vectors(count))
            assert len(knn(store, vectors(1), 5)[0].hits) == count
            assert (store.indexable(), store.status().due) == (False, False)
            with pytest.raises(UsageError, match="1,000"):
                store.build_index()
    with closing(create_store(tmp_path / "bits.lookalike", VectorSpace(Metric.HAMMING, 8))) as store:
        store.tune(lambda now: now.model_copy(update={"budget": 0}))
        store.upsert([Item(f"{i:05}", "") for i in range(1100)], np.zeros((1100, 1), np.uint8))
        assert (store.indexable(), store.status().due, store.status().precision) == (False, False, "bits")
        assert knn(store, np.zeros((1, 1), np.uint8), 3, exact=False)[0].exact


def test_settings_are_saved_and_do_not_change_the_generation(path: Path, store: SQLiteStore) -> None:
    before = store.snapshot().generation
    store.tune(lambda now: now.model_copy(update={"budget": 7, "index": "none"}))
    with closing(SQLiteStore.open(path, SPACE)) as other:
        assert other.status().settings.budget == 7
        assert other.status().index is None
        assert not other.build_index()
        assert not list((path / "cache").glob("index-*"))
        assert other.snapshot().generation == before
        assert knn(other, vectors(1), 3, exact=False)[0].exact


def test_a_store_of_an_older_version_has_no_settings(tmp_path: Path) -> None:
    with closing(create_store(tmp_path / "old.lookalike", SPACE)) as store:
        assert store.status().settings.budget == 50
        assert store.status().index is None


# ---- the cached matrix, and streams


def rename_prefilter(metadata: dict[str, Any], parts: dict[str, Array]) -> None:
    metadata["prefilters"][0]["kind"] = "unknown"


def shorten_codes(metadata: dict[str, Any], parts: dict[str, Array]) -> None:
    parts["quantised.codes"] = parts["quantised.codes"][:-1]


def lose_codes(metadata: dict[str, Any], parts: dict[str, Array]) -> None:
    del parts["quantised.codes"]


def write_as_before(metadata: dict[str, Any], parts: dict[str, Array]) -> None:
    """Write the file as versions without prefilters did."""
    (about, *_) = metadata.pop("prefilters")
    metadata["scan"] = {key: about[key] for key in ("scale", "residual", "metric")}
    for name in ("codes", "centre", "exceptions"):
        parts[name] = parts.pop(f"quantised.{name}")


@pytest.mark.parametrize("change", [rename_prefilter, shorten_codes, lose_codes, write_as_before])
def test_a_cached_matrix_of_another_version_is_rebuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any], dict[str, Array]], None]
) -> None:
    monkeypatch.setattr("lookalike.stores.sqlite.matrix._MIN_QUANTISED", 1)
    path, known = tmp_path / "m.lookalike", vectors(2000)
    with closing(create_store(path, SPACE)) as store:
        store.upsert([Item(f"{i:05}", "") for i in range(2000)], known)
        expected = knn(store, known[:1], 5)
    (file,) = (file for file in (path / "cache").glob("matrix-*") if not file.name.endswith(".checked"))
    content = array_file.read(file)
    assert content is not None
    metadata, parts = content
    parts = {name: np.array(part) for name, part in parts.items()}
    change(metadata, parts)
    array_file.write(file, metadata, parts)
    changed = file.read_bytes()
    with closing(SQLiteStore.open(path, SPACE)) as store:
        assert knn(store, known[:1], 5) == expected
        assert store.status().precision == "int8"
    assert file.read_bytes() != changed


def test_a_large_matrix_is_quantised_and_projected_and_stays_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.stores.sqlite.matrix._MIN_QUANTISED", 1)
    monkeypatch.setattr("lookalike.search.prefilters.projected.DIMENSIONS", (2, 4))
    monkeypatch.setattr("lookalike.search.prefilters.projected._MAX_COST", 1e6)
    path, known = tmp_path / "m.lookalike", vectors(3000)

    def check(store: SQLiteStore, expected: Array, names: list[str]) -> None:
        assert store.status().precision == "int8"
        assert store._snapshots._matrix is not None
        assert store._snapshots._matrix.gallery.prefilter(Metric.EUCLIDEAN, 2) is not None
        for queries in (vectors(1, 4), vectors(5, 4)):
            for answer, (rows, distances) in zip(
                knn(store, queries, 7), search.knn(queries, expected, 7, Metric.EUCLIDEAN), strict=True
            ):
                found = [(hit.item.id, hit.distance) for hit in answer.hits]
                assert found == [(names[row], d) for row, d in zip(rows, distances.tolist(), strict=True)]

    names = [f"{i:05}" for i in range(3000)]
    with closing(create_store(path, SPACE)) as store:
        store.upsert([Item(i, "") for i in names], known)
        check(store, known, names)
    with closing(SQLiteStore.open(path, SPACE)) as store:
        check(store, known, names)
        assert store._snapshots._matrix is not None
        assert not store._snapshots._matrix.gallery.squared_norms.flags.writeable  # mapped, not computed
        store.upsert([Item("x", "")], vectors(1, 4))
        store.delete([names[0]])
        check(store, np.concatenate([known[1:], vectors(1, 4)]), [*names[1:], "x"])


def test_a_stream_has_the_same_hits_as_a_search(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.stores.sqlite.catalogue.CHUNK", 100)
    for where in (ALL, Filter(labels=frozenset({"even"}))):
        for least in (0.0, 1.0):
            (whole,) = store.search(range_query(vectors(1, 3), 3, where, minimum=least, exact=True))
            parts = list(store.stream(range_query(vectors(1, 3), 3, where, minimum=least)))
            assert len(parts) > 1
            assert [hit for part in parts for hit in part.hits] == list(whole.hits)


def test_a_stream_leaves_out_items_that_are_deleted_meanwhile(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.stores.sqlite.catalogue.CHUNK", 100)
    parts = store.stream(range_query(vectors(1, 3), 100))
    first = ids(next(parts))
    gone = [f"{i:05}" for i in range(0, COUNT, 2)]
    store.delete(gone)
    rest = [i for part in parts for i in ids(part)]
    assert {*rest}.isdisjoint(gone)
    assert len(rest) == len({f"{i:05}" for i in range(1, COUNT, 2)} - {*first})


def test_latency_is_learned_from_large_scans_only() -> None:
    model = LatencyModel()
    before = model.estimate(10**9, 1)
    model.learn(1000, 1, 10)
    assert model.estimate(10**9, 1) == before
    for _ in range(50):
        model.learn(10**9, 1, 0.05)
    assert model.estimate(10**9, 1) == pytest.approx(50, rel=0.01)
    assert model.estimate(10**9, 8) < 50


def test_opening_a_cached_matrix_does_not_prepare_it_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SQLiteStore.open(path, SPACE)) as store:
        assert knn(store, vectors(1), 1)

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("lookalike.stores.sqlite.matrix.Matrix.prepare", refuse)
    with closing(SQLiteStore.open(path, SPACE)) as store:
        assert knn(store, vectors(1), 1)
