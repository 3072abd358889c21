"""Collections after kills, between processes, and on a full disk: whole, and no item without its image."""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import image_files
import processes
from lookalike import ann, atomic, images, locks, search
from lookalike.collection import Collection
from lookalike.errors import BusyError, StorageError
from lookalike.ingest import Entry
from lookalike.metric import Metric
from lookalike.query import Query
from lookalike.stores import Item
from lookalike.untrusted.databases import Connection


@pytest.fixture
def shop(tmp_path: Path, pocket: Path) -> Iterator[Collection]:
    with Collection.create(tmp_path / "shop.lookalike", pocket) as shop:
        yield shop


def check(path: Path) -> None:
    """Check that a collection is whole: its database, each item's image, and searches."""
    with closing(sqlite3.connect(path / "catalog.sqlite")) as sql:
        assert sql.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert (
            sql.execute("SELECT count(*) FROM items").fetchone()
            == sql.execute("SELECT count(*) FROM items JOIN vectors USING (seq)").fetchone()
        )
    with Collection.open(path) as collection:
        items = list(collection)
        for item in items:
            content = collection.folder.file(item).read_bytes()
            assert images.fingerprint(content) == item.sha256
        if not items:
            return
        vectors = collection.store.vectors([item.id for item in items])
        query = collection.embedder.embed([image_files.png(3)])
        (answer,) = collection.answer(Query(vectors=query, k=10, exact=True))
        expected = search.knn(query, vectors, 10, Metric.EUCLIDEAN)
        assert [hit.item.id for hit in answer] == [items[row].id for row in expected.rows]
        assert [hit.distance for hit in answer] == expected.distances.tolist()
        (answer,) = collection.answer(Query(vectors=vectors[:1], k=1, exact=False))
        assert answer[0].distance == pytest.approx(0, abs=1e-3)


# ---- between threads and processes


@pytest.mark.slow
def test_one_process_adds_what_another_one_removes(shop: Collection) -> None:
    remover = processes.start(processes.take_out, shop.path)
    assert remover.stdout is not None
    assert remover.stdout.readline() == "begun\n", remover.communicate()
    try:
        for uploader in [processes.start(processes.upload, shop.path, 40) for _ in range(2)]:
            processes.finish(uploader)
    finally:
        remover.kill()
        remover.communicate()
    check(shop.path)


def test_an_image_is_not_removed_between_its_file_and_its_item(shop: Collection, tmp_path: Path) -> None:
    """Another process removes the item when the image is already written, and before the new item is."""
    data = image_files.png(1)
    item = shop.add_image(data)
    uri = item.uri
    remover = None
    with Collection.open(shop.path) as other:
        with shop.folder.keeping({uri: data}):
            remover = threading.Thread(target=other.remove, args=[[item.id]])
            remover.start()
            remover.join(0.3)
            assert remover.is_alive()
            shop.store.upsert([item], shop.embedder.embed([data]))
        remover.join()
    assert len(shop) == 0
    assert not shop.folder.file(item).exists()
    shop.add_image(data)
    check(shop.path)


