"""`lookalike index`, `relocate` and `remove`, as a user types them."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import image_files
from lookalike.cli.options import note_distance
from lookalike.collection import Collection
from lookalike.metric import Metric, VectorSpace
from lookalike.stores import Item
from test_cli import Result, Shell


@pytest.fixture
def shell(pocket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    """A shell in a folder with an encoder and the images `cats` and `dogs`."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    shutil.copytree(pocket, tmp_path / "pocket")
    image_files.write(tmp_path, {"cats/a.png": 1, "cats/x/b.png": 2, "dogs/c.png": 3})
    monkeypatch.chdir(tmp_path)
    return Shell(monkeypatch, capfd)


@pytest.fixture
def indexed(shell: Shell) -> Shell:
    for folder in ("cats", "dogs"):
        assert shell("index", folder, "--to", "c", "--encoder", "pocket").code == 0
    return shell


def uris(name: str = "c") -> dict[str, str]:
    """Path, relative to this folder → id of its item."""
    with Collection.open(name) as collection:
        return {str(Path(item.uri).relative_to(Path.cwd())): item.id for item in collection}


def advised(error: str) -> list[str]:
    """Return the words of the last command in a message."""
    return shlex.split(error.strip().rpartition(" lookalike ")[2])


# ---- moved files


def test_index_counts_moved_files(indexed: Shell) -> None:
    before = uris()
    Path("cats").rename("cats2")
    done = indexed("index", "cats2", "--to", "c")
    assert (done.code, done.err) == (0, done.err)
    assert "0 embedded, 2 moved." in done.out
    assert uris() == {uri.replace("cats", "cats2"): ident for uri, ident in before.items()}
    Path("cats2").rename("cats3")
    assert indexed("index", "cats3", "--to", "c", "--json").json["moved"] == 2


# ---- prune


def test_prune_removes_the_items_of_a_folder_that_is_gone_or_empty(indexed: Shell) -> None:
    shutil.rmtree("cats")
    shutil.rmtree("dogs")
    Path("dogs").mkdir()
    assert "2 removed" in indexed("index", "cats", "--to", "c", "--prune").out
    done = indexed("index", "dogs", "--to", "c", "--prune", "--json").json
    assert (done["removed"], done["missing"], done["items"]) == (1, 1, 0)
    for folder in ("cats", "dogs"):
        again = indexed("index", folder, "--to", "c", "--prune")
        assert again.code == 1
        assert "no items" in again.err


def test_without_prune_a_folder_that_is_gone_is_an_error(indexed: Shell) -> None:
    shutil.rmtree("cats")
    done = indexed("index", "cats", "--to", "c")
    assert done.code == 1
    assert "no folder" in done.err
    assert len(uris()) == 3


def test_prune_of_the_whole_collection_keeps_the_items_of_a_folder_that_is_gone(indexed: Shell) -> None:
    Path("cats/a.png").unlink()
    shutil.rmtree("cats/x")
    assert indexed("index", "--to", "c", "--prune").code == 1  # cats is empty now, as if its disk were not connected
    assert len(uris()) == 3
    Path("cats/x").mkdir()
    for folder in ("cats", "cats/x"):
        Path(folder, "notes.txt").touch()
    shutil.rmtree("dogs")
    done = indexed("index", "--to", "c", "--prune")
    assert done.code == 1
    assert "2 removed" in done.out
    assert "connect" in done.err
    assert list(uris()) == ["dogs/c.png"]
    report = indexed("index", "--to", "c", "--prune", "--json")
    assert report.json["kept"] == [{"folder": str(Path("dogs").absolute()), "items": 1}]
    removed = indexed(*advised(done.err))
    assert (removed.code, uris()) == (0, {})


def test_prune_keeps_the_items_of_a_subfolder_whose_disk_is_not_connected(shell: Shell) -> None:
    image_files.write(Path(), {"cats/a.png": 1, "cats/b.png": 4, "cats/x/y/c.png": 5})
    assert shell("index", ".", "--to", "c", "--encoder", "pocket").code == 0
    Path("cats/a.png").unlink()
    Path("cats/x").rename("off")
    Path("cats/x").mkdir()  # an empty mount point
    done = shell("index", "--to", "c", "--prune")
    assert (done.code, "1 removed" in done.out) == (1, True)
    assert f"{Path('cats/x').absolute()} is gone or empty; 2 items" in done.err
    assert sorted(uris()) == ["cats/b.png", "cats/x/b.png", "cats/x/y/c.png", "dogs/c.png"]
    assert shell(*advised(done.err)).code == 0
    assert sorted(uris()) == ["cats/b.png", "dogs/c.png"]


