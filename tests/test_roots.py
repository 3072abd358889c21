"""The folders that a user indexed into a collection, remembered outside of it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import image_files
from lookalike import atomic
from lookalike.collection import Collection
from lookalike.state.roots import is_below, known_relocations, known_roots, record_relocation, record_roots


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "lookalike" / "roots.json"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    image_files.write(tmp_path / "photos", {f"deep/{i}.png": i for i in range(3)})
    return tmp_path / "photos"


@pytest.fixture
def shop(tmp_path: Path, pocket: Path) -> Iterator[Collection]:
    with Collection.create(tmp_path / "shop.lookalike", pocket) as shop:
        yield shop


def test_add_remembers_the_folder(shop: Collection, photos: Path, state: Path) -> None:
    assert known_roots(shop.path) == ()
    shop.add(photos)
    assert known_roots(shop.path) == shop.known_roots() == (photos,)
    assert not {p.name for p in state.parent.iterdir()} - {"roots.json", "roots.lock"}
    before = state.stat().st_mtime_ns
    shop.add(photos / "deep")  # lies in a known folder
    assert state.stat().st_mtime_ns == before


def test_add_remembers_single_files_and_the_folders_of_many(
    shop: Collection, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(photos.rglob("*.png"))
    shop.add(files[0])
    shop.add([files[1], files[1].read_bytes()])
    assert known_roots(shop.path) == tuple(files[:2])
    monkeypatch.setattr("lookalike.state.roots._MAX_FILES", 2)
    shop.add(files)
    assert known_roots(shop.path) == (photos / "deep",)


def test_another_collection_at_the_same_path_has_no_known_folders(
    shop: Collection, photos: Path, pocket: Path, tmp_path: Path
) -> None:
    shop.add(photos)
    shutil.copytree(shop.path, tmp_path / "copy.lookalike")
    assert known_roots(tmp_path / "copy.lookalike") == ()
    shutil.rmtree(shop.path)
    with Collection.create(shop.path, pocket) as other:
        assert known_roots(other.path) == ()
        other.add(photos / "deep")
        assert known_roots(other.path) == (photos / "deep",)


@pytest.mark.parametrize("state_is", ["a file", "damaged", "a link", "huge"])
def test_a_state_that_cannot_be_used_never_fails_an_add(
    shop: Collection, photos: Path, state: Path, tmp_path: Path, state_is: str
) -> None:
    if state_is == "a file":
        state.parent.parent.mkdir(parents=True)
        state.parent.write_text("")
    else:
        state.parent.mkdir(parents=True)
        if state_is == "a link":
            (tmp_path / "elsewhere").write_text("{}")
            state.symlink_to(tmp_path / "elsewhere")
        else:
            state.write_bytes(b"[" * (100_000 if state_is == "damaged" else 2**24 + 1))
    assert shop.add(photos).embedded == 3
    assert known_roots(shop.path) == (() if state_is == "a file" else (photos,))
    if state_is == "a link":
        assert (tmp_path / "elsewhere").read_text() == "{}"


def test_a_collection_cannot_choose_where_its_identity_is_written(
    shop: Collection, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "victim").write_text("victim")
    (shop.path / "identity").symlink_to(tmp_path / "victim")
    shop.add(photos)
    assert (tmp_path / "victim").read_text() == "victim"
    assert known_roots(shop.path) == ()


def test_a_file_is_below_a_folder_only_after_its_links_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.png").touch()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    (tmp_path / "entrance").symlink_to(tmp_path / "in")
    assert is_below(tmp_path / "in" / "deep" / "1.png", [tmp_path / "entrance"])
    assert is_below(tmp_path / "entrance" / "1.png", [tmp_path / "in"])
    assert is_below(tmp_path / "in" / "1.png", [tmp_path / "in" / "1.png"])
    assert not is_below(tmp_path / "in" / "link" / "x.png", [tmp_path / "in"])
    assert not is_below(tmp_path / "in" / ".." / "out" / "x.png", [tmp_path / "in"])
    assert not is_below(tmp_path / "inside", [tmp_path / "in"])
    assert not is_below(Path("a\0b"), [tmp_path / "in"])


def test_the_oldest_collections_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.state.roots._MAX_COLLECTIONS", 2)
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
        record_roots(folder, [tmp_path])
    assert [known_roots(folder) for folder in folders] == [(), (tmp_path,), (tmp_path,)]
    assert {path.name for path in folders[0].iterdir()} == {"identity", "images.lock"}


# ---- collections that were moved together with their images


def move_together(shop: Collection, tmp_path: Path) -> Path:
    """Move the collection and everything beside it into another folder; return the collection's new path."""
    new = tmp_path / "disk"
    new.mkdir()
    for name in (shop.path.name, "photos"):
        (tmp_path / name).rename(new / name)
    return new / shop.path.name


