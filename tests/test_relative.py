"""Collections that hold paths relative to their folder, and move together with their images."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import image_files
from lookalike.collection import Collection
from lookalike.encoders import Encoder
from lookalike.errors import NotFoundError, StorageError, UsageError
from lookalike.ingest import Entry
from lookalike.stores import Item


@pytest.fixture
def shop(tmp_path: Path, pocket: Path) -> Iterator[Collection]:
    """A collection of three images with relative paths, in the folder ``one``."""
    image_files.write(tmp_path / "one" / "photos", {"a.png": 1, "x/b.png": 2, "x/ü c.png": 3})
    with Collection.create(tmp_path / "one" / "shop.lookalike", Encoder.open(pocket)) as collection:
        collection.make_relative(tmp_path / "one" / "photos")
        collection.add(tmp_path / "one" / "photos", labels="folder")
        yield collection


def stored(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "catalog.sqlite")) as sql:
        return [uri for (uri,) in sql.execute("SELECT uri FROM items ORDER BY uri")]


RELATIVE = ["../photos/a.png", "../photos/x/b.png", "../photos/x/ü c.png"]


def test_the_catalogue_holds_relative_paths_and_items_have_absolute_ones(shop: Collection, tmp_path: Path) -> None:
    photos = tmp_path / "one" / "photos"
    assert stored(shop.path) == RELATIVE
    expected = sorted(map(str, photos.rglob("*.png")))
    assert sorted(item.uri for item in shop) == expected
    assert sorted(hit.item.uri for hit in shop.search(photos / "a.png", k=9)) == expected
    assert sorted(hit.item.uri for hit in shop.search(photos / "a.png", within=1e9)) == expected
    item = shop.get(next(iter(shop)).id)
    assert shop.find([item.uri]) == {item.uri: item}
    assert not shop.folder.owns(item)
    assert not shop.is_missing(item)
    assert shop.folder.thumbnail(item)
    assert shop.add(photos).unchanged == 3


def test_a_collection_and_its_images_move_together(shop: Collection, tmp_path: Path) -> None:
    before = {item.id: item.label for item in shop}
    shop.close()
    shutil.copytree(tmp_path / "one", tmp_path / "far" / "away")
    shutil.rmtree(tmp_path / "one")
    photos = tmp_path / "far" / "away" / "photos"
    with Collection.open(tmp_path / "far" / "away" / "shop") as moved:
        assert not any(map(moved.is_missing, moved))
        assert moved.search(photos / "a.png", k=1)[0].item.uri == str(photos / "a.png")
        assert moved.missing(photos) == moved.missing() == []
        image_files.write(photos, {"new.png": 4})
        added = moved.add(photos)
        assert (added.unchanged, added.embedded) == (3, 1)
        assert {item.id: item.label for item in moved if item.name != "new.png"} == before
        (photos / "new.png").unlink()
        assert moved.prune(photos) == (1, [])
        assert stored(moved.path) == RELATIVE


def test_items_become_relative_when_their_root_is_added(tmp_path: Path, pocket: Path) -> None:
    image_files.write(tmp_path / "photos", {"a.png": 1})
    image_files.write(tmp_path / "photos more", {"b.png": 2})
    with Collection.create(tmp_path / "deep" / "shop.lookalike", Encoder.open(pocket)) as shop:
        shop.add(tmp_path / "photos")
        shop.add(tmp_path / "photos more")
        shop.make_relative(tmp_path / "photos")
        assert stored(shop.path) == ["../../photos/a.png", str(tmp_path / "photos more" / "b.png")]
        shop.make_relative(tmp_path)
        shop.make_relative(tmp_path)
        assert stored(shop.path) == ["../../photos more/b.png", "../../photos/a.png"]
        assert len([item for item in shop if not shop.is_missing(item)]) == 2
        assert shop.add(tmp_path).unchanged == 2


def test_the_folder_around_a_collection_can_be_its_root(tmp_path: Path, pocket: Path) -> None:
    image_files.write(tmp_path, {"a.png": 1})
    with Collection.create(tmp_path / "shop.lookalike", Encoder.open(pocket)) as shop:
        shop.make_relative(tmp_path)
        upload = shop.add_image(image_files.png(5))
        shop.add(tmp_path)
        assert stored(shop.path) == ["../a.png", upload.uri]
        for inside in (shop.path, shop.path / "encoder"):
            with pytest.raises(UsageError, match="in that folder"):
                shop.make_relative(inside)
        with pytest.raises(NotFoundError):
            shop.make_relative(tmp_path / "nowhere")


def test_links_on_the_way_to_a_root_are_resolved(shop: Collection, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "one")
    (tmp_path / "shop").symlink_to(tmp_path / "one" / "shop.lookalike")
    photos = tmp_path / "link" / "photos"
    assert shop.add(photos).unchanged == 3
    assert shop.add([photos / "a.png"]).unchanged == 1
    assert shop.find([str(photos / "a.png")])
    with Collection.open(tmp_path / "shop") as linked:
        assert not any(map(linked.is_missing, linked))
    (photos / "a.png").unlink()
    assert len(shop.missing(photos)) == 1


def test_moves_and_relocation_stay_relative(shop: Collection, tmp_path: Path) -> None:
    before = {item.name: item.id for item in shop}
    one = tmp_path / "one"
    (one / "photos" / "x").rename(one / "photos" / "y")
    assert shop.add(one / "photos").moved == 2
    assert stored(shop.path) == [uri.replace("/x/", "/y/") for uri in RELATIVE]
    (one / "photos").rename(tmp_path / "pictures")
    assert shop.relocate(one / "photos", tmp_path / "pictures").existing == 3
    assert stored(shop.path) == ["../../pictures/a.png", "../../pictures/y/b.png", "../../pictures/y/ü c.png"]
    assert {item.name: item.id for item in shop} == before
    assert shop.add(tmp_path / "pictures").unchanged == 3


@pytest.mark.parametrize(
    ("root", "uri"),
    [
        ("../photos", "../secret.png"),
        ("../photos", "../photos/../secret.png"),
        ("../photos", "../photos//secret.png"),
        ("../photos", "../photos-2/secret.png"),
        ("/", "//etc/passwd"),
        (".", "./images/../../secret.png"),
        ("images", "images/secret.png"),
        ("", "/../secret.png"),
        ("..\0", "../secret.png"),
    ],
)
def test_a_relative_path_of_a_stranger_leads_nowhere(shop: Collection, tmp_path: Path, root: str, uri: str) -> None:
    image_files.write(tmp_path / "one", {"secret.png": 9})
    victim = next(iter(shop)).id
    shop.close()
    with closing(sqlite3.connect(shop.path / "catalog.sqlite")) as sql:
        sql.execute("DELETE FROM roots")
        sql.execute("INSERT INTO roots VALUES (?)", [root])
        sql.execute("UPDATE items SET uri = ? WHERE id = ?", [uri, victim])
        sql.commit()
    with Collection.open(shop.path) as stranger:
        item = stranger.get(victim)
        assert item.uri == uri
        if not Path(uri).is_absolute():
            with pytest.raises(NotFoundError):
                stranger.folder.file(item)
            assert stranger.is_missing(item)
        assert stranger.remove([victim]) == 1
    assert (tmp_path / "one" / "secret.png").exists()


def test_a_root_that_is_not_text_is_one_line(shop: Collection) -> None:
    ident = next(iter(shop)).id
    shop.close()
    with closing(sqlite3.connect(shop.path / "catalog.sqlite")) as sql:
        sql.execute("INSERT INTO roots VALUES (CAST(x'ff' AS TEXT))")
        sql.commit()
    with Collection.open(shop.path) as damaged, pytest.raises(StorageError, match="shop"):
        damaged.get(ident)


def test_a_store_that_cannot_do_it_says_so(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    class Remote:
        def __getattr__(self, name: str) -> object:
            if name in {"add_relative_root", "relative_roots"}:
                raise AttributeError(name)
            return getattr(shop.store, name)

    other = Collection(shop.folder, Remote(), shop.embedder)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="relative"):
        other.make_relative(shop.path.parent)


def test_an_entry_and_an_update_below_a_root_are_relative(shop: Collection, tmp_path: Path) -> None:
    (item,) = [item for item in shop if item.name == "a.png"]
    photos = tmp_path / "one" / "photos"
    (photos / "a.png").rename(photos / "z.png")
    assert shop.store.update([(item, Item(item.id, str(photos / "z.png"), sha256=item.sha256))]) == [item]
    assert stored(shop.path)[2] == "../photos/z.png"
    shop.add([Entry(photos / "z.png", "z", id="mine")])
    assert stored(shop.path).count("../photos/z.png") == 2
    assert shop.store.update([(shop.get("mine"), None)])
    assert stored(shop.path).count("../photos/z.png") == 1
