"""Reindexing with another encoder: nothing is lost, and a kill leaves the old vectors or the new ones."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest

import lookalike as la
import pocket_encoder
from image_files import png
from lookalike import locks
from lookalike.cli import main
from lookalike.collection import Collection
from lookalike.encoders import Encoder
from lookalike.errors import BusyError, MismatchError, NotFoundError, StorageError
from lookalike.folder import Folder, load_encoder
from lookalike.query import Query
from lookalike.rows import RowFormat
from lookalike.server import create_app
from lookalike.stores import IndexSettings, Item, SQLiteStore, Store
from pocket_server import serving
from recorder import Recorder, Report

COUNT = 12


def save(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(number))
    return path


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder with the same dimension as `pocket`, and another fingerprint."""
    return pocket_encoder.make(tmp_path_factory.mktemp("encoders") / "other", size=16)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for i in range(COUNT):
        save(folder / "ab"[i % 2] / f"{i}.png", i)
    return folder


@pytest.fixture
def shop(tmp_path: Path, pocket: Path, photos: Path) -> Iterator[Collection]:
    with la.open(tmp_path / "shop", encoder=pocket) as collection:
        collection.add(photos, labels="folder")
        collection.add_image(save(tmp_path / "upload.png", 100).read_bytes(), "upload", {"colour": "red"})
        yield collection


def sqlite_store(store: Store) -> SQLiteStore:
    assert isinstance(store, SQLiteStore)
    return store


def items(collection: Collection) -> dict[str, Item]:
    return {item.id: item for item in collection}


def check(collection: Collection, encoder: Path) -> None:
    """Check that the collection has the encoder, and that this encoder made each of its vectors."""
    stored = list(collection)
    paths = [collection.folder.file(item) for item in stored]
    for item, path in zip(stored, paths, strict=True):
        assert collection.search(path, k=1)[0].item.sha256 == item.sha256
    assert collection.embedder.fingerprint == Encoder.open(encoder).fingerprint
    vectors = collection.store.vectors([item.id for item in stored])
    np.testing.assert_allclose(vectors, la.embed(paths, encoder=encoder), atol=1e-6)


def test_items_keep_their_ids_labels_and_attributes(shop: Collection, other: Path) -> None:
    before = items(shop)
    result = shop.reindex(other)
    assert (result.items, result.embedded, result.removed) == (COUNT + 1, COUNT + 1, ())
    assert items(shop) == before
    check(shop, other)
    with Collection.open(shop.path) as again:
        check(again, other)
    assert la.load_encoder(shop.path).fingerprint == Encoder.open(other).fingerprint
    names = {path.name for path in shop.path.iterdir()}
    assert {"encoder", "reindex"}.isdisjoint(names)


def test_back_to_the_first_encoder(shop: Collection, pocket: Path, other: Path) -> None:
    shop.reindex(other)
    shop.reindex(pocket)
    check(shop, pocket)
    assert len([path for path in shop.path.iterdir() if path.name.startswith("encoder")]) == 1


def test_another_dimension_and_metric(shop: Collection) -> None:
    shop.reindex("toyshop", "cosine")
    assert (shop.metric, shop.embedder.space.dimension) == ("cosine", 128)
    assert len(shop.search(save(shop.path.parent / "query.png", 5), k=3)) == 3
    assert json.loads((shop.path / "manifest.json").read_text())["dimension"] == 128


def test_an_empty_collection(tmp_path: Path, pocket: Path, other: Path) -> None:
    with la.open(tmp_path / "empty", encoder=pocket) as empty:
        assert empty.reindex(other).items == 0
        empty.add(save(tmp_path / "one.png", 1))
        check(empty, other)


def test_the_same_encoder_is_refused(shop: Collection, pocket: Path) -> None:
    with pytest.raises(MismatchError, match="already"):
        shop.reindex(pocket)


# ---- files


def test_missing_images_are_refused_or_removed(shop: Collection, photos: Path, pocket: Path, other: Path) -> None:
    gone = photos / "a" / "0.png"
    (ident,) = shop.find([str(gone)]).values()
    gone.unlink()
    with pytest.raises(NotFoundError, match=r"1 item .*0\.png.*--prune"):
        shop.reindex(other)
    assert shop.embedder.fingerprint == Encoder.open(pocket).fingerprint
    result = shop.reindex(other, prune=True)
    assert [item.id for item in result.removed] == [ident.id]
    assert result.items == len(shop) == COUNT
    check(shop, other)


def test_a_missing_folder_is_refused(shop: Collection, photos: Path, pocket: Path, other: Path) -> None:
    photos.rename(photos.with_name("elsewhere"))
    with pytest.raises(NotFoundError, match=r"photos is gone or empty.*relocate"):
        shop.reindex(other, prune=True)
    shop.relocate(photos, photos.with_name("elsewhere"))
    shop.reindex(other)
    check(shop, other)