def test_a_collection_that_was_moved_with_its_images_knows_their_folder(
    shop: Collection, photos: Path, tmp_path: Path
) -> None:
    shop.make_relative(photos)
    shop.add(photos / "deep")
    shop.add(photos)
    path = move_together(shop, tmp_path)
    assert known_roots(path) == (tmp_path / "disk" / "photos",)
    with Collection.open(path) as moved:
        assert all(is_below(Path(item.uri), known_roots(path)) for item in moved)
        image_files.write(tmp_path / "more", {"1.png": 9})
        moved.add(tmp_path / "more")
    assert known_roots(path) == (tmp_path / "disk" / "photos", tmp_path / "more")
    path.rename(tmp_path / "disk" / "renamed.lookalike")
    assert known_roots(tmp_path / "disk" / "renamed.lookalike") == (tmp_path / "disk" / "photos",)


def test_only_the_folders_beside_a_moved_collection_are_known(shop: Collection, photos: Path, tmp_path: Path) -> None:
    image_files.write(tmp_path.parent / "elsewhere", {"1.png": 9})
    shop.add(tmp_path.parent / "elsewhere")
    shop.add(photos)
    path = move_together(shop, tmp_path)
    assert known_roots(path) == (tmp_path / "disk" / "photos",)
    shutil.move(tmp_path / "disk" / "photos", tmp_path / "other")
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick" / "photos").symlink_to(tmp_path / "other")
    assert known_roots(path.rename(tmp_path / "stick" / path.name)) == ()


def test_a_moved_collection_does_not_know_the_whole_folder_around_it(shop: Collection, tmp_path: Path) -> None:
    image_files.write(tmp_path, {"1.png": 9, "photos/2.png": 1})
    shop.add(tmp_path)
    assert known_roots(shop.path) == (tmp_path,)
    assert known_roots(move_together(shop, tmp_path)) == ()


def test_a_copy_of_a_collection_knows_no_folder_while_the_first_one_is_there(
    shop: Collection, photos: Path, tmp_path: Path
) -> None:
    shop.add(photos)
    (tmp_path / "disk").mkdir()
    for name in (shop.path.name, "photos"):
        shutil.copytree(tmp_path / name, tmp_path / "disk" / name)
    assert known_roots(tmp_path / "disk" / shop.path.name) == ()
    shutil.rmtree(shop.path)
    assert known_roots(tmp_path / "disk" / shop.path.name) == (tmp_path / "disk" / "photos",)


def test_a_copy_of_a_moved_collection_knows_no_folder(shop: Collection, photos: Path, tmp_path: Path) -> None:
    shop.add(photos)
    path = move_together(shop, tmp_path)
    assert known_roots(path) == (tmp_path / "disk" / "photos",)
    shutil.copytree(tmp_path / "disk", tmp_path / "copy")
    assert known_roots(tmp_path / "copy" / path.name) == ()
    assert known_roots(path) == (tmp_path / "disk" / "photos",)


def test_folders_that_were_moved_with_a_collection_are_relocated(
    shop: Collection, photos: Path, tmp_path: Path
) -> None:
    shop.add(photos)
    path = move_together(shop, tmp_path)
    assert known_relocations(path) == ((str(photos), str(tmp_path / "disk" / "photos")),)
    alone = tmp_path / "alone.lookalike"
    path.rename(alone)
    assert known_relocations(alone) == known_relocations(shop.path) == ()


def test_relocations_are_remembered_until_their_folder_is_in_use(
    shop: Collection, photos: Path, tmp_path: Path
) -> None:
    shop.add(photos)
    photos.rename(tmp_path / "pictures")
    shop.relocate(photos, tmp_path / "pictures")
    assert known_relocations(shop.path) == ((str(photos), str(tmp_path / "pictures")),)
    shop.add(tmp_path / "pictures")
    assert len(known_relocations(shop.path)) == 1
    image_files.write(photos, {"new.png": 9})
    shop.add(photos / "new.png")
    assert known_relocations(shop.path) == ()
    assert known_roots(shop.path) == (photos, tmp_path / "pictures")


def test_a_relocation_and_its_folder_are_remembered_in_one_write(
    shop: Collection, photos: Path, tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.add(photos)
    written: list[Path] = []
    write_text = atomic.write_text

    def count(path: Path, text: str) -> None:
        written.append(path)
        write_text(path, text)

    monkeypatch.setattr(atomic, "write_text", count)
    record_relocation(shop.path, str(photos), tmp_path / "pictures")
    assert written == [state]
    assert known_relocations(shop.path) == ((str(photos), str(tmp_path / "pictures")),)
    assert known_roots(shop.path) == (photos, tmp_path / "pictures")
