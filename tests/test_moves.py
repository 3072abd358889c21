"""Moved files keep their items: id, label, attributes and decisions."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

import image_files
import processes
from lookalike import images
from lookalike.collection import Collection
from lookalike.duplicates import decisions
from lookalike.encoders import Encoder
from lookalike.ingest import Added, Entry, file_id, paths, plan, run
from lookalike.ingest.known import Known
from lookalike.ingest.moves import OldPaths
from lookalike.stores import Item, Store
from recorder import Recorder, Report


@pytest.fixture
def shop(tmp_path: Path, pocket: Path) -> Iterator[Collection]:
    with Collection.create(tmp_path / "shop.lookalike", Encoder.open(pocket)) as collection:
        yield collection


def write(folder: Path, **names: int) -> list[Path]:
    """Write images; ``x__1`` is the file ``x/1.png``."""
    files = {f"{name.replace('__', '/')}.png": number for name, number in names.items()}
    image_files.write(folder, files)
    return [folder / name for name in files]


def by_name(shop: Collection) -> dict[str, Item]:
    items = list(shop)
    assert len({item.uri for item in items}) == len(items)
    return {item.name.removesuffix(".png"): item for item in items}


def counts(added: Added) -> tuple[int, int, int, int]:
    return added.moved, added.embedded, added.reused, added.unchanged


def test_a_moved_folder_keeps_its_items(shop: Collection, tmp_path: Path) -> None:
    files = write(tmp_path / "cats", a=1, b=2, x__c=3)
    shop.add([Entry(file, file.stem, {"of": "me"}) for file in files])
    before = by_name(shop)
    decisions.mark_distinct(shop, [before["a"], before["b"]])
    (tmp_path / "cats").rename(tmp_path / "cats2")
    added = shop.add(tmp_path / "cats2")
    assert (counts(added), str(added)) == ((3, 0, 0, 0), "0 embedded, 3 moved")
    after = by_name(shop)
    assert {n: (i.id, i.label, i.attributes) for n, i in after.items()} == {
        n: (i.id, i.label, i.attributes) for n, i in before.items()
    }
    assert after["c"].uri == str(tmp_path / "cats2" / "x" / "c.png")
    assert len(decisions.read(shop)) == 1
    assert not any(map(shop.is_missing, shop))
    assert counts(shop.add(tmp_path / "cats2")) == (0, 0, 0, 3)
    assert len(shop.search(tmp_path / "cats2" / "a.png", k=9)) == 3


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # one is missing, one is not, one path is new
        ({"a": "missing", "b": "stays"}, ["c"], {"c": "a", "b": "b"}),
        # both are missing, two paths are new: by name, else in their order
        ({"x__a": "missing", "x__b": "missing"}, ["y__a", "y__b"], {"a": "a", "b": "b"}),
        ({"a": "missing", "b": "missing"}, ["c", "d"], {"c": "a", "d": "b"}),
        ({"x__a": "missing", "x__b": "missing"}, ["y__a", "y__0"], {"a": "a", "0": "b"}),
        # both are missing, one path is new
        ({"x__a": "missing", "x__b": "missing"}, ["y__b"], {"b": "b"}),
        # one is missing, two paths are new: one is a copy
        ({"x__a": "missing"}, ["y__0", "y__a"], {"a": "a", "0": None}),
        # none is missing
        ({"a": "stays"}, ["c", "d"], {"a": "a", "c": None, "d": None}),
    ],
)
def test_copies_are_told_apart_by_their_names(
    shop: Collection, tmp_path: Path, old: dict[str, str], new: list[str], expected: dict[str, str | None]
) -> None:
    files = write(tmp_path, **dict.fromkeys(old, 1))
    shop.add([Entry(file, file.stem) for file in files])
    for file, fate in zip(files, old.values(), strict=True):
        if fate == "missing":
            file.unlink()
    write(tmp_path, **dict.fromkeys(new, 1))
    added = shop.add(tmp_path)
    ids = {file.stem: file_id(file) for file in files}
    found = {item.name.removesuffix(".png"): item for item in shop if not shop.is_missing(item)}
    assert {name: item.label for name, item in found.items()} == expected
    moved = {name: label for name, label in expected.items() if label is not None and name in str(new)}
    assert added.moved == len(moved)
    assert {found[name].id for name in moved} == {ids[label] for label in moved.values()}
    assert added.total == len(found)


def test_paths_are_paired_by_name_then_in_order() -> None:
    assert OldPaths(["/a"]).pair([]) == OldPaths([]).pair(["/a"]) == {}
    assert OldPaths(["/o/a", "/o/c"]).pair(["/n/b", "/n/a"]) == {"/n/a": "/o/a", "/n/b": "/o/c"}
    same = {f"/new/{i}/cover.jpg": f"/old/{i}/cover.jpg" for i in range(20)}
    assert OldPaths(sorted(same.values(), reverse=True)).pair(same) == same
    missing = OldPaths(["/o/a", "/o/b"])
    assert missing.pair(["/n/b"]) == {"/n/b": "/o/b"}
    assert missing.pair(["/n/c", "/n/d"]) == {"/n/c": "/o/a"}  # each is paired once


def test_many_files_of_one_content_are_paired_fast() -> None:
    count = 5_000
    missing, start = OldPaths(f"/old/{i}/cover.jpg" for i in range(count)), time.process_time()
    for first in range(0, count, 1000):
        new = [f"/new/{i}/cover.jpg" for i in range(first, first + 1000)]
        assert missing.pair(new) == {path: path.replace("new", "old") for path in new}
    assert time.process_time() - start < 5


def test_a_file_that_moved_and_changed_is_a_new_image(shop: Collection, tmp_path: Path) -> None:
    (file,) = write(tmp_path / "cats", a=1)
    shop.add([Entry(file, "cat")])
    (tmp_path / "cats").rename(tmp_path / "cats2")
    write(tmp_path / "cats2", a=2)
    assert counts(shop.add(tmp_path / "cats2")) == (0, 1, 0, 0)
    assert [(item.label, shop.is_missing(item)) for item in sorted(shop, key=lambda item: item.uri)] == [
        ("cat", True),
        (None, False),
    ]


def test_a_new_label_of_a_moved_file_wins(shop: Collection, tmp_path: Path) -> None:
    write(tmp_path / "photos", cat__a=1, cat__b=2)
    shop.add(tmp_path / "photos", labels="folder")
    ids = {item.id for item in shop}
    (tmp_path / "photos" / "cat").rename(tmp_path / "photos" / "dog")
    added = shop.add(tmp_path / "photos", labels="folder")
    assert (added.moved, added.relabelled) == (2, 2)
    assert {(item.id, item.label) for item in shop} == {(ident, "dog") for ident in ids}


def test_a_new_file_at_the_old_place_of_a_moved_one_is_another_item(shop: Collection, tmp_path: Path) -> None:
    write(tmp_path / "photos", a=1)
    shop.add(tmp_path / "photos")
    (first,) = shop
    for number, name in enumerate(("b", "c", "d"), 2):
        (tmp_path / "photos" / "a.png").rename(tmp_path / "photos" / f"{name}.png")
        assert counts(shop.add(tmp_path / "photos")) == (1, 0, 0, number - 2)
        write(tmp_path / "photos", a=number)
        assert counts(shop.add(tmp_path / "photos")) == (0, 1, 0, number - 1)
    items = by_name(shop)
    assert items["b"].id == first.id
    assert len({item.id for item in items.values()}) == 4
    assert counts(shop.add(tmp_path / "photos")) == (0, 0, 0, 4)
    write(tmp_path / "photos", a=9)  # the item of a changed file keeps its id
    shop.add(tmp_path / "photos")
    assert by_name(shop)["a"].id == items["a"].id


def test_a_moved_file_that_comes_back_has_its_first_path_again(shop: Collection, tmp_path: Path) -> None:
    write(tmp_path / "photos", a=1)
    shop.add(tmp_path / "photos")
    (before,) = shop
    for name in ("photos2", "photos"):
        shutil.move(tmp_path / ("photos" if name == "photos2" else "photos2"), tmp_path / name)
        assert counts(shop.add(tmp_path / name)) == (1, 0, 0, 0)
    (after,) = shop
    assert (after.id, after.uri) == (before.id, before.uri)


def test_a_file_under_another_path_is_the_same_item(shop: Collection, tmp_path: Path) -> None:
    write(tmp_path / "photos", a=1, b=2)
    shop.add(tmp_path / "photos")
    before = by_name(shop)
    (tmp_path / "alias").symlink_to("photos")
    assert counts(shop.add(tmp_path / "alias")) == (0, 0, 0, 2)
    assert by_name(shop) == before
    added = shop.add(tmp_path / "alias", labels=None)
    assert (counts(added), len(shop)) == ((0, 0, 0, 2), 2)
    added = shop.add([Entry(tmp_path / "alias" / "a.png", "cat")])
    assert (added.unchanged, added.relabelled, by_name(shop)["a"].label) == (1, 1, "cat")
    assert by_name(shop)["a"].uri == before["a"].uri


def test_a_file_whose_name_changed_only_its_case_is_moved(
    shop: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    (file,) = write(folder, mug=1)
    shop.add([Entry(file, "mug")])
    (before,) = shop
    file.rename(folder / "Mug.png")
    lstat, stat = os.lstat, Path.stat

    def on_this_disk(path: Path | str) -> Path:
        """Return the path on a disk that ignores case."""
        return folder / "Mug.png" if Path(path) == file else Path(path)

    monkeypatch.setattr(os, "lstat", lambda path, **how: lstat(on_this_disk(path), **how))
    monkeypatch.setattr(Path, "stat", lambda path, **how: stat(on_this_disk(path), **how))
    assert not shop.is_missing(before)
    assert counts(shop.add(folder)) == (1, 0, 0, 0)
    assert [(item.id, item.label, item.name) for item in shop] == [(before.id, "mug", "Mug.png")]
    assert counts(shop.add(folder)) == (0, 0, 0, 1)


def test_a_hard_link_is_an_item_of_its_own(shop: Collection, tmp_path: Path) -> None:
    (file,) = write(tmp_path / "photos", a=1)
    shop.add(tmp_path / "photos")
    (tmp_path / "photos" / "b.png").hardlink_to(file)
    assert counts(shop.add(tmp_path / "photos")) == (0, 0, 1, 1)


def test_an_upload_with_the_same_bytes_is_not_moved(shop: Collection, tmp_path: Path) -> None:
    upload = shop.add_image(image_files.png(1), "mug")
    shop.folder.file(upload).unlink()
    write(tmp_path / "photos", a=1)
    assert counts(shop.add(tmp_path / "photos")) == (0, 0, 1, 0)
    assert shop.get(upload.id).uri == upload.uri


def test_a_file_that_may_exist_is_not_gone(shop: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (old,) = write(tmp_path / "cats", a=1)
    shop.add(tmp_path / "cats")
    stat = Path.stat

    def forbidden(path: Path, **how: bool) -> os.stat_result:
        if path == old:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **how)

    monkeypatch.setattr(Path, "stat", forbidden)
    write(tmp_path / "cats2", a=1)
    assert counts(shop.add(tmp_path / "cats2")) == (0, 0, 1, 0)


def test_an_entry_with_an_id_is_not_a_move(shop: Collection, tmp_path: Path) -> None:
    (old,) = write(tmp_path, a=1)
    shop.add([Entry(old, "cat", id="mine")])
    old.rename(tmp_path / "b.png")
    assert counts(shop.add([Entry(tmp_path / "b.png", id="other")])) == (0, 0, 1, 0)
    assert counts(shop.add([Entry(tmp_path / "b.png", id="mine")])) == (0, 0, 0, 1)  # given by hand
    assert {item.id: item.label for item in shop} == {"mine": "cat", "other": None}


@pytest.mark.parametrize("write_every", [1, 3, 1000])
def test_a_run_that_breaks_off_leaves_whole_items_and_the_next_one_continues(
    shop: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_every: int
) -> None:
    monkeypatch.setattr(run, "SCHEDULE", run.Schedule(write_every=write_every, task=1))
    files = write(tmp_path / "cats", **{f"p{i}": i for i in range(9)})
    shop.add([Entry(file, file.stem) for file in files])
    before = by_name(shop)
    (tmp_path / "cats").rename(tmp_path / "cats2")

    def stop(report: Report) -> None:
        if report.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.add(tmp_path / "cats2", Recorder(stop))
    assert {name: (item.id, item.label) for name, item in by_name(shop).items()} == {
        name: (item.id, item.label) for name, item in before.items()
    }
    added = shop.add(tmp_path / "cats2")
    assert added.moved + added.unchanged == 9
    after = by_name(shop)
    assert {name: item.id for name, item in after.items()} == {name: item.id for name, item in before.items()}
    assert not any(map(shop.is_missing, shop))


# ---- files that take the places of others


def rename(folder: Path, **names: str) -> None:
    """Rename files all at once; a file whose name is taken is overwritten."""
    for old in names:
        (folder / f"{old}.png").rename(folder / f"{old}.moving")
    for old, new in names.items():
        (folder / f"{old}.moving").rename(folder / f"{new}.png")


@pytest.mark.parametrize("write_every", [1, 1000])
@pytest.mark.parametrize(
    ("names", "moved"),
    [
        ({"a": "b", "b": "a"}, 2),
        ({"a": "b", "b": "c", "c": "a"}, 3),
        ({"a": "b", "b": "c", "c": "e"}, 3),
        ({"c": "b", "b": "a", "a": "0"}, 3),
        ({"a": "b", "b": "a", "c": "d", "d": "c"}, 4),
        ({"a": "b", "b": "e", "c": "0"}, 3),
    ],
)
def test_files_that_take_the_places_of_others_keep_their_items(
    shop: Collection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    names: dict[str, str],
    moved: int,
    write_every: int,
) -> None:
    monkeypatch.setattr(run, "SCHEDULE", run.Schedule(write_every=write_every, task=1))
    files = write(tmp_path / "photos", a=1, b=2, c=3, d=4)
    shop.add([Entry(file, f"was {file.stem}", {"of": file.stem}) for file in files])
    before = {item.label: item for item in shop}
    rename(tmp_path / "photos", **names)
    assert counts(shop.add(tmp_path / "photos")) == (moved, 0, 0, 4 - moved)
    assert {label: (i.id, i.attributes, i.sha256) for label, i in before.items()} == {
        i.label: (i.id, i.attributes, i.sha256) for i in shop
    }
    assert {names.get(item.attributes["of"], item.attributes["of"]) for item in shop} == set(by_name(shop))
    for name, item in by_name(shop).items():
        assert names.get(item.attributes["of"], item.attributes["of"]) == name
    assert counts(shop.add(tmp_path / "photos")) == (0, 0, 0, 4)


@pytest.mark.parametrize("seed", range(8))
def test_any_renames_of_different_files_keep_their_items(shop: Collection, tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    files = write(tmp_path / "photos", **{f"p{i}": i for i in range(12)})
    shop.add([Entry(file, file.stem) for file in files])
    ids = {item.label: item.id for item in shop}
    for _ in range(3):
        names = [file.stem for file in (tmp_path / "photos").iterdir()]
        new = random.sample([f"p{i}" for i in range(16)], len(names))
        rename(tmp_path / "photos", **dict(zip(names, new, strict=True)))
        added = shop.add(tmp_path / "photos")
        assert added.moved + added.unchanged == 12
        assert {item.label: item.id for item in shop} == ids
        assert not any(map(shop.is_missing, shop))
        assert len(by_name(shop)) == 12
        for item in shop:
            assert images.fingerprint(Path(item.uri).read_bytes()) == item.sha256


def test_a_file_that_overwrites_another_keeps_its_item(shop: Collection, tmp_path: Path) -> None:
    files = write(tmp_path / "photos", a=1, b=2, c=3)
    shop.add([Entry(file, file.stem) for file in files])
    rename(tmp_path / "photos", a="b", b="c")
    before = {item.label: item for item in shop}
    added = shop.add(tmp_path / "photos")
    assert (counts(added), added.relabelled) == ((2, 0, 0, 0), 0)
    names = {item.label: (item.id, item.name, shop.is_missing(item)) for item in shop}
    assert names == {
        "a": (before["a"].id, "b.png", False),
        "b": (before["b"].id, "c.png", False),
        "c": (before["c"].id, "a.png", True),  # its file is missing, and so is this path
    }
    write(tmp_path / "photos", d=3)  # it was in a backup
    assert counts(shop.add(tmp_path / "photos")) == (1, 0, 0, 2)
    assert {item.label: item.name for item in shop} == {"a": "b.png", "b": "c.png", "c": "d.png"}


def test_a_copy_in_the_place_of_a_moved_file_is_a_new_item(shop: Collection, tmp_path: Path) -> None:
    files = write(tmp_path / "photos", a=1, b=2)
    shop.add([Entry(file, file.stem) for file in files])
    ids = {item.label: item.id for item in shop}
    rename(tmp_path / "photos", b="c")
    write(tmp_path / "photos", b=1)
    assert counts(shop.add(tmp_path / "photos")) == (1, 0, 1, 1)
    assert {item.name: (item.label, item.id) for item in shop} == {
        "a.png": ("a", ids["a"]),
        "c.png": ("b", ids["b"]),
        "b.png": (None, file_id(files[1], 1)),
    }


def test_a_copy_over_a_file_whose_image_is_nowhere_keeps_the_item_of_the_path(shop: Collection, tmp_path: Path) -> None:
    files = write(tmp_path / "photos", a=1, b=2, z=3)
    shop.add([Entry(file, file.stem) for file in files])
    before = {item.name: (item.label, item.id) for item in shop}
    write(tmp_path / "photos", a=3, b=1)  # z was copied to a, and a to b
    assert counts(shop.add(tmp_path / "photos")) == (0, 0, 2, 1)
    assert {item.name: (item.label, item.id) for item in shop} == before


def test_a_file_that_was_copied_and_then_edited_keeps_its_item(shop: Collection, tmp_path: Path) -> None:
    (file,) = write(tmp_path / "photos", a=1)
    shop.add([Entry(file, "cat")])
    write(tmp_path / "photos", a=2, original=1)
    assert counts(shop.add(tmp_path / "photos")) == (0, 1, 1, 0)
    assert {item.name: item.label for item in shop} == {"a.png": "cat", "original.png": None}


def test_new_labels_of_swapped_files_win(shop: Collection, tmp_path: Path) -> None:
    write(tmp_path / "photos", cat__a=1, dog__a=2)
    shop.add(tmp_path / "photos", labels="folder")
    ids = {item.sha256: item.id for item in shop}
    rename(tmp_path / "photos", **{"cat/a": "dog/a", "dog/a": "cat/a"})
    added = shop.add(tmp_path / "photos", labels="folder")
    assert (added.moved, added.relabelled) == (2, 2)
    assert {item.sha256: item.id for item in shop} == ids
    assert all(Path(item.uri).parent.name == item.label for item in shop)


def test_an_interrupt_leaves_swapped_files_for_the_next_run(shop: Collection, tmp_path: Path) -> None:
    files = write(tmp_path / "photos", a=1, b=2, **{f"p{i:02}": i for i in range(10, 40)})
    shop.add([Entry(file, file.stem) for file in files])
    before = {item.label: item for item in shop}
    rename(tmp_path / "photos", a="b", b="a")

    def stop(report: Report) -> None:
        if report.done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.add(tmp_path / "photos", Recorder(stop))
    assert {item.label: item.uri for item in shop} == {label: item.uri for label, item in before.items()}
    assert shop.add(tmp_path / "photos").moved == 2
    assert {item.label: (item.id, item.sha256) for item in shop} == {
        label: (item.id, item.sha256) for label, item in before.items()
    }


def test_two_processes_that_see_the_same_swap_agree(
    shop: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write(tmp_path / "photos", a=1, b=2)
    shop.add([Entry(file, file.stem) for file in files])
    ids = {item.label: item.id for item in shop}
    rename(tmp_path / "photos", a="b", b="a")
    with Collection.open(shop.path) as other:
        between(monkeypatch, lambda: other.add(tmp_path / "photos"))
        assert counts(shop.add(tmp_path / "photos")) == (2, 0, 0, 0)
    assert {(item.label, item.id, item.name) for item in shop} == {("a", ids["a"], "b.png"), ("b", ids["b"], "a.png")}


def between(monkeypatch: pytest.MonkeyPatch, act: object) -> None:
    """Call a function after the next run has read the items, and before it reads files."""
    of = Known.of

    def later(store: Store) -> Known:
        known = of(store)
        monkeypatch.setattr(Known, "of", of)
        act()  # type: ignore[operator]
        return known

    monkeypatch.setattr(Known, "of", later)


def test_two_processes_that_see_the_same_move_agree(
    shop: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "cats", a=1, b=2)
    shop.add(tmp_path / "cats", labels=None)
    before = by_name(shop)
    (tmp_path / "cats").rename(tmp_path / "cats2")
    with Collection.open(shop.path) as other:
        between(monkeypatch, lambda: other.add(tmp_path / "cats2"))
        assert counts(shop.add(tmp_path / "cats2")) == (2, 0, 0, 0)
    assert {name: item.id for name, item in by_name(shop).items()} == {n: i.id for n, i in before.items()}
    assert not any(map(shop.is_missing, shop))


def test_a_run_does_not_undo_the_move_of_another_process(
    shop: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,) = write(tmp_path / "cats", a=1)
    shop.add([Entry(old, "cat")])
    (before,) = shop

    def move_and_replace() -> None:
        (tmp_path / "cats").rename(tmp_path / "cats2")
        with Collection.open(shop.path) as other:
            other.add(tmp_path / "cats2")
        write(tmp_path / "cats", a=2)

    between(monkeypatch, move_and_replace)
    (failure,) = shop.add([old]).failures
    assert "Index again" in failure.reason
    assert [(item.id, item.label, Path(item.uri).parent.name) for item in shop] == [(before.id, "cat", "cats2")]
    shop.add([old])
    assert len(shop) == 2


def test_an_item_that_another_process_removes_during_a_move_is_new(
    shop: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,) = write(tmp_path / "cats", a=1)
    shop.add([Entry(old, "cat")])
    (before,) = shop
    (tmp_path / "cats").rename(tmp_path / "cats2")
    between(monkeypatch, lambda: shop.remove([before.id]))
    assert shop.add(tmp_path / "cats2").failed == 1
    assert shop.add(tmp_path / "cats2").embedded == 1


def test_ids_of_a_path_differ_by_number() -> None:
    ids = [file_id(Path("/a.png"), number) for number in range(3)]
    assert len({*ids}) == 3
    assert ids[0] == file_id(Path("/a.png"))
    assert paths.is_missing(Path("/nowhere/a.png"))
    assert not paths.is_missing(Path("a\0b"))
    assert plan([]) == []


@pytest.mark.slow
def test_a_killed_run_moves_whole_items_and_the_next_one_continues(tmp_path: Path, pocket: Path) -> None:
    files = write(tmp_path / "cats", **{f"p{i:03}": i for i in range(300)})
    path, log = tmp_path / "shop.lookalike", tmp_path / "log"
    with Collection.create(path, Encoder.open(pocket)) as shop:
        shop.add([Entry(file, file.stem) for file in files])
        before = {name: (item.id, item.label, item.sha256) for name, item in by_name(shop).items()}
        (tmp_path / "cats").rename(tmp_path / "cats2")
        moved = 0
        for wanted in (1, 60, 120, 250):
            process = processes.start(processes.add, path, tmp_path / "cats2", log)
            while process.poll() is None and moved < wanted:
                moved = sum("cats2" in item.uri for item in shop)
            process.kill()
            process.communicate()
            assert {name: (i.id, i.label, i.sha256) for name, i in by_name(shop).items()} == before
        processes.finish(processes.start(processes.add, path, tmp_path / "cats2", log))
        assert {name: (i.id, i.label, i.sha256) for name, i in by_name(shop).items()} == before
        assert not any(map(shop.is_missing, shop))
    assert not log.exists() or not log.read_text()  # nothing is embedded
