"""The folder of a collection: its manifest, and its creation, which is complete or leaves nothing."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import image_files
import processes
from lookalike.collection import Collection
from lookalike.encoders import Encoder
from lookalike.errors import AlreadyExistsError, MismatchError, NotFoundError, StorageError
from lookalike.folder import Folder
from lookalike.stores import Item, SQLiteStore


@pytest.fixture
def encoder(pocket: Path) -> Encoder:
    return Encoder.open(pocket)


@pytest.fixture
def path(tmp_path: Path, encoder: Encoder) -> Path:
    path = tmp_path / "some.lookalike"
    Collection.create(path, encoder).close()
    return path


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"version": 3}, MismatchError),
        ({"version": 3, "something": "new"}, MismatchError),
        ({"dimension": 0}, StorageError),
        ({"metric": "manhattan"}, StorageError),
        ({"format": "other"}, StorageError),
        ({"something": "new"}, StorageError),
        ({"store": "other.lookalike"}, StorageError),
        ({"store": "/some/other.lookalike"}, StorageError),
        ({"dimension": 2**40}, StorageError),
    ],
)
def test_an_invalid_manifest_is_refused(path: Path, change: dict[str, object], error: type[Exception]) -> None:
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    (path / "manifest.json").write_text(json.dumps(manifest | change), encoding="utf-8")
    with pytest.raises(error, match="some"):
        Collection.open(path)


def test_an_unknown_codec_is_refused(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    (path / "manifest.json").write_text(json.dumps(manifest | {"codec": "unheard-of"}), encoding="utf-8")
    with pytest.raises(MismatchError, match="unheard-of"):
        Collection.open(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", b'{"version": 1}'])
def test_a_damaged_manifest_is_reported(path: Path, content: bytes) -> None:
    (path / "manifest.json").write_bytes(content)
    with pytest.raises(StorageError, match="manifest"):
        Collection.open(path)


@pytest.mark.parametrize("name", ["nothing", "a file", "empty"])
def test_a_path_without_a_collection_is_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match=name):
        Collection.open(tmp_path / name)


@pytest.mark.parametrize("there", ["file", "folder", "collection"])
def test_create_overwrites_nothing(tmp_path: Path, encoder: Encoder, there: str) -> None:
    path = tmp_path / "x.lookalike"
    if there == "file":
        path.touch()
    elif there == "folder":
        path.mkdir()
    else:
        Collection.create(path, encoder).close()
    with pytest.raises(AlreadyExistsError):
        Collection.create(path, encoder)
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_create_leaves_nothing_behind(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        Collection.create(tmp_path / "file" / "x.lookalike", encoder)

    def fail(*_: object) -> None:
        raise OSError(5, "broken disk")

    monkeypatch.setattr(SQLiteStore, "create", fail)
    with pytest.raises(StorageError, match="broken disk"):
        Collection.create(tmp_path / "y.lookalike", encoder)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_collection_is_not_visible_before_it_is_complete(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, create = tmp_path / "x.lookalike", SQLiteStore.create

    def spy(*arguments: Any) -> SQLiteStore:  # noqa: ANN401 -- those of create
        assert not path.exists()
        store = create(*arguments)
        assert not path.exists()
        return store

    monkeypatch.setattr(SQLiteStore, "create", spy)
    with closing(Collection.create(path, encoder)):
        assert {p.name for p in path.iterdir()} >= {"manifest.json", "catalog.sqlite", "encoder"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_a_kill_during_create_leaves_only_complete_collections(tmp_path: Path, pocket: Path) -> None:
    for i in range(3):
        folder = tmp_path / str(i)
        folder.mkdir()
        process = processes.start(processes.create, folder, pocket)
        until = time.monotonic() + 60
        while not (folder / "2.lookalike").exists():
            for path in folder.glob("*.lookalike"):
                assert {p.name for p in path.iterdir()} >= {"manifest.json", "catalog.sqlite", "encoder"}
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
        time.sleep(0.004 * i)
        process.kill()
        process.communicate()
        for path in folder.glob("*.lookalike"):
            with Collection.open(path) as collection:
                assert collection.store.count() == 0
            assert {p.name for p in (path / "encoder").iterdir()} >= {"encoder.json", "photo.onnx", "sketch.onnx"}
            with closing(sqlite3.connect(path / "catalog.sqlite")) as sql:
                assert sql.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# ---- images

DIGEST = "0f" * 32


@pytest.mark.parametrize("ending", ["png", "jpeg", "webp", "avif", "raw"])
def test_a_folder_owns_exactly_the_images_that_it_names_itself(path: Path, ending: str) -> None:
    folder = Folder.open(path)
    item = Item("x", f"images/{DIGEST}.{ending}")
    assert folder.owns(item)
    assert folder.file(item) == path / "images" / f"{DIGEST}.{ending}"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        ".",
        "images",
        "images/",
        "images/../../victim.png",
        "images/../manifest.json",
        f"images/{DIGEST}.png/../../../victim.png",
        f"images/{DIGEST}.png\n",
        f"images/{DIGEST[:-1]}.png",
        f"images/{DIGEST.upper()}.png",
        f"images/{DIGEST}.exe",
        f"images/deep/{DIGEST}.png",
        f"./images/{DIGEST}.png",
        f"images//{DIGEST}.png",
        f"images\\{DIGEST}.png",
        "photos/cat.png",
        "../victim.png",
        "catalog.sqlite",
    ],
)
def test_another_relative_uri_is_not_read(path: Path, uri: str) -> None:
    folder = Folder.open(path)
    assert not folder.owns(Item("x", uri))
    with pytest.raises(NotFoundError, match="neither an absolute path nor"):
        folder.file(Item("x", uri))


def test_an_absolute_uri_is_not_owned_and_stays(path: Path, tmp_path: Path) -> None:
    folder = Folder.open(path)
    inside = Item("x", str(path / "images" / f"{DIGEST}.png"))
    assert not folder.owns(inside)
    assert folder.file(inside) == Path(inside.uri)


@pytest.mark.parametrize("linked", ["the folder", "the file"])
def test_a_link_in_the_folder_is_neither_read_nor_removed(path: Path, tmp_path: Path, linked: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    victim = outside / f"{DIGEST}.png"
    victim.write_bytes(image_files.png(1))
    if linked == "the folder":
        (path / "images").symlink_to(outside)
    else:
        (path / "images").mkdir()
        (path / "images" / victim.name).symlink_to(victim)
    item = Item("x", f"images/{victim.name}", sha256=DIGEST)
    with Collection.open(path) as collection:
        with pytest.raises(NotFoundError, match="links"):
            collection.folder.file(item)
        with pytest.raises(NotFoundError, match="links"):
            collection.folder.thumbnail(item)
        collection.store.upsert([item], np.zeros((1, 48), np.float32))
        assert collection.remove("x") == 1
    assert victim.exists()


def test_removing_an_item_removes_no_file_outside_of_the_images(path: Path, tmp_path: Path) -> None:
    (tmp_path / "victim.png").write_bytes(image_files.png(1))
    (path / "images").mkdir()
    with Collection.open(path) as collection:
        collection.store.upsert([Item("x", "images/../../victim.png")], np.zeros((1, 48), np.float32))
        assert collection.remove("x") == 1
    assert (tmp_path / "victim.png").exists()


def test_what_is_in_the_way_of_a_collection_is_said(tmp_path: Path) -> None:
    (tmp_path / "f.lookalike").touch()
    (tmp_path / "g.lookalike").mkdir()
    with pytest.raises(NotFoundError, match=r"f\.lookalike is a file, not the folder of a collection\. Choose another"):
        Folder.open(tmp_path / "f.lookalike")
    with pytest.raises(NotFoundError, match=r"g\.lookalike has no manifest\.json, so it is not a collection\. Choose"):
        Folder.open(tmp_path / "g.lookalike")
    with pytest.raises(NotFoundError, match="Make one with"):
        Folder.open(tmp_path / "h.lookalike")
