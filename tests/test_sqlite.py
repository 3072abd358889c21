"""The embedded store as a folder: its cache, damage, full and read-only disks, and several processes at once."""

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import processes
from lookalike.errors import (
    AlreadyExistsError,
    BusyError,
    LookalikeError,
    StorageError,
    UsageError,
)
from lookalike.metric import Metric, VectorSpace
from lookalike.stores import Item, SQLiteStore, open_store
from lookalike.stores.sqlite import array_file, catalogue
from lookalike.stores.sqlite.catalogue import Catalogue
from searching import create_store, knn

SPACE = VectorSpace(Metric.EUCLIDEAN, 8)
QUERY = np.zeros((1, 8), np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of 20 items at different distances."""
    folder = tmp_path / "some.lookalike"
    with closing(create_store(folder, SPACE)) as store:
        vectors = np.arange(160, dtype=np.float32).reshape(20, 8)
        store.upsert([Item(f"{i:02}", "") for i in range(20)], vectors)
    return folder


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore.open(path, SPACE)) as store:
        yield store


def found(store: SQLiteStore) -> list[tuple[str, float]]:
    return [(hit.item.id, hit.distance) for hit in knn(store, QUERY, 10_000)[0].hits]


def matrix(path: Path) -> Path:
    (only,) = (path / "cache").iterdir()
    return only


def intact(path: Path) -> bool:
    with closing(sqlite3.connect(path / "catalog.sqlite")) as sql:
        return bool(sql.execute("PRAGMA integrity_check").fetchall() == [("ok",)])


# ---- the cache


def test_the_cache_is_mapped_into_memory_and_used_by_the_next_process(path: Path) -> None:
    with closing(SQLiteStore.open(path, SPACE)) as store:
        before = found(store)
        assert store._snapshots._matrix is not None
        assert not store._snapshots._matrix.codes.flags.writeable  # mapped
    with closing(sqlite3.connect(path / "catalog.sqlite")) as sql:
        sql.execute(
            "UPDATE vectors SET vector = zeroblob(32)"
        )  # the store does not notice, so the hits come from the cache
        sql.commit()
    with closing(SQLiteStore.open(path, SPACE)) as store:
        assert found(store) == before


def test_the_cache_may_be_deleted_at_any_time(path: Path, store: SQLiteStore) -> None:
    expected = found(store)
    for _ in range(3):
        shutil.rmtree(path / "cache")
        assert found(store) == expected
        with closing(SQLiteStore.open(path, SPACE)) as other:
            assert found(other) == expected


def test_the_cache_may_be_deleted_while_others_search(path: Path, store: SQLiteStore) -> None:
    expected, wrong = found(store), list[object]()

    def look() -> None:
        for _ in range(30):
            with closing(SQLiteStore.open(path, SPACE)) as other:
                if found(other) != expected:
                    wrong.append(1)

    threads = [Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        shutil.rmtree(path / "cache", ignore_errors=True)
    assert not wrong


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [flip, lambda c: c[:-1], lambda c: c[:-40], lambda c: c[:0], lambda c: c + b"more", lambda c: bytes(len(c))],
    ids=["one bit", "one byte short", "one row short", "empty", "longer", "zeros"],
)
def test_a_damaged_cache_is_rebuilt(path: Path, damage: Callable[[bytes], bytes]) -> None:
    with closing(SQLiteStore.open(path, SPACE)) as store:
        expected = found(store)
    good = matrix(path).read_bytes()
    matrix(path).write_bytes(damage(good))
    with closing(SQLiteStore.open(path, SPACE)) as store:
        assert found(store) == expected
    assert matrix(path).read_bytes() == good


def test_a_file_in_place_of_the_cache_does_no_harm(path: Path) -> None:
    (path / "cache").write_text("in the way", encoding="utf-8")
    with closing(SQLiteStore.open(path, SPACE)) as store:
        assert len(found(store)) == 20


def test_a_cache_written_after_a_backup_is_not_used_with_it(path: Path, tmp_path: Path) -> None:
    shutil.copytree(path, tmp_path / "backup")

    def one_more(value: float) -> list[tuple[str, float]]:
        with closing(SQLiteStore.open(path, SPACE)) as store:
            store.upsert([Item("x", "")], np.full((1, 8), value, np.float32))
            return found(store)

    first = one_more(1)
    shutil.copy(tmp_path / "backup" / "catalog.sqlite", path)  # the same number of writes leads to other vectors
    assert one_more(2) != first


def test_the_cache_keeps_only_the_latest_matrix(path: Path) -> None:
    for i in range(3):
        with closing(SQLiteStore.open(path, SPACE)) as store:
            store.upsert([Item(f"x{i}", "")], QUERY)
            assert len(found(store)) == 21 + i
    (_, parts) = array_file.read(matrix(path)) or ({}, {})
    assert len(parts["vectors"]) == 23


def test_unfinished_files_of_killed_processes_are_deleted_from_the_cache(path: Path) -> None:
    (path / "cache").mkdir()
    old, new = path / "cache" / ".0.part", path / "cache" / ".1.part"
    for part in (old, new):
        part.touch()
    os.utime(old, (0, 0))
    with closing(SQLiteStore.open(path, SPACE)) as store:
        found(store)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_few_changes_do_not_rewrite_the_matrix(path: Path, store: SQLiteStore) -> None:
    before = found(store)
    kept = matrix(path)
    store.upsert([Item("x", "")], QUERY)
    assert found(store) == [("x", 0.0), *before]
    assert matrix(path) == kept


# ---- refusals


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, b"SQLite format 3\0" + b"\0" * 5000])
def test_a_file_that_is_not_a_catalogue_is_reported(path: Path, content: bytes) -> None:
    (path / "catalog.sqlite").write_bytes(content)
    with pytest.raises(StorageError):
        open_store(path, SPACE)


def test_a_missing_catalogue_is_reported_and_not_created(path: Path) -> None:
    (path / "catalog.sqlite").unlink()
    with pytest.raises(StorageError, match="missing"):
        open_store(path, SPACE)
    assert not (path / "catalog.sqlite").exists()


def test_missing_or_short_vectors_are_reported(path: Path, store: SQLiteStore) -> None:
    for damage in ("UPDATE vectors SET vector = x'00' WHERE seq = 3", "DELETE FROM vectors WHERE seq = 3"):
        with closing(sqlite3.connect(path / "catalog.sqlite")) as sql:
            sql.execute(damage)
            sql.commit()
        with pytest.raises(StorageError, match="damaged"):
            found(store)


def test_an_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(UsageError, match="milvus"):
        open_store("milvus://localhost/shop", SPACE)


def test_a_store_is_not_overwritten(path: Path) -> None:
    before = (path / "catalog.sqlite").read_bytes()
    with pytest.raises(AlreadyExistsError):
        SQLiteStore.create(path, SPACE)
    assert (path / "catalog.sqlite").read_bytes() == before


def test_a_store_that_cannot_be_created_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError):
        SQLiteStore.create(tmp_path / "no folder", SPACE)
    monkeypatch.setattr("lookalike.stores.sqlite.catalogue.SCHEMA", "CREATE TABLE items (id TEXT); garbage")
    with pytest.raises(StorageError):
        SQLiteStore.create(tmp_path, SPACE)
    assert list(tmp_path.iterdir()) == []


def test_a_closed_store_refuses_calls(store: SQLiteStore) -> None:
    store.close()
    store.close()
    with pytest.raises(UsageError, match="closed"):
        store.count()


# ---- several processes and threads


@pytest.mark.slow
def test_readers_see_one_step_of_a_writer_at_a_time(path: Path, store: SQLiteStore) -> None:
    store.delete([f"{i:02}" for i in range(20)])
    store.upsert(*processes.step(0, 8, 20))
    last = 120
    watchers = [processes.start(processes.watch, path, last) for _ in range(2)]
    writer = processes.start(processes.advance, path, last)
    seen, wrong = set(), list[object]()
    while str(last) not in seen:  # a reader that was open before the writer began
        hits = knn(store, QUERY, 100)[0].hits
        steps = {hit.item.label for hit in hits}
        if len(steps) != 1:
            wrong.append(steps)
        seen |= steps
    processes.finish(writer)
    for watcher in watchers:
        assert int(processes.finish(watcher)) >= 1
    assert not wrong
    assert len(seen) > 2


def test_two_writers_at_once_both_succeed(path: Path, store: SQLiteStore) -> None:
    for writer in [processes.start(processes.insert, path, prefix, 60) for prefix in ("a", "b")]:
        processes.finish(writer)
    assert store.count() == 20 + 2 * 60
    assert intact(path)


def test_a_long_write_makes_other_writers_fail_as_busy_and_not_readers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "_TIMEOUT", 0.05)
    with closing(SQLiteStore.open(path, SPACE)) as store, closing(sqlite3.connect(path / "catalog.sqlite")) as other:
        expected = found(store)
        other.execute("BEGIN IMMEDIATE")
        for write in (lambda: store.upsert([Item("x", "")], QUERY), lambda: store.delete(["00"])):
            with pytest.raises(BusyError, match="later"):
                write()
        assert found(store) == expected
        other.rollback()
        store.delete(["00"])
        assert found(store) == expected[1:]


def test_threads_share_a_store(store: SQLiteStore) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for i in range(15):
                store.upsert([Item(f"{number}-{i}", "")], np.full((1, 8), -number, np.float32))
                mine = [hit for hit in knn(store, QUERY, 1000)[0].hits if hit.item.id.startswith(f"{number}-")]
                if len(mine) != i + 1 or {hit.distance for hit in mine} != {np.float32(8**0.5 * number).item()}:
                    wrong.append(mine)
        except Exception as e:  # noqa: BLE001 -- any error fails the test
            wrong.append(e)

    threads = [Thread(target=work, args=[number]) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert store.count() == 20 + 6 * 15


def test_a_search_does_not_wait_for_a_thread_that_waits_to_write(
    path: Path, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(path / "catalog.sqlite", check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        thread = Thread(target=store.delete, args=[["00"]])
        thread.start()
        assert len(found(store)) == 20
        assert thread.is_alive()
        other.rollback()
        thread.join()
    assert len(found(store)) == 19


# ---- full and read-only disks


def test_a_full_database_is_reported_and_loses_nothing(
    path: Path, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, open_connection = found(store), Catalogue._open

    def limited(catalogue: Catalogue) -> sqlite3.Connection:
        sql = open_connection(catalogue)
        sql.execute(f"PRAGMA max_page_count = {sql.execute('PRAGMA page_count').fetchone()[0] + 2}")
        return sql

    monkeypatch.setattr(Catalogue, "_open", limited)
    with closing(SQLiteStore.open(path, SPACE)) as small:
        with pytest.raises(StorageError, match="full"):
            small.upsert([Item(f"x{i}", "") for i in range(1000)], np.zeros((1000, 8), np.float32))
        assert found(small) == expected
        small.upsert([Item("x", "")], QUERY)  # one still fits
        assert found(small) == [("x", 0.0), *expected]


def test_a_disk_without_room_for_sqlites_own_files_is_called_full(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Catalogue) -> sqlite3.Connection:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
        raise error

    monkeypatch.setattr(Catalogue, "_open", fail)
    for free, words in ((0, "disk is full"), (2**30, "disk I/O error")):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        store.close()
        with closing(SQLiteStore(store.folder, SPACE)) as other, pytest.raises(StorageError, match=words):
            other.count()


def test_a_limit_on_file_size_is_reported_and_loses_nothing(path: Path, store: SQLiteStore) -> None:
    written = int(processes.finish(processes.start(processes.fill, path, 300_000)))
    assert written > 0
    assert store.count() == 20 + written
    assert len(found(store)) == 20 + written
    assert intact(path)


def test_a_reader_with_a_full_disk_does_without_a_cache(path: Path) -> None:
    with closing(SQLiteStore.open(path, SPACE)) as store:
        expected = found(store)
    shutil.rmtree(path / "cache")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(SQLiteStore.open(path, SPACE)) as store:
        store.count()
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
            assert found(store) == expected
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((path / "cache").iterdir()) == []


Remount = Callable[..., None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Remount]]:
    """A disk of a megabyte, and a function that mounts it again."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(["size=1m", *options]), "lookalike-test", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting takes root")

    mount()
    yield folder, lambda *options: mount("remount", *options)
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_reported_and_loses_nothing(disk: tuple[Path, Any]) -> None:
    path = disk[0] / "some.lookalike"
    create_store(path, SPACE).close()
    written = int(processes.finish(processes.start(processes.fill, path, 0)))
    assert written > 0
    with closing(SQLiteStore.open(path, SPACE)) as store:
        assert store.count() == written
        assert len(found(store)) == written
    assert intact(path)
    other = disk[0] / "other.lookalike"
    other.mkdir()
    with suppress(OSError), (disk[0] / "ballast").open("wb", buffering=0) as ballast:
        while ballast.write(bytes(4096)):
            pass
    with pytest.raises(StorageError):
        SQLiteStore.create(other, SPACE)
    assert list(other.iterdir()) == []


@pytest.mark.parametrize("crashed", [False, True])
def test_a_read_only_folder_is_searched(path: Path, disk: tuple[Path, Remount], crashed: bool) -> None:
    there, remount = disk[0] / path.name, disk[1]
    shutil.copytree(path, there)
    if crashed:  # the last commit is only in SQLite's log
        process = processes.start(processes.abandon, there, 20)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert (there / "catalog.sqlite-wal").stat().st_size
    remount("ro")
    with closing(SQLiteStore.open(there, SPACE)) as store:
        distances = [distance for _, distance in found(store)]
        assert len(distances) == 20
        assert (len(set(distances)) == 1) == crashed
        for write in (lambda: store.upsert([Item("x", "")], QUERY), lambda: store.delete(["00"])):
            with pytest.raises(StorageError, match="read-only"):
                write()
    with pytest.raises(LookalikeError):
        SQLiteStore.create(disk[0], SPACE)