def test_an_image_that_is_removed_before_the_lock_is_written_again(
    shop: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, exclusive = image_files.png(1), locks.exclusive
    item = shop.add_image(data)

    def remove_first(path: Path) -> Any:  # noqa: ANN401 -- a context manager
        monkeypatch.undo()
        with Collection.open(shop.path) as other:
            other.remove(item.id)
        return exclusive(path)

    monkeypatch.setattr(locks, "exclusive", remove_first)
    shop.add_image(data)
    check(shop.path)


def test_a_busy_folder_is_reported_and_the_item_keeps_its_image(
    shop: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = shop.add_image(image_files.png(1))
    monkeypatch.setattr(locks, "TIMEOUT", 0.05)
    with locks.exclusive(shop.path / "images.lock"):
        for call in (lambda: shop.remove(item.id), lambda: shop.add_image(image_files.png(2))):
            with pytest.raises(BusyError, match="later"):
                call()
    assert [i.id for i in shop] == [item.id]
    check(shop.path)


def test_an_image_of_two_items_stays_until_both_are_removed(shop: Collection) -> None:
    data = image_files.png(1)
    shop.add([Entry(Path("a"), id="a", image=data), Entry(Path("b"), id="b", image=data)])
    file = shop.folder.file(shop.get("a"))
    assert file == shop.folder.file(shop.get("b"))
    shop.remove("a")
    assert file.exists()
    shop.remove("b")
    assert not file.exists()


def test_find_uris_returns_those_of_items(shop: Collection) -> None:
    shop.store.upsert([Item(str(i), f"/{i}") for i in range(9)], np.zeros((9, 48), np.float32))
    assert shop.store.find_uris(["/3", "/x", "/5", "/5"]) == {"/3", "/5"}
    assert shop.store.find_uris([]) == set()


# ---- on the disk before the commit


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the order in which files are synced, renamed and committed."""
    done: list[str] = []
    sync, replace, execute = atomic.sync, Path.replace, Connection.execute

    def record_sync(path: Path) -> None:
        sync(path)
        done.append(f"sync {'part' if path.suffix == '.part' else path.name}")

    def record_replace(path: Path, target: Path) -> Path:
        done.append(f"rename {target.suffix}")
        return replace(path, target)

    def record_commit(sql: Connection, *arguments: Any) -> sqlite3.Cursor:  # noqa: ANN401 -- those of execute
        if arguments[0] == "COMMIT":
            done.append("commit")
        return execute(sql, *arguments)

    monkeypatch.setattr(atomic, "sync", record_sync)
    monkeypatch.setattr(Path, "replace", record_replace)
    monkeypatch.setattr(Connection, "execute", record_commit)
    return done


def test_an_upload_is_on_the_disk_before_its_item(shop: Collection, order: list[str]) -> None:
    written = ["sync part", "rename .png", "sync images"]
    shop.add_image(image_files.png(1))
    assert order == ["sync shop.lookalike", *written, "commit"]  # the new folder images/, then the file
    order.clear()
    shop.add_image(image_files.png(2))
    assert order == [*written, "commit"]
    order.clear()
    shop.add([image_files.png(3), image_files.png(4)])
    assert order == [*written, *written, "commit"]


def test_the_item_is_gone_from_the_disk_before_its_image(
    shop: Collection, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    item = shop.add_image(image_files.png(1))
    unlink = Path.unlink

    def record(path: Path, *, missing_ok: bool = False) -> None:
        order.append(f"unlink {path.suffix}")
        unlink(path, missing_ok=missing_ok)

    order.clear()
    monkeypatch.setattr(Path, "unlink", record)
    shop.remove(item.id)
    assert order == ["commit", "unlink .png"]


def test_the_log_is_synced_at_each_commit(shop: Collection) -> None:
    with shop.store._catalogue.connect() as sql:  # type: ignore[attr-defined]
        assert sql.execute("PRAGMA synchronous").fetchone() == (2,)
        assert sql.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# ---- full disks


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "mkdir"])
def test_an_upload_to_a_full_disk_changes_nothing(shop: Collection, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if call != "mkdir":
        shop.add_image(image_files.png(1))
    before = list(shop)
    owner, name = {"write": (atomic, "write_bytes"), "fsync": (os, "fsync")}.get(call, (Path, call))
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        for add in (lambda: shop.add_image(image_files.png(2)), lambda: shop.add([image_files.png(3)])):
            with pytest.raises(StorageError, match="No space left"):
                add()
    assert list(shop) == before
    assert not [path for path in shop.path.rglob("*") if path.suffix == ".part"]
    shop.add_image(image_files.png(2))
    check(shop.path)


def test_no_collection_on_a_full_disk(pocket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(StorageError, match=r"No space left on device\. Free some space"):
        Collection.create(tmp_path / "new.lookalike", pocket)
    assert not (tmp_path / "new.lookalike").exists()


def test_an_upload_to_a_full_catalogue_leaves_no_item(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.add_image(image_files.png(1))
    with shop.store._catalogue.connect() as sql:  # type: ignore[attr-defined]
        pages = sql.execute("PRAGMA page_count").fetchone()[0]
        sql.execute(f"PRAGMA max_page_count = {pages}")
    full = [str(i).zfill(1000) for i in range(100)]
    with pytest.raises(StorageError, match="full"):
        shop.add([Entry(Path(i), label=i, id=i, image=image_files.png(2)) for i in full])
    assert len(shop) == 1
    check(shop.path)


# ---- kills


@pytest.mark.slow
def test_a_collection_is_whole_after_kills_at_any_moment(shop: Collection, tmp_path: Path) -> None:
    image_files.write(tmp_path / "photos", {f"{i % 7}/{i}.png": i for i in range(120)})
    extra = [
        Entry(Path(str(i)), id=f"extra-{i}", image=image_files.png(i)) for i in range(2000, 2000 + ann.MIN_VECTORS)
    ]
    shop.add(extra)
    shop.tune(shop.status().settings.model_copy(update={"budget": 0}))  # type: ignore[union-attr]
    generator = np.random.default_rng(11)
    for seed in range(14):
        process = processes.start(processes.work, shop.path, tmp_path / "photos", seed)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n", process.communicate()
        time.sleep(generator.uniform(0, 1.5))
        process.kill()
        process.communicate()
        check(shop.path)
