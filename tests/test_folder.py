"""The folder of a collection: its manifest, and its creation, which is complete or leaves nothing."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import processes
from lookalike.collection import Collection
from lookalike.encoders import Encoder
from lookalike.errors import AlreadyExistsError, MismatchError, NotFoundError, StorageError
from lookalike.stores import SQLiteStore


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
        ({"version": 2}, MismatchError),
        ({"version": 2, "something": "new"}, MismatchError),
        ({"dimension": 0}, StorageError),
        ({"metric": "manhattan"}, StorageError),
        ({"format": "other"}, StorageError),
        ({"something": "new"}, StorageError),
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