def test_the_other_advice_for_a_folder_that_is_gone_works(indexed: Shell) -> None:
    before = uris()
    Path("dogs").rename("new place")
    error = indexed("index", "--to", "c", "--prune").err
    command = shlex.split(error.partition("renamed: lookalike ")[2].partition(" To ")[0].removesuffix("."))
    assert command[-1] == "NEW"
    assert indexed(*command[:-1], "new place").code == 0
    assert uris()["new place/c.png"] == before["dogs/c.png"]
    assert indexed("index", "--to", "c", "--prune").code == 0


def test_prune_of_unknown_folders_is_careful(indexed: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    Path("cats/x/b.png").unlink()
    shutil.rmtree("dogs")
    done = indexed("index", "--to", "c", "--prune")
    assert done.code == 1
    assert f"{Path('cats/x').absolute()} is gone or empty (and 1 more folder" in done.err
    assert len(uris()) == 3


def test_the_advice_of_duplicates_for_missing_files_works(indexed: Shell) -> None:
    shutil.copy("cats/a.png", "cats/copy.png")
    indexed("index", "cats", "--to", "c")
    Path("cats/copy.png").unlink()
    done = indexed("duplicates", "c", "--within", "0.1")
    assert indexed(*advised(next(line for line in done.err.splitlines() if "--prune" in line))).code == 0
    assert sorted(uris()) == ["cats/a.png", "cats/x/b.png", "dogs/c.png"]


def test_index_without_a_folder_only_prunes(indexed: Shell) -> None:
    assert indexed("index", "--to", "c").code == 2
    assert indexed("index", "--to", "nowhere", "--prune").code == 1
    done = indexed("index", "--to", "c", "--prune")
    assert (done.code, done.out) == (0, "0 removed. c.lookalike has 3 items.\n")


# ---- relocate


def test_relocate_without_items_says_where_the_images_are(shell: Shell) -> None:
    image_files.write(Path(), {f"pics/{name}/1.png": i for i, name in enumerate("abcd")})
    shell("index", "pics", "--to", "c", "--encoder", "pocket")
    assert f"Its images are under {Path('pics').absolute()}.\n" in shell("relocate", "c", "x", "cats").err
    shutil.rmtree("pics")
    shell("index", "pics", "--to", "c", "--prune")
    assert shell("relocate", "c", "pics", "cats").err.endswith("has no items under pics. It is empty.\n")


def test_relocate_gives_items_new_paths(indexed: Shell) -> None:
    before = uris()
    Path("cats").rename("new")
    dry = indexed("relocate", "c", "cats", "new", "--dry-run")
    assert "2 items would be relocated" in dry.out
    assert uris() == before
    assert "2 items relocated." in indexed("relocate", "c", "cats/", "./new").out
    assert uris() == {uri.replace("cats/", "new/"): ident for uri, ident in before.items()}
    assert indexed("index", "new", "--to", "c", "--json").json["unchanged"] == 2


def test_relocate_refuses_a_place_without_the_files(indexed: Shell) -> None:
    before = uris()
    for command, word in ((("cats", "nowhere"), "nowhere/a.png"), (("mice", "cats"), "no items under mice")):
        done = indexed("relocate", "c", *command)
        assert done.code == 1
        assert word in done.err
    assert "cats" in indexed("relocate", "c", "mice", "cats").err  # it says where the images are
    assert uris() == before
    done = indexed("relocate", "c", "cats", "nowhere", "--force", "--json").json
    assert (done["relocated"], done["existing"], done["missing"], done["items"]) == (2, 0, 2, 3)
    assert indexed("relocate", "c", "nowhere", "cats").code == 0
    assert uris() == before


def test_relocate_says_how_many_files_are_not_there(indexed: Shell) -> None:
    Path("new").mkdir()
    Path("cats/a.png").rename("new/a.png")
    out = indexed("relocate", "c", "cats", "new").out
    assert "1 of their files not there" in out
    assert "b.png" in out


def test_relocate_takes_a_folder_whose_images_are_all_in_the_trash(indexed: Shell) -> None:
    shutil.copytree("cats", "twins")
    indexed("index", "twins", "--to", "c")
    assert indexed("duplicates", "apply", "c", "--keep", "path:*cats/*", "--within", "0.01").code == 0
    assert not list(Path("twins").rglob("*.png"))
    Path("twins").rename("new")
    assert "no items under twins" in indexed("relocate", "c", "twins", "nowhere").err
    assert indexed("relocate", "c", "twins", "new").out.startswith(
        "0 items relocated; lookalike duplicates undo restores"
    )
    assert indexed("duplicates", "undo", "c-trash").code == 0
    assert {Path(uri).name for uri in uris() if uri.startswith("new/")} == {"a.png", "b.png"}
    assert not Path("twins").exists()


def test_relocate_takes_one_file(indexed: Shell) -> None:
    Path("cats/a.png").rename("dogs/a.png")
    assert indexed("relocate", "c", "cats/a.png", "dogs/a.png").code == 0
    assert sorted(uris()) == ["cats/x/b.png", "dogs/a.png", "dogs/c.png"]


def test_relocate_merges_images_that_were_added_twice(indexed: Shell) -> None:
    before = uris()
    shutil.copytree("cats", "new")
    Path("new/a.png").write_bytes(image_files.png(9))
    indexed("index", "new", "--to", "c")
    shutil.rmtree("cats")
    done = indexed("relocate", "c", "cats", "new")
    assert "1 item relocated" in done.out
    assert "1 added twice before" in done.out
    assert "1 item stayed" in done.err
    after = uris()
    assert after["new/x/b.png"] == before["cats/x/b.png"]
    assert set(after) == {"cats/a.png", "new/a.png", "new/x/b.png", "dogs/c.png"}
    assert indexed(*advised(done.err)[:-1]).code == 0
    assert "cats/a.png" not in uris()


def test_relocate_can_swap_and_nest_folders(indexed: Shell) -> None:
    before = uris()
    Path("cats").rename("cat")
    Path("cats").mkdir()
    Path("cat").rename("cats/cats")
    assert indexed("relocate", "c", "cats", "cats/cats").code == 0
    assert uris() == {uri.replace("cats/", "cats/cats/"): ident for uri, ident in before.items()}


def test_relocate_takes_paths_of_windows(indexed: Shell) -> None:
    with Collection.open("c") as collection:
        items = sorted((item for item in collection if "cats" in item.uri), key=lambda item: item.uri)
        windows = [r"C:\Users\me\Cats\a.png", r"C:\Users\me\Cats\x\b.png"]
        collection.store.update(
            [(item, Item(item.id, uri, sha256=item.sha256)) for item, uri in zip(items, windows, strict=True)]
        )
    assert indexed("relocate", "c", "c:/users/me/cats", "cats").code == 0
    assert sorted(uris()) == ["cats/a.png", "cats/x/b.png", "dogs/c.png"]


# ---- remove


def test_remove_takes_the_path_that_a_file_has_now(indexed: Shell) -> None:
    before = uris()
    Path("cats").rename("cats2")
    indexed("index", "cats2", "--to", "c")
    old = indexed("remove", "c", "cats/a.png")
    assert (old.code, len(uris())) == (1, 3)
    assert indexed("remove", "c", "cats2/a.png", before["dogs/c.png"]).code == 0
    assert list(uris()) == ["cats2/x/b.png"]


def test_remove_takes_a_path_in_the_other_unicode_form(shell: Shell) -> None:
    image_files.write(Path("pics"), {"cafe\u0301.png": 1, "\u00fc.png": 2, "u\u0308.png": 3})
    shell("index", "pics", "--to", "c", "--encoder", "pocket")
    assert shell("remove", "c", "pics/caf\u00e9.png").code == 0
    assert sorted(uris()) == ["pics/u\u0308.png", "pics/\u00fc.png"]
    assert shell("remove", "c", "pics/\u00fc.png").code == 0  # the very name comes first
    assert sorted(uris()) == ["pics/u\u0308.png"]


def test_remove_does_not_guess_between_two_unicode_forms(shell: Shell) -> None:
    image_files.write(Path("pics"), {"u\u0308\u0301.png": 2, "\u00fc\u0301.png": 3})
    shell("index", "pics", "--to", "c", "--encoder", "pocket")
    done: Result = shell("remove", "c", "pics/\u01d8.png")
    assert done.code == 2
    assert all(ident in done.err for ident in uris().values())


def test_prune_and_relocate_take_a_folder_in_the_other_unicode_form(shell: Shell) -> None:
    image_files.write(Path("cafe\u0301"), {"a.png": 1, "b.png": 2})
    shell("index", "cafe\u0301", "--to", "c", "--encoder", "pocket")
    Path("cafe\u0301/a.png").unlink()
    Path("cafe\u0301").rename("tea")
    assert shell("relocate", "c", "caf\u00e9/b.png", "tea/b.png").code == 0
    assert sorted(uris()) == ["cafe\u0301/a.png", "tea/b.png"]
    assert "1 removed" in shell("index", "caf\u00e9", "--to", "c", "--prune").out
    assert list(uris()) == ["tea/b.png"]


# ---- labels, files that are not taken, scope


def test_index_says_how_it_read_the_labels(shell: Shell) -> None:
    Path("labels.csv").write_text("path;label\ncats\\a.png;tabby\n", encoding="utf-8")
    command = ("index", "cats", "--to", "c", "--encoder", "pocket", "--labels", "labels.csv")
    done = shell(*command)
    assert f"labels.csv: 1 row, with paths relative to {Path.cwd()}." in done.err
    assert "1 image without a row in labels.csv, such as “x/b.png”." in done.err
    Path("labels.csv").write_text("path,label\na.png,lion\nx/b.png,puma\n", encoding="utf-8")
    assert "2 unchanged, 2 with another label" in shell(*command).out
    again = shell(*command, "--json").json
    assert (again["unchanged"], again["relabelled"]) == (2, 0)
    assert again["notes"] == [f"labels.csv: 2 rows, with paths relative to {Path('cats').absolute()}."]
    with Collection.open("c") as collection:
        assert collection.store.labels() == {"lion": 1, "puma": 1}


def test_index_counts_the_files_that_it_does_not_take(shell: Shell) -> None:
    for name in ("a.exr", "b.EXR", "c.mp4", "notes.txt"):
        Path("cats", name).write_bytes(b"\x76\x2f\x31\x01" if name.lower().endswith("exr") else b"some text")
    done = shell("index", "cats", "--to", "c", "--encoder", "pocket")
    assert "Not taken: 2 EXR, 1 video." in done.err
    assert shell("index", "cats", "--to", "c", "--json").json["not_taken"] == {"EXR": 2, "video": 1}
    Path("films").mkdir()
    Path("films/c.mp4").touch()
    only = shell("index", "films", "--to", "c")
    assert only.code == 1
    assert "Not taken: 1 video" in only.err
    only = shell("search", "c", "films")
    assert (only.code, only.err) == (1, "Error: There are no images in the folder films. Not taken: 1 video.\n")
    assert "Not taken: 2 EXR, 1 video.\n" in shell("search", "c", "cats").err
    Path("none").mkdir()
    assert "none (.jpg, .png, .webp, .gif, .tif, .heic and others)." in shell("index", "none", "--to", "c").err


def test_index_says_what_the_encoder_has_seen(shell: Shell) -> None:
    done = shell("index", "cats", "--to", "c", "--encoder", "copies")
    assert "Trained on" in done.err
    report = shell("index", "cats", "--to", "c", "--json")
    assert report.json["scope"].startswith("Trained on")
    assert "Trained on" not in report.err


def test_index_relative_lets_a_collection_move_with_its_images(shell: Shell) -> None:
    assert shell("index", ".", "--to", "c", "--encoder", "pocket", "--relative").code == 0
    before = uris()
    Path("new").mkdir()
    for name in ("cats", "dogs", "c.lookalike"):
        Path(name).rename(Path("new", name))
    hit = shell("search", "new/c", "new/cats/a.png", "-k", "1", "--json").json["hits"][0]
    assert hit["uri"] == str(Path("new/cats/a.png").absolute())
    assert shell("index", "new", "--to", "new/c", "--json").json["unchanged"] == len(before)
    refused = shell("index", "new/cats", "--to", "new/cats/c", "--encoder", "pocket", "--relative")
    assert refused.code == 0


# ---- hints


def test_index_of_a_folder_that_is_gone_names_relocate(indexed: Shell) -> None:
    Path("cats").rename("cats 2")
    error = indexed("index", "cats", "--to", "c").err
    assert "There is no folder cats, but c.lookalike has 2 items of it." in error
    assert "lookalike relocate c cats NEW" in error
    assert advised(error)[:5] == ["index", "cats", "--to", "c", "--prune"]
    assert "relocate" not in indexed("index", "mice", "--to", "c").err
    assert "relocate" not in indexed("index", "cats", "--to", "new").err


def test_info_counts_missing_files(indexed: Shell) -> None:
    assert indexed("info", "c", "--json").json["missing"] == 0
    assert "missing" not in indexed("info", "c").out
    shutil.rmtree("cats")
    assert indexed("info", "c", "--json").json["missing"] == 2
    out = indexed("info", "c").out
    assert "missing" in out
    assert "2 files; if a folder has moved: lookalike relocate c OLD NEW" in " ".join(out.split())


def test_embed_names_the_files_that_it_does_not_take(shell: Shell) -> None:
    Path("cats/film.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    done = shell("embed", "cats", "--encoder", "pocket", "--out", "x.npz")
    assert (done.code, done.err) == (0, "Not taken: 1 video.\n")
    assert "cats: Not taken: 1 video.\n" in shell("embed", "cats", "dogs", "--encoder", "pocket", "--out", "x.npz").err
    Path("films").mkdir()
    Path("cats/film.mp4").rename("films/film.mp4")
    error = shell("embed", "films", "--out", "x.npz").err
    assert error == "Error: There are no images under films. Not taken: 1 video.\n"


@pytest.mark.parametrize(
    ("out", "error"),
    [
        ("none/x.npz", "does not exist. Make it"),
        ("cats.npz", "is a folder"),
        ("", "names no file"),
        ("..", "names no file"),
    ],
)
def test_embed_checks_where_it_writes_before_it_embeds(shell: Shell, out: str, error: str) -> None:
    Path("cats.npz").mkdir()
    done = shell("embed", "cats", "--encoder", "none", "--out", out)
    assert done.code in {1, 2}
    assert error in done.err


@pytest.mark.parametrize(
    ("metric", "within", "hint"),
    [
        ("euclidean", "80", "80%"),
        ("euclidean", "60..80", "60%..80%"),
        ("cosine", "3", "3%"),
        ("cosine", "80", "80%"),
        ("cosine", "2", None),
        ("cosine", "101", None),
        ("euclidean", "10", None),
        ("euclidean", "0.8", None),
        ("euclidean", "80%", None),
        ("euclidean", "0..inf", None),
    ],
)
def test_a_distance_that_looks_like_a_similarity_is_pointed_out(
    indexed: Shell, metric: str, within: str, hint: str | None
) -> None:
    done = indexed("search", "c", "cats/a.png", "--within", within, "--metric", metric)
    assert done.code == 0
    notes = [line for line in done.err.splitlines() if "If you mean a similarity" in line]
    expected = f"“--within {within}” is a {metric} distance. If you mean a similarity: --within {hint}"
    assert notes == ([expected] if hint else [])


@pytest.mark.parametrize(("within", "hint"), [("0.8", "80%"), ("0.6..0.8", "60%..80%"), ("0", None), ("12", None)])
def test_a_part_of_a_bit_looks_like_a_similarity(
    within: str, hint: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    note_distance(within, VectorSpace(Metric.HAMMING, 64))
    assert capfd.readouterr().err.strip().endswith(f"--within {hint}" if hint else "")


def test_commands_with_a_distance_point_out_a_similarity(indexed: Shell) -> None:
    for command in (
        ["join", "c"],
        ["duplicates", "find", "c"],
        ["verify", "cats/a.png", "dogs/c.png", "--encoder", "pocket"],
    ):
        assert "--within 80%" in indexed(*command, "--within", "80").err


# ---- crops


def test_the_crops_of_a_collection_are_decided_when_it_is_made(shell: Shell) -> None:
    assert shell("index", "cats", "--to", "c", "--encoder", "pocket", "--crops", "2").code == 0
    assert shell("index", "dogs", "--to", "c", "--crops", "2").code == 0
    assert shell("index", "dogs", "--to", "c").code == 0
    refused = shell("index", "dogs", "--to", "c", "--crops", "5")
    assert (refused.code, "--crops 2, not 5" in refused.err) == (1, True)
    command = advised(refused.err)
    assert command[:2] == ["reindex", "c"]
    assert shell(*["pocket" if word == "E" else word for word in command]).code == 0
    assert shell("index", "dogs", "--to", "c", "--crops", "5").code == 0
    assert shell("index", "dogs", "--to", "d", "--encoder", "pocket", "--crops", "3").code == 2


def test_embeddings_may_be_means_of_crops(shell: Shell) -> None:
    arrays = []
    for count in ("1", "2"):
        assert shell("embed", "cats", "--encoder", "pocket", "--crops", count, "--out", f"{count}.npz").code == 0
        arrays.append(np.load(f"{count}.npz")["embeddings"])
    assert arrays[0].shape == arrays[1].shape == (2, 48)
    assert not np.allclose(arrays[0], arrays[1], atol=1e-3)