def test_an_image_that_cannot_be_read_is_refused_or_removed(shop: Collection, photos: Path, other: Path) -> None:
    (photos / "b" / "1.png").write_bytes(b"no image")
    with pytest.raises(NotFoundError, match=r"1\.png: .*not an image"):
        shop.reindex(other)
    assert len(shop.reindex(other, prune=True).removed) == 1


def test_a_changed_image_has_to_be_indexed_first(shop: Collection, photos: Path, other: Path) -> None:
    save(photos / "a" / "2.png", 77)
    with pytest.raises(MismatchError, match=r"1 file .*2\.png.*lookalike index"):
        shop.reindex(other, prune=True)
    shop.add(photos)
    assert shop.reindex(other).embedded == 0  # the failed run has embedded all
    check(shop, other)


def test_swapped_and_copied_files_are_found_by_content(shop: Collection, photos: Path, other: Path) -> None:
    one, two, copied = photos / "a" / "0.png", photos / "a" / "2.png", photos / "a" / "4.png"
    shop.add([la.collection.Entry(Path(shutil.copy(copied, photos / "copy.png")), "copy")])
    contents = [one.read_bytes(), two.read_bytes()]
    one.write_bytes(contents[1])
    two.write_bytes(contents[0])
    copied.unlink()  # its copy has the content
    before = items(shop)
    shop.reindex(other)
    assert items(shop) == before
    vectors = dict(zip(before, shop.store.vectors(list(before)), strict=True))
    (first,) = shop.find([str(one)]).values()
    np.testing.assert_allclose(vectors[first.id], la.embed(two, encoder=other), atol=1e-6)


# ---- other threads and processes


def test_items_that_others_add_and_change_meanwhile_stay(
    shop: Collection, photos: Path, pocket: Path, other: Path, tmp_path: Path
) -> None:
    steps = iter(range(100))
    with Collection.open(shop.path) as writer:

        def write(_: Report) -> None:
            if (step := next(steps)) < 3:
                writer.add(save(tmp_path / f"new{step}.png", 200 + step))
                assert writer.search(tmp_path / "new0.png", k=1)[0].distance == 0
            if step == 0:
                writer.remove([next(iter(writer)).id])
                writer.add([la.collection.Entry(photos / "b" / "1.png", "relabelled")])

        result = shop.reindex(other, progress=Recorder(write))
        assert result.items == COUNT + 1 + 3 - 1
        assert shop.find([str(photos / "b" / "1.png")]).popitem()[1].label == "relabelled"
        check(shop, other)
        check(writer, other)


def test_collections_that_were_open_follow(shop: Collection, pocket: Path, other: Path, tmp_path: Path) -> None:
    image = save(tmp_path / "query.png", 3)
    with (
        Collection.open(shop.path) as searching,
        Collection.open(shop.path) as adding,
        Collection.open(shop.path) as old,
    ):
        assert searching.search(image, k=1)[0].distance == 0
        store, embedder = old.store, old.embedder
        ident = next(iter(old)).id
        shop.reindex(other)
        check(searching, other)
        adding.add(save(tmp_path / "more.png", 300))
        adding.add_image(save(tmp_path / "again.png", 301).read_bytes())
        check(adding, other)
        assert old.refresh()
        assert not old.refresh()
        assert old.classify(image, k=1)[0].label
    with closing(Folder.open(shop.path).open_store()) as fresh:
        assert fresh.count() == COUNT + 3
    with pytest.raises(la.UsageError, match="closed"):  # `refresh` closed it
        store.vectors([ident])
    assert embedder.fingerprint == Encoder.open(pocket).fingerprint


def test_a_store_of_the_old_vectors_neither_reads_nor_writes_any(shop: Collection, other: Path) -> None:
    with closing(sqlite_store(Folder.open(shop.path).open_store())) as store:
        ident = next(store.scan()).id
        vector = store.vectors([ident])
        shop.reindex(other)
        calls = (
            lambda: store.vectors([ident]),
            lambda: store.upsert([Item("x", "")], vector),
            lambda: store.search(Query(vectors=vector, k=1)),
            store.snapshot,
            lambda: store.tune(lambda settings: settings),
            lambda: store.replace_vectors(lambda _: {}, "{}", RowFormat(store.space)),
        )
        for call in calls:
            with pytest.raises(MismatchError, match="reindexed"):
                call()
        assert store.get([ident])
        assert store.count() == COUNT + 1


def test_an_index_of_the_old_vectors_is_not_used(shop: Collection, other: Path) -> None:
    built = "000000000001-0123456789abcdef"
    shop.tune(IndexSettings(budget=0, index="ivf-pq"))
    sqlite_store(shop.store).tune(lambda settings: settings.model_copy(update={"built": built}))
    shop.reindex(other)
    status = shop.status()
    assert status is not None
    assert (status.settings.built, status.settings.index, status.index) == ("", "ivf-pq", None)
    check(shop, other)


def test_only_one_process_reindexes(shop: Collection, other: Path) -> None:
    with locks.exclusive(shop.path / "reindex.lock"), pytest.raises(BusyError, match="reindexing"):
        shop.reindex(other)


def test_a_server_follows(shop: Collection, other: Path, tmp_path: Path) -> None:
    image = save(tmp_path / "query.png", 3).read_bytes()
    with (
        Collection.open(shop.path) as served,
        serving(create_app([served])) as home,
        httpx.Client(base_url=home) as client,
    ):
        url = "/api/collections/shop"
        assert client.get(url).json()["dimension"] == 48
        with Collection.open(shop.path) as collection:
            collection.reindex("toyshop")
        assert client.post(f"{url}/search", files={"image": image}).json()["hits"][0]["distance"] == 0
        assert client.get(url).json()["dimension"] == 128
        assert client.get("/api/collections").json()["collections"][0]["encoder"]["name"] == "toyshop"
        assert client.post(f"{url}/items", files={"image": image}).status_code == 201
        assert client.post(f"{url}/classify", files={"image": image}).status_code == 200


# ---- stops and kills


def test_a_stopped_run_continues(shop: Collection, pocket: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.ingest.run.SCHEDULE", la.ingest.run.Schedule(batch=2, task=1, write_every=2))

    def stop(report: Report) -> None:
        if report.done == 6:
            # On a busy machine the network's process starts late, and until then nothing is embedded that could be kept.
            Encoder.open(other).embed(np.zeros((1, size, size, 3), np.uint8))
            time.sleep(0.5)
            raise KeyboardInterrupt

    size = Encoder.open(other).card.input.size
    with pytest.raises(KeyboardInterrupt):
        shop.reindex(other, progress=Recorder(stop))
    check(shop, pocket)
    recorder = Recorder()
    result = shop.reindex(other, progress=recorder)
    assert 0 < result.embedded < COUNT + 1
    assert recorder.reports[-1][:3] == ("re-embedding", COUNT + 1, COUNT + 1)
    check(shop, other)


def test_the_vectors_of_a_third_encoder_are_dropped(shop: Collection, other: Path, tmp_path: Path) -> None:
    third = pocket_encoder.make(tmp_path / "third", size=8)
    (next(Path(i.uri) for i in shop if i.label == "a")).rename(tmp_path / "away.png")
    with pytest.raises(NotFoundError):
        shop.reindex(third)
    (tmp_path / "away.png").rename(next(Path(i.uri) for i in shop if not Path(shop.path, i.uri).exists()))
    assert shop.reindex(other).embedded == COUNT + 1
    check(shop, other)


KILLED = """
import os, signal, sys
from lookalike import atomic, reindex
from lookalike.collection import Collection
from lookalike.stores.sqlite import store

point, path, encoder = sys.argv[1:]

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def after(owner, name):
    inner = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: (inner(*args, **kwargs), kill()))

match point:
    case "staging":
        after(reindex.Folder, "create")
    case "embedding":
        after(reindex.ingest, "add")
    case "encoder":
        after(reindex, "_install_encoder")
    case "vectors":
        after(store, "replace_vectors")
    case "swap":
        after(store.SQLiteStore, "replace_vectors")
    case "manifest":
        after(reindex.atomic, "write_text")
    case "cleaning":
        reindex.shutil.rmtree = lambda path, **_: path.name in ("encoder", "reindex") and kill()
with Collection.open(path) as shop:
    shop.reindex(encoder)
"""


@pytest.mark.parametrize(
    ("point", "swapped"),
    [
        ("staging", False),
        ("embedding", False),
        ("encoder", False),
        ("vectors", False),
        ("swap", True),
        ("manifest", True),
        ("cleaning", True),
    ],
)
def test_a_kill_leaves_the_old_vectors_or_the_new_ones(
    point: str, swapped: bool, shop: Collection, pocket: Path, other: Path
) -> None:
    before = items(shop)
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), point, str(shop.path), str(other)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    for collection in (shop, Collection.open(shop.path)):
        check(collection, other if swapped else pocket)
        assert items(collection) == before
        assert load_encoder(shop.path).fingerprint == collection.embedder.fingerprint
    shop.reindex(pocket if swapped else other)
    check(shop, pocket if swapped else other)
    assert items(shop) == before
    assert not (shop.path / "reindex").exists()


def test_the_encoder_of_a_collection_is_the_one_that_made_its_vectors(
    shop: Collection, pocket: Path, other: Path, tmp_path: Path
) -> None:
    shop.reindex(other)
    for name in ("encoder", "encoder-" + 16 * "0", "encoder-" + 16 * "f"):  # as two kills leave them
        shutil.copytree(pocket, shop.path / name)
    assert load_encoder(shop.path).fingerprint == Encoder.open(other).fingerprint
    with la.open(tmp_path / "new", encoder=shop.path) as new:
        assert new.embedder.fingerprint == Encoder.open(other).fingerprint
        with pytest.raises(MismatchError, match="already"):
            new.reindex(str(shop.path))


# ---- strangers, and the command line


def test_links_and_damaged_manifests_are_refused(shop: Collection, other: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (shop.path / "reindex").symlink_to(tmp_path / "outside")
    with pytest.raises(StorageError, match="reindex cannot be used"):
        shop.reindex(other)
    (shop.path / "reindex").unlink()
    (shop.path / "reindex").touch()
    with pytest.raises(StorageError, match="reindex is a file"):
        shop.reindex(other)
    (shop.path / "reindex").unlink()
    shop.reindex(other)
    sqlite_store(shop.store)._catalogue.select("UPDATE manifest SET text = '{'")
    with pytest.raises(StorageError):
        Collection.open(shop.path)


def run(*arguments: str | Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lookalike", *map(str, arguments)])
        patch.setattr(os, "nice", lambda _: 0)
        with pytest.raises(SystemExit) as ended:
            main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command(shop: Collection, photos: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "a" / "0.png").unlink()
    assert run("reindex", shop.path, "--encoder", other) == 1
    assert run("reindex", shop.path, "--encoder", other, "--prune") == 0
    shown = capsys.readouterr()
    assert f"{COUNT} items by “pocket”" in shown.out
    assert "removed: " in shown.err
    assert run("reindex", shop.path, "--encoder", "toyshop", "--json") == 0
    written = json.loads(capsys.readouterr().out)
    assert (written["encoder"], written["items"], written["embedded"]) == ("toyshop", COUNT, COUNT)


# ---- an encoder with the same network for photos


@pytest.fixture
def drawn(tmp_path: Path, photos: Path) -> Iterator[Collection]:
    """A collection of an encoder for photos alone, whose images are gone."""
    one = pocket_encoder.make(tmp_path / "one", ("photo",))
    with la.open(tmp_path / "drawn", encoder=one, metric="cosine") as collection:
        collection.add(photos, labels="folder")
        shutil.rmtree(photos)
        yield collection


def test_an_encoder_with_a_new_sketch_branch_keeps_all_vectors(drawn: Collection, pocket: Path) -> None:
    stored, ids = items(drawn), [item.id for item in drawn]
    vectors = drawn.store.vectors(ids)
    with Collection.open(drawn.path) as other:
        result = drawn.reindex(pocket)
        assert (result.items, result.embedded, result.removed) == (COUNT, 0, ())
        for collection in (drawn, other):
            collection.refresh()
            assert collection.embedder.fingerprint == Encoder.open(pocket).fingerprint
            assert collection.metric == "cosine"
            assert items(collection) == stored
            assert (collection.store.vectors(ids) == vectors).all()
        assert other.search(save(drawn.path.parent / "query.png", 3), sketch=True, k=1)[0].distance == pytest.approx(
            0, abs=1e-6
        )
    assert {path.name for path in drawn.path.iterdir() if path.name.startswith("encoder")} == {
        drawn.folder.encoder.name
    }
    drawn.add_image(png(50), "later")
    assert len(drawn) == COUNT + 1


def test_a_search_follows_an_adopted_encoder(drawn: Collection, pocket: Path) -> None:
    with Collection.open(drawn.path) as other:
        drawn.reindex(pocket)
        assert len(other.search(save(drawn.path.parent / "query.png", 3), k=3)) == 3
        assert other.embedder.encoder.card.branches == ("photo", "sketch")


def test_another_metric_embeds_again_with_the_same_photo_network(drawn: Collection, pocket: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no usable image|gone or empty"):
        drawn.reindex(pocket, "euclidean")
    assert drawn.metric == "cosine"


@pytest.mark.parametrize("failing", ["write_files", "replace_manifest"])
def test_a_failed_adoption_leaves_the_old_encoder(
    drawn: Collection, pocket: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = drawn.embedder.fingerprint

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Encoder if failing == "write_files" else SQLiteStore, failing, fail)
    with pytest.raises(StorageError, match="No space left"):
        drawn.reindex(pocket)
    monkeypatch.undo()
    with Collection.open(drawn.path) as again:
        assert again.embedder.fingerprint == before
        again.reindex(pocket)
        assert again.embedder.encoder.card.branches == ("photo", "sketch")
